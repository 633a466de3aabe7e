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
        "speedup": _speedup(teacher, student),
        "parameters_ratio": _ratio(a, b, "parameters", "counted"),
        "macs_ratio": _ratio(a, b, "macs", "counted"),
        "memory_ratio": _ratio(a, b, "memory_model_mb", "measured"),
        "energy_ratio": _ratio(a, b, "energy_j_per_frame", "measured"),
        "psnr_y_gain_db": _difference(a, b, "psnr_y_db", "dB"),
    }


def _speedup(teacher: dict[str, Any], student: dict[str, Any]) -> Figure:
    """Median time of the teacher over that of the student, repetitions drawn in pairs."""
    slow, fast = (repetitions(m["raw"]["samples"]) for m in (teacher, student))
    count = min(len(slow), len(fast))

    def ratio(picks: list[int]) -> float:
        return _median(slow, picks) / _median(fast, picks)

    interval = bootstrap(count, ratio)
    value = ratio(list(range(count)))
    made = figure(value, "1", "measured", samples=count, interval=interval)
    if interval is not None and interval[0] <= 1 <= interval[1]:
        made["note"] = "the interval holds 1: no difference shown"
    return made


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
