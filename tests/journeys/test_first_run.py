"""The first command a stranger types: everything on this machine, and one real request through it.

These are `app.cli.up`, `app.cli.house` and the servers' own commands (`app.cli.serve_gateway`,
`app.cli.serve_console`, `app.cli.serve_worker`), with the real worker and the embedded PostgreSQL.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import openai
import pytest

from tests.command_line import COMMAND, ROOT, Ran, breakeven, clean_environment, runs
from tests.free_ports import free_port
from tests.postgres import open_directory

PATIENCE_S = 200.0
POLL_S = 0.1

pytestmark = pytest.mark.timeout(600)


class Place:
    """A data directory, a copy of the shipped policy with the worker at a port of its own, and free ports."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data dir"
        # Open to the user that root's PostgreSQL runs as, so that everything is removed with the directory.
        self.data.mkdir(mode=0o755)
        self.policies = directory / "policies"
        shutil.copytree(ROOT / "policies", self.policies)
        self.worker_port, self.port, self.console_port = free_port(), free_port(), free_port()
        targets = self.policies / "targets.yaml"
        targets.write_text(targets.read_text().replace("127.0.0.1:8001", f"127.0.0.1:{self.worker_port}"))

    def give_rates(self) -> None:
        """Write the worker's speed into the policy, so that it is not measured."""
        rates = self.policies / "rates.yaml"
        given = "    cpu-worker: {measured: {prefill_tokens_per_s: 900, decode_tokens_per_s: 300}}\n"
        text = rates.read_text()
        assert "  targets:\n" in text
        rates.write_text(text.replace("  targets:\n", f"  targets:\n{given}"))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "BREAKEVEN_DATA": str(self.data),
            "BREAKEVEN_POLICIES": str(self.policies),
            "BREAKEVEN_PORT": str(self.port),
            "BREAKEVEN_CONSOLE_PORT": str(self.console_port),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def run(self, *arguments: str, **environment: str) -> Ran:
        return breakeven(*arguments, timeout_s=400, **{**self.settings, **environment})


class Up:
    """`breakeven up`, staying."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._out = place.data / "out.txt"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [*COMMAND, "up"],
                cwd=ROOT,
                env=clean_environment(place.settings),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._out.read_text()

    def wait_for(self, words: str) -> None:
        def there() -> bool:
            return words in self.said

        wait_until(there, lambda: f"{words!r} was never said, only:\n{self.said}", unless=self.process)

    def pid_of(self, part: str, *, other_than: int = 0) -> int:
        """The child that runs this part of the house, once there is one: never 0, whose group is the tests' own."""

        def there() -> int:
            command_of_it = re.compile(rf"-m app --with-parent \d+ {part}\b")
            for pid, parent, command in processes():
                if parent == self.process.pid and pid != other_than and command_of_it.search(command):
                    return pid
            return 0

        found = wait_until(there, lambda: f"no {part} was started:\n{self.said}", unless=self.process)
        assert found > 0
        return found

    def everybody(self) -> set[int]:
        """This process and all that descend from it."""
        found = {self.process.pid}
        for _ in range(5):
            found |= {pid for pid, parent, _ in processes() if parent in found}
        return found

    def ends(self, number: signal.Signals) -> int:
        """Its exit status after this signal. Afterwards nobody who descended from it may be left."""
        everybody = self.everybody()
        os.kill(self.process.pid, number)
        status = self.process.wait(PATIENCE_S)
        wait_until(
            lambda: not any(map(runs, everybody)), lambda: f"left: {[p for p in processes() if p[0] in everybody]}"
        )
        return status


@pytest.fixture
def place() -> Iterator[Place]:
    with open_directory() as directory:
        place = Place(directory)
        yield place
        breakeven("db", "stop", "--force", **place.settings)


