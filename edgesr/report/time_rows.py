"""Cells and sentences about whole pictures, pacing, throughput and the harness's own cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgesr.report.rows import NONE, digits, value

TIME_HEADERS = (
    "model", "network", "p90", "whole call", "p90", "file to file", "p90",
)  # fmt: skip
TIME_TITLE = "From the network's call to the file, ms"
THROUGHPUT_TITLE = "Frames a second at larger batches and in streams"
_BATCHES = (1, 2, 4, 8)
THROUGHPUT_HEADERS = (
    "model", "streams", *(f"batch {b}" for b in _BATCHES), "best, output MP/s",
)  # fmt: skip
_NAMES = (("whole", "Whole call"), ("file", "File to file"))


def time_rows(report: dict[str, Any]) -> list[list[str]]:
    """Median and p90 in ms of the three times, a row for each model; none if only one is known."""
    names = [f"{kind}_{q}_ms" for kind in ("latency", "whole", "file") for q in ("p50", "p90")]
    return [
        [model["name"], *(digits(value(model["figures"][name])) for name in names)]
        for model in report["models"]
        if "whole_p50_ms" in model["figures"]
    ]


def throughput_rows(report: dict[str, Any]) -> list[list[str]]:
    """Frames a second by batch, a row for each model and number of streams."""
    rows = []
    for model in report["models"]:
        f = model["figures"]
        for streams in sorted({w["streams"] for w in model["raw"].get("throughput", ())}):
            cells = {}
            for unit in ("fps", "mps"):
                found = (f.get(f"throughput_b{b}_s{streams}_{unit}") for b in _BATCHES)
                cells[unit] = [None if one is None else value(one) for one in found]
            best = max((x for x in cells["mps"] if x is not None), default=None)
            rates = [digits(x) for x in cells["fps"]]
            rows.append([model["name"], str(streams), *rates, digits(best)])
    return rows


def time_notes(report: dict[str, Any]) -> Iterable[str]:
    """What must be said about times beside that of the network's call."""
    yield from _pacing_notes(report)
    yield from _whole_notes(report)
    yield from _throughput_notes(report)
    cost = report["settings"].get("overhead_us")
    if cost is not None:
        yield (
            f"The timing loop itself costs {digits(cost)} µs a call, measured in this run with a "
            "network that does nothing; it is not taken off any figure."
        )


def _pacing_notes(report: dict[str, Any]) -> Iterable[str]:
    fps = report["settings"].get("fps")
    if fps is None:
        return
    parts = []
    for model in report["models"]:
        f = model["figures"]
        if "missed_deadlines" in f:
            missed = f["missed_deadlines"]
            parts.append(
                f"{model['name']} {digits(value(f['paced_fps']))} frames/s, {missed['value']} of "
                f"{missed['samples']} calls not done when the next was due"
            )
    yield (
        f"Paced: calls start on a grid of {fps:g} frames/s, and energy is that of this rate. "
        f"Reached: {'; '.join(parts)}."
    )


def _whole_notes(report: dict[str, Any]) -> Iterable[str]:
    if time_rows(report):
        yield (
            "network: its call alone; whole call: from an 8-bit picture in memory to the larger "
            "one; file to file: from PNG to PNG, disk included."
        )
    for model in report["models"]:
        for kind, words in _NAMES:
            why = model["raw"].get(kind, {}).get("missing")
            if why:
                yield f"{words} of {model['name']}: not measured: {why}."


def _throughput_notes(report: dict[str, Any]) -> Iterable[str]:
    reasons: dict[str, list[str]] = {}
    for model in report["models"]:
        for window in model["raw"].get("throughput", ()):
            if "missing" in window:
                where = f"{model['name']} ({_streams(window['streams'])})"
                found = reasons.setdefault(window["missing"], [])
                if where not in found:
                    found.append(where)
    for reason, places in reasons.items():
        yield f"Throughput of {', '.join(places)} is {NONE} where it was not measured: {reason}."


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"
