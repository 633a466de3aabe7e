"""The report of a compression run as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgesr.report import run_rows as rows
from edgesr.report.crops import ORDER
from edgesr.report.markdown import markdown_table


def to_markdown(report: dict[str, Any]) -> str:
    """The whole report; the same report always gives the same text."""
    sections = [
        f"# {rows.title(report)}\n",
        rows.headline(report) + "\n",
        f"**Not met:** {report['missed']}. The best so far was kept.\n" if report["missed"] else "",
        _table(rows.head(report), rows.kinds(report), rows.table_rows(report)),
        "".join(f"- {note}\n" for note in rows.notes(report)),
        "## Sizes\n",
        _table(rows.SIZE_HEAD, rows.SIZE_KINDS, rows.size_rows(report)),
        *_quality(report),
        "## Legs\n",
        _table(rows.LEG_HEAD, rows.LEG_KINDS, rows.leg_rows(report)),
        *_int8(report),
        *_crops(report),
        "Loss and PSNR over the steps: report.html.\n" if report["curves"]["legs"] else "",
        *_conditions(report),
    ]
    return "\n".join(section for section in sections if section)


def _quality(report: dict[str, Any]) -> list[str]:
    body = rows.quality_rows(report)
    if not body:
        return []
    return ["## Quality (measured)\n", markdown_table(rows.quality_head(report), body)]


def _int8(report: dict[str, Any]) -> list[str]:
    body = rows.int8_rows(report)
    if not body:
        return []
    return ["## Int8: held-out PSNR-Y in dB\n", _table(rows.INT8_HEAD, rows.INT8_KINDS, body)]


def _crops(report: dict[str, Any]) -> list[str]:
    if not report["crops"]:
        return []
    lines = ["## Crops\n", "Where student and bicubic differ most.\n"]
    for crop in report["crops"]:
        shown = ", ".join(
            f"{panel} {crop['psnr_y'][panel]:.2f} dB"
            for panel in ORDER
            if crop["psnr_y"].get(panel) is not None
        )
        alt = "".join(c for c in crop["name"] if c not in "[]\n")
        lines.append(f"![{alt}: {shown}]({crop['file']})\n")
    return lines


def _conditions(report: dict[str, Any]) -> list[str]:
    body = rows.condition_rows(report)
    return ["## Conditions\n", markdown_table(("", ""), body, words=True)] if body else []


def _table(head: Sequence[str], kinds: Sequence[str], body: list[list[str]]) -> str:
    titles = [f"{h} ({k})" if k else h for h, k in zip(head, kinds, strict=True)]
    return markdown_table(titles, body)
