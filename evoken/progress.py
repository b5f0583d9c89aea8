"""Where long work shows how far it is: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from evoken.errors import plain

QUIET = 60.0  # seconds without a line, where there is no terminal


class Bar:
    """One piece of work on a display."""

    def __init__(self, display: "Display", progress: Progress, task: TaskID) -> None:
        self._display, self._progress, self._task = display, progress, task
        self._said = time.monotonic()

    def update(self, text: str, completed: float, total: float | None = None) -> None:
        """Show where the work is; without a terminal, a line once a minute at most."""
        self._progress.update(self._task, description=plain(text), completed=completed, total=total)
        if time.monotonic() - self._said > QUIET:
            self.line(text)

    def line(self, text: str) -> None:
        """A line of its own where there is no terminal; a live line says it already."""
        if not self._display.live:
            self._display.say(text)
        self._said = time.monotonic()


class Display:
    """A console for progress and notes, or none.

    Args:
        named: puts a command's options in place of the settings that stand in backticks.
    """

    def __init__(
        self,
        console: Console | None = None,
        named: Callable[[str], str] = lambda text: text.replace("`", ""),
    ) -> None:
        self._console, self._named = console, named

    @property
    def live(self) -> bool:
        """Whether there is a terminal."""
        return self._console is not None and self._console.is_terminal

    def say(self, text: str) -> None:
        """A line of text, whoever wrote what is in it."""
        if self._console is not None:
            self._console.print(
                plain(text), soft_wrap=True, markup=False, highlight=False, emoji=False
            )

    def note(self, text: str) -> None:
        """A line with settings in backticks; nothing for ""."""
        if text:
            self.say(self._named(text))

    @contextmanager
    def bar(self, text: str, total: float) -> Iterator[Bar]:
        """Show a piece of work while the block runs: time left, how far, and what is done."""
        room = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        columns = (
            TimeRemainingColumn(elapsed_when_finished=True),
            BarColumn(bar_width=16),
            TextColumn("{task.description}", table_column=room, markup=False),
        )
        with Progress(
            *columns, console=self._console, disable=not self.live, expand=True
        ) as progress:
            yield Bar(self, progress, progress.add_task(plain(text), total=total))


SILENT = Display()
