"""Quality against what it costs: time, energy, memory. One chart for each that has data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgesr.report import rows
from edgesr.report.svg import Axis, Chart, axis

_ROOM = 1.6  # factor of empty axis at both sides, for the names


@dataclass(frozen=True)
class Dot:
    """One network: its number in the report, what it costs, and its PSNR-Y in dB."""

    number: int
    name: str
    cost: float
    psnr: float


@dataclass(frozen=True)
class Cost:
    """A figure that one would like to be small."""

    figure: str
    title: str
    label: str


COSTS = (
    Cost("latency_p50_ms", "PSNR-Y against time", "ms a call, median (logarithmic)"),
    Cost("energy_j_per_frame", "PSNR-Y against energy", "J a frame, gross (logarithmic)"),
    Cost("memory_model_mb", "PSNR-Y against memory", "MB at the peak (logarithmic)"),
)


def charts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Title and SVG text of each chart that has data; the line joins what nothing beats."""
    found = []
    for cost in COSTS:
        dots = _dots(report, cost)
        if dots:
            found.append((cost.title, _chart(report, cost, dots).svg()))
    return found


def front(dots: Sequence[Dot]) -> list[Dot]:
    """Those that no other beats at both, cheapest first."""
    best: list[Dot] = []
    for dot in sorted(dots, key=lambda d: (d.cost, -d.psnr)):
        if not best or dot.psnr > best[-1].psnr:
            best.append(dot)
    return best


def _dots(report: dict[str, Any], cost: Cost) -> list[Dot]:
    found = []
    for number, model in enumerate(report["models"]):
        figures = model["figures"]
        spent, psnr = (rows.value(figures[k]) for k in (cost.figure, "psnr_y_db"))
        if spent is not None and spent > 0 and psnr is not None:
            found.append(Dot(number, model["name"], spent, psnr))
    return found


def _chart(report: dict[str, Any], cost: Cost, dots: Sequence[Dot]) -> Chart:
    baseline = report.get("baseline")
    bicubic = rows.value(baseline["figures"]["psnr_y_db"]) if baseline else None
    levels = [d.psnr for d in dots]
    x = axis(cost.label, [d.cost for d in dots], log=True)
    y = axis("PSNR-Y, dB", levels if bicubic is None else [*levels, bicubic])
    chart = Chart(cost.title, Axis(x.label, x.low / _ROOM, x.high * _ROOM, True), y)
    if bicubic is not None:
        chart.line([chart.x.low, chart.x.high], [bicubic, bicubic], 0)
        chart.label(chart.x.low, bicubic, "bicubic")
    best = front(dots)
    if len(best) > 1:
        chart.line([d.cost for d in best], [d.psnr for d in best], 0, dashed=False)
    chart.keep_clear([d.cost for d in dots], levels)
    for dot in dots:
        chart.points([dot.cost], [dot.psnr], dot.number, 10)
    for dot in dots:
        chart.name(dot.cost, dot.psnr, dot.name)
    return chart
