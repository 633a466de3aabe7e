"""How far one output is from another, and whether that is close enough.

Python 3.8 and numpy only: it travels inside bundles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IDENTICAL_DB = 200.0  # what is reported for 200 dB and more


@dataclass(frozen=True)
class Difference:
    """What was measured between a reference and another output.

    `psnr_db` is over all RGB values clipped to [0, 1], peak 1, 200 at the most; the shares
    count 8-bit values (of all values) that differ at all, and by more than one level;
    `mean_shift_levels` is the change of the mean, in 8-bit levels, without sign.
    """

    psnr_db: float
    differing_share: float
    beyond_one_share: float
    mean_shift_levels: float
    finite: bool
    black: bool


@dataclass(frozen=True)
class Limits:
    """What a hop may lose; finite and not black is always asked."""

    psnr_db: float
    beyond_one_share: float
    mean_shift_levels: float


# fp32 again: other kernels and other orders of summation. fp16: 50 dB is a root mean square
# error of 0.8 levels of 255, which nobody sees. int8 against fp32 is a floor under what
# --max-drop asks: 36 dB is 4 levels, 0.5 levels of shift is a picture that turned darker.
LIMITS = {
    "fp32": Limits(psnr_db=80.0, beyond_one_share=0.0, mean_shift_levels=0.02),
    "fp16": Limits(psnr_db=50.0, beyond_one_share=0.01, mean_shift_levels=0.25),
    "int8": Limits(psnr_db=36.0, beyond_one_share=0.7, mean_shift_levels=0.5),
}
# The same int8 codes computed in another way: 140 dB and more, until a sum falls on the middle
# between two codes and goes on through the layers behind (about one crop in thirty, 57 dB then).
# So of several crops the second best is asked. A scale that is 1.5 % off in one layer, or biases
# that are rounded elsewhere, are 49 to 65 dB on every one.
SAME_CODES = Limits(psnr_db=90.0, beyond_one_share=0.0, mean_shift_levels=0.01)


def difference(reference: NDArray[Any], other: NDArray[Any]) -> Difference:
    """Compare two float arrays of one shape; values are RGB in [0, 1] and are clipped.

    A value that is NaN or infinite makes the whole comparison fail (0 dB, all differ).
    """
    if not bool(np.isfinite(other).all()):
        return Difference(0.0, 1.0, 1.0, 255.0, finite=False, black=False)
    a = np.clip(np.asarray(reference, np.float64), 0.0, 1.0)
    b = np.clip(np.asarray(other, np.float64), 0.0, 1.0)
    mse = float(np.mean((a - b) ** 2))
    psnr = min(IDENTICAL_DB, -10.0 * math.log10(mse)) if mse > 0 else IDENTICAL_DB
    steps = np.abs(np.rint(a * 255.0) - np.rint(b * 255.0))
    return Difference(
        psnr_db=psnr,
        differing_share=float(np.mean(steps > 0)),
        beyond_one_share=float(np.mean(steps > 1)),
        mean_shift_levels=abs(float(a.mean() - b.mean())) * 255.0,
        finite=True,
        black=bool(b.max() * 255.0 < 0.5 <= a.max() * 255.0),
    )


def failures(found: Difference, limits: Limits) -> list[str]:
    """What of `found` is beyond `limits`, in words; empty when it holds."""
    if not found.finite:
        return ["NaN or infinite values"]
    if found.black:
        return ["the output is black"]
    lines = []
    if found.psnr_db < limits.psnr_db:
        lines.append(f"{found.psnr_db:.1f} dB, at least {limits.psnr_db:g} needed")
    if found.beyond_one_share > limits.beyond_one_share:
        share, most = 100 * found.beyond_one_share, 100 * limits.beyond_one_share
        lines.append(f"{share:.3g} % of values off by more than one level, at most {most:g}")
    if found.mean_shift_levels > limits.mean_shift_levels:
        shift, most = found.mean_shift_levels, limits.mean_shift_levels
        lines.append(f"mean shifted by {shift:.3g} levels, at most {most:g}")
    return lines


def tightened(found: Difference, limits: Limits, least: Limits) -> Limits:
    """`limits` drawn in to just beyond `found`, so that a decibel lost later is seen.

    Leaves 1 dB, a fifth more values and 0.05 levels for other kernels' rounding, and never asks
    for more than `least` does. What is beyond `limits` already leaves them as they are.
    """
    if failures(found, limits):
        return limits
    psnr_db = math.floor(10 * found.psnr_db - 10) / 10
    share = round(1.2 * found.beyond_one_share + 0.005, 4)
    shift = round(found.mean_shift_levels + 0.05, 3)
    return Limits(
        psnr_db=max(limits.psnr_db, min(psnr_db, least.psnr_db)),
        beyond_one_share=min(limits.beyond_one_share, max(share, least.beyond_one_share)),
        mean_shift_levels=min(limits.mean_shift_levels, max(shift, least.mean_shift_levels)),
    )


def worst(found: list[Difference]) -> Difference:
    """Field by field the worst of several comparisons (at least one)."""
    return Difference(
        psnr_db=min(d.psnr_db for d in found),
        differing_share=max(d.differing_share for d in found),
        beyond_one_share=max(d.beyond_one_share for d in found),
        mean_shift_levels=max(d.mean_shift_levels for d in found),
        finite=all(d.finite for d in found),
        black=any(d.black for d in found),
    )
