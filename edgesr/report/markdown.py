"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgesr.report import memory, models_table, rows, time_rows
from edgesr.report.verdict import verdict


def markdown_table(
    headers: Sequence[str], body: Iterable[Sequence[object]], words: bool = False
) -> str:
    """A Markdown table: the first column to the left, the others to the right unless `words`.

    Every cell is shown as text; bars and line breaks in it are made harmless.
    """
    lines = [
        _line(headers),
        _line([":--", *[":--" if words else "--:"] * (len(headers) - 1)]),
        *(_line(row) for row in body),
    ]
    return "\n".join(lines) + "\n"


def to_markdown(report: dict[str, Any]) -> str:
    """The whole report; the same report always gives the same text."""
    sections = [
        "# EdgeSR benchmark\n",
        headline(report) + "\n",
        verdict(report)[1] + "\n",
        markdown_table(rows.HEADERS, rows.summary_rows(report)),
        "".join(f"- {note}\n" for note in rows.notes(report)),
        *_models(report),
        *_quality(report),
        "## Times in ms, throughput\n",
        markdown_table(rows.DETAIL_HEADERS, rows.detail_rows(report)),
        "A percentile stands only where enough calls support it (p50: 5, p90: 20, p95: 40, "
        "p99: 200).\n",
        *_times(report),
        *_memory(report),
        "## Checks\n",
        markdown_table(("check", "model", "result", "found"), rows.check_rows(report), words=True),
        "## Machine\n",
        markdown_table(
            ("", "before", "after, if changed"), rows.condition_rows(report), words=True
        ),
    ]
    return "\n".join(sections)


def _models(report: dict[str, Any]) -> Iterable[str]:
    """The table of `--models`, with the reasons of those that failed."""
    if models_table.is_asked_for(report):
        yield "## Models\n"
        yield markdown_table(models_table.HEADERS, models_table.table_rows(report))
        if why := models_table.failure_notes(report):
            yield "".join(f"- {note}\n" for note in why)


def _quality(report: dict[str, Any]) -> Iterable[str]:
    if body := rows.quality_rows(report):
        yield "## Quality\n"
        yield markdown_table(rows.QUALITY_HEADERS, body)


def _times(report: dict[str, Any]) -> Iterable[str]:
    """The sections on whole pictures and on throughput, as far as the record has them."""
    if body := time_rows.time_rows(report):
        yield f"## {time_rows.TIME_TITLE}\n"
        yield markdown_table(time_rows.TIME_HEADERS, body)
    if body := time_rows.throughput_rows(report):
        yield f"## {time_rows.THROUGHPUT_TITLE}\n"
        yield markdown_table(time_rows.THROUGHPUT_HEADERS, body)
    if sentences := list(time_rows.time_notes(report)):
        yield "".join(f"- {note}\n" for note in sentences)


def _memory(report: dict[str, Any]) -> Iterable[str]:
    """The section on memory; records from before it was watched have none."""
    if body := memory.memory_rows(report):
        yield "## Memory in MB\n"
        yield markdown_table(memory.HEADERS, body)
        yield "".join(f"- {note}\n" for note in memory.memory_notes(report))


def headline(report: dict[str, Any]) -> str:
    """Date, machine and duration in one line."""
    before = report["conditions"]["before"]
    machine = before.get("board") or before.get("cpu") or "unknown processor"
    return (
        f"{report['created_utc']}, {machine}, {before.get('cores_usable')} cores, "
        f"{report['settings']['duration_s']:g} s asked for."
    )


def _line(cells: Sequence[object]) -> str:
    texts = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
    return "| " + " | ".join(texts) + " |"
