"""Figures of what is timed beside the network's call: whole pictures, pacing, throughput.

A record that has none of it gets none of these figures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

from edgesr.report.figures import SAMPLES_FOR, Figure, figure, percentile

LATE = 0.01  # of a period: as in the loop that paces the calls
SUSTAINED_FROM = 6  # calls: two in each third
_KINDS = {"whole": "uint8 picture in memory to uint8 picture in memory",
          "file": "PNG file to PNG file"}  # fmt: skip


def whole_figures(raw: dict[str, Any]) -> dict[str, Figure]:
    """`whole_*_ms` and `file_*_ms`: percentiles and maximum."""
    found: dict[str, Figure] = {}
    for kind, note in _KINDS.items():
        if kind not in raw:
            continue
        names = [*(f"p{q}" for q in SAMPLES_FOR), "max"]
        if "missing" in raw[kind]:
            why = raw[kind]["missing"]
            found |= {f"{kind}_{n}_ms": figure(None, "ms", "measured", note=why) for n in names}
            continue
        wall = raw[kind]["wall_ms"]
        for q in SAMPLES_FOR:
            found[f"{kind}_p{q}_ms"] = {"note": note, **percentile(wall, q, "ms")}
        found[f"{kind}_max_ms"] = figure(max(wall), "ms", "measured", samples=len(wall), note=note)
    return found


def pacing_figures(samples: dict[str, Any], fps: float | None) -> dict[str, Figure]:
    """What came of the asked-for frame rate; nothing for a run without one.

    `missed_deadlines`: calls that were not done when the next frame was due. `paced_fps`:
    calls over the time of their slots, those included that a late call ran over.
    """
    if fps is None or "due_s" not in samples:
        return {}
    period, n = 1 / fps, len(samples["due_s"])
    rows = zip(samples["start_s"], samples["wall_ms"], samples["due_s"], strict=True)
    missed = sum(start + ms / 1000 > due + period * (1 + LATE) for start, ms, due in rows)
    seconds = sum(end - start for start, end in turn_windows(samples, fps))
    return {
        "missed_deadlines": figure(missed, "1", "measured", samples=n),
        "paced_fps": figure(n / seconds, "frame/s", "measured", samples=n),
    }


def turn_windows(samples: dict[str, Any], fps: float | None = None) -> list[tuple[float, float]]:
    """[start, end] in s of each turn: from its first call to the end of its last.

    Paced, it ends with the slot of its last call. Records from before turns were mirrored have
    one turn a repetition, and no column for it.
    """
    return [window for _, window in _by_turn(samples, fps)]


def repetition_windows(
    samples: dict[str, Any], fps: float | None = None
) -> list[list[tuple[float, float]]]:
    """The windows of the turns, by repetition."""
    found: dict[int, list[tuple[float, float]]] = {}
    for repetition, window in _by_turn(samples, fps):
        found.setdefault(repetition, []).append(window)
    return [found[k] for k in sorted(found)]


def _by_turn(samples: dict[str, Any], fps: float | None) -> list[tuple[int, tuple[float, float]]]:
    found: dict[int, tuple[int, tuple[float, float]]] = {}
    repetitions, starts = samples["repetition"], samples["start_s"]
    turns, slots = samples.get("turn", repetitions), samples.get("due_s", starts)
    rows = zip(turns, repetitions, starts, slots, samples["wall_ms"], strict=True)
    for turn, repetition, start, slot, wall_ms in rows:
        end = start + wall_ms / 1000
        if fps is not None:
            start, end = slot, _slot_end(slot, end, fps)
        first, last = found.get(turn, (0, (start, end)))[1]
        found[turn] = repetition, (min(first, start), max(last, end))
    return [found[turn] for turn in sorted(found)]


def _slot_end(due: float, end: float, fps: float) -> float:
    """When the slot ends in which a call that was due then ended."""
    return due + max(1, math.ceil((end - due) * fps - LATE)) / fps


def throughput_figures(windows: Iterable[dict[str, Any]], megapixels: float) -> dict[str, Figure]:
    """`throughput_b8_s2_{fps,mps,sustained}` for batch 8 in two streams, and so on.

    Frames a second from the first call's start to the last one's end. `sustained` is the rate
    in the last third of the calls over that in the first, None for fewer than six calls.
    `megapixels` are those of one output.
    """
    found: dict[str, Figure] = {}
    for window in windows:
        batch, name = window["batch"], f"throughput_b{window['batch']}_s{window['streams']}"
        units = {"fps": "frame/s", "mps": "output MP/s", "sustained": "1"}
        if "missing" in window:
            for key, unit in units.items():
                found[f"{name}_{key}"] = figure(None, unit, "measured", note=window["missing"])
            continue
        wall, n = window["wall_ms"], len(window["wall_ms"])
        ends = [t + ms / 1000 for t, ms in zip(window["start_s"], wall, strict=True)]
        fps = batch * n / (max(ends) - min(window["start_s"]))
        third = n // 3
        held = None
        if n >= SUSTAINED_FROM:
            held = statistics.median(wall[:third]) / statistics.median(wall[-third:])
        note = "" if held is not None else f"needs {SUSTAINED_FROM} calls, there are {n}"
        values = {"fps": fps, "mps": fps * megapixels, "sustained": held}
        for key, unit in units.items():
            found[f"{name}_{key}"] = figure(
                values[key], unit, "measured", samples=n, note=note if key == "sustained" else ""
            )
    return found
