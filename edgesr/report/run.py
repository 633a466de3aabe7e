"""The report of a compression run: one JSON, and Markdown and HTML as functions of it."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from edgesr.report.markdown import markdown_table

SCHEMA = "edgesr.compress/1"
CONVENTION = (
    "PSNR and SSIM on BT.601 Y of the 8-bit result, border of 4 pixels shaved, "
    "mean over photographs that were not trained on. MACs per low-resolution pixel; "
    "parameters and MACs are counted, PSNR and SSIM measured (ONNX Runtime, fp32)."
)


def build(
    *,
    name: str,
    legs: Sequence[dict[str, Any]],
    chosen: int,
    missed: str,
    budget: str,
    student: dict[str, Any],
    teacher: dict[str, Any],
    bicubic: dict[str, float],
    held_out: Sequence[str],
) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "schema": SCHEMA,
        "name": name,
        "budget": budget,
        "missed": missed,
        "teacher": teacher,
        "student": student,
        "bicubic": dict(bicubic),
        "legs": [dict(leg) for leg in legs],
        "chosen_leg": chosen,
        "held_out": list(held_out),
        "convention": CONVENTION,
    }


def render(report: dict[str, Any]) -> dict[str, str]:
    """The text of report.json, report.md and report.html, by suffix."""
    return {
        "json": json.dumps(report, indent=1, sort_keys=True) + "\n",
        "md": to_markdown(report),
        "html": to_html(report),
    }


def table_rows(report: dict[str, Any]) -> list[list[str]]:
    """The report's table as text, under `HEAD`."""
    teacher, student = report["teacher"], report["student"]
    rows = [["bicubic", "–", "–", *_quality(report["bicubic"])]]
    rows.append([f"teacher: {teacher['name']}", *_size(teacher), *_quality(teacher)])
    last = len(report["legs"]) - 1
    for i, leg in enumerate(report["legs"]):
        kept = ", kept" if i == report["chosen_leg"] != last else ""
        rows.append(
            [f"after {leg['leg']} ({leg['steps']} steps){kept}", *_size(leg), *_quality(leg)]
        )
    share = [student[k] / teacher[k] for k in ("params", "macs_per_pixel")]
    rows.append(["student / teacher", *(f"{x:.1%}" for x in share), _gap(student, teacher), ""])
    return rows


def _size(net: dict[str, Any]) -> list[str]:
    return [f"{net['params']:,}", f"{net['macs_per_pixel']:,}"]


def _quality(q: dict[str, Any]) -> list[str]:
    if q["psnr_y"] is None:
        return ["– (untrained)", "–"]
    return [f"{q['psnr_y']:.2f}", f"{q['ssim_y']:.4f}"]


def _gap(student: dict[str, Any], teacher: dict[str, Any]) -> str:
    if teacher["psnr_y"] is None:
        return "–"
    return f"{student['psnr_y'] - teacher['psnr_y']:+.2f} dB"


HEAD = ["", "parameters", "MACs/px", "PSNR-Y dB", "SSIM-Y"]


def to_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# Compression: {report['name']}", ""]
    if report["missed"]:
        lines += [f"**Not met:** {report['missed']}. The best so far was kept.", ""]
    return "\n".join([*lines, markdown_table(HEAD, table_rows(report)), _note(report)]) + "\n"


def _note(report: dict[str, Any]) -> str:
    note = f"{report['convention']} {len(report['held_out'])} photographs held out."
    budget = report["budget"]
    if not budget:
        return note
    return f"{note} Budget: {budget}{' of the teacher' if budget.endswith('%') else ''}."


_STYLE = """
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;
margin:3rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}
td,th{padding:.45rem .7rem;border-bottom:1px solid #8884;text-align:right}
td:first-child,th:first-child{text-align:left}tr:last-child td{font-weight:600}
.missed{border-left:4px solid #c33;padding:.5rem 1rem}small{opacity:.75}
"""


def to_html(report: dict[str, Any]) -> str:
    """The report as one self-contained page."""
    title = html.escape(f"Compression: {report['name']}")
    head = "".join(f"<th>{html.escape(h)}</th>" for h in HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table_rows(report)
    )
    missed = (
        f'<p class="missed">Not met: {html.escape(report["missed"])}. The best so far was kept.</p>'
        if report["missed"]
        else ""
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1>{missed}<table><tr>{head}</tr>{body}</table>"
        f"<p><small>{html.escape(_note(report))}</small></p></html>\n"
    )
