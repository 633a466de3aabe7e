"""Timed calls: warm-up until steady, then turn by turn, every call kept.

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

from edgesr.bench.order import Turn

Clock: TypeAlias = Callable[[], float]

STEADY_COV = 0.025  # standard deviation over mean; the level at which trtexec warns
STEADY_WINDOW = 10
MIN_WARM_UP_S = 0.2
LATE = 0.01  # of a period: a call that starts so little late is still in its slot


@dataclass(frozen=True)
class Clocks:
    """Wall and CPU time in seconds, and a way to wait."""

    wall: Clock = time.perf_counter
    cpu: Clock = time.process_time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class WarmUp:
    """How the warm-up went; `cov` is that of its last calls, None when there were too few."""

    calls: int
    seconds: float
    cov: float | None
    stable: bool


@dataclass
class Samples:
    """Every timed call, in order: repetition, turn, input, start in s, wall and CPU time in ms.

    `due_s`, when a paced call should have started, is empty without pacing.
    """

    repetition: list[int] = field(default_factory=list)
    turn: list[int] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    due_s: list[float] = field(default_factory=list)

    def to_json(self, origin_s: float) -> dict[str, list[Any]]:
        """Columns for the report; times count from `origin_s`."""
        columns: dict[str, list[Any]] = asdict(self)
        columns["start_s"] = [round(t - origin_s, 6) for t in self.start_s]
        columns["wall_ms"] = [round(t, 4) for t in self.wall_ms]
        columns["cpu_ms"] = [round(t, 4) for t in self.cpu_ms]
        columns["due_s"] = [round(t - origin_s, 6) for t in self.due_s]
        if not self.due_s:
            del columns["due_s"]
        return columns


@dataclass
class Lane:
    """What is timed: `run` on each of `inputs` in rotation, and what was measured of it."""

    name: str
    run: Callable[[Any], object]
    inputs: Sequence[Any]
    samples: Samples = field(default_factory=Samples)

    def call(self) -> int:
        """Run the next input; gives its number."""
        number = len(self.samples.wall_ms) % len(self.inputs)
        self.run(self.inputs[number])
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


def run_turn(
    lane: Lane, turn: Turn, share_s: float, *, fill: bool = False, clocks: Clocks | None = None
) -> None:
    """Time calls of `lane` back to back for about `share_s`, one at least.

    None starts that would overrun; with `fill` the one that overruns ends the turn, so that
    all of `share_s` is used.
    """
    clocks = clocks or Clocks()
    begin = clocks.wall()
    typical = 0.0
    while not typical or clocks.wall() - begin + (0.0 if fill else typical) <= share_s:
        typical = max(_timed_call(lane, turn, clocks), 1e-9)


def run_paced_turn(
    lane: Lane, turn: Turn, share_s: float, fps: float, *, clocks: Clocks | None = None
) -> None:
    """Time calls of `lane` that start on a grid of `fps` slots a second, for about `share_s`.

    A call that is still running when the next slot begins misses it: the next call takes the
    first slot that is still to come. The turn is a whole number of slots, one at least, and
    lasts to the end of the last one, so that its energy is that of the frame rate.
    """
    clocks = clocks or Clocks()
    begin, period = clocks.wall(), 1 / fps
    slots, slot = max(1, math.floor(share_s * fps + LATE)), 0
    while slot < slots:
        due = begin + slot * period
        _wait_until(due, clocks)
        lane.samples.due_s.append(due)
        _timed_call(lane, turn, clocks)
        slot = max(slot + 1, math.ceil((clocks.wall() - begin) * fps - LATE))
    _wait_until(begin + slot * period, clocks)


def _timed_call(lane: Lane, turn: Turn, clocks: Clocks) -> float:
    """One call, kept in the lane's samples; its seconds."""
    cpu = clocks.cpu()
    start = clocks.wall()
    number = lane.call()
    end = clocks.wall()
    s = lane.samples
    s.cpu_ms.append((clocks.cpu() - cpu) * 1e3)
    s.repetition.append(turn.repetition)
    s.turn.append(turn.number)
    s.frame.append(number)
    s.start_s.append(start)
    s.wall_ms.append((end - start) * 1e3)
    return end - start


def _wait_until(time_s: float, clocks: Clocks) -> None:
    while (left := time_s - clocks.wall()) > 0:
        clocks.sleep(left)
