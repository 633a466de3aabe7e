"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from edgesr.power.meter import Trace
from edgesr.report import rows
from edgesr.report.markdown import headline
from edgesr.report.svg import Axis, Chart, axis

_STYLE = """
:root { color-scheme: light dark; --bg: #fff; --ink: #1c2024; --soft: #5d6570; --rule: #dde1e6;
  --c0: #6b7785; --c1: #0b6bcb; --c2: #c2410c; --c3: #15803d; --c4: #7e22ce; --c5: #a16207; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --ink: #e6e9ec; --soft: #9aa4ae;
  --rule: #30363c; --c0: #98a4b0; --c1: #5cb0ff; --c2: #fb923c; --c3: #4ade80; --c4: #c084fc;
  --c5: #facc15; } }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--bg);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.head { color: var(--soft); margin: .2rem 0 1.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; font-size: .85rem; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.words td, table.words th { text-align: left; vertical-align: top; }
table.figures td { white-space: nowrap; }
ul.notes { color: var(--soft); font-size: .92rem; padding-left: 1.2rem; }
.look { color: var(--c2); font-weight: 600; }
.key { display: inline-block; margin-right: 1.2rem; } .key i { display: inline-block; width: .7rem;
  height: .7rem; border-radius: 50%; margin-right: .4rem; background: currentColor; }
.key span { color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); } svg .axis { font-weight: 600; }
svg .name { fill: var(--ink); font-size: 13px; }
.grid { stroke: var(--rule); fill: none; }
.dots { fill: none; stroke: currentColor; stroke-linecap: round; }
.line { fill: none; stroke: currentColor; stroke-width: 1.4; stroke-dasharray: 5 4; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
"""


def to_html(report: dict[str, Any]) -> str:
    """The whole report; no script, no external file, the same text for the same report."""
    names = [m["name"] for m in report["models"]]
    body = [
        "<h1>EdgeSR benchmark</h1>",
        f'<p class="head">{html.escape(headline(report))}</p>',
        _table(rows.HEADERS, rows.summary_rows(report), "figures"),
        _list(rows.notes(report)),
        "<h2>Every timed call</h2>",
        _legend(names),
        _latency_chart(report),
        _quality_section(report),
        _power_section(report),
        "<h2>Times in ms, throughput</h2>",
        _table(rows.DETAIL_HEADERS, rows.detail_rows(report), "figures"),
        "<h2>Checks</h2>",
        _table(("check", "model", "result", "found"), rows.check_rows(report), "words"),
        "<h2>Machine</h2>",
        _table(("", "before", "after, if changed"), rows.condition_rows(report), "words"),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>EdgeSR benchmark: {html.escape(', '.join(names))}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


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


def _legend(names: Sequence[str]) -> str:
    keys = (
        f'<span class="key c{k % 6}"><i></i><span>{html.escape(name)}</span></span>'
        for k, name in enumerate(names)
    )
    return f"<p>{''.join(keys)}</p>"


def _table(headers: Sequence[str], body: Iterable[Sequence[str]], kind: str) -> str:
    head = "".join(f"<th>{html.escape(h)}</th>" for h in headers)
    lines = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>\n" for row in body)
    return f'<div class="wide"><table class="{kind}"><tr>{head}</tr>\n{lines}</table></div>'


def _cell(text: str) -> str:
    kind = ' class="look"' if text == "look" else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def _list(items: Iterable[str]) -> str:
    return '<ul class="notes">' + "".join(f"<li>{html.escape(i)}</li>\n" for i in items) + "</ul>"
