"""Batches made ahead of the step that uses them."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from edgesr.training.data import Batch

AHEAD = 4  # batches in memory beside the one in use


class Source(Protocol):
    """Anything that gives the batch of a step; `data.Batches` is one."""

    def __getitem__(self, step: int) -> Batch: ...


class Loader:
    """The batches of steps `first` … `last` − 1 in order, cut by `workers` threads.

    Cutting crops is numpy on memory-mapped pictures, which lets go of Python's lock: a
    thread does, and nothing has to be sent between processes. `waited_s` is the time that
    `next` spent waiting, in seconds.
    """

    def __init__(self, source: Source, first: int, last: int, *, workers: int = 1) -> None:
        self._source, self._next, self._last = source, first, last
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="edgesr-crops")
        self._ready: deque[Future[Batch]] = deque()
        self.waited_s = 0.0

    def __enter__(self) -> Loader:
        self._fill()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def next(self) -> Batch:
        """The next step's batch. Raises IndexError after the last."""
        begun = time.perf_counter()
        batch = self._ready.popleft().result()
        self.waited_s += time.perf_counter() - begun
        self._fill()
        return batch

    def _fill(self) -> None:
        while self._next < self._last and len(self._ready) < AHEAD:
            self._ready.append(self._pool.submit(self._source.__getitem__, self._next))
            self._next += 1
