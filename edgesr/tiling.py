"""One picture through a network, tile by tile, with no seam.

A tile's window reaches `halo` pixels (the receptive-field radius) beyond the tile, and ends
at the picture's border where that is nearer: there the network's zero padding is what it is
in the untiled run. So each pixel is computed from exactly the same neighbourhood as untiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgesr.errors import BadImage, BadModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

# A window of this many LR pixels takes about 1.2 GB in the widest network we ship (SRGAN's
# generator, 12 kB per LR pixel measured) and a tenth of it in a student.
AUTO_PIXELS = 320 * 320
SMALLEST_TILE = 64  # automatic tiles only
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # BT.601, full range


class Network(Protocol):
    """The part of `edgesr.runtime.base.Runtime` that tiling needs."""

    name: str
    scale: int
    halo: int
    tile_shapes: tuple[tuple[int, int], ...]

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """NCHW float32 RGB in [0, 1] → NCHW float32, `scale` times larger."""
        ...


@dataclass(frozen=True)
class Span:
    """Along one axis, in LR pixels: the window `start:stop` yields the tile `first:last`."""

    start: int
    stop: int
    first: int
    last: int


def upscale_tiles(
    image: NDArray[Any],
    network: Network,
    tile: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[Any]:
    """`image` made `network.scale` times larger.

    `image` is HWC with 1 (grey) or 3 (RGB) channels, uint8 or uint16; so is the result. Grey
    is given to the network as RGB, and the luma of its output is kept. `tile` is the side of
    a tile without its halo, in LR pixels; None takes the whole picture where that is small.
    A network of fixed `tile_shapes` takes `tile` as the longest side of its window.
    `on_progress` is called with (tiles done, tiles in all).

    Raises `BadImage` for other arrays or a picture smaller than a fixed window, `BadModel`
    when the network gives NaN, infinity or the wrong size.
    """
    height, width, channels = _check(image)
    s = network.scale
    out = np.empty((height * s, width * s, channels), image.dtype)
    row = 0
    for strip in upscale_strips(image, network, tile, on_progress):
        out[row : row + len(strip)] = strip
        row += len(strip)
    return out


def upscale_strips(
    image: NDArray[Any],
    network: Network,
    tile: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[NDArray[Any]]:
    """The rows of `upscale_tiles`' result in order, one row of tiles at a time."""
    height, width, channels = _check(image)
    rows, columns = plan(height, width, network, tile)
    s, total, done = network.scale, len(rows) * len(columns), 0
    for r in rows:
        strip = np.empty(((r.last - r.first) * s, width * s, channels), image.dtype)
        for c in columns:
            out = _run(network, image[r.start : r.stop, c.start : c.stop], r, c)
            pixels = to_integers(inside(out, r, c, s), channels, image.dtype)
            strip[:, c.first * s : c.last * s] = pixels.transpose(1, 2, 0)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
        yield strip


def plan(
    height: int, width: int, network: Network, tile: int | None
) -> tuple[list[Span], list[Span]]:
    """The rows and columns of tiles for a picture of that size."""
    if tile is not None and tile < 1:
        raise BadImage(f"the tile must be at least 1 pixel, not {tile}")
    halo = network.halo
    if network.tile_shapes:
        h, w = _fixed_shape(height, width, network, tile)
        return _fixed_spans(height, h, halo), _fixed_spans(width, w, halo)
    if tile is None:
        tile = _auto_tile(height, width, halo)
    return spans(height, tile, halo), spans(width, tile, halo)


def _check(image: NDArray[Any]) -> tuple[int, int, int]:
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.size == 0:
        raise BadImage(f"tiling takes HWC pictures of 1 or 3 channels, not {image.shape}")
    if image.dtype not in (np.uint8, np.uint16):
        raise BadImage(f"tiling takes 8- or 16-bit pictures, not {image.dtype}")
    height, width, channels = image.shape
    return height, width, channels


def _auto_tile(height: int, width: int, halo: int) -> int:
    if height * width <= AUTO_PIXELS:
        return max(height, width)
    return max(SMALLEST_TILE, math.isqrt(AUTO_PIXELS) - 2 * halo)


