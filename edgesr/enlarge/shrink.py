"""Antialiased bicubic downscaling to any size, from rows to rows.

Keys' cubic with a = -0.5, widened by the ratio of the sizes, mirrored border that repeats the
edge pixel, rows first, each pass rounded half up: for whole ratios it is
`edgesr.resize.downscale_bicubic`. The border of the result is that of the picture: the ratio is
exactly that of the sizes. With alpha, colours are weighted by it, so that transparent pixels do
not darken the visible ones beside them, and nothing is rounded between the passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr.resize import cubic
from edgesr.rows import Rows

BLOCK = 32  # rows of the result that are made at once
_CHUNK = 1 << 18  # numbers that are weighted at once: they stay in the cache


@dataclass(frozen=True)
class Taps:
    """Output `i` is the sum over k of `weights[i, k]` · input[`index[i, k]`]."""

    index: NDArray[np.int64]  # (outputs, taps), inside the input
    weights: NDArray[np.float64]  # each output's sum is 1


def taps(n_in: int, n_out: int) -> Taps:
    """Those of an axis of `n_in` pixels that becomes one of `n_out`, no more than `n_in`."""
    ratio = n_in / n_out
    centres = (np.arange(n_out) + 0.5) * ratio - 0.5
    first = np.floor(centres - 2 * ratio).astype(np.int64) + 1
    offsets = np.arange(int(np.ceil(4 * ratio)))
    index = first[:, None] + offsets
    weights = cubic((index - centres[:, None]) / ratio)
    weights /= weights.sum(axis=1, keepdims=True)
    folded = index % (2 * n_in)
    return Taps(np.minimum(folded, 2 * n_in - 1 - folded), weights)


def shrink(rows: Rows, size: tuple[int, int]) -> Iterator[NDArray[Any]]:
    """Strips (HWC) of `rows` made as small as `size` (height, width); same channels and type.

    Neither side may be larger than that of `rows`.
    """
    height, width = size
    assert height <= rows.height and width <= rows.width, (size, rows.height, rows.width)
    down, across = taps(rows.height, height), taps(rows.width, width)
    starts = np.minimum.accumulate(down.index.min(axis=1)[::-1])[::-1]  # never falls
    for first in range(0, height, BLOCK):
        index, weights = down.index[first : first + BLOCK], down.weights[first : first + BLOCK]
        start = int(starts[first])
        source = rows.take(start, int(index.max()) + 1)
        part = Taps(index - start, weights)
        yield (
            _with_alpha(source, part, across)
            if rows.channels in (2, 4)
            else _plain(source, part, across)
        )


def working_bytes(
    before: tuple[int, int], after: tuple[int, int], channels: int, sample_bytes: int
) -> int:
    """What `shrink` holds at its peak for those sizes (height, width), beside the next strip."""
    ratio = before[0] / after[0]
    rows = min(before[0], int(BLOCK * ratio + 4 * ratio) + 2)
    deep = channels * sample_bytes
    number = 8 if sample_bytes == 2 else 4
    floats = before[1] * channels * number
    passed = min(BLOCK, after[0]) * floats
    kept = rows * before[1] * deep
    alpha = rows * floats if channels in (2, 4) else 0
    return 2 * kept + 3 * passed + 2 * alpha


def _plain(source: NDArray[Any], down: Taps, across: Taps) -> NDArray[Any]:
    dtype = source.dtype
    made = _rounded(_weighted(source, down, _number(dtype)), dtype)
    return _turned(_rounded(_weighted(_turned(made), across, _number(dtype)), dtype))


def _with_alpha(source: NDArray[Any], down: Taps, across: Taps) -> NDArray[Any]:
    dtype, number = source.dtype, _number(source.dtype)
    weighed = source.astype(number)
    weighed[..., :-1] *= weighed[..., -1:]
    made = _weighted(weighed, down, number)
    sums = _turned(_weighted(_turned(made), across, number))
    out = np.zeros(sums.shape, dtype)
    out[..., -1] = _rounded(sums[..., -1], dtype)
    seen = out[..., -1] > 0  # where nothing is visible there is no colour
    out[seen, :-1] = _rounded(sums[seen, :-1] / sums[seen, -1:], dtype)
    return out


def _weighted(source: NDArray[Any], by: Taps, number: type[Any]) -> NDArray[Any]:
    """The weighted sums along the first axis of HWC `source`, in floats of type `number`."""
    n_in, n_out = source.shape[0], len(by.index)
    flat = source.reshape(n_in, -1)
    out = np.empty((n_out, flat.shape[1]), number)
    step, weights = max(1, _CHUNK // n_out), by.weights.astype(number)
    for left in range(0, flat.shape[1], step):
        part = flat[:, left : left + step].astype(number)
        total = np.zeros((n_out, part.shape[1]), number)
        term = np.empty_like(total)
        for k in np.flatnonzero(weights.any(axis=0)):
            # "clip" checks no index, and needs no buffer.
            np.take(part, by.index[:, k], axis=0, out=term, mode="clip")
            term *= weights[:, k, None]
            total += term
        out[:, left : left + step] = total
    return out.reshape(n_out, *source.shape[1:])


def _turned(pixels: NDArray[Any]) -> NDArray[Any]:
    """Rows and columns of HWC `pixels` changed."""
    height, width, channels = pixels.shape
    # In blocks that fit the cache, unlike a transposed copy.
    return np.asarray(cv2.transpose(pixels)).reshape(width, height, channels)


def _number(dtype: np.dtype[Any]) -> type[Any]:
    return np.float32 if dtype == np.uint8 else np.float64


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Half up, clipped to the range of `dtype`."""
    values = values + values.dtype.type(0.5)
    np.clip(values, 0.0, np.iinfo(dtype).max + 0.5, out=values)
    return values.astype(dtype)  # the cast cuts off
