"""From a trace to joules: trapezoids between the readings, and what makes them invalid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.power.meter import Trace

Window: TypeAlias = tuple[float, float]  # start and end in seconds, on the trace's clock

MIN_COVERAGE = 0.95
# In nominal intervals. Random instants in neighbouring ones lie up to two apart, and a few
# milliseconds more on a busy machine; beyond three a reading is missing for certain.
LONGEST_GAP = 3
MIN_SAMPLES = 200
MIN_WINDOW_S = 10.0
MAX_IDLE_DRIFT = 0.05


@dataclass(frozen=True)
class Energy:
    """The energy of one window, or of several together.

    `rails_j` is joules by rail; `total_j` their sum by the meter's formula, None when it has
    none. `coverage` is the share of the time that lies between readings at most `LONGEST_GAP`
    nominal intervals apart. `problems` says why the figures must not be used; empty: valid.
    """

    rails_j: dict[str, float]
    total_j: float | None
    duration_s: float
    samples: int
    coverage: float
    problems: tuple[str, ...]

    @property
    def mean_w(self) -> float | None:
        """Mean power of the total in watts."""
        if self.total_j is None or self.duration_s <= 0:
            return None
        return self.total_j / self.duration_s


def energy(trace: Trace, *windows: Window) -> Energy:
    """Integrate `trace` over `windows` (seconds on its clock), gross.

    Between readings the power is taken as linear; at a window's edges it is interpolated.
    """
    times = np.array([s.time_s for s in trace.samples])
    duration = sum(end - start for start, end in windows)
    inside = sum(int(np.sum((times >= start) & (times <= end))) for start, end in windows)
    covered = sum(_covered_s(times, LONGEST_GAP * trace.nominal_s, window) for window in windows)
    coverage = covered / duration if duration > 0 else 0.0
    rails: dict[str, float] = {}
    if times.size >= 2:
        for rail in trace.rails:
            values = np.array([s.values[rail] for s in trace.samples])
            part = _counted_j if trace.quantity == "J" else _trapezoid_j
            rails[rail] = float(sum(part(times, values, window) for window in windows))
    total = sum(rails[r] for r in trace.total) if trace.total and rails else None
    problems = _problems(trace, total, coverage, inside, duration)
    return Energy(rails, total, duration, inside, coverage, problems)


def net_j(gross_j: float, idle_w: float, duration_s: float) -> float:
    """Energy above loaded idle: what the work itself cost, in joules."""
    return gross_j - idle_w * duration_s


def idle_drift(before_w: float, after_w: float) -> float:
    """How far the idle power moved between two windows, as a share of the first."""
    return abs(after_w - before_w) / before_w if before_w > 0 else float(after_w != before_w)


def _trapezoid_j(times: NDArray[np.float64], watts: NDArray[np.float64], window: Window) -> float:
    start, end = window
    inside = (times > start) & (times < end)
    t = np.concatenate(([start], times[inside], [end]))
    p = np.interp(t, times, watts)
    return float(np.sum((p[1:] + p[:-1]) / 2 * np.diff(t)))


def _counted_j(times: NDArray[np.float64], joules: NDArray[np.float64], window: Window) -> float:
    """A counter needs no integral: its value at the end minus that at the start."""
    start, end = np.interp(np.array(window), times, joules)
    return float(end - start)


def _covered_s(times: NDArray[np.float64], longest_s: float, window: Window) -> float:
    start, end = window
    if times.size < 2:
        return 0.0
    good = np.diff(times) <= longest_s
    overlap = np.minimum(times[1:], end) - np.maximum(times[:-1], start)
    return float(np.sum(np.clip(overlap, 0.0, None)[good]))


def _problems(
    trace: Trace, total: float | None, coverage: float, samples: int, duration: float
) -> tuple[str, ...]:
    found: list[str] = []
    if trace.stopped:
        found.append(trace.stopped)
    if not trace.total:
        rails = ", ".join(trace.rails)
        found.append(f"which of the rails {rails} add up to the total is not known")
    elif total is None:
        found.append("fewer than two readings")
    if coverage < MIN_COVERAGE:
        found.append(f"readings cover {coverage:.0%} of the time, {MIN_COVERAGE:.0%} needed")
    if samples < MIN_SAMPLES:
        found.append(f"{samples} readings, {MIN_SAMPLES} needed")
    if round(duration, 3) < MIN_WINDOW_S:
        found.append(f"{duration:.1f} s measured, {MIN_WINDOW_S:.0f} s needed: run it longer")
    return tuple(found)


def idle_problem(idle_w: Sequence[float]) -> str:
    """The complaint about idle windows before and after that differ; empty when they agree."""
    drift = idle_drift(idle_w[0], idle_w[-1])
    if drift <= MAX_IDLE_DRIFT:
        return ""
    return (
        f"idle power moved by {drift:.0%} during the run ({idle_w[0]:.2f} → {idle_w[-1]:.2f} W), "
        f"{MAX_IDLE_DRIFT:.0%} allowed"
    )
