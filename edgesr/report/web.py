"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
import statistics
from typing import Any

from edgesr.power.meter import Trace
from edgesr.report import rows
from edgesr.report.markdown import headline
from edgesr.report.page import bullets, legend, page, table
from edgesr.report.svg import Axis, Chart, axis


def to_html(report: dict[str, Any]) -> str:
    """The whole report; no script, no external file, the same text for the same report."""
    names = [m["name"] for m in report["models"]]
    body = [
        "<h1>EdgeSR benchmark</h1>",
        f'<p class="head">{html.escape(headline(report))}</p>',
        table(rows.HEADERS, rows.summary_rows(report), "figures"),
        bullets(rows.notes(report)),
        "<h2>Every timed call</h2>",
        legend(names),
        _latency_chart(report),
        _quality_section(report),
        _power_section(report),
        "<h2>Times in ms, throughput</h2>",
        table(rows.DETAIL_HEADERS, rows.detail_rows(report), "figures"),
        "<h2>Checks</h2>",
        table(("check", "model", "result", "found"), rows.check_rows(report), "words"),
        "<h2>Machine</h2>",
        table(("", "before", "after, if changed"), rows.condition_rows(report), "words"),
    ]
    return page(f"EdgeSR benchmark: {', '.join(names)}", body)


def _latency_chart(report: dict[str, Any]) -> str:
    series = [m["raw"]["samples"] for m in report["models"]]
    times = [t for s in series for t in s["start_s"]]
    start = min(times)
    chart = Chart(
        "Wall time of every call over the run",
        axis("seconds of the run", [0.0, max(times) - start]),
        axis("ms a call (logarithmic)", [ms for s in series for ms in s["wall_ms"]], log=True),
    )
    for number, s in enumerate(series):
        seconds = [t - start for t in s["start_s"]]
        chart.points(seconds, s["wall_ms"], number, 5 if len(seconds) < 100 else 3)
        median = statistics.median(s["wall_ms"])
        chart.line([0.0, max(times) - start], [median, median], number)
    return chart.svg()


def _quality_section(report: dict[str, Any]) -> str:
    dots = []
    for number, model in enumerate(report["models"]):
        psnr = rows.value(model["figures"]["psnr_y_db"])
        if psnr is not None:
            ms = statistics.median(model["raw"]["samples"]["wall_ms"])
            dots.append((number, model["name"], ms, psnr))
    if not dots:
        return ""
    levels = [psnr for *_, psnr in dots]
    baseline = report.get("baseline")
    bicubic = rows.value(baseline["figures"]["psnr_y_db"]) if baseline else None
    x = axis("ms a call (logarithmic)", [ms for *_, ms, _ in dots], log=True)
    y = axis("PSNR-Y, dB", levels if bicubic is None else [*levels, bicubic])
    chart = Chart("PSNR-Y against time", Axis(x.label, x.low / 1.6, x.high * 1.6, True), y)
    if bicubic is not None:
        chart.line([chart.x.low, chart.x.high], [bicubic, bicubic], 0)
        chart.label(chart.x.low, bicubic, "bicubic")
    for number, name, ms, psnr in dots:
        chart.points([ms], [psnr], number, 10)
        chart.label(ms, psnr, name)
    return "<h2>Quality against time</h2>\n" + chart.svg()


def _power_section(report: dict[str, Any]) -> str:
    if report["energy"] is None:
        return ""
    trace = Trace.from_json(report["power"]["trace"])
    total: dict[float, float] = {}
    for time_s, rail, watts in trace.watts():
        if rail in trace.total:
            total[time_s] = total.get(time_s, 0.0) + watts
    if len(total) < 2:
        return ""
    start = min(total)
    chart = Chart(
        "Power over the run",
        axis("seconds of the measurement", [0.0, max(total) - start]),
        axis(f"W ({report['energy']['total']})", list(total.values())),
    )
    chart.points([t - start for t in total], list(total.values()), 1, 2)
    return "<h2>Power</h2>\n" + chart.svg()
