"""The part of the page about whole pictures and throughput."""

from __future__ import annotations

from typing import Any

from edgesr.report import time_rows
from edgesr.report.page import bullets, table


def times_section(report: dict[str, Any]) -> str:
    """Both tables and their notes, as far as the record has them; else an empty text."""
    parts = []
    for title, headers, body in (
        (time_rows.TIME_TITLE, time_rows.TIME_HEADERS, time_rows.time_rows(report)),
        (
            time_rows.THROUGHPUT_TITLE,
            time_rows.THROUGHPUT_HEADERS,
            time_rows.throughput_rows(report),
        ),
    ):
        if body:
            parts += [f"<h2>{title}</h2>", table(headers, body, "figures")]
    if sentences := list(time_rows.time_notes(report)):
        parts.append(bullets(sentences))
    return "\n".join(parts)
