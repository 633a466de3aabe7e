"""Frames a second at larger batches and in two streams, where time for one frame is not asked.

A stream is a session of its own, run by a thread of its own with the run's number of threads.
What does not fit is left out with its reason, never extrapolated.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.bench.timing import Clock
from edgesr.errors import EdgeSRError
from edgesr.progress import progress
from edgesr.runtime.base import Runtime

BATCHES, STREAMS = (1, 2, 4, 8), (1, 2)
LEAST_CALLS = 2  # of each stream, whatever its share of the time
MAX_MEMORY = 0.8  # of what is available


@dataclass(frozen=True)
class Network:
    """What is run, and its name: `runtime`, open already, and `open` for the second stream.

    `frame` is 1×3×H×W in [0, 1]. `call_s` is the time of one call of batch 1. `memory` are
    the bytes of one network in a process of its own (edgesr.bench.memory).
    """

    name: str
    runtime: Runtime
    open: Callable[[], Runtime]
    frame: NDArray[np.float32]
    call_s: float
    memory: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """A window's time, the longest that its least calls may take, and the memory there is."""

    window_s: float
    longest_s: float
    available: Callable[[], int | None]


@dataclass
class _Calls:
    """Calls of one window, in the order in which they ended."""

    stream: list[int] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)

    def to_json(self, origin_s: float) -> dict[str, Any]:
        """Columns for the report."""
        starts = [round(t - origin_s, 6) for t in self.start_s]
        times = [round(t, 4) for t in self.wall_ms]
        return {"stream": self.stream, "start_s": starts, "wall_ms": times}


def throughputs(
    networks: Sequence[Network], limits: Limits, clock: Clock, origin_s: float
) -> list[list[dict[str, Any]]]:
    """The windows of every network, one network after the other."""
    found: list[list[dict[str, Any]]] = []
    with progress(len(networks) * len(BATCHES) * len(STREAMS), "bench: throughput") as bar:
        for network in networks:
            bar.note(network.name)
            found.append([])
            for window in windows(network, limits, clock, origin_s):
                found[-1].append(window)
                bar.advance()
    return found


def windows(
    network: Network, limits: Limits, clock: Clock, origin_s: float
) -> Iterator[dict[str, Any]]:
    """A window for each number of streams and each batch, `{"missing": why}` where none can be.

    Each begins with an untimed call of each stream. `start_s` counts from `origin_s`.
    """
    for streams in STREAMS:
        with ExitStack() as stack:
            runtimes = [network.runtime]
            frame_s, problem = network.call_s * streams, ""  # they share the machine
            for batch in BATCHES:
                window: dict[str, Any] = {"batch": batch, "streams": streams}
                problem = problem or _too_much(network, limits, window, frame_s)
                if not problem:
                    try:
                        while len(runtimes) < streams:
                            runtimes.append(stack.enter_context(closing(network.open())))
                        calls = _run(runtimes, network.frame, batch, limits.window_s, clock)
                    except EdgeSRError as e:
                        problem = f"batch {batch}: {e}"
                if problem:  # a larger batch needs more of the same
                    yield {**window, "missing": problem}
                    continue
                frame_s = statistics.median(calls.wall_ms) / 1000 / batch
                yield {**window, **calls.to_json(origin_s)}


def _too_much(network: Network, limits: Limits, window: Mapping[str, int], frame_s: float) -> str:
    """Why this window is not even tried; empty when it may be."""
    batch, streams = window["batch"], window["streams"]
    need_s = (1 + LEAST_CALLS) * frame_s * batch
    if need_s > limits.longest_s:
        return (
            f"batch {batch} would take about {need_s:.1f} s and one window may take "
            f"{limits.longest_s:.1f} s; a longer --duration allows it"
        )
    m, there = network.memory, limits.available()
    if there is None or not {"before_bytes", "loaded_bytes", "peak_bytes"} <= m.keys():
        return ""
    need = (m["peak_bytes"] - m["loaded_bytes"]) * batch * streams
    need += (m["loaded_bytes"] - m["before_bytes"]) * (streams - 1)
    if need > MAX_MEMORY * there:
        return (
            f"batch {batch} would need about {need / 1e9:.1f} GB of memory, "
            f"and {there / 1e9:.1f} GB are available"
        )
    return ""


def _run(
    runtimes: Sequence[Runtime],
    frame: NDArray[np.float32],
    batch: int,
    window_s: float,
    clock: Clock,
) -> _Calls:
    """Call every runtime for about `window_s`, all at once."""
    frames = np.repeat(frame, batch, axis=0)
    for runtime in runtimes:
        runtime.run(frames)
    calls, together = _Calls(), threading.Barrier(len(runtimes))

    def stream(number: int) -> None:
        together.wait()
        begin, typical, done = clock(), 0.0, 0
        while done < LEAST_CALLS or clock() - begin + typical <= window_s:
            start = clock()
            runtimes[number].run(frames)
            end = clock()
            typical, done = max(end - start, 1e-9), done + 1
            with lock:
                calls.stream.append(number)
                calls.start_s.append(start)
                calls.wall_ms.append((end - start) * 1e3)

    lock = threading.Lock()
    with ThreadPoolExecutor(len(runtimes)) as pool:
        for ended in [pool.submit(stream, number) for number in range(len(runtimes))]:
            ended.result()
    return calls
