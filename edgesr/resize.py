"""MATLAB's bicubic resizing: how the LR pictures of super-resolution are made.

Keys' cubic with a = -0.5, widened by the factor when shrinking (antialiasing), mirrored
border that repeats the edge pixel, rows first, and each of the two passes rounded half up
to the integer type, as `imresize` does on integer pictures. The taps repeat every
`factor` pixels, so whole rows are weighted and added.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesr.errors import BadImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOAT32_UNIT = 4096  # 8-bit sums of multiples of 1/4096 are exact in float32
_MAX_FACTOR = 64


@dataclass(frozen=True)
class _Taps:
    """Output `phases · i + p` is the sum over k of weights[p, k] · input[start + k + step · i]."""

    weights: NDArray[Any]  # (phases, taps)
    start: int
    step: int


def downscale_bicubic(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """`image` made `factor` times smaller, antialiased; sizes are rounded up.

    `image` is HW or HWC, uint8 or uint16; so is the result. Raises `BadImage` for any other
    type or an empty picture.
    """
    _check(image, factor)
    h, w = image.shape[:2]
    return _resize(image, (-(-h // factor), -(-w // factor)), _down_taps(factor))


def upscale_bicubic(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """`image` made `factor` times larger: the baseline that networks are compared with.

    `image` is HW or HWC, uint8 or uint16; so is the result. Raises `BadImage` for any other
    type or an empty picture.
    """
    _check(image, factor)
    h, w = image.shape[:2]
    return _resize(image, (h * factor, w * factor), _up_taps(factor))


def _check(image: NDArray[Any], factor: int) -> None:
    if image.ndim not in (2, 3) or image.dtype not in (np.uint8, np.uint16):
        raise BadImage(
            f"resizing takes HW or HWC pictures of 8 or 16 bit, not {image.dtype} {image.shape}"
        )
    if image.size == 0:
        raise BadImage(f"the picture has no pixels: {image.shape}")
    if not 1 <= factor <= _MAX_FACTOR:
        raise BadImage(f"the resizing factor must be 1 to {_MAX_FACTOR}, not {factor}")


def _resize(image: NDArray[Any], size: tuple[int, int], taps: _Taps) -> NDArray[Any]:
    c = image.shape[2] if image.ndim == 3 else 1
    h, w = size
    rows = _resize_rows(image.reshape(image.shape[0], -1), h, taps)
    columns = rows.reshape(h, -1, c).swapaxes(0, 1).reshape(-1, h * c)
    out = _resize_rows(columns, w, taps).reshape(w, h, c).swapaxes(0, 1)
    return np.ascontiguousarray(out).reshape(h, w, *image.shape[2:])


def _resize_rows(image: NDArray[Any], n_out: int, taps: _Taps) -> NDArray[Any]:
    """One pass along the first axis of a 2-D picture, rounded to its own type."""
    # Not as a matrix product: BLAS threads waiting for each other on a busy machine cost
    # more than they save.
    phases, length = taps.weights.shape
    n = n_out // phases
    dtype = taps.weights.dtype if image.dtype == np.uint8 else np.dtype(np.float64)
    index = taps.start + np.arange((n - 1) * taps.step + length)
    source = image.astype(dtype)[_mirror(index, image.shape[0])]
    out = np.empty((n, phases, image.shape[1]), image.dtype)
    top = float(np.iinfo(image.dtype).max)
    term = np.empty((n, image.shape[1]), dtype)
    for p in range(phases):
        total = np.full((n, image.shape[1]), 0.5, dtype)
        for k in np.flatnonzero(taps.weights[p]):
            rows = source[k : k + (n - 1) * taps.step + 1 : taps.step]
            total += np.multiply(rows, dtype.type(taps.weights[p, k]), out=term)
        np.clip(total, 0.0, top + 0.5, out=total)
        out[:, p] = total  # the cast cuts off: rounds half up
    return out.reshape(n_out, -1)


def _mirror(index: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Indices outside 0..n-1 reflected there; the edge pixel comes twice."""
    folded = index % (2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys, "Cubic convolution interpolation", 1981, eq. 15 (a = -0.5)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


@lru_cache(maxsize=16)
def _down_taps(factor: int) -> _Taps:
    # Output 0 is centred on input (factor - 1) / 2; the kernel reaches 2·factor each side.
    offsets = np.arange(-2 * factor, 3 * factor)
    weights = cubic((offsets - (factor - 1) / 2) / factor)
    return _taps(weights[None], -2 * factor, factor)


@lru_cache(maxsize=16)
def _up_taps(factor: int) -> _Taps:
    # Output p is centred on input (p + 1/2) / factor - 1/2; four taps reach -2 .. 2.
    centres = (np.arange(factor) + 0.5) / factor - 0.5
    return _taps(cubic(np.arange(-2, 3)[None] - centres[:, None]), -2, 1)


def _taps(weights: NDArray[np.float64], start: int, step: int) -> _Taps:
    weights = weights / weights.sum(axis=1, keepdims=True)
    units = weights * _FLOAT32_UNIT
    exact = bool((units == np.rint(units)).all())
    return _Taps(weights.astype(np.float32) if exact else weights, start, step)
