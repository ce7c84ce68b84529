"""The policy says where the worker listens."""

from __future__ import annotations

import pytest

from app.cli.up_worker import asked_through, local_worker
from app.domain.errors import SetupError
from app.domain.routing.policy import Policy
from app.domain.target import Hosting, Target
from app.settings import Settings
from tests.makers import a_policy, a_route, a_target

HOME = a_target("home", kind="openvino", url="http://127.0.0.1:9001/v1")


def settings(**named: object) -> Settings:
    return Settings(**named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://127.0.0.1:9001/v1", "127.0.0.1", 9001),
        ("http://localhost:8001/v1", "127.0.0.1", 8001),
        ("http://127.8.8.8/v1", "127.8.8.8", 80),
        ("http://[::1]:8001/v1", "::1", 8001),
    ],
)
def test_it_listens_where_the_targets_url_says(url: str, host: str, port: int) -> None:
    worker = local_worker(a_policy(a_target("home", kind="openvino", url=url)), settings())
    assert worker is not None
    assert (worker.host, worker.port) == (host, port)
    assert worker.base_url.endswith(f":{port}")


@pytest.mark.parametrize(
    "elsewhere",
    [
        a_target("gpu", kind="vllm", url="http://127.0.0.1:8001/v1"),
        a_target("far", kind="openvino", url="http://10.0.0.7:8001/v1"),
        a_target("named", kind="openvino", url="http://worker:8001/v1"),
        a_target("hosted", kind="openvino", hosting=Hosting.MANAGED, url="http://127.0.0.1:8001/v1"),
    ],
    ids=lambda target: target.name,
)
def test_a_target_that_lives_elsewhere_needs_no_worker_here(elsewhere: Target) -> None:
    assert local_worker(a_policy(elsewhere), settings()) is None


def test_a_port_that_contradicts_the_policy_is_a_sentence() -> None:
    with pytest.raises(SetupError, match=r"BREAKEVEN_WORKER_PORT is 9002 and the policy has home at"):
        local_worker(a_policy(HOME), settings(worker_port=9002))
    assert local_worker(a_policy(HOME), settings(worker_port=9001)) is not None


def test_the_first_model_that_may_use_the_worker_is_asked() -> None:
    away = a_target("away", hosting=Hosting.MANAGED)
    policy = a_policy(HOME, away)
    routes = {name: a_route(target, model=name) for name, target in (("far", "away"), ("near", "home"))}
    policy = Policy(digest=policy.digest, targets=policy.targets, routes=routes, timezone=policy.timezone)
    assert asked_through(policy, local_worker(policy, settings())) == "near"
    assert asked_through(policy, None) == "far"