@pytest.fixture
def up(place: Place) -> Iterator[Callable[[], Up]]:
    place.give_rates()
    started: list[Up] = []

    def start() -> Up:
        started.append(Up(place))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_one_command_ends_in_an_answer_a_receipt_and_a_report(place: Place) -> None:
    first = place.run("up", "--once")
    assert first.status == 0, first.out + first.err
    told = first.out
    request_id = _found(r"^receipt +([0-9a-f-]{36})", told)
    assert _found(r"A request to the model chat:\n\n\n?(\S.*)", told), "there is an answer"
    assert re.search(r'^route +chat → cpu-worker \(self-hosted\) by rule "[^"]+": complete, status 200', told, re.M)
    assert re.search(r"openai was not taken: its credential env:OPENAI_API_KEY is not set", told)
    assert re.search(r"^tokens +[1-9]\d* prompt \(\d+ cached\) \+ [1-9]\d* output, source: provider final", told, re.M)
    assert re.search(r"^speed +TTFT [\d.]+ m?s, TPOT [\d.]+ m?s, [\d.]+ tokens/s", told, re.M)
    assert float(_found(r"^charge +\$([\d.]+)", told)) > 0
    assert re.search(r"^demo +cpu-worker +1 ", told, re.M), "the report has the request"
    assert re.search(r"^speed: prefill \d+ tokens/s, decode \d+ tokens/s", told, re.M), "the worker was measured"
    assert told.rstrip().endswith("Stopped.")
    assert not _anybody_at(place)

    began = time.monotonic()
    second = place.run("up", "--once")
    took_s = time.monotonic() - began
    assert second.status == 0, second.out + second.err
    assert "measuring" not in second.out, "a second start knows the worker's speed"
    assert took_s < PATIENCE_S
    print(f"a second start, request and stop took {took_s:.1f} s")

    view = place.run("requests", "show", request_id, "--json").value
    assert (view["outcome"], view["target"], view["team"]) == ("complete", "cpu-worker", "demo")
    report = place.run("report", "cost", "--by", "team,target", "--from", "7d", "--json").value
    assert report["total"]["requests"] == 2
    assert report["by_hosting"]["self_hosted"]["charge_nanodollars"] > 0
    keys = place.run("key", "list", "--json").value
    assert [key["name"] for key in keys] == ["quick start"], "the second start used the first one's key"


def test_it_stays_up_mends_itself_and_stops_on_ctrl_c(place: Place, up: Callable[[], Up]) -> None:
    house = up()
    house.wait_for("Ctrl-C stops everything.")
    key = (place.data / "quick-start-key").read_text().strip()
    assert f"key           {key}" in house.said
    assert (place.data / "quick-start-key").stat().st_mode & 0o777 == 0o600
    assert _found(r"^(curl \S+/chat/completions .*)$", house.said).count(key) == 1
    assert _asked(place, key)

    again = place.run("up", "--once")
    assert (again.status, again.err.count("\n")) == (1, 1)
    assert f"breakeven is up already with the data in {place.data} (process {house.process.pid})" in again.err
    assert place.run("key", "list", "--json").value[0]["name"] == "quick start"

    killed = house.pid_of("gateway")
    os.kill(killed, signal.SIGKILL)
    house.wait_for("the gateway died (killed by SIGKILL); it starts again in 0.5 s")
    house.pid_of("gateway", other_than=killed)
    house.wait_for("the gateway serves again")
    wait_until(lambda: _asked(place, key), lambda: f"the gateway that came back does not answer:\n{house.said}")

    os.kill(place.run("db", "status", "--json").value["pid"], signal.SIGKILL)
    house.wait_for("breakeven: Postgres is back")
    request_id = _asked(place, key)
    wait_until(lambda: place.run("requests", "show", request_id).status == 0, lambda: f"{request_id} was never booked")

    assert house.ends(signal.SIGINT) == 0
    assert house.said.rstrip().endswith("Stopped.")
    assert not _anybody_at(place)


def test_kill_9_leaves_nobody_behind_and_loses_nothing(place: Place, up: Callable[[], Up]) -> None:
    house = up()
    house.wait_for("Ctrl-C stops everything.")
    key = (place.data / "quick-start-key").read_text().strip()
    asked = [_asked(place, key) for _ in range(3)]
    house.ends(signal.SIGKILL)
    wait_until(lambda: not _anybody_at(place), lambda: "somebody still listens")
    wait_until(lambda: not place.run("db", "status", "--json").value["in_use"], lambda: "Postgres is still in use")
    for request_id in asked:
        assert place.run("requests", "show", request_id, "--json").value["outcome"] == "complete"


