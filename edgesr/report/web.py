"""A report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import html
from typing import Any

from edgesr.report import memory, models_table, pareto, rows, slider
from edgesr.report.markdown import headline
from edgesr.report.page import bullets, page, table
from edgesr.report.time_web import times_section
from edgesr.report.traces import latency_section, power_section
from edgesr.report.verdict import verdict

_STYLE = """
.verdict { border-left: 4px solid var(--c3); padding: .4rem 1rem; margin: 0 0 1.2rem; }
.verdict.no { border-color: var(--c2); }
.chart svg { min-width: 34rem; }
table.figures td:first-child, table.figures th:first-child { position: sticky; left: 0;
  background: var(--bg); padding-right: .8rem; }
table.words td { overflow-wrap: anywhere; }
@media (max-width: 36rem) { body { padding: 1.2rem .8rem 3rem; }
  table.figures td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 6rem;
    max-width: 8rem; } th, td { padding: .35rem .45rem; } }
"""


def to_html(report: dict[str, Any]) -> str:
    """The whole report; no external file, the same text for the same report.

    The only script moves the sliders over the crops: without it they are missing, and nothing
    else is.
    """
    names = [m["name"] for m in report["models"]]
    body = [
        "<h1>EdgeSR benchmark</h1>",
        f'<p class="head">{html.escape(headline(report))}</p>',
        _verdict(report),
        table(rows.HEADERS, rows.summary_rows(report), "figures"),
        bullets(rows.notes(report)),
        _models_section(report),
        _quality_section(report),
        slider.crops_section(report),
        *(_pareto(title, chart) for title, chart in pareto.charts(report)),
        latency_section(report),
        power_section(report),
        "<h2>Times in ms, throughput</h2>",
        table(rows.DETAIL_HEADERS, rows.detail_rows(report), "figures"),
        times_section(report),
        _memory_section(report),
        "<h2>Checks</h2>",
        table(("check", "model", "result", "found"), rows.check_rows(report), "words"),
        "<h2>Machine</h2>",
        table(("", "before", "after, if changed"), rows.condition_rows(report), "words"),
    ]
    return page(
        f"EdgeSR benchmark: {', '.join(names)}",
        body,
        style=_STYLE + slider.STYLE,
        script=slider.script(report),
    )


def _verdict(report: dict[str, Any]) -> str:
    good, text = verdict(report)
    return f'<p class="verdict{"" if good else " no"}">{html.escape(text)}</p>'


def _models_section(report: dict[str, Any]) -> str:
    if not models_table.is_asked_for(report):
        return ""
    body = table(models_table.HEADERS, models_table.table_rows(report), "figures")
    why = models_table.failure_notes(report)
    return f"<h2>Models</h2>\n{body}{bullets(why) if why else ''}"


def _quality_section(report: dict[str, Any]) -> str:
    body = rows.quality_rows(report)
    if not body:
        return ""
    return f"<h2>Quality</h2>\n{table(rows.QUALITY_HEADERS, body, 'figures')}"


def _memory_section(report: dict[str, Any]) -> str:
    body = memory.memory_rows(report)
    if not body:
        return ""
    shown = table(memory.HEADERS, body, "figures")
    return f"<h2>Memory in MB</h2>\n{shown}{bullets(memory.memory_notes(report))}"


def _pareto(title: str, chart: str) -> str:
    return f'<h2>{html.escape(title)}</h2>\n<div class="wide chart">{chart}</div>'
