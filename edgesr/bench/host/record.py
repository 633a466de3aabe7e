"""What came back from the board, line by line, and the record that a local run would have made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgesr.errors import BadConfig, EdgeSRError, Impossible
from edgesr.report.record import SCHEMA

_GOLDEN = "pictures are not scored on a board; run.py --verify compares its golden tiles there"
_FILES = "files are not read or written on a board in this measurement"


@dataclass
class Lines:
    """The lines so far. `say` gets what the board is doing."""

    say: Callable[[str], None]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, line: bytes) -> None:
        """Take one more; raises what the board ended with."""
        row = json.loads(line)
        self.rows.append(row)
        if row["kind"] == "say":
            self.say(row["text"])

    @property
    def ended(self) -> bool:
        """Whether the last line was the last."""
        return bool(self.rows) and self.rows[-1]["kind"] in ("end", "error")

    def of(self, kind: str, **where: Any) -> list[dict[str, Any]]:
        """Rows of a kind, in order."""
        wanted = {"kind": kind, **where}.items()
        return [row for row in self.rows if wanted <= {k: row.get(k) for k in dict(wanted)}.items()]

    def raise_error(self, host: str) -> None:
        """Raise the error that the board ended with, if it did."""
        for row in self.of("error"):
            kind = {Impossible.exit_code: Impossible}.get(row["exit_code"], EdgeSRError)
            raise kind(f"{host}: {row['message']}")


def record(
    lines: Lines, *, settings: dict[str, Any], about: dict[str, Any], inputs: dict[str, Any],
    networks: list[dict[str, Any]], created_utc: str, metered: bool,
) -> dict[str, Any]:  # fmt: skip
    """The record of schema `edgesr.bench/1`; `about` is what `host` says in it.

    `networks` are the requested ones with `name` and `as` (role). Raises `BadConfig` when
    lines are missing.
    """
    try:
        models = [_model(lines, number, asked) for number, asked in enumerate(networks)]
        threads = lines.of("model", model=0)[0]["threads"]
        teacherless = all(asked["as"] != "teacher" for asked in networks)
        return {
            "schema": SCHEMA,
            "created_utc": created_utc,
            "host": about,
            "settings": {**settings, "threads": threads, **_found(lines, "settings")},
            **({"no_teacher": "the bundle has none"} if teacherless else {}),
            "conditions": {
                when: lines.of("conditions", when=when)[0]["found"] for when in ("before", "after")
            },
            "watch": lines.of("watch")[0]["found"],
            "inputs": inputs,
            "models": models,
            "baseline": None,
            "crops": [],
            "power": _power(lines, metered),
        }
    except (LookupError, TypeError) as e:
        raise BadConfig(f"the board's records are not whole ({type(e).__name__} {e})") from e


def _found(lines: Lines, kind: str) -> dict[str, Any]:
    return {k: v for k, v in lines.of(kind)[0].items() if k != "kind"}


def _model(lines: Lines, number: int, asked: dict[str, Any]) -> dict[str, Any]:
    about = lines.of("model", model=number)[0]
    raw = {
        "counts": about["counts"],
        "warm_up": lines.of("warm_up", model=number)[0]["found"],
        "samples": _columns(lines.of("calls", model=number, what="samples")),
        "whole": _columns(lines.of("calls", model=number, what="whole")),
        "file": {"missing": _FILES},
        "memory": lines.of("memory", model=number)[0]["found"],
        "quality": {"missing": _GOLDEN},
    }
    entry = {"name": asked["name"], "role": asked["as"]}
    names = (
        "runtime",
        "scale",
        "untrained",
        "onnx_sha256",
        "file_bytes",
        "precision",
        "onnx",
        "engine",
    )
    return {**entry, **{name: about[name] for name in names}, "raw": raw}


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """One after the other."""
    joined: dict[str, list[Any]] = {}
    for row in rows:
        for name, values in row["columns"].items():
            joined.setdefault(name, []).extend(values)
    return joined


def _power(lines: Lines, metered: bool) -> dict[str, Any]:
    if not metered:
        return {"missing": {"reason": "not asked for", "fix": "add --power"}}
    absent = lines.of("no_meter")
    if absent:
        return {"missing": {name: absent[0][name] for name in ("reason", "fix")}}
    facts = lines.of("trace")[0]["found"]
    before: list[float] = []
    after: list[float] = []
    values: dict[str, list[float]] = {rail: [] for rail in facts["rails"]}
    for row in lines.of("readings"):
        before += row["found"]["before_s"]
        after += row["found"]["after_s"]
        for rail, column in row["found"]["values"].items():
            values[rail] += column
    trace = {**facts, "before_s": before, "after_s": after, "values": values}
    idle, loaded = (lines.of("window", name=name) for name in ("idle", "loaded_idle"))
    return {
        "trace": trace,
        "idle": idle[0]["span"],
        "loaded_idle": [row["span"] for row in loaded],
    }
