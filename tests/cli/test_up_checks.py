"""What a start needs of this machine: every lack is one sentence with its cure."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from app.cli.up_checks import Port, check_disk, check_libc, check_port, check_system, only_one
from app.domain.errors import SetupError


def test_this_machine_is_fit() -> None:
    check_system()


@pytest.mark.parametrize("version", ["2.28", "2.36", "2.40.1", "3.0"])
def test_a_glibc_that_is_new_enough_passes(version: str) -> None:
    check_libc(name="glibc", version=version)


def test_an_old_glibc_is_named_with_the_version_that_is_needed() -> None:
    with pytest.raises(SetupError, match=r"glibc 2\.17; the CPU worker needs 2\.28 or later"):
        check_libc(name="glibc", version="2.17")


def test_musl_is_told_from_an_old_glibc() -> None:
    with pytest.raises(SetupError, match="no GNU C library"):
        check_libc(name="", version="")


def test_a_port_that_somebody_listens_at_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        number = taken.getsockname()[1]
        with pytest.raises(SetupError) as told:
            check_port(Port(part="gateway", host="127.0.0.1", number=number, cure="choose another one in X"))
    assert str(told.value) == (
        f"port {number} on 127.0.0.1, where the gateway is to listen, is taken by another program: "
        "stop that program, or choose another one in X"
    )
    check_port(Port(part="gateway", host="127.0.0.1", number=number, cure=""))


def test_an_address_of_another_machine_cannot_be_used() -> None:
    with pytest.raises(SetupError, match="cannot be used"):
        check_port(Port(part="gateway", host="192.0.2.1", number=8080, cure="choose another one in X"))


def test_a_data_directory_is_made_private(tmp_path: Path) -> None:
    check_disk(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_data_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match=r"cannot be written .*BREAKEVEN_DATA"):
        check_disk(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/proc/mounts").exists(), reason="mounting a small disk needs root")
def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    if os.system(f"mount -t tmpfs -o size=8m none '{tmp_path}' 2>/dev/null") != 0:
        pytest.skip("this system does not let us mount a small disk")
    try:
        with pytest.raises(SetupError, match=r"only \d+ MiB of disk are free"):
            check_disk(tmp_path)
    finally:
        os.system(f"umount '{tmp_path}'")


def test_one_data_directory_holds_one_house(tmp_path: Path) -> None:
    taken = pytest.raises(SetupError, match=f"breakeven is up already .*process {os.getpid()}")
    with only_one(tmp_path), taken, only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass
