"""Is a tile what the network should have made of it? Broken runtimes give black, shifted or NaN.

Enlarging keeps means: those of bicubic are the picture's own. So the mean of every block of 16
source pixels is compared with the source's. In our networks it differs by up to 20 levels (of
255) where the picture is flat and by up to 40 in checkerboards and noise of full contrast, the
worst that was found (tests/test_enlarge_guard.py looks again); a photograph stays below 5.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # source pixels
LEVELS = 32.0  # of 255, that a block's mean may be off
PER_CONTRAST = 0.25  # and so much more for each level of the tile's standard deviation
SMALLEST = 8  # source pixels: below that the whole window is looked at
_FLAT_CONTRAST = 2.0  # levels of standard deviation, which no network makes one single value


def is_finite(out: NDArray[np.float32]) -> bool:
    """Whether the network's output has no NaN and no infinity; one pass, no copy."""
    return bool(np.isfinite(cv2.norm(out.reshape(-1, out.shape[-1]), cv2.NORM_L2SQR)))


def fault(source: NDArray[Any], result: NDArray[Any]) -> str | None:
    """What is wrong with `result`, which was made of `source`, in words; None: nothing.

    Both are HWC integers of the same type and channels, `result` a whole number of times larger.
    """
    factor = result.shape[0] // source.shape[0]
    level = 255.0 / np.iinfo(source.dtype).max
    # One row of each `factor`: a fault is never so thin, and this costs a fourth.
    sampled = result[factor // 2 :: factor]
    grid = (max(1, source.shape[1] // BLOCK), max(1, source.shape[0] // BLOCK))
    made, due = _means(sampled, grid), _means(source, grid)
    _, deviation = cv2.meanStdDev(source)
    contrast = float(deviation.max()) * level
    off = float(np.abs(made - due).max()) * level
    if off > LEVELS + PER_CONTRAST * contrast:
        black = " and is black" if not made.any() else ""
        return f"is {off:.0f} levels off the picture's colours{black}"
    if contrast > _FLAT_CONTRAST and np.ptp(made) == 0.0 and np.ptp(result) == 0:
        return "is of one colour where the picture is not"
    return None


def _means(pixels: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """The mean of each block, (height, width) blocks × channels flattened."""
    means = cv2.resize(pixels, grid, interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32).ravel()
