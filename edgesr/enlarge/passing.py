"""One pass of the network over a picture, a row of tiles at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.enlarge.alpha import enlarged_alpha, fill_transparent
from edgesr.enlarge.careful import CarefulNetwork
from edgesr.rows import Rows
from edgesr.tiling import Span


class Pass:
    """Tiles of colours through `network`, beside them alpha.

    `margin` is how far beyond a window transparent pixels look for visible ones.
    """

    def __init__(self, network: CarefulNetwork, scale: int, margin: int) -> None:
        self._network, self._scale, self._margin = network, scale, margin

    def strips(
        self, rows: Rows, down: list[Span], across: list[Span], tick: Callable[[], None]
    ) -> Iterator[NDArray[Any]]:
        """The larger picture, HWC, one strip for each of the spans `down`.

        `tick` is called after each tile.
        """
        s, m = self._scale, self._margin
        for r in down:
            top, bottom = max(r.start - m, 0), min(r.stop + m, rows.height)
            source = rows.take(top, bottom)
            if len(across) == 1:
                strip = self._tile(source, top, r, across[0])
                tick()
            else:
                size = ((r.last - r.first) * s, rows.width * s, rows.channels)
                strip = np.empty(size, rows.dtype)
                for c in across:
                    strip[:, c.first * s : c.last * s] = self._tile(source, top, r, c)
                    tick()
            yield strip

    def _tile(self, source: NDArray[Any], top: int, r: Span, c: Span) -> NDArray[Any]:
        """The tile `r` × `c`, all channels; `source` has the rows of the picture from `top` on."""
        if source.shape[2] in (1, 3):
            window = source[r.start - top : r.stop - top, c.start : c.stop]
            return self._network.tile(window, r, c)
        left, right = max(c.start - self._margin, 0), c.stop + self._margin
        part = source[:, left:right]
        alpha = part[..., -1]
        colour = fill_transparent(part[..., :-1], alpha, self._margin)
        inside = slice(r.start - top, r.stop - top), slice(c.start - left, c.stop - left)
        larger = self._network.tile(colour[inside], r, c)
        rows = Span(top, top + len(source), r.first, r.last)
        columns = Span(left, left + part.shape[1], c.first, c.last)
        return np.dstack([larger, enlarged_alpha(alpha, rows, columns, self._scale)])
