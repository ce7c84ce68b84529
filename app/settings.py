"""Where things are, and secrets: the environment, read once at start. What the gateway *does* stands in `policies/`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.errors import SetupError

MIB = 1024 * 1024


class Settings(BaseSettings):
    """`BREAKEVEN_…` and, because every tool knows it, a plain `DATABASE_URL`. A change needs a restart."""

    model_config = SettingsConfigDict(env_prefix="BREAKEVEN_", env_file=None, extra="ignore", frozen=True)

    #: Spool, embedded Postgres, pepper, run files.
    data: Path = Path(".breakeven")
    policies: Path = Path("policies")
    #: The directory of the files that `credential: file:NAME` means; without one such a credential is absent.
    credentials: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    console_host: str = "127.0.0.1"
    console_port: int = Field(default=8081, ge=1, le=65535)
    worker_port: int = Field(default=8001, ge=1, le=65535)
    #: A directory with PostgreSQL's programs, before the packaged and the system's ones.
    pg_bin: Path | None = None
    #: Both levels survive `kill -9` of the gateway; `os` may lose the last moments when the machine itself dies.
    durability: Literal["fsync", "os"] = "fsync"
    #: With Postgres away, `spool` serves while the spool and the leases of budgets last; `refuse` serves nobody.
    on_ledger_down: Literal["spool", "refuse"] = "spool"
    spool_cap_mib: int = Field(default=1024, ge=8)
    #: Longer than a standby may lag behind: what was shipped is kept so long, for the case that one takes over.
    spool_tail_s: float = Field(default=60.0, ge=0)
    body_limit_mib: int = Field(default=16, ge=1, le=1024)
    #: How long a stopping gateway waits for running answers.
    drain_s: float = Field(default=30.0, ge=0)
    linger_s: float = Field(default=1.0, ge=0)
    requests_most: int = Field(default=10_000, ge=1)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: Where alerts of budgets are posted; without one they wait in the database, for `breakeven budget alerts`.
    alert_webhook_url: str | None = Field(default=None, pattern=r"^https?://[^\s/@]+(/\S*)?$")
    #: What signs them: `env:NAME` or `file:NAME`, as credentials of targets are named.
    alert_webhook_secret: str | None = Field(default=None, pattern=r"^(env|file):\S+$")
    #: For tests only: the process kills itself there (bootstrap/crash.py). Never set it on a gateway that is to serve.
    crash_at: str | None = None
    database_url: str | None = Field(default=None, validation_alias="DATABASE_URL")

    @property
    def spool_directory(self) -> Path:
        return self.data / "spool"

    @property
    def run_directory(self) -> Path:
        """Unix sockets and pid files of what runs now."""
        return self.data / "run"


def read_settings() -> Settings:
    """The settings of this process. Raises SetupError naming each variable that is wrong."""
    try:
        return Settings()
    except ValidationError as fault:
        wrong = "; ".join(f"{_variable(error['loc'])}: {error['msg']}" for error in fault.errors())
        raise SetupError(f"settings: {wrong}") from fault


def _variable(place: tuple[int | str, ...]) -> str:
    name = str(place[0]).upper()
    return name if name == "DATABASE_URL" else f"BREAKEVEN_{name}"
