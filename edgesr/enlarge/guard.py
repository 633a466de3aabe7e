"""Is a tile what the network should have made of it? Broken runtimes give black, shifted or NaN.

Enlarging keeps means: those of bicubic are the picture's own. So the mean of every block of 16
source pixels is compared with the source's. Our networks change it by up to 21 levels (of 255)
where the picture is flat, and by more where neighbours differ much: in a checkerboard of full
contrast some make up half a colour. Half of the mean step between neighbours allows for that;
what was found beyond it is 21 levels again, and less than 12 in photographs
(tests/test_enlarge_guard.py looks again).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # source pixels
LEVELS = 32.0  # of 255, that a block's mean may be off
PER_STEP = 0.5  # and so much more for each level that neighbours differ there, on average
SMALLEST = 8  # source pixels: of narrower tiles the whole window is looked at
# Source pixels: fewer are mostly border to a network, which has never seen so small a picture.
_FEWEST = 16
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
    flat, few = True, source.shape[0] * source.shape[1] < _FEWEST
    for top, bottom, down in _parts(source.shape[0]):
        for left, right, across in _parts(source.shape[1]):
            part = source[top:bottom, left:right]
            made = _means(sampled[top:bottom, left * factor : right * factor], (across, down))
            wrong = None if few else _shift(part, made, level)
            if wrong is not None:
                return wrong
            flat = flat and float(np.ptp(made)) == 0.0
    _, deviation = cv2.meanStdDev(source)
    contrast = float(deviation.max()) * level
    if contrast > _FLAT_CONTRAST and flat and np.ptp(result) == 0:
        return "is of one colour where the picture is not"
    return None


def _parts(length: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, blocks) along an axis: whole blocks, and one more at the end for what is left.

    Means of whole blocks are five times faster than those of fractions.
    """
    if length < BLOCK:
        yield 0, length, 1
        return
    whole = length // BLOCK
    yield 0, whole * BLOCK, whole
    if whole * BLOCK < length:
        yield length - BLOCK, length, 1


def _shift(source: NDArray[Any], made: NDArray[np.float32], level: float) -> str | None:
    """What is wrong with the means of the blocks that were `made` of `source`; None: nothing."""
    grid = (made.shape[1], made.shape[0])
    off = np.abs(made - _means(source, grid)).max(axis=-1) * level
    if off.max() <= LEVELS:
        return None
    beyond = off - PER_STEP * level * _steps(source, grid)
    if beyond.max() <= LEVELS:
        return None
    black = " and black" if not made.any() else ""
    return f"is {off.flat[beyond.argmax()]:.0f} levels off the picture's colours{black}"


def _means(pixels: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """The mean of each block and channel; `grid` is (blocks across, blocks down)."""
    means = cv2.resize(pixels, grid, interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32).reshape(grid[1], grid[0], -1)


def _steps(source: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """How much neighbours differ on average in each block: in the worst channel and direction."""
    steps = np.zeros((grid[1], grid[0]), np.float32)
    for one, other in ((source[:, 1:], source[:, :-1]), (source[1:], source[:-1])):
        if one.size:
            np.maximum(steps, _means(cv2.absdiff(one, other), grid).max(axis=-1), out=steps)
    return steps
