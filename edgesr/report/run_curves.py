"""The curves of a compression run, from the events of its log.

A run that was killed and resumed does some steps twice; the last time counts. So the curves of
a resumed run equal those of an uninterrupted one, as its weights do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

# The terms that a step may log beside its loss: the weights of a recipe's loss, and the
# discriminator's own loss. Anything else that a step logs is no loss.
TERMS = (
    "pixel", "teacher", "frequency", "feature", "affinity", "perceptual", "adversarial",
    "discriminator",
)  # fmt: skip
MOST_POINTS = 400  # of one curve
_DIGITS = 6  # significant digits of a value

Curve: TypeAlias = list[list[float]]


def curves_of(log_lines: Iterable[str]) -> dict[str, Any]:
    """The curves from the lines of log.jsonl; a line that is not whole is passed over.

    `legs` is [first step, name] of each leg. `loss` holds `total` and each term, `lr` the
    learning rate, `psnr_y` the held-out PSNR (dB) while training and `psnr_y_legs` that at the
    end of each leg: lists of [step of the whole run, value]. Losses and rate are thinned to at
    most 400 points: to the mean of as many neighbours as it takes, never over the border of two
    legs, at the last one's step. Values that are not finite (skipped steps) are left out.
    """
    legs, points = _read(log_lines)
    firsts = _firsts(legs, points)
    return {
        "legs": [[firsts[i], name] for i, (name, _) in sorted(legs.items())],
        "loss": {
            name: _thinned(points[key], firsts)
            for name, key in {"total": "loss", **{t: t for t in TERMS}}.items()
            if points.get(key)
        },
        "lr": _thinned(points.get("lr", {}), firsts),
        **{
            key: [point for _, point in _placed(points.get(key, {}), firsts)]
            for key in ("psnr_y", "psnr_y_legs")
        },
    }


_Legs: TypeAlias = dict[int, tuple[str, int]]  # by number: name, steps
_Points: TypeAlias = dict[str, dict[tuple[int, int], float]]  # by key: value by (leg, step)


def _read(log_lines: Iterable[str]) -> tuple[_Legs, _Points]:
    legs: _Legs = {}
    points: _Points = {}
    for event in _events(log_lines):
        kind = event.get("event")
        if kind == "leg":
            legs[int(event["leg"])] = (str(event["name"]), int(event["steps"]))
        elif kind == "step":
            at = (int(event["leg"]), int(event["step"]))
            for key in ("loss", "lr", *TERMS):
                _set(points, key, at, event.get(key))
        elif kind == "validated":
            _set(points, "psnr_y", (int(event["leg"]), int(event["step"])), event.get("psnr_y"))
        elif kind == "measured":
            number = _number(legs, event.get("leg"))
            if number is not None:
                _set(points, "psnr_y_legs", (number, legs[number][1]), event.get("psnr_y"))
    return legs, points


def _events(log_lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in log_lines:
        try:
            event = json.loads(line)
        except ValueError:  # torn: the run was killed while writing it
            continue
        if isinstance(event, dict):
            yield event


def _number(legs: _Legs, name: object) -> int | None:
    return next((i for i, (known, _) in legs.items() if known == name), None)


def _set(points: _Points, key: str, at: tuple[int, int], value: object) -> None:
    known = points.setdefault(key, {})
    known.pop(at, None)
    if isinstance(value, int | float) and math.isfinite(value):
        known[at] = float(value)


def _firsts(legs: _Legs, points: _Points) -> dict[int, int]:
    """The first step of each leg; a leg whose beginning was not logged has the steps seen."""
    seen: dict[int, int] = {}
    for curve in points.values():
        for leg, step in curve:
            seen[leg] = max(seen.get(leg, 0), step + 1)
    firsts, first = {}, 0
    for leg in range(max([*legs, *seen], default=-1) + 1):
        firsts[leg] = first
        first += legs[leg][1] if leg in legs else seen.get(leg, 0)
    return firsts


def _placed(
    curve: Mapping[tuple[int, int], float], firsts: Mapping[int, int]
) -> list[tuple[int, list[float]]]:
    """(leg, [step of the run, value]) in order of the steps."""
    return [(leg, [firsts[leg] + step, _round(v)]) for (leg, step), v in sorted(curve.items())]


def _thinned(curve: Mapping[tuple[int, int], float], firsts: Mapping[int, int]) -> Curve:
    by_leg: dict[int, Curve] = {}
    for leg, point in _placed(curve, firsts):
        by_leg.setdefault(leg, []).append(point)
    size = 1
    # Ends with one point a leg, also where there are more legs than points are wanted.
    longest = max((len(points) for points in by_leg.values()), default=0)
    while size < longest and sum(-(-len(p) // size) for p in by_leg.values()) > MOST_POINTS:
        size += 1
    return [
        [points[min(i + size, len(points)) - 1][0], _mean([v for _, v in points[i : i + size]])]
        for points in by_leg.values()
        for i in range(0, len(points), size)
    ]


def _mean(values: Sequence[float]) -> float:
    return _round(math.fsum(values) / len(values))


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
