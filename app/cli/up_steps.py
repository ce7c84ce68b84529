"""What is happening while things start: a live line a step on a terminal, a plain line a step elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from app.ports import Clock

_NAME_WIDTH: Final = 11
_LONGEST_NOTE: Final = 60


class Steps:
    """A context manager; steps may overlap. Lines said between the steps stand above the live ones."""

    def __init__(self, console: Console, *, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._tasks: dict[str, TaskID] = {}
        self._began_s: dict[str, float] = {}
        self._live = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", style="bold", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._began_s):
            self.note(name, "not finished")
        self._live.stop()

    def begin(self, name: str, doing: str) -> None:
        """A step begins."""
        self._began_s[name] = self._clock.monotonic_s()
        if self._console.is_terminal:
            self._tasks[name] = self._live.add_task(name.ljust(_NAME_WIDTH), total=1, note=doing)
        else:
            self.say(f"{name}: {doing}")

    def note(self, name: str, doing: str) -> None:
        """What the step is at now; shown on a terminal only."""
        if name in self._tasks:
            self._live.update(self._tasks[name], note=doing[:_LONGEST_NOTE])

    def done(self, name: str, result: str) -> None:
        """The step is over."""
        took_s = self._clock.monotonic_s() - self._began_s.pop(name)
        if name in self._tasks:
            self._live.update(self._tasks[name], completed=1, note=result)
        else:
            self.say(f"{name}: {result} ({took_s:.1f} s)")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text), soft_wrap=True)
