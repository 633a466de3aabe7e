"""MATLAB's bicubic resizing: how the LR pictures of super-resolution are made.

Keys' cubic with a = -0.5, widened by the factor when shrinking (antialiasing), mirrored
border that repeats the edge pixel, rows first, and each of the two passes rounded half up
to the integer type, as `imresize` does on integer pictures. The taps repeat every
`factor` pixels, so one small matrix serves every block of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesr.errors import BadImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 24  # LR rows that one multiplication makes or takes; the fastest from 8 to 64
_FLOAT32_UNIT = 4096  # 8-bit sums of multiples of 1/4096 are exact in float32
_MAX_FACTOR = 64


@dataclass(frozen=True)
class _Taps:
    """`matrix` makes len(matrix) outputs of inputs start .. start + matrix.shape[1]."""

    matrix: NDArray[Any]
    start: int
    step: int  # inputs from one block to the next


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
    block, width = taps.matrix.shape
    blocks = -(-n_out // block)
    dtype = taps.matrix.dtype if image.dtype == np.uint8 else np.dtype(np.float64)
    matrix = taps.matrix.astype(dtype, copy=False)
    index = _mirror(taps.start + np.arange((blocks - 1) * taps.step + width), image.shape[0])
    out = np.empty((blocks * block, image.shape[1]), image.dtype)
    top = float(np.iinfo(image.dtype).max)
    for b in range(blocks):
        source = image[index[b * taps.step : b * taps.step + width]].astype(dtype)
        values = matrix @ source
        values += 0.5
        np.clip(values, 0.0, top + 0.5, out=values)
        out[b * block : (b + 1) * block] = values  # the cast cuts off: rounds half up
    return out[:n_out]


def _mirror(index: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Indices outside 0..n-1 reflected there; the edge pixel comes twice."""
    folded = index % (2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys, "Cubic convolution interpolation", 1981, eq. 15 (a = -0.5)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


@lru_cache(maxsize=16)
def _down_taps(factor: int) -> _Taps:
    # Output 0 is centred on input (factor - 1) / 2; the kernel reaches 2·factor each side.
    offsets = np.arange(-2 * factor, 3 * factor)
    weights = _cubic((offsets - (factor - 1) / 2) / factor)
    weights /= weights.sum()
    return _blocks(weights[None], int(offsets[0]), outputs=1, inputs=factor)


@lru_cache(maxsize=16)
def _up_taps(factor: int) -> _Taps:
    # Output p is centred on input (p + 1/2) / factor - 1/2; four taps reach -2 .. 2.
    centres = (np.arange(factor) + 0.5) / factor - 0.5
    weights = _cubic(np.arange(-2, 3)[None] - centres[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    return _blocks(weights, -2, outputs=factor, inputs=1)


def _blocks(weights: NDArray[np.float64], start: int, outputs: int, inputs: int) -> _Taps:
    """`weights` of one period, (outputs, taps), repeated to a block of `_BLOCK` periods."""
    taps = weights.shape[1]
    matrix = np.zeros((_BLOCK * outputs, (_BLOCK - 1) * inputs + taps))
    for i in range(_BLOCK):
        rows = slice(i * outputs, (i + 1) * outputs)
        matrix[rows, i * inputs : i * inputs + taps] = weights
    units = matrix * _FLOAT32_UNIT
    dtype = np.float32 if bool((units == np.rint(units)).all()) else np.float64
    return _Taps(matrix.astype(dtype), start, _BLOCK * inputs)
