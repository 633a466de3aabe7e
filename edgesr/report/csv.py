"""A report as comma-separated values: its figures, and every timed call."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgesr.report.figures import Figure

Row = dict[str, Any]


def to_csv(report: dict[str, Any]) -> str:
    """One row for each model, one for bicubic if it was scored, one for each that failed.

    Every figure is a column, its unit in brackets, empty where there is none; 95 % intervals
    have two of their own. `teacher/student …` columns compare a student with the teacher.
    """
    machine, found = _machine(report), []
    against = {c["student"]: c["figures"] for c in report["comparisons"]}
    for model in report["models"]:
        row = {**machine, "model": model["name"], "role": model["role"]}
        row |= {k: model[k] for k in ("runtime", "scale", "onnx_sha256")}
        row |= _figures(model["figures"])
        row |= _figures(against.get(model["name"], {}), "against teacher: ")
        found.append(row)
    if report.get("baseline"):
        base = {**machine, "model": report["baseline"]["name"], "role": "baseline"}
        found.append(base | _figures(report["baseline"]["figures"]))
    for failed in report.get("failed", ()):
        row = {"model": failed["name"], "role": "failed", "reason": failed["reason"]}
        found.append({**machine, **row})
    return _text(found)


def samples_to_csv(report: dict[str, Any]) -> str:
    """One row for each timed call, in the columns of the record.

    `kind` is the key under `raw` that the calls stand at: `samples` are the network's own.
    """
    found = []
    for model in report["models"]:
        for kind, columns in model["raw"].items():
            for values in _calls(columns):
                found.append({"model": model["name"], "kind": kind, **values})
    return _text(found)


def _machine(report: dict[str, Any]) -> Row:
    before, settings = report["conditions"]["before"], report["settings"]
    row = {"created_utc": report["created_utc"]}
    row["machine"] = before.get("board") or before.get("cpu") or ""
    return row | {k: settings.get(k) for k in ("width", "height", "batch", "threads")}


def _figures(figures: Mapping[str, Figure], before: str = "") -> Row:
    row = {}
    for name, f in figures.items():
        row[f"{before}{name} [{f['unit']}]"] = f["value"]
        for end, limit in zip(("low", "high"), f.get("ci95", ()), strict=False):
            row[f"{before}{name} 95 % {end} [{f['unit']}]"] = limit
    return row


def _calls(kept: Any) -> Iterable[Row]:
    """Row by row what `raw` keeps as columns of equal length, alone or in a list of windows.

    What else a window says of itself, for example its batch, is in each of its rows. Gives
    nothing for what `raw` keeps in another form.
    """
    for window in kept if isinstance(kept, list) else [kept]:
        if not isinstance(window, dict) or not isinstance(window.get("wall_ms"), list):
            continue
        columns = {k: v for k, v in window.items() if isinstance(v, list)}
        rest = {k: v for k, v in window.items() if isinstance(v, int | float | str)}
        for values in zip(*columns.values(), strict=True):
            yield {**rest, **dict(zip(columns, values, strict=True))}


def _text(found: Sequence[Row]) -> str:
    """The rows under all their columns, in the order in which these first appear."""
    columns = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()
