"""Pictures with alpha: what transparent pixels hide must not show, and alpha is resized itself.

Colours are not premultiplied. The colour of a fully transparent pixel means nothing; where the
network would see it beside visible ones, the mean of these takes its place: over the smallest of
the squares of 3, 5, 9, 17 … pixels around it that holds a visible one, weighted by alpha. No
square reaches farther than `reach` pixels, so that a part of the picture with a margin of
`reach` is filled exactly as the whole is. Pixels that find none keep their colour: they are
farther from any visible pixel than the network sees.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr.resize import upscale_bicubic
from edgesr.tiling import Span

ALPHA_MARGIN = 2  # source pixels that bicubic enlarging looks beyond a part


def reach(halo: int) -> int:
    """How far visible pixels must spread for a network of that halo: two pixels more.

    Bicubic alpha makes the result visible up to two source pixels beside visible ones.
    """
    return halo + 2


def fill_transparent(
    colour: NDArray[Any], alpha: NDArray[Any], farthest: int | None = None
) -> NDArray[Any]:
    """`colour` (HWC) with the pixels of `alpha` 0 (HW) filled in, up to `farthest` pixels.

    None: as far as it takes. Returns `colour` itself where there is nothing to do.
    """
    known = alpha > 0
    if known.all() or not known.any():
        return colour
    farthest = max(alpha.shape) if farthest is None else farthest
    # Integers in float64: sums are exact, whatever else the box filter has added before.
    weight = alpha.astype(np.float64)
    sums = np.concatenate([colour * weight[..., None], weight[..., None]], axis=2)
    filled, radius = colour.copy(), 1
    while not known.all():
        square = (2 * min(radius, farthest) + 1,) * 2
        near = cv2.boxFilter(sums, -1, square, normalize=False, borderType=cv2.BORDER_CONSTANT)
        new = ~known & (near[..., -1] > 0.0)
        means = near[new][:, :-1] / near[new][:, -1:]
        filled[new] = np.floor(means + 0.5).astype(colour.dtype)
        known |= new
        if radius >= farthest:
            break
        radius *= 2
    return filled


def enlarged_alpha(alpha: NDArray[Any], r: Span, c: Span, scale: int) -> NDArray[Any]:
    """The part `r` × `c` of `upscale_bicubic(alpha, scale)`, made of what it depends on.

    `alpha` (HW) is that of the window `r.start:r.stop` × `c.start:c.stop`, which reaches
    `ALPHA_MARGIN` pixels beyond the part or to the border of the picture.
    """
    top, left = max(r.first - ALPHA_MARGIN, r.start), max(c.first - ALPHA_MARGIN, c.start)
    bottom, right = min(r.last + ALPHA_MARGIN, r.stop), min(c.last + ALPHA_MARGIN, c.stop)
    part = alpha[top - r.start : bottom - r.start, left - c.start : right - c.start]
    larger = upscale_bicubic(np.ascontiguousarray(part), scale)
    rows = slice((r.first - top) * scale, (r.last - top) * scale)
    columns = slice((c.first - left) * scale, (c.last - left) * scale)
    return larger[rows, columns]
