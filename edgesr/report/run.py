"""The report of a compression run: one JSON, and Markdown and HTML as functions of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgesr.report.crops import Crop
from edgesr.report.record import dumps
from edgesr.report.run_curves import curves_of
from edgesr.report.run_markdown import to_markdown
from edgesr.report.run_rows import HEAD, table_rows, to_table
from edgesr.report.run_web import to_html

__all__ = ["HEAD", "SCHEMA", "build", "render", "table_rows", "to_table", "without_timing"]

SCHEMA = "edgesr.compress/2"
CONVENTION = (
    "PSNR and SSIM on BT.601 Y of the 8-bit result, border of 4 pixels shaved, "
    "mean over photographs that were not trained on. MACs per low-resolution pixel. "
    "KiB: 1024 bytes of fp32 weights; coded is without loss, with the zeros left out. "
    "Parameters, MACs and bytes are counted; PSNR and SSIM are measured "
    "(ONNX Runtime, fp32 unless int8 is said)."
)
# What differs from run to run, or is a time: kept in `timing`, away from what must not differ.
TIMED = ("cpu_ms", "cpu_ms_int8", "seconds", "data_wait", "steps_per_s", "images_per_s")


def build(
    *,
    name: str,
    legs: Sequence[Mapping[str, Any]],
    chosen: int,
    missed: str,
    budget: str,
    student: Mapping[str, Any],
    teacher: Mapping[str, Any] | None,
    bicubic: Mapping[str, float],
    held_out: Sequence[str],
    curves: Mapping[str, Any] | None = None,
    crops: Sequence[Crop] = (),
    notes: Sequence[str] = (),
    conditions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The report as plain data, keys sorted; docs/report-schema.md describes the fields.

    `teacher` is None where there is none: `edgesr train`. `legs`, `student` and `teacher` may
    hold the `TIMED` keys at their top: they are put into their `timing`. `curves` are those of
    `curves_of`. A figure that is not finite becomes None.
    """
    report = {
        "schema": SCHEMA,
        "name": name,
        "budget": budget,
        "missed": missed,
        "teacher": None if teacher is None else _net(teacher),
        "student": _net(student),
        "bicubic": dict(bicubic),
        "legs": [_net(leg) for leg in legs],
        "chosen_leg": chosen,
        "held_out": list(held_out),
        "curves": curves or curves_of(()),
        "crops": [crop.record() for crop in crops],
        "notes": list(notes),
        "conditions": conditions or {},
        "convention": CONVENTION,
    }
    return dict(_plain(report))


def render(report: dict[str, Any], crops: Sequence[Crop] = ()) -> dict[str, str]:
    """The text of report.json, report.md and report.html, by suffix.

    `crops` are those that `build` got, for their pixels. Without them the page has no pictures.
    """
    return {
        "json": dumps(report),
        "md": to_markdown(report),
        "html": to_html(report, crops),
    }


def without_timing(report: dict[str, Any]) -> dict[str, Any]:
    """What a resumed run must have in common with an uninterrupted one: all but the times."""
    kept = {key: value for key, value in report.items() if key != "conditions"}
    for key in ("student", "teacher"):
        kept[key] = report[key] and _untimed(report[key])
    return {**kept, "legs": [_untimed(leg) for leg in report["legs"]]}


def _untimed(net: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in net.items() if key != "timing"}


def _net(net: Mapping[str, Any]) -> dict[str, Any]:
    timing = {**net.get("timing", {}), **{key: net[key] for key in TIMED if key in net}}
    rest = {key: value for key, value in net.items() if key not in TIMED}
    return {**rest, "timing": timing}


def _plain(x: Any) -> Any:
    """`x` as JSON can hold it: keys sorted, tuples as lists, None for what is not finite."""
    if isinstance(x, Mapping):
        return {str(key): _plain(x[key]) for key in sorted(x)}
    if isinstance(x, list | tuple):
        return [_plain(item) for item in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
