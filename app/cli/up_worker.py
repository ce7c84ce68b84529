"""Which worker `breakeven up` starts. The policy says where targets are; the worker listens where it says."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from app.domain.errors import SetupError
from app.domain.routing.policy import Policy
from app.domain.target import Hosting, Target
from app.settings import Settings

ENGINE: Final = "openvino"
_DEFAULT_PORT: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWorker:
    """A target of the policy whose place is this machine, and the address in its URL."""

    target: Target
    host: str
    port: int

    @property
    def base_url(self) -> str:
        """Where its health and version are asked for, without `/v1`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def health_url(self) -> str:
        """Answers 200 once the model is loaded."""
        return f"{self.base_url}/health"


def local_worker(policy: Policy, settings: Settings) -> LocalWorker | None:
    """The policy's first self-hosted target with the engine openvino and a loopback URL; None when there is none.

    Raises SetupError when BREAKEVEN_WORKER_PORT is set and says another port: nobody would find the worker there.
    """
    for target in policy.targets.values():
        if target.hosting is not Hosting.SELF_HOSTED or target.kind != ENGINE:
            continue
        parts = urlsplit(target.url)
        host = parts.hostname or ""
        if not _is_loopback(host):
            continue
        port = parts.port or _DEFAULT_PORT.get(parts.scheme, 80)
        if "worker_port" in settings.model_fields_set and settings.worker_port != port:
            raise SetupError(
                f"BREAKEVEN_WORKER_PORT is {settings.worker_port} and the policy has {target.name} at {target.url}: "
                f"write the same port in both, or unset BREAKEVEN_WORKER_PORT"
            )
        return LocalWorker(target=target, host="127.0.0.1" if host == "localhost" else host, port=port)
    return None


def asked_through(policy: Policy, worker: LocalWorker | None) -> str:
    """The public model to try: the first one written whose rules may use the worker, or else the first one at all."""
    for route in policy.routes.values():
        if worker is not None and any(worker.target.name in rule.use for rule in route.rules):
            return route.model
    return next(iter(policy.routes))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