def test_ctrl_c_while_it_starts_stops_everything(place: Place, up: Callable[[], Up]) -> None:
    house = up()
    house.wait_for("Postgres: starting")
    house.pid_of("worker")
    assert house.ends(signal.SIGTERM) == 130
    assert "Traceback" not in house.said
    assert not _anybody_at(place)


def test_a_child_that_dies_while_it_starts_is_reported_at_once(place: Place, up: Callable[[], Up]) -> None:
    house = up()
    os.kill(house.pid_of("worker"), signal.SIGKILL)
    assert house.process.wait(PATIENCE_S) == 1
    assert "breakeven: the worker ended early (killed by SIGKILL)" in house.said
    assert "Traceback" not in house.said
    assert not _anybody_at(place)


@pytest.mark.parametrize("part", ["gateway", "console", "worker"])
def test_a_taken_port_is_one_sentence_before_anything_starts(place: Place, part: str) -> None:
    port = {"gateway": place.port, "console": place.console_port, "worker": place.worker_port}[part]
    cure = {
        "gateway": "choose another one in BREAKEVEN_PORT",
        "console": "choose another one in BREAKEVEN_CONSOLE_PORT",
        "worker": f"write another port into the url of cpu-worker in {place.policies}",
    }[part]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        ran = place.run("up", "--once")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == (
        f"breakeven: port {port} on 127.0.0.1, where the {part} is to listen, is taken by another program: "
        f"stop that program, or {cure}\n"
    )
    assert not (place.data / "postgres").exists()


def test_what_is_wrong_beforehand_is_one_sentence(place: Place, tmp_path: Path) -> None:
    contradiction = place.run("up", "--once", BREAKEVEN_WORKER_PORT=str(place.worker_port + 1))
    assert (contradiction.status, contradiction.err.count("\n")) == (1, 1)
    assert "write the same port in both, or unset BREAKEVEN_WORKER_PORT" in contradiction.err

    empty = place.run("up", "--once", BREAKEVEN_POLICIES=str(tmp_path))
    assert (empty.status, empty.err.count("\n")) == (1, 1)
    assert f"there are no *.yaml files in {tmp_path}" in empty.err

    (tmp_path / "file").write_text("")
    no_place = place.run("up", "--once", BREAKEVEN_DATA=str(tmp_path / "file"))
    assert (no_place.status, no_place.err.count("\n")) == (1, 1)
    assert "cannot be written" in no_place.err


def _asked(place: Place, key: str) -> str:
    """The request id of one answer through the official client; empty while nobody answers."""
    client = openai.OpenAI(base_url=place.url, api_key=key, max_retries=0, timeout=60)
    try:
        raw = client.chat.completions.with_raw_response.create(
            model="chat", messages=[{"role": "user", "content": "Say one word."}], max_tokens=8
        )
    except openai.APIConnectionError:
        return ""
    finally:
        client.close()
    assert json.loads(raw.content)["choices"][0]["message"]["role"] == "assistant"
    return raw.headers["x-request-id"]


def _anybody_at(place: Place) -> list[int]:
    """The ports of the house where somebody listens."""
    open_ports = []
    for port in (place.port, place.console_port, place.worker_port):
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                open_ports.append(port)
    return open_ports


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"{pattern} is not in:\n{text}"
    return match[1]


def processes() -> list[tuple[int, int, str]]:
    """Process id, its parent's and its command line, of everybody."""
    if not Path("/proc/self").exists():
        ps = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
        listed = subprocess.run(ps, capture_output=True, text=True, check=True)
        rows = (line.split(None, 2) for line in listed.stdout.splitlines())
        return [(int(row[0]), int(row[1]), row[2] if len(row) > 2 else "") for row in rows]
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append((int(directory.name), parent, command))
    return found


Held = TypeVar("Held")


def wait_until(
    holds: Callable[[], Held], otherwise: Callable[[], str], *, unless: subprocess.Popen[bytes] | None = None
) -> Held:
    """Wait, but not for ever, and not once `unless` has ended; what held."""
    deadline = time.monotonic() + PATIENCE_S
    while not (held := holds()):
        assert time.monotonic() < deadline, otherwise()
        assert unless is None or unless.poll() is None, f"it ended; {otherwise()}"
        time.sleep(POLL_S)
    return held
