"""All of Breakeven on one machine: Postgres held by this process, and worker, console and gateway as its children."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

import app as package
from app.bootstrap import database_url, measure_target, migrate
from app.bootstrap.postgres import embedded
from app.cli.books import in_office
from app.cli.first_request import answers, ask, receipt_of
from app.cli.output import write_labelled
from app.cli.quick_start import KEY_FILE, QuickKeys, has_rates, has_rates_of_this_engine, quick_keys, report_with
from app.cli.receipt_text import receipt_table
from app.cli.report import write_report
from app.cli.supervisor import Program, Supervisor
from app.cli.up_checks import Port
from app.cli.up_steps import Steps
from app.cli.up_worker import LocalWorker, asked_through
from app.domain.errors import SetupError
from app.domain.pricing.self_host import MeasuredRates
from app.domain.routing.policy import Policy
from app.settings import Settings

WORKER_READY_WITHIN_S: Final = 300.0
READY_WITHIN_S: Final = 60.0
#: A child that has nothing to drain is killed when it takes longer to stop.
STOP_WITHIN_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.1
_TEND_EVERY_S: Final = 0.25
#: Whoever was started again is asked for so long whether it serves: meanwhile nobody else is looked after.
_SERVES_WITHIN_S: Final = 0.2
_TEND_POSTGRES_EVERY_S: Final = 5.0
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """`worker` is None where the policy has no target for a worker on this machine."""

    settings: Settings
    policy: Policy
    worker: LocalWorker | None
    supervisor: Supervisor
    out: Console

    @property
    def endpoint(self) -> str:
        """What applications take for `base_url`."""
        return f"{_url(self.settings.host, self.settings.port)}/v1"

    @property
    def console_url(self) -> str:
        return _url(self.settings.console_host, self.settings.console_port)

    def ports(self) -> Iterator[Port]:
        """Where it is going to listen."""
        settings = self.settings
        yield _port("gateway", settings.host, settings.port, variable="BREAKEVEN_PORT")
        yield _port("console", settings.console_host, settings.console_port, variable="BREAKEVEN_CONSOLE_PORT")
        if self.worker is not None:
            cure = f"write another port into the url of {self.worker.target.name} in {settings.policies}"
            yield Port(part="worker", host=self.worker.host, number=self.worker.port, cure=cure)

    def start(self, steps: Steps, last: ExitStack) -> QuickKeys:
        """Start everything and return when it serves; `last` closes Postgres. Raises SetupError."""
        if self.worker is not None:
            steps.begin("worker", f"loading {self.worker.target.model}")
            self.supervisor.start(self._worker_program(self.worker))
        steps.begin("Postgres", "starting")
        url = last.enter_context(database_url(self.settings))
        steps.note("Postgres", "migrating")
        migrate(url)
        keys = in_office(lambda rooms: quick_keys(rooms, data=self.settings.data))
        where = "embedded" if self.settings.database_url is None else "of DATABASE_URL"
        steps.done("Postgres", f"{where}, migrated")
        new = self._is_new_here()
        if new:
            self._await_worker(steps)
            self._measure(steps)
        for name, alive in (("console", self._console_alive), ("gateway", self._gateway_ready)):
            steps.begin(name, "starting")
            self.supervisor.start(self._program(name, name, serves_at=alive))
        if not new:
            self._await_worker(steps)
        self._await("console", self._console_alive, steps, within_s=READY_WITHIN_S)
        steps.done("console", self.console_url)
        self._await("gateway", self._gateway_ready, steps, within_s=READY_WITHIN_S)
        steps.done("gateway", self.endpoint)
        if not new and self._is_another_engine():
            self._measure(steps)
        return keys

    def show_a_request(self, keys: QuickKeys) -> None:
        """One real request: its answer, its receipt, and the cost report that it stands in. Raises SetupError."""
        model = asked_through(self.policy, self.worker)
        self.out.print(Text(f"\nA request to the model {model}:\n", style="bold"))
        with self._unless_a_child_died():
            answer = ask(endpoint=self.endpoint, key=keys.caller, model=model, on_text=_at_once)
            print("\n", flush=True)
            receipt = receipt_of(answer.request_id, endpoint=self.endpoint, key=keys.caller)
            write_labelled(receipt_table(receipt), out=self.out)
            report = in_office(lambda rooms: report_with(rooms, answer.request_id))
        print(flush=True)
        write_report(report)

    def tell_how_to_go_on(self, keys: QuickKeys) -> None:
        """Where it is, the keys, and a line to copy."""
        data, model = self.settings.data, asked_through(self.policy, self.worker)
        operator = keys.operator or "made before; `breakeven key operator --new` replaces it"
        body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
        curl = (
            f"curl {self.endpoint}/chat/completions -H 'Authorization: Bearer {keys.caller}' "
            f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
        )
        lines = (
            "",
            "Breakeven is up.",
            f"  endpoint      {self.endpoint}",
            f"  key           {keys.caller}   (kept in {data / KEY_FILE})",
            f"  console       {self.console_url}",
            f"  console key   {operator}{'   (shown this once)' if keys.operator else ''}",
            f"  logs          {self._log_directory}",
            "",
            curl,
            "",
            "Ctrl-C stops everything.",
        )
        for line in lines:
            self.out.print(Text(line), soft_wrap=True)

    def stay(self, last: ExitStack) -> None:
        """Look after the children and Postgres, for ever."""
        again_s = 0.0
        while True:
            self.supervisor.tend()
            now_s = self.supervisor.clock.monotonic_s()
            if now_s >= again_s:
                again_s = now_s + _TEND_POSTGRES_EVERY_S
                self._tend_postgres(last)
            time.sleep(_TEND_EVERY_S)

    def _tend_postgres(self, last: ExitStack) -> None:
        """Bring the embedded server back if it died; meanwhile the gateway serves and spools."""
        if self.settings.database_url is not None or embedded(self.settings).is_alive():
            return
        self.supervisor.say("Postgres died; it starts again now")
        try:
            last.enter_context(database_url(self.settings))
        except SetupError as fault:
            self.supervisor.say(f"Postgres cannot be started: {fault}")
        else:
            self.supervisor.say("Postgres is back")

    def _is_new_here(self) -> bool:
        """Whether the worker was never measured, so that the gateway would have no price for it."""
        worker = self.worker
        if worker is None or worker.target.name in self.policy.given_rates:
            return False
        return not in_office(lambda rooms: has_rates(rooms, worker.target))

    def _is_another_engine(self) -> bool:
        worker = self.worker
        if worker is None or worker.target.name in self.policy.given_rates:
            return False
        return not in_office(lambda rooms: has_rates_of_this_engine(rooms, worker.target))

    def _measure(self, steps: Steps) -> None:
        worker = self.worker
        assert worker is not None, "only a worker is measured"
        steps.begin("speed", "measuring")
        with self._unless_a_child_died():
            rates = asyncio.run(
                measure_target(
                    self.settings, target=worker.target.name, progress=lambda text: steps.note("speed", text)
                )
            )
        steps.done("speed", _told(rates))

    def _await_worker(self, steps: Steps) -> None:
        if self.worker is None:
            return
        self._await("worker", self.worker.health_url, steps, within_s=WORKER_READY_WITHIN_S)
        steps.done("worker", f"{self.worker.target.model} at {self.worker.base_url}")

    def _await(self, name: str, url: str, steps: Steps, *, within_s: float) -> None:
        """Wait until it answers there. Raises ChildDied at once when any child ends, SetupError when time is up."""
        deadline_s = self.supervisor.clock.monotonic_s() + within_s
        while not answers(url):
            self.supervisor.check()
            if self.supervisor.clock.monotonic_s() > deadline_s:
                raise SetupError(
                    f"the {name} is not ready after {within_s:.0f} s: see its log, {self._log_directory / name}.log"
                )
            steps.note(name, self.supervisor.last_line(name))
            time.sleep(_LOOK_EVERY_S)
        self.supervisor.check()

    @contextmanager
    def _unless_a_child_died(self) -> Iterator[None]:
        """A failure inside is told as the death of the child that caused it, where one died."""
        try:
            yield
        except SetupError:
            self.supervisor.check()
            raise

    @property
    def _console_alive(self) -> str:
        return f"{self.console_url}/livez"

    @property
    def _gateway_ready(self) -> str:
        return f"{self.endpoint.removesuffix('/v1')}/readyz"

    @property
    def _log_directory(self) -> Path:
        return self.settings.data / "log"

    def _worker_program(self, worker: LocalWorker) -> Program:
        target = worker.target
        context = () if target.context_tokens is None else ("--context", str(target.context_tokens))
        return self._program(
            "worker",
            *("worker", "--host", worker.host, "--port", str(worker.port), "--name", target.model),
            *context,
            serves_at=worker.health_url,
        )

    def _program(self, name: str, *arguments: str, serves_at: str) -> Program:
        # -P: a directory named `app` where this was started must not be taken for the package.
        argv = (sys.executable, "-P", "-m", "app", "--with-parent", str(os.getpid()), *arguments)
        home = str(Path(package.__file__).parent.parent)
        python_path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        return Program(
            name=name,
            argv=argv,
            environment={**os.environ, "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"},
            log=self._log_directory / f"{name}.log",
            serves=lambda: answers(serves_at, within_s=_SERVES_WITHIN_S),
            stop_within_s=STOP_WITHIN_S + (self.settings.drain_s if name == "gateway" else 0.0),
            tells_policy=name == "gateway",
        )


def _port(part: str, host: str, number: int, *, variable: str) -> Port:
    return Port(part=part, host=host, number=number, cure=f"choose another one in {variable}")


def _url(host: str, port: int) -> str:
    """How this machine reaches what listens there."""
    near = _ANY_ADDRESS.get(host, host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def _told(rates: MeasuredRates) -> str:
    return f"prefill {rates.prefill_tokens_per_s:.0f} tokens/s, decode {rates.decode_tokens_per_s:.0f} tokens/s"


def _at_once(text: str) -> None:
    print(text, end="", flush=True)
