"""Timed calls: warm-up until steady, then the networks in turns.

Clocks are arguments and give seconds; the tests pass clocks that no time moves.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.runtime.base import Runtime

Clock: TypeAlias = Callable[[], float]
Batch: TypeAlias = NDArray[np.float32]

STEADY_COV = 0.025  # standard deviation over mean; the level at which trtexec warns
STEADY_WINDOW = 10
MIN_WARM_UP_S = 0.2


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up went; `cov` is that of its last calls, None when there were too few."""

    calls: int
    seconds: float
    cov: float | None
    stable: bool


@dataclass
class Samples:
    """Every timed call, in order: repetition, input, start in s, wall and CPU time in ms."""

    repetition: list[int] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def to_json(self, origin_s: float) -> dict[str, list[Any]]:
        """Columns for the report; starts count from `origin_s`."""
        columns: dict[str, list[Any]] = asdict(self)
        columns["start_s"] = [round(t - origin_s, 6) for t in self.start_s]
        columns["wall_ms"] = [round(t, 4) for t in self.wall_ms]
        columns["cpu_ms"] = [round(t, 4) for t in self.cpu_ms]
        return columns


@dataclass
class Lane:
    """One network with its inputs (NCHW float32, batch 1) and what was measured of it."""

    name: str
    runtime: Runtime
    batches: Sequence[Batch]
    samples: Samples = field(default_factory=Samples)

    def call(self) -> int:
        """Run the next input; gives its number."""
        number = len(self.samples.wall_ms) % len(self.batches)
        self.runtime.run(self.batches[number])
        return number


def warm_up(lane: Lane, limit_s: float, clock: Clock = time.perf_counter) -> WarmUp:
    """Call until the last ten calls vary by less than 2.5 %, at most for about `limit_s`.

    At least 0.2 s and ten calls if `limit_s` allows, and two calls whatever it says.
    """
    recent: deque[float] = deque(maxlen=STEADY_WINDOW)
    start = now = clock()
    calls, cov = 0, None
    while calls < 2 or now - start + recent[-1] <= limit_s:
        lane.call()
        before, now = now, clock()
        recent.append(now - before)
        calls += 1
        if len(recent) == STEADY_WINDOW:
            cov = spread(recent)
            if cov < STEADY_COV and now - start >= MIN_WARM_UP_S:
                return WarmUp(calls, now - start, cov, True)
    if cov is None and len(recent) > 2:
        cov = spread(list(recent)[1:])  # the first call also pays for memory
    return WarmUp(calls, now - start, cov, False)


def spread(seconds: Sequence[float] | deque[float]) -> float:
    """Coefficient of variation: standard deviation over mean."""
    mean = statistics.fmean(seconds)
    return statistics.pstdev(seconds) / mean if mean > 0 else math.inf


def turns(lanes: Sequence[Lane], repetitions: int) -> list[tuple[int, Lane]]:
    """Who runs when: (repetition, lane) in ABBA order, so that slow drift hits all alike."""
    order = []
    for repetition in range(repetitions):
        row = lanes if repetition % 2 == 0 else lanes[::-1]
        order += [(repetition, lane) for lane in row]
    return order


def run_turn(
    lane: Lane,
    repetition: int,
    share_s: float,
    *,
    fill: bool = False,
    clock: Clock = time.perf_counter,
    cpu_clock: Clock = time.process_time,
) -> None:
    """Time calls of `lane` for about `share_s`, one at least.

    None starts that would overrun; with `fill` the one that overruns ends the turn, so that
    all of `share_s` is used.
    """
    begin = clock()
    typical = 0.0
    while not typical or clock() - begin + (0.0 if fill else typical) <= share_s:
        cpu = cpu_clock()
        start = clock()
        number = lane.call()
        end = clock()
        s = lane.samples
        s.repetition.append(repetition)
        s.frame.append(number)
        s.start_s.append(start)
        s.wall_ms.append((end - start) * 1e3)
        s.cpu_ms.append((cpu_clock() - cpu) * 1e3)
        typical = max(end - start, 1e-9)
