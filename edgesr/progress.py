"""How far a long job has come: a bar on a terminal, plain lines elsewhere, on stderr.

    with progress(steps, "distil") as bar:
        for _ in range(steps):
            ...
            bar.advance()
            bar.note("loss 0.031")

A `progress` opened inside another one on a terminal adds its bar below the outer one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

EVERY_S = 4.0  # at most one plain line in this time


class Progress(Protocol):
    """What a job reports to."""

    done: int

    def advance(self, n: int = 1) -> None:
        """Add `n` to what is done."""
        ...

    def note(self, text: str) -> None:
        """Show `text` behind the figures, in place of the last note."""
        ...


_open_bar: ContextVar[RichProgress | None] = ContextVar("edgesr_open_bar", default=None)


@contextmanager
def progress(
    total: int | None,
    label: str,
    *,
    begun: int = 0,
    stream: TextIO | None = None,
    quiet: bool = False,
    clock: Callable[[], float] = time.monotonic,
    every_s: float = EVERY_S,
) -> Iterator[Progress]:
    """Report on a job of `total` steps (None: unknown) until the block ends.

    On a terminal a rich bar; elsewhere a plain line at the start, at most every `every_s`
    seconds, and at the end, with label, done/total, per cent, elapsed time and the time left.
    `begun` steps were done before, by an interrupted run: they count as done, but not for the
    speed. `stream` is sys.stderr unless given; `quiet` writes nothing; `clock` gives seconds.
    """
    out = sys.stderr if stream is None else stream
    if quiet:
        yield _Silent()
    elif out.isatty():
        with _bar(total, label, out, begun) as bar:
            yield bar
    else:
        lines = _Lines(total, label, out, clock, every_s, begun)
        try:
            yield lines
        except BaseException:
            lines.finish("stopped")
            raise
        lines.finish("done")


class _Silent:
    def __init__(self) -> None:
        self.done = 0

    def advance(self, n: int = 1) -> None:
        self.done += n

    def note(self, text: str) -> None:
        pass


class _Lines:
    """Plain lines, rate-limited: for logs, CI and pipes."""

    def __init__(
        self,
        total: int | None,
        label: str,
        stream: TextIO,
        clock: Callable[[], float],
        every_s: float,
        begun: int = 0,
    ) -> None:
        self.done = self._begun = begun
        self._total, self._label, self._stream = total, label, stream
        self._clock, self._every_s, self._note = clock, every_s, ""
        self._start = self._last = clock()
        self._write(f"{label}: start" + (f", {total} steps" if total else ""))

    def advance(self, n: int = 1) -> None:
        self.done += n
        self._tick()

    def note(self, text: str) -> None:
        self._note = text
        self._tick()

    def finish(self, word: str) -> None:
        elapsed = duration(self._clock() - self._start)
        self._write(f"{self._label}: {word}, {self._count()}{elapsed}{self._tail()}")

    def _tick(self) -> None:
        now = self._clock()
        if now - self._last < self._every_s:
            return
        self._last = now
        elapsed = now - self._start
        left = ""
        mine = self.done - self._begun
        if self._total and mine > 0 and self.done <= self._total:
            left = f", {duration(elapsed * (self._total - self.done) / mine)} left"
        self._write(f"{self._label}: {self._count()}{duration(elapsed)}{left}{self._tail()}")

    def _count(self) -> str:
        if self._total:
            return f"{self.done}/{self._total} ({100 * self.done // self._total} %), "
        return f"{self.done}, " if self.done else ""

    def _tail(self) -> str:
        return f", {self._note}" if self._note else ""

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _Bar:
    """One row of a rich progress display."""

    def __init__(self, display: RichProgress, total: int | None, label: str, begun: int) -> None:
        self.done = begun
        self._display = display
        self._task = display.add_task(label, total=total, completed=begun, note="")

    def advance(self, n: int = 1) -> None:
        self.done += n
        self._display.advance(self._task, n)

    def note(self, text: str) -> None:
        self._display.update(self._task, note=text)

    def remove(self) -> None:
        self._display.remove_task(self._task)


@contextmanager
def _bar(total: int | None, label: str, stream: TextIO, begun: int) -> Iterator[_Bar]:
    outer = _open_bar.get()
    if outer is not None:
        inner = _Bar(outer, total, label, begun)
        try:
            yield inner
        finally:
            inner.remove()
        return
    with _display(stream) as display:
        token = _open_bar.set(display)
        try:
            yield _Bar(display, total, label, begun)
        finally:
            _open_bar.reset(token)


def _display(stream: TextIO) -> RichProgress:
    from rich import progress as rich_progress
    from rich.console import Console

    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(bar_width=28),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=stream),
    )


def duration(seconds: float) -> str:
    """Seconds as a short text: `8 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
