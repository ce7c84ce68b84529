"""The compose file: sound, hardened, and nothing open beyond this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "gateway", "console", "worker")
KNOWN = {
    *("image", "build", "command", "environment", "volumes", "ports", "depends_on", "healthcheck", "restart"),
    *("init", "read_only", "tmpfs", "cap_drop", "security_opt", "logging", "stop_grace_period", "network_mode"),
    "shm_size",
}

ours = pytest.mark.parametrize("name", OURS)


def test_it_has_a_database_a_gateway_a_console_and_a_worker() -> None:
    assert set(SERVICES) == {"postgres", *OURS}


@pytest.mark.parametrize("name", SERVICES)
def test_every_key_of_a_service_is_one_that_compose_knows(name: str) -> None:
    assert set(SERVICES[name]) <= KNOWN


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_by_tag(name: str) -> None:
    assert re.fullmatch(r"[a-z/]+:\d[\w.-]+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_whoever_is_waited_for_is_there(name: str) -> None:
    assert set(SERVICES[name].get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_this_machine_alone(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("name", SERVICES)
def test_named_volumes_are_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / "deploy" / source).exists(), volume


@ours
def test_our_containers_have_no_rights_to_spare(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["logging"]["options"]["max-size"]


@ours
def test_our_images_are_built_from_files_that_are_there(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / "deploy" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", ["migrate", "gateway", "console"])
def test_whoever_reads_or_writes_the_ledger_is_given_the_same_database(name: str) -> None:
    assert SERVICES[name]["environment"]["DATABASE_URL"].startswith("postgresql://breakeven:${POSTGRES_PASSWORD:?")
    assert "@postgres:5432/breakeven" in SERVICES[name]["environment"]["DATABASE_URL"]


def test_no_password_has_a_default() -> None:
    text = (ROOT / "deploy/compose.yaml").read_text()
    assert not re.search(r"\$\{[A-Z_]*(PASSWORD|KEY)[A-Z_]*:?-", text)


def test_the_worker_is_reached_through_the_gateways_own_network_alone() -> None:
    worker = SERVICES["worker"]
    assert worker["network_mode"] == "service:gateway"
    assert "ports" not in worker
    assert "DATABASE_URL" not in worker.get("environment", {})


def test_the_policy_finds_the_worker_where_compose_puts_it() -> None:
    targets = yaml.safe_load((ROOT / "policies/targets.yaml").read_text())["targets"]
    assert targets["cpu-worker"]["url"] == "http://127.0.0.1:8001/v1"


def test_the_gateway_has_longer_to_stop_than_it_drains() -> None:
    assert SERVICES["gateway"]["stop_grace_period"] == "45s"
