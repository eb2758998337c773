"""Progress with rate and remaining time: a bar on a terminal, a plain line now and then elsewhere.

Called by all commands that take a while; `advance` is cheap enough for every request.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_LINE_EVERY_S = 5.0


class _Rate(ProgressColumn):
    """Per second: of the last half minute while it runs, of the whole at its ends."""

    def render(self, task: Task) -> Text:
        speed = None if task.finished else task.speed
        return Text(f"{speed or task.completed / max(task.elapsed or 0, 1e-9):,.0f}/s")


class Meter:
    """`with Meter(console, "feeding", total, "events") as meter: meter.advance(n)`."""

    def __init__(self, console: Console, title: str, total: int, unit: str) -> None:
        self._console, self._title, self._total, self._unit = console, title, total, unit
        self._done, self._started, self._said = 0, 0.0, 0.0
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn(f"{title} {{task.completed:,}} of {{task.total:,}} {unit}"), BarColumn(), _Rate())
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._started = self._said = time.monotonic()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif error is None:
            self._say()

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._bar is not None:
            self._bar.advance(self._task, count)
        elif time.monotonic() - self._said >= _LINE_EVERY_S:
            self._say()

    def expect(self, total: int) -> None:
        """So many there are in all, now that more is known."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def _say(self) -> None:
        self._said = time.monotonic()
        passed_s = max(self._said - self._started, 1e-9)
        left_s = passed_s * (self._total - self._done) / self._done if self._done else 0
        left = f", {left_s // 60:.0f}:{left_s % 60:02.0f} left" if self._done < self._total else ""
        self._console.print(
            f"{self._title}: {self._done:,} of {self._total:,} {self._unit}, {self._done / passed_s:,.0f}/s{left}"
        )
