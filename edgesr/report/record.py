"""The record of a benchmark: reading, writing, and everything that follows from its samples.

`bench` writes what it measured (`raw`), and `complete` adds the figures. Nothing else is kept
between the two, so a record that is replayed gives the same figures. docs/report-schema.md
describes the fields.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from edgesr import atomic
from edgesr.errors import BadConfig
from edgesr.report.checks import checks, validity
from edgesr.report.compare import comparisons
from edgesr.report.derive import energy_summary, model_figures, quality_figures

SCHEMA = "edgesr.bench/1"
Report: TypeAlias = dict[str, Any]

_DERIVED = ("energy", "comparisons", "checks", "validity")
_INNER_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s+\]")


def complete(record: Report) -> Report:
    """The report that follows from a record: a copy with every derived figure made anew."""
    report = copy.deepcopy(record)
    for key in _DERIVED:
        report.pop(key, None)
    for model in report["models"]:
        model["figures"] = model_figures(model, report)
    if report.get("baseline"):
        report["baseline"]["figures"] = quality_figures(report["baseline"]["quality"])
    report["energy"] = energy_summary(report)
    report["comparisons"] = comparisons(report)
    report["checks"] = checks(report)
    report["validity"] = validity(report)
    return report


def dumps(report: Report) -> str:
    """Canonical JSON text; a list of numbers stands on one line."""
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    return _INNER_LIST.sub(lambda m: "[" + re.sub(r"\n\s+", " ", m.group(1)) + "]", text) + "\n"


def read(path: Path) -> Report:
    """The report at `path`, its figures recomputed from its samples.

    Raises `BadConfig` when the file is missing, no JSON, or no report of this schema.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadConfig(f"cannot read {path}: {e.strerror}; name a file that --json wrote") from e
    except ValueError as e:
        raise BadConfig(f"{path} is no JSON; name a file that `bench --json` wrote") from e
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise BadConfig(f"{path} is no report of schema {SCHEMA} (it says {schema!r})")
    with damaged_is_said(path):
        return complete(record)


@contextmanager
def damaged_is_said(path: Path) -> Iterator[None]:
    """While the record read from `path` is used: what it lacks becomes one line, `BadConfig`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as e:
        raise BadConfig(f"{path} is a damaged report: {type(e).__name__} {e}") from e


def write(path: Path, text: str) -> None:
    """Write a report in any of its forms, whole or not at all; raises `WriteFailed`."""
    atomic.write_text(path, text)
