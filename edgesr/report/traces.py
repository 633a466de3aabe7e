"""What happened over the run, drawn: the time of every call, and the power."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from edgesr.power.meter import Trace
from edgesr.report.page import legend
from edgesr.report.svg import Chart, axis
from edgesr.report.times import turn_windows

MOST_POINTS = 4000  # of a series: more would only make the page heavy
_THINNED = "Of long series the least and the greatest of neighbouring points are drawn."


def latency_section(report: dict[str, Any]) -> str:
    """Every timed call of every network, and the medians as lines."""
    series = [m["raw"]["samples"] for m in report["models"]]
    times = [t for s in series for t in s["start_s"]]
    start, end = min(times), max(times)
    chart = Chart(
        "Wall time of every call over the run",
        axis("seconds of the run", [0.0, end - start]),
        axis("ms a call (logarithmic)", [ms for s in series for ms in s["wall_ms"]], log=True),
    )
    for number, s in enumerate(series):
        points = [(t - start, ms) for t, ms in zip(s["start_s"], s["wall_ms"], strict=True)]
        chart.points(*_columns(thinned(points)), number, 5 if len(points) < 100 else 3)
        median = statistics.median(s["wall_ms"])
        chart.line([0.0, end - start], [median, median], number)
    names = legend([m["name"] for m in report["models"]])
    said = "Dashed: the median of each."
    if any(len(s["wall_ms"]) > MOST_POINTS for s in series):
        said += f" {_THINNED}"
    return f"<h2>Every timed call</h2>\n{names}\n{_drawn(chart, said)}"


def power_section(report: dict[str, Any]) -> str:
    """Every reading of the total, in the colour of the network that ran; '' without a meter."""
    if report["energy"] is None:
        return ""
    total = _total_watts(Trace.from_json(report["power"]["trace"]))
    if len(total) < 2:
        return ""
    start = min(t for t, _ in total)
    chart = Chart(
        "Power over the run",
        axis("seconds of the measurement", [0.0, max(t for t, _ in total) - start]),
        axis(f"W ({report['energy']['total']})", [w for _, w in total]),
    )
    fps = report["settings"].get("fps")
    parts = {k: turn_windows(m["raw"]["samples"], fps) for k, m in enumerate(report["models"])}
    by_part: dict[int | None, list[tuple[float, float]]] = {}
    for t, watts in total:
        by_part.setdefault(_running(t, parts), []).append((t - start, watts))
    for part, points in by_part.items():
        if part is None:
            chart.faint(*_columns(thinned(points)), 2)
        else:
            chart.points(*_columns(thinned(points)), part, 3)
    said = "In the colour of the network that ran; faint: at rest, warm-up, and between turns."
    if any(len(points) > MOST_POINTS for points in by_part.values()):
        said += f" {_THINNED}"
    names = legend([m["name"] for m in report["models"]])
    return f"<h2>Power</h2>\n{names}\n{_drawn(chart, said)}"


def thinned(
    points: Sequence[tuple[float, float]], most: int = MOST_POINTS
) -> list[tuple[float, float]]:
    """The points, or of more than `most` the lowest and the highest of neighbouring ones.

    An outlier stays, which every n-th point would lose.
    """
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // (most // 2))
    kept: list[tuple[float, float]] = []
    for k in range(0, len(points), size):
        group = points[k : k + size]
        ends = {min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])}
        kept += sorted(ends)
    return kept


def _total_watts(trace: Trace) -> list[tuple[float, float]]:
    total: dict[float, float] = {}
    for time_s, rail, watts in trace.watts():
        if rail in trace.total:
            total[time_s] = total.get(time_s, 0.0) + watts
    return list(total.items())


def _running(t: float, parts: dict[int, list[tuple[float, float]]]) -> int | None:
    """The number of the network in whose turn `t` lies."""
    for number, windows in parts.items():
        if any(first <= t <= last for first, last in windows):
            return number
    return None


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    found = list(points)
    return [x for x, _ in found], [y for _, y in found]


def _drawn(chart: Chart, below: str) -> str:
    return f'<div class="wide chart">{chart.svg()}</div>\n<p class="soft">{below}</p>'
