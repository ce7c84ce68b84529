"""How far the engine is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.worker.messages import Loading


class LoadingProgress:
    """Shows the first load. Later ones are for the log."""

    def __init__(self, console: Console, *, model: str) -> None:
        self._console = console
        self._model = model
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(f"loading {model}", total=1.0)
        self._shown = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bar:
            self._shown = True
            try:
                yield
            finally:
                self._shown = False

    def saw(self, loading: Loading) -> None:
        if not self._shown:
            return
        if self._console.is_terminal:
            self._bar.update(self._task, completed=loading.done, description=f"{self._model}: {loading.stage}")
        else:
            self._console.print(f"{self._model}: {loading.stage} ({loading.done:.0%})", highlight=False, soft_wrap=True)
