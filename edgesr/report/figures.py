"""One figure of a report, and the statistics that may be printed of so many samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

Figure: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["measured", "counted", "estimated"]

# A percentile is printed only when at least about two samples lie beyond it.
SAMPLES_FOR = {50: 5, 90: 20, 95: 40, 99: 200}
_RESAMPLES = 2000
_DIGITS = 6  # significant digits of a derived figure; the samples are kept in full


def figure(
    value: float | int | None,
    unit: str,
    kind: Kind,
    *,
    samples: int | None = None,
    note: str = "",
    interval: tuple[float, float] | None = None,
) -> Figure:
    """A figure as the report keeps it; `value` None says that it is missing and `note` why.

    `interval` is a 95 % confidence interval. Counted figures stay exact; the others are
    rounded to six significant digits.
    """
    made: Figure = {"value": _rounded(value), "unit": unit, "kind": kind}
    if interval is not None:
        made["ci95"] = [_rounded(interval[0]), _rounded(interval[1])]
    if samples is not None:
        made["samples"] = samples
    if note:
        made["note"] = note
    return made


def percentile(values: Sequence[float], q: int, unit: str) -> Figure:
    """The `q`-th percentile (linear between samples), or none for too few samples."""
    need = SAMPLES_FOR[q]
    if len(values) < need:
        note = f"p{q} needs {need} samples, there are {len(values)}"
        return figure(None, unit, "measured", samples=len(values), note=note)
    return figure(float(np.percentile(values, q)), unit, "measured", samples=len(values))


def bootstrap(count: int, statistic: Callable[[list[int]], float]) -> tuple[float, float] | None:
    """95 % interval of `statistic` over repetitions drawn with replacement.

    `statistic` takes the indices (of 0 … count-1) of the drawn repetitions. Whole repetitions
    are drawn, since calls within one are not independent. None for fewer than three. The draws
    are seeded: the same samples give the same interval.
    """
    if count < 3:
        return None
    draws = np.sort(np.random.default_rng(0).integers(0, count, (_RESAMPLES, count)), axis=1)
    known: dict[tuple[int, ...], float] = {}
    results = []
    for row in draws.tolist():
        key = tuple(row)
        if key not in known:
            known[key] = statistic(row)
        results.append(known[key])
    low, high = np.percentile(results, [2.5, 97.5])
    return float(low), float(high)


def _rounded(value: float | int | None) -> float | int | None:
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{_DIGITS}g}")
