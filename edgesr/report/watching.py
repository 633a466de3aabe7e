"""What the looks at clocks and temperatures say: was the machine the same all the time?

Only looks within the timed turns count for clocks: at rest they fall by themselves. A machine
that says itself that it slowed down, or that was hot enough to, makes the run invalid. A clock
that moved by its governor's choice is only worth a look; one that was pinned and fell is not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from itertools import chain
from typing import Any

from edgesr.report.times import repetition_windows

MAX_CLOCK_MOVE = 0.05  # last third of the looks against the first
NEAR_TRIP_C = 5.0
LEAST_LOOKS = 6  # two in each third
MAX_COST_MS = 5.0  # of a look, once a second: half a percent of one core
# vcgencmd get_throttled (Raspberry Pi documentation): bits of now; 16 higher: since the start.
_RASPBERRY = {1: "under-voltage", 2: "clock capped", 4: "throttled", 8: "soft temperature limit"}
_SINCE = 16
_CARD = {0x08: "hardware slowdown", 0x20: "software thermal slowdown",
         0x40: "hardware thermal slowdown", 0x80: "external power brake"}  # fmt: skip

Finding = tuple[bool, str]  # whether it is well, and the sentence


def clock_move(report: dict[str, Any], model: dict[str, Any]) -> float | None:
    """How far the clock under `model` moved, as a share; None where it was not seen.

    The fastest core's for a network on the CPU, else the GPU's: medians of the last third of
    the looks within its turns over the first.
    """
    watch = report["watch"]
    column = "cpu_clock_mhz" if on_cpu(model) else "gpu_clock_mhz"
    at, clocks = watch["at_s"], watch.get(column, {})
    parts = repetition_windows(model["raw"]["samples"], report["settings"].get("fps"))
    windows = list(chain(*parts))
    seen = []
    for k, t in enumerate(at):
        told = [values[k] for values in clocks.values() if values[k] is not None]
        if told and any(start <= t <= end for start, end in windows):
            seen.append(max(told))
    third = len(seen) // 3
    if len(seen) < LEAST_LOOKS or (first := statistics.median(seen[:third])) <= 0:
        return None
    return float(statistics.median(seen[-third:]) / first - 1)


def on_cpu(model: dict[str, Any]) -> bool:
    """Whether the model ran on the processor."""
    return str(model["runtime"]).endswith("-cpu")


def heat(watch: dict[str, Any]) -> tuple[Finding, bool] | None:
    """The hottest place against the temperature from which it is slowed; and whether it got there.

    None where no temperature is told.
    """
    highest = {
        name: max(known)
        for name, values in watch.get("temperatures_c", {}).items()
        if (known := [v for v in values if v is not None])
    }
    if not highest:
        return None
    trips = {name: c for name, c in watch["trips_c"].items() if name in highest}
    if not trips:
        name = max(highest, key=lambda n: highest[n])
        return (True, f"at most {highest[name]:.0f} °C ({name}); no limit is told"), False
    name = min(trips, key=lambda n: trips[n] - highest[n])
    left = trips[name] - highest[name]
    text = f"{name} reached {highest[name]:.0f} °C; from {trips[name]:.0f} °C on it is slowed"
    return (left > NEAR_TRIP_C, text), left <= 0


def slowed(report: dict[str, Any]) -> tuple[str, ...] | None:
    """Each sign that the machine slowed itself; None where it gives none either way."""
    watch = report["watch"]
    before, after = report["conditions"]["before"], report["conditions"]["after"]
    columns = ("cooling", "cpu_limit_mhz", "gpu_limit_mhz", "card_slowed", "raspberry")
    told = any(watch.get(c) for c in columns) or "throttled" in before
    if not told and "thermal_throttle_count" not in before:
        return None
    return tuple(chain(_cooling(watch), _limits(watch), _bits(watch, before, after),
                       _counted(before, after)))  # fmt: skip


def cost_ms(watch: dict[str, Any]) -> float | None:
    """Processor time of a look in ms, on average; None without one."""
    return statistics.fmean(watch["cpu_ms"]) if watch["cpu_ms"] else None


def _known(values: list[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _cooling(watch: dict[str, Any]) -> Iterable[str]:
    for name, values in watch.get("cooling", {}).items():
        known = _known(values)
        if known and max(known) > max(known[0], 0):
            yield f"{name} was slowed for heat (state {known[0]:g}, then {max(known):g})"
        elif known and known[0] > 0:
            yield f"{name} was slowed for heat from the start (state {known[0]:g})"


def _limits(watch: dict[str, Any]) -> Iterable[str]:
    for what in ("cpu", "gpu"):
        for name, values in watch.get(f"{what}_limit_mhz", {}).items():
            known = _known(values)
            if known and min(known) < known[0]:
                yield f"the limit of {name} fell from {known[0]:g} to {min(known):g} MHz"


def _bits(watch: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> Iterable[str]:
    """A Raspberry Pi's, and those of NVIDIA's cards."""
    seen = 0
    for values in watch.get("raspberry", {}).values():
        for bits in _known(values):
            seen |= int(bits)
    first, last = (int(when.get("throttled", "0"), 16) for when in (before, after))
    now = (first | last | seen) & ((1 << _SINCE) - 1)
    new = ((last | seen) & ~first) >> _SINCE
    if words := [word for bit, word in _RASPBERRY.items() if (now | new) & bit]:
        yield f"the board reports {', '.join(words)}"
    for name, values in watch.get("card_slowed", {}).items():
        bits = 0
        for value in _known(values):
            bits |= int(value)
        if bits:
            yield f"{name} reports {', '.join(w for bit, w in _CARD.items() if bits & bit)}"


def _counted(before: dict[str, Any], after: dict[str, Any]) -> Iterable[str]:
    first, last = (when.get("thermal_throttle_count") for when in (before, after))
    if first is not None and last is not None and last > first:
        yield f"the processor's count of slowing for heat rose by {last - first}"
