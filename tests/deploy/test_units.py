"""The systemd units: complete, hardened, and what systemd itself accepts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
HARDENING = (
    *("NoNewPrivileges", "ProtectHome", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
    *("ProtectControlGroups", "ProtectClock", "ProtectHostname", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"),
    *("RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "RemoveIPC"),
)
#: What `systemd-analyze security` may find at the most, of 10.
MOST_EXPOSED = 3.0

each = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def settings(unit: Path) -> dict[str, dict[str, list[str]]]:
    """Section → key → values, as a key may stand several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        header = re.fullmatch(r"\[(\w+)\]", line)
        if header:
            section = header[1]
            found[section] = {}
            continue
        key, equals, value = line.partition("=")
        assert equals, f"{unit.name}: {line}"
        assert key.isalpha(), f"{unit.name}: {line}"
        found[section].setdefault(key, []).append(value)
    return found


def test_gateway_console_and_worker_have_units() -> None:
    assert [unit.stem for unit in UNITS] == ["breakeven-console", "breakeven-gateway", "breakeven-worker"]


@each
def test_a_unit_has_its_three_sections_and_comes_back_when_it_fails(unit: Path) -> None:
    found = settings(unit)
    assert list(found) == ["Unit", "Service", "Install"]
    assert found["Service"]["Restart"] == ["on-failure"]
    assert found["Install"]["WantedBy"] == ["multi-user.target"]


@each
def test_a_unit_starts_its_own_part(unit: Path) -> None:
    part = unit.stem.removeprefix("breakeven-")
    assert settings(unit)["Service"]["ExecStart"] == [f"/opt/breakeven/.venv/bin/breakeven {part}"]


@each
def test_a_unit_is_hardened(unit: Path) -> None:
    service = settings(unit)["Service"]
    assert all(service.get(key) == ["yes"] for key in HARDENING), [k for k in HARDENING if service.get(k) != ["yes"]]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["SystemCallFilter"][0] == "@system-service"


@each
def test_a_unit_does_not_run_as_root(unit: Path) -> None:
    service = settings(unit)["Service"]
    assert service.get("User", [""])[0] not in {"", "root"} or service.get("DynamicUser") == ["yes"]


@each
def test_a_unit_may_stop_for_longer_than_the_gateway_drains(unit: Path) -> None:
    service = settings(unit)["Service"]
    assert service["KillMode"] == ["mixed"]
    least_s = 45 if "worker" not in unit.stem else 15
    assert int(service["TimeoutStopSec"][0].removesuffix("s")) >= least_s


@each
def test_no_secret_stands_in_a_unit(unit: Path) -> None:
    for line in settings(unit)["Service"].get("Environment", ()):
        assert not re.search(r"KEY|PASSWORD|TOKEN|SECRET|DATABASE_URL", line)


@each
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    copy = _with_a_program_that_is_there(unit, tmp_path)
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    about_us = [line for line in told.stderr.splitlines() if unit.stem in line or str(tmp_path) in line]
    assert not about_us
    assert told.returncode == 0, told.stderr


@each
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
def test_systemd_finds_the_unit_little_exposed(unit: Path, tmp_path: Path) -> None:
    copy = _with_a_program_that_is_there(unit, tmp_path)
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(MOST_EXPOSED * 10)}", copy],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Unknown" in told.stderr or "unrecognized option" in told.stderr:
        pytest.skip("this systemd cannot judge a unit offline")
    assert told.returncode == 0, told.stdout[-300:] + told.stderr


def _with_a_program_that_is_there(unit: Path, directory: Path) -> Path:
    copy = directory / unit.name
    copy.write_text(unit.read_text().replace("/opt/breakeven/.venv/bin/breakeven", "/bin/true"))
    return copy
