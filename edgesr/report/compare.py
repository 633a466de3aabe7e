"""Each student against the teacher, with what the number of repetitions supports."""

from __future__ import annotations

import statistics
from itertools import chain
from typing import Any

from edgesr.report.derive import repetitions
from edgesr.report.figures import Figure, bootstrap, figure


def comparisons(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry for each student: how many times faster, smaller, and at what loss."""
    teacher = next((m for m in report["models"] if m["role"] == "teacher"), None)
    if teacher is None:
        return []
    students = [m for m in report["models"] if m["role"] == "student"]
    return [
        {"teacher": teacher["name"], "student": s["name"], "figures": _ratios(teacher, s)}
        for s in students
    ]


def _ratios(teacher: dict[str, Any], student: dict[str, Any]) -> dict[str, Figure]:
    a, b = teacher["figures"], student["figures"]
    return {
        "speedup": speedup(teacher["raw"]["samples"], student["raw"]["samples"]),
        "parameters_ratio": _ratio(a, b, "parameters", "counted"),
        "macs_ratio": _ratio(a, b, "macs", "counted"),
        "memory_ratio": _ratio(a, b, "memory_model_mb", "measured"),
        "energy_ratio": _ratio(a, b, "energy_j_per_frame", "measured"),
        "psnr_y_gain_db": _difference(a, b, "psnr_y_db", "dB"),
    }


def speedup(teacher: dict[str, Any], student: dict[str, Any]) -> Figure:
    """How many times faster the student is, from the samples of both; repetitions are drawn.

    Where turns are mirrored each repetition gives one ratio, of the means of the turns'
    medians, in which a linear drift cancels; the figure is the median of these. Records from
    before that give the ratio of the medians of all calls.
    """
    slow, fast = repetitions(teacher), repetitions(student)
    count = min(len(slow), len(fast))
    pairs = [(_by_turns(teacher), _by_turns(student))] if "turn" in teacher else []
    ratios = [a / b for slower, faster in pairs for a, b in zip(slower, faster, strict=False)]

    def ratio(picks: list[int]) -> float:
        if ratios:
            return statistics.median(ratios[k] for k in picks)
        return _median(slow, picks) / _median(fast, picks)

    interval = bootstrap(count, ratio)
    value = ratio(list(range(count)))
    made = figure(value, "1", "measured", samples=count, interval=interval)
    if interval is not None and interval[0] <= 1 <= interval[1]:
        made["note"] = "the interval holds 1: no difference shown"
    return made


def _by_turns(samples: dict[str, Any]) -> list[float]:
    """For each repetition the mean of its turns' median ms."""
    turns: dict[int, dict[int, list[float]]] = {}
    rows = zip(samples["repetition"], samples["turn"], samples["wall_ms"], strict=True)
    for repetition, turn, wall_ms in rows:
        turns.setdefault(repetition, {}).setdefault(turn, []).append(wall_ms)
    medians = ([statistics.median(t) for t in turns[r].values()] for r in sorted(turns))
    return [statistics.fmean(of_repetition) for of_repetition in medians]


def _median(groups: list[list[float]], picks: list[int]) -> float:
    return statistics.median(chain.from_iterable(groups[k] for k in picks))


def _ratio(a: dict[str, Figure], b: dict[str, Figure], name: str, kind: Any) -> Figure:
    top, bottom = a[name]["value"], b[name]["value"]
    if top is None or not bottom:
        return figure(None, "1", kind, note=a[name].get("note") or b[name].get("note", ""))
    return figure(top / bottom, "1", kind)


def _difference(a: dict[str, Figure], b: dict[str, Figure], name: str, unit: str) -> Figure:
    first, second = a[name]["value"], b[name]["value"]
    if first is None or second is None:
        why = (a if first is None else b)[name].get("note", "")
        return figure(None, unit, "measured", note=why)
    return figure(second - first, unit, "measured", samples=b[name]["samples"])
