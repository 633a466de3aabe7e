"""One tile through a runtime: checked, and cut into smaller ones when memory does not suffice."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr import tiling
from edgesr.enlarge import guard
from edgesr.enlarge.ensemble import mean_of_turns
from edgesr.enlarge.footprint import Footprint, is_out_of_memory
from edgesr.errors import BadModel, Impossible
from edgesr.runtime.base import Runtime
from edgesr.tiling import Span

SMALLEST_TILE = 16  # source pixels: a tile that fails is not cut into smaller ones


class CarefulNetwork:
    """`runtime` for tiles of integers; never a wrong pixel, never a swallowed error."""

    def __init__(self, runtime: Runtime, *, ensemble: bool, check: bool) -> None:
        if ensemble and any(height != width for height, width in runtime.tile_shapes):
            raise Impossible(
                f"{runtime.name} runs windows of fixed sizes that are no squares, which the "
                "self-ensemble cannot turn; leave -x out, or use a model without fixed sizes"
            )
        self._runtime, self._ensemble, self._check = runtime, ensemble, check
        self._footprint = Footprint.of(runtime)
        self._too_large: int | None = None  # pixels of a window that did not fit in memory
        self.seconds = 0.0  # inside the runtime

    def tile(self, window: NDArray[Any], r: Span, c: Span) -> NDArray[Any]:
        """The tile `r` × `c` of its `window`, HWC integers with 1 or 3 channels as `window` has.

        The window is that of `r.start:r.stop` × `c.start:c.stop`. Raises `BadModel` when the
        network gives NaN, infinity, the wrong size, or twice something that is not the picture;
        `Impossible` when memory does not suffice even for the smallest tile.
        """
        size = window.shape[0] * window.shape[1]
        if self._too_large is not None and size >= self._too_large and self._can_cut(r, c):
            return self._in_quarters(window, r, c)
        try:
            pixels, fault = self._once(window, r, c)
        except Exception as e:
            # Runtimes say in many ways that memory is short, and what else they raise goes on.
            if not is_out_of_memory(e):
                raise
            if not self._can_cut(r, c):
                raise _no_memory(window, e) from e
            self._too_large = min(size, self._too_large or size)
        else:
            if fault is None:
                return pixels
            return self._again(window, r, c, fault)
        return self._in_quarters(window, r, c)

    def _once(self, window: NDArray[Any], r: Span, c: Span) -> tuple[NDArray[Any], str | None]:
        """The tile's pixels, and what is wrong with them."""
        batch, s = tiling.as_batch(window), self._runtime.scale
        out = mean_of_turns(self._run, batch) if self._ensemble else self._run(batch)
        tiling.check_shape(out, batch, self._runtime)
        if not guard.is_finite(out):
            raise BadModel(
                f"{self._runtime.name} gave NaN or infinity in {_place(r, c)}; "
                "use the model in fp32"
            )
        pixels = _merged(tiling.inside(out[0], r, c, s), window)
        if not self._check:
            return pixels, None
        if min(pixels.shape[:2]) >= guard.SMALLEST * s:
            part = window[r.first - r.start : r.last - r.start, c.first - c.start :]
            return pixels, guard.fault(part[:, : c.last - c.first], pixels)
        return pixels, guard.fault(window, _merged(out[0], window))

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        start = time.perf_counter()
        try:
            return self._footprint.watch(self._runtime.run, batch)
        finally:
            self.seconds += time.perf_counter() - start

    def _again(self, window: NDArray[Any], r: Span, c: Span, fault: str) -> NDArray[Any]:
        """The tile once more, in quarters where that goes; `BadModel` when it stays wrong."""
        parts = _quarters(r, c, self._runtime.halo) if self._can_cut(r, c) else [(r, c)]
        made = [(y, x, *self._once(_cut(window, r, c, y, x), y, x)) for y, x in parts]
        for y, x, _, still in made:
            if still is not None:
                raise BadModel(
                    f"{self._runtime.name}: {_place(r, c)} {fault}, and a second time {still} in "
                    f"{_place(y, x)}; use another model, or --runtime ort"
                )
        return self._joined([(y, x, pixels) for y, x, pixels, _ in made], r, c)

    def _in_quarters(self, window: NDArray[Any], r: Span, c: Span) -> NDArray[Any]:
        parts = _quarters(r, c, self._runtime.halo)
        return self._joined(
            [(y, x, self.tile(_cut(window, r, c, y, x), y, x)) for y, x in parts], r, c
        )

    def _joined(
        self, parts: list[tuple[Span, Span, NDArray[Any]]], r: Span, c: Span
    ) -> NDArray[Any]:
        s, (_, _, first) = self._runtime.scale, parts[0]
        size = ((r.last - r.first) * s, (c.last - c.first) * s, first.shape[2])
        out = np.empty(size, first.dtype)
        for y, x, pixels in parts:
            out[
                (y.first - r.first) * s : (y.last - r.first) * s,
                (x.first - c.first) * s : (x.last - c.first) * s,
            ] = pixels
        return out

    def _can_cut(self, r: Span, c: Span) -> bool:
        longest = max(r.last - r.first, c.last - c.first)
        return not self._runtime.tile_shapes and longest > SMALLEST_TILE


def _merged(chw: NDArray[np.float32], window: NDArray[Any]) -> NDArray[Any]:
    """HWC integers of CHW floats, in the channels and the type of `window`."""
    planes = tiling.to_integers(chw, window.shape[2], window.dtype)
    # cv2.merge interleaves forty times faster than a transposed copy.
    return np.asarray(cv2.merge(list(planes))).reshape(*planes.shape[1:], len(planes))


def _quarters(r: Span, c: Span, halo: int) -> list[tuple[Span, Span]]:
    return [(y, x) for y in _halves(r, halo) for x in _halves(c, halo)]


def _halves(span: Span, halo: int) -> list[Span]:
    if span.last - span.first <= SMALLEST_TILE:
        return [span]
    middle = (span.first + span.last) // 2
    return [
        Span(span.start, min(middle + halo, span.stop), span.first, middle),
        Span(max(middle - halo, span.start), span.stop, middle, span.last),
    ]


def _cut(window: NDArray[Any], r: Span, c: Span, y: Span, x: Span) -> NDArray[Any]:
    """The window of `y` × `x` out of that of `r` × `c`."""
    return window[y.start - r.start : y.stop - r.start, x.start - c.start : x.stop - c.start]


def _place(r: Span, c: Span) -> str:
    return f"the tile at x {c.first}..{c.last}, y {r.first}..{r.last}"


def _no_memory(window: NDArray[Any], error: Exception) -> Impossible:
    height, width = window.shape[:2]
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return Impossible(
        f"memory does not suffice even for a window of {width}x{height} pixels ({reason}); "
        "close other programs, or use a smaller model"
    )
