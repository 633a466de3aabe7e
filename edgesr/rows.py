"""A picture as rows that are read from top to bottom, whether it is in memory or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadImage


class Rows(Protocol):
    """A picture of `height` × `width` with 1 to 4 channels, uint8 or uint16.

    `take(start, stop)` gives its rows `start:stop` as HWC, to be read and not written to. No
    `start` may be below an earlier one: what lies above may have been forgotten.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]

    def take(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop`, HWC."""
        ...


class ArrayRows:
    """The rows of an array in memory: HW or HWC with 1 to 4 channels, uint8 or uint16.

    Raises `BadImage` for any other array.
    """

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        check_layout(self._pixels.shape, pixels.dtype)
        self.height, self.width, self.channels = self._pixels.shape
        self.dtype: np.dtype[Any] = pixels.dtype

    def take(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop`, HWC; no copy."""
        assert 0 <= start < stop <= self.height, (start, stop, self.height)
        return self._pixels[start:stop]


class BufferedRows:
    """Rows that come in strips (HWC, any heights, in order); only those still due are kept.

    The strips are asked for when their rows are. Raises `BadImage` from `take` when they end
    early or have another shape or type than was said.
    """

    def __init__(
        self,
        strips: Iterable[NDArray[Any]],
        *,
        height: int,
        width: int,
        channels: int,
        dtype: np.dtype[Any],
    ) -> None:
        check_layout((height, width, channels), dtype)
        self.height, self.width, self.channels, self.dtype = height, width, channels, dtype
        self._strips: Iterator[NDArray[Any]] = iter(strips)
        self._kept: list[NDArray[Any]] = []
        self._first = self._end = 0  # the rows that are in `_kept`

    def take(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start:stop`, HWC: a view where one strip holds them all."""
        assert self._first <= start < stop <= self.height, (self._first, start, stop)
        self._forget(start)
        while self._end < stop:
            self._add()
            self._forget(start)
        return self._joined(start, stop)

    def _add(self) -> None:
        strip = next(self._strips, None)
        if strip is None:
            raise BadImage(f"the picture ends after {self._end} of its {self.height} rows")
        if strip.ndim != 3 or strip.shape[1:] != (self.width, self.channels):
            due = f"{self.width} pixels and {self.channels} channels"
            raise BadImage(f"a strip of {strip.shape} came where {due} were due")
        if strip.dtype != self.dtype:
            raise BadImage(f"a strip of {strip.dtype} came where {self.dtype} was due")
        self._kept.append(strip)
        self._end += len(strip)

    def _forget(self, start: int) -> None:
        while self._kept and self._first + len(self._kept[0]) <= start:
            self._first += len(self._kept.pop(0))

    def _joined(self, start: int, stop: int) -> NDArray[Any]:
        parts, row = [], self._first
        for strip in self._kept:
            part = strip[max(start - row, 0) : max(stop - row, 0)]
            if len(part):
                parts.append(part)
            row += len(strip)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_layout(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `BadImage` unless `shape` is HWC with 1 to 4 channels and `dtype` 8 or 16 bit."""
    if len(shape) != 3 or not 1 <= shape[2] <= 4:
        raise BadImage(f"a picture is HW or HWC with 1 to 4 channels, not {shape}")
    if 0 in shape:
        raise BadImage(f"the picture has no pixels: {shape}")
    if dtype not in (np.uint8, np.uint16):
        raise BadImage(f"a picture has 8 or 16 bit, not {dtype}; convert it to uint8 or uint16")
