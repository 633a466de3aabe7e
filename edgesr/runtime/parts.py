"""A window larger than an engine takes, in parts that overlap by the halo: exactly the same.

Python 3.8 and numpy: it travels inside bundles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgesr.errors import BadModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


def in_parts(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    batch: NDArray[np.float32],
    largest: tuple[int, int],
    *,
    halo: int,
    scale: int,
) -> NDArray[np.float32]:
    """`run` on 1×3×H×W in windows of `largest` (height, width) at most; 1×3×sH×sW.

    `halo` is the receptive-field radius, so that the parts are those of the whole. Raises
    `BadModel` when a window of that size has nothing inside its halo.
    """
    height, width = batch.shape[2:]
    if height <= largest[0] and width <= largest[1]:
        return run(batch)
    out = np.empty((*batch.shape[:2], height * scale, width * scale), np.float32)
    for top, bottom, first, last in _spans(height, largest[0], halo):
        for left, right, begin, end in _spans(width, largest[1], halo):
            part = run(np.ascontiguousarray(batch[:, :, top:bottom, left:right]))
            inside = part[:, :, (first - top) * scale : (last - top) * scale,
                          (begin - left) * scale : (end - left) * scale]  # fmt: skip
            out[:, :, first * scale : last * scale, begin * scale : end * scale] = inside
    return out


def _spans(length: int, window: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """(start, stop, first, last): the window `start:stop` yields `first:last`."""
    if length <= window:
        yield 0, length, 0, length
        return
    step = window - 2 * halo
    if step < 1:
        raise BadModel(
            f"an engine for {window} pixels has nothing inside a halo of {halo}; "
            "build it for larger pictures"
        )
    for first in range(0, length, step):
        last = min(first + step, length)
        yield max(first - halo, 0), min(last + halo, length), first, last
