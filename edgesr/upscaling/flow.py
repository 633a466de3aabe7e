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

    What they hold, and what the network takes for the largest of them (`networks` run at once),
    is `limit_bytes` at most, and they are at most `pictures`; one alone may always enter, since
    it was found to fit before.
    """

    def __init__(self, limit_bytes: int, pictures: int, networks: int = 1) -> None:
        self._limit, self._pictures, self._networks = limit_bytes, pictures, networks
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
        workings = sorted((working, *(network for _, network in self._inside)))
        pixels = held + sum(pixels for pixels, _ in self._inside)
        return pixels + sum(workings[-self._networks :]) <= self._limit


class Workers(Generic[T]):
    """`count` threads that do jobs in the order that they were given.

    They are daemons: when the process is to end, an encoder that has a minute to go does not
    hold it up. What a job does within `whole` is finished all the same.
    """

    def __init__(self, name: str, count: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[T], Callable[[], T]] | None] = SimpleQueue()
        self._stopping, self._inside, self._unfinished = False, 0, 0
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unfinished(self) -> int:
        """Jobs that wait or are being done."""
        return self._unfinished

    def submit(self, job: Callable[[], T], future: Future[T] | None = None) -> Future[T]:
        """Have `job` done; what it gives or raises comes out of the future."""
        future = Future() if future is None else future
        with self._changed:
            self._unfinished += 1
        self._jobs.put((future, job))
        return future

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around what must not be broken off. Raises `Stopped` after `stop`."""
        with self._changed:
            if self._stopping:
                raise Stopped
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Begin nothing more, and wait for what must not be broken off."""
        with self._changed:
            self._stopping = True
            self._changed.wait_for(lambda: self._inside == 0)
        for _ in self._threads:
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
            finally:
                with self._changed:
                    self._unfinished -= 1
            del future, job, entry  # or this thread keeps the last picture until the next comes
