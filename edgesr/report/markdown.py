"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgesr.report import rows


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
        markdown_table(rows.HEADERS, rows.summary_rows(report)),
        "".join(f"- {note}\n" for note in rows.notes(report)),
        "## Times in ms, throughput\n",
        markdown_table(rows.DETAIL_HEADERS, rows.detail_rows(report)),
        "A percentile stands only where enough calls support it (p50: 5, p90: 20, p95: 40, "
        "p99: 200).\n",
        "## Checks\n",
        markdown_table(("check", "model", "result", "found"), rows.check_rows(report), words=True),
        "## Machine\n",
        markdown_table(
            ("", "before", "after, if changed"), rows.condition_rows(report), words=True
        ),
    ]
    return "\n".join(sections)


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