def spans(length: int, tile: int, halo: int) -> list[Span]:
    """Tiles of at most `tile` pixels along an axis of `length`, each with its window."""
    tile = even(length, tile)
    return [
        Span(max(first - halo, 0), min(last + halo, length), first, last)
        for first in range(0, length, tile)
        for last in (min(first + tile, length),)
    ]


def even(length: int, tile: int) -> int:
    """The side of as many tiles along `length` as `tile` makes, but of even size."""
    return -(-length // -(-length // tile))


def _fixed_shape(height: int, width: int, network: Network, tile: int | None) -> tuple[int, int]:
    shapes = [s for s in network.tile_shapes if tile is None or max(s) <= tile]
    known = ", ".join(f"{w}x{h}" for h, w in network.tile_shapes)
    if not shapes:
        raise BadImage(f"this model runs windows of {known} only, none within a tile of {tile}")
    fitting = [(h, w) for h, w in shapes if h <= height and w <= width]
    if not fitting:
        raise BadImage(
            f"a picture of {width}x{height} is smaller than this model's windows ({known}); "
            "use a model without fixed sizes"
        )
    return max(fitting, key=lambda s: s[0] * s[1])


def _fixed_spans(length: int, window: int, halo: int) -> list[Span]:
    """Windows of one size, all inside the picture; the last ones overlap more."""
    if window < length and window <= 2 * halo:
        raise BadImage(f"a window of {window} pixels leaves nothing inside a halo of {halo}")
    spans: list[Span] = []
    first = 0
    while first < length:
        start = min(max(first - halo, 0), length - window)
        stop = start + window
        last = length if stop == length else stop - halo
        spans.append(Span(start, stop, first, last))
        first = last
    return spans


def _run(network: Network, window: NDArray[Any], r: Span, c: Span) -> NDArray[np.float32]:
    """The network's CHW output for one HWC window."""
    batch = as_batch(window)
    out = network.run(batch)
    check_shape(out, batch, network)
    # min and max carry NaN along, and make no copy.
    if not (math.isfinite(out.min()) and math.isfinite(out.max())):
        raise BadModel(
            f"{network.name} gave NaN or infinity in the tile at x {c.first}..{c.last}, "
            f"y {r.first}..{r.last}; use the model in fp32"
        )
    first: NDArray[np.float32] = out[0]
    return first


def as_batch(window: NDArray[Any]) -> NDArray[np.float32]:
    """What `Network.run` takes, of a HWC window of integers; grey becomes RGB."""
    if window.shape[2] == 1:
        window = np.repeat(window, 3, axis=2)
    batch = np.empty((1, 3, *window.shape[:2]), np.float32)
    np.divide(window.transpose(2, 0, 1), np.float32(np.iinfo(window.dtype).max), out=batch[0])
    return batch


def check_shape(out: NDArray[np.float32], batch: NDArray[np.float32], network: Network) -> None:
    """Raise `BadModel` unless `out` is `batch` made `network.scale` times larger."""
    want = (1, 3, batch.shape[2] * network.scale, batch.shape[3] * network.scale)
    if out.shape != want:
        raise BadModel(f"{network.name} gave {out.shape} where {want} was due: wrong scale?")


def inside(chw: NDArray[Any], r: Span, c: Span, scale: int) -> NDArray[Any]:
    """The tile's part of the window's output, a view."""
    return chw[
        :,
        (r.first - r.start) * scale : (r.last - r.start) * scale,
        (c.first - c.start) * scale : (c.last - c.start) * scale,
    ]


def to_integers(chw: NDArray[np.float32], channels: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """CHW integers of CHW floats in [0, 1]: clipped, rounded half up; luma for 1 channel."""
    top = float(np.iinfo(dtype).max)
    if channels == 1:
        # Not a matrix product, whose sums may depend on where in the picture a pixel is.
        luma = chw[0] * _GREY[0]
        luma += chw[1] * _GREY[1]
        luma += chw[2] * _GREY[2]
        chw = luma[None]
    values = chw * np.float32(top)
    values += np.float32(0.5)
    np.clip(values, 0.0, top + 0.5, out=values)
    return values.astype(dtype)  # the cast cuts off
