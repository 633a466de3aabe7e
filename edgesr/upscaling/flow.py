"""What keeps the threads of the pipeline within bounds, and ends them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """Ends a thread of the pipeline; never leaves it."""


class Room:
    """Memory for the pictures under way: between being read and being written.

    They hold `limit_bytes` at most, beside what the network takes for the largest of them, and
    are at most `pictures`; one alone may always enter, since it was found to fit before.
    """

    def __init__(self, limit_bytes: int, pictures: int) -> None:
        self._limit, self._pictures = limit_bytes, pictures
        self._inside: list[tuple[int, int]] = []
        self._changed = threading.Condition()
        self._stopping = False

    def enter(self, held: int, working: int, *, alone: bool = False) -> None:
        """Wait until there is room. Raises `Stopped` after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._fits(held, working, alone))
            if self._stopping:
                raise Stopped
            self._inside.append((held, working))

    def leave(self, held: int, working: int) -> None:
        """Give back what `enter` took."""
        with self._changed:
            self._inside.remove((held, working))
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _fits(self, held: int, working: int, alone: bool) -> bool:
        if not self._inside:
            return True
        if alone or len(self._inside) >= self._pictures:
            return False
        largest = max(working, *(network for _, network in self._inside))
        return held + sum(pixels for pixels, _ in self._inside) + largest <= self._limit


class Writers(Generic[T]):
    """Threads that encode and write, `count` of them.

    They are daemons: when the process is to end, an encoder that has a minute to go does not
    hold it up. A file that is being written at that moment is finished.
    """

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[T], Callable[[], T]] | None] = SimpleQueue()
        self._count, self._stopping, self._busy = count, False, 0
        self._changed = threading.Condition()
        for number in range(count):
            name = f"edgesr-write-{number}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Have `job` done; what it raises comes out of the future."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around what must not be broken off. Raises `Stopped` after `stop`."""
        with self._changed:
            if self._stopping:
                raise Stopped
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Begin nothing more, and wait for the files that are being written."""
        with self._changed:
            self._stopping = True
            self._changed.wait_for(lambda: self._busy == 0)
        for _ in range(self._count):
            self._jobs.put(None)

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None and not self._stopping:
            future, job = entry
            try:
                future.set_result(job())
            except Stopped:
                return
            except BaseException as e:
                future.set_exception(e)
            del future, job, entry  # or this thread keeps the last picture until the next comes
