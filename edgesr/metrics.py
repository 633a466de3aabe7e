"""PSNR and SSIM in the one convention of EdgeSR's tables.

Pictures are uint8 RGB; BT.601 luma (16–235) is taken from the RGB picture, without rounding
it; a border of 4 pixels is shaved. SSIM is that of Wang et al., "Image quality assessment:
from error visibility to structural similarity", 2004: an 11×11 Gaussian window of sigma 1.5,
only windows that lie wholly inside, K1 = 0.01, K2 = 0.03, L = 255. RGB figures: PSNR of the
error over all three channels, SSIM as the mean of the channels.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadImage

BORDER = 4
CONVENTION = "BT.601 Y (16-235) of the RGB picture, border of 4 pixels shaved, output uint8"

_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0  # ITU-R BT.601, 8-bit RGB to Y, plus 16
_WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * 255.0) ** 2
_C2 = (0.03 * 255.0) ** 2


def luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """BT.601 Y, 16 to 235, HW float64, of an HWC uint8 RGB picture. Not rounded."""
    y: NDArray[np.float64] = image.astype(np.float64) @ _LUMA + 16.0
    return y


def psnr_y(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = BORDER) -> float:
    """PSNR of the luma in dB; `inf` for equal pictures.

    `a` and `b` are HWC uint8 RGB of one shape; `BadImage` otherwise, and when nothing is left
    inside the border.
    """
    a, b = _shaved(a, b, border, 1)
    return _psnr(luma(a), luma(b))


def psnr_rgb(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = BORDER) -> float:
    """PSNR over the three channels in dB; arguments and errors as `psnr_y`."""
    a, b = _shaved(a, b, border, 1)
    return _psnr(a.astype(np.float64), b.astype(np.float64))


def ssim_y(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = BORDER) -> float:
    """Mean SSIM of the luma; arguments as `psnr_y`.

    Raises `BadImage` when less than 11×11 pixels are left inside the border.
    """
    a, b = _shaved(a, b, border, _WINDOW)
    return _ssim(luma(a), luma(b))


def ssim_rgb(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = BORDER) -> float:
    """Mean SSIM of the three channels; arguments and errors as `ssim_y`."""
    a, b = _shaved(a, b, border, _WINDOW)
    pairs = ((a[..., c].astype(np.float64), b[..., c].astype(np.float64)) for c in range(3))
    return sum(_ssim(x, y) for x, y in pairs) / 3.0


def _shaved(
    a: NDArray[Any], b: NDArray[Any], border: int, smallest: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    for x in (a, b):
        if x.ndim != 3 or x.shape[2] != 3 or x.dtype != np.uint8:
            raise BadImage(f"metrics take 8-bit RGB pictures (HWC), not {x.dtype} {x.shape}")
    if a.shape != b.shape:
        raise BadImage(f"pictures of different size: {_size(a)} and {_size(b)}")
    if min(a.shape[:2]) < smallest + 2 * border:
        need = smallest + 2 * border
        raise BadImage(f"a picture of {_size(a)} is too small to measure; at least {need}x{need}")
    inside = slice(border, -border or None)
    return a[inside, inside], b[inside, inside]


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    mse = float(np.mean(np.square(a - b)))
    return math.inf if mse == 0.0 else 10.0 * math.log10(255.0**2 / mse)


def _ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a**2
    var_b = _window(b * b) - mean_b**2
    cov = _window(a * b) - mean_a * mean_b
    top = (2.0 * mean_a * mean_b + _C1) * (2.0 * cov + _C2)
    bottom = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return float(np.mean(top / bottom))


def _window(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian-weighted mean of each window that lies wholly inside `x`."""
    radius = _WINDOW // 2
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _SIGMA) ** 2)
    kernel /= kernel.sum()
    blurred = cv2.sepFilter2D(x, -1, kernel, kernel)
    return np.asarray(blurred[radius:-radius, radius:-radius], dtype=np.float64)
