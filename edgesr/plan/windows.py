"""Which windows a picture is cut into on a device, and what their overlap costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from edgesr import tiling
from edgesr.device import DeviceProfile
from edgesr.errors import BadConfig
from edgesr.graph.live import largest_live_set
from edgesr.graph.reach import halo
from edgesr.graph.spec import Graph

# The system, CUDA and the pictures need the rest; a choice of ours.
USABLE_SHARE = 0.5
# ONNX Runtime took 3.4 times the live set of `balanced` and 1.5 times that of SRGAN's
# generator (docs/devices.md), so a tile is taken only where four times fit.
MEMORY_FACTOR = 4


@dataclass(frozen=True)
class Tile:
    """The window chosen: (height, width) in input pixels, and whether its memory fits."""

    height: int
    width: int
    fits: bool | None  # None where the device's memory is not known


@dataclass(frozen=True)
class Cut:
    """A picture cut into windows: their sizes in pixels, halo included, and how many of each."""

    sizes: dict[int, int]
    fixed: bool  # windows of one size, the exported tile; else of the network of open shape
    overlap: float  # pixels computed for each pixel of the picture

    @property
    def count(self) -> int:
        """How many windows."""
        return sum(self.sizes.values())

    @property
    def largest(self) -> int:
        """Pixels of the largest window."""
        return max(self.sizes)


@dataclass
class _Network:
    """What tiling asks of a network, without one."""

    name: str
    scale: int
    halo: int
    tile_shapes: tuple[tuple[int, int], ...]

    def run(self, batch: Any) -> Any:
        """Never called: planning computes no pixel."""
        raise AssertionError("planning runs no network")


def choose_tile(
    graph: Graph, profile: DeviceProfile, value_bytes: int, side: int | None = None
) -> Tile:
    """The device's first tile that has an exact middle and whose memory fits; `side` forces one.

    Where none fits, the smallest with a middle. Raises `BadConfig` when the network looks
    farther than every tile.
    """
    reach = halo(graph)
    sizes = [(side, side)] if side else [(t.height, t.width) for t in profile.tiles]
    exact = [size for size in sizes if min(size) > 2 * reach]
    if not exact:
        raise BadConfig(
            f"'{graph.name}' looks {reach} pixels far, so a tile of {min(sizes[0])} has no exact "
            f"middle: give --tile {64 * (2 * reach // 64 + 2)}"
        )
    live = largest_live_set(graph, value_bytes).bytes_per_pixel
    tiles = [Tile(h, w, _fits(live * h * w, profile)) for h, w in exact]
    fitting = [tile for tile in tiles if tile.fits is not False]
    return fitting[0] if fitting else min(tiles, key=lambda t: t.height * t.width)


def cut(graph: Graph, tile: Tile, width: int, height: int, *, open_shape: bool = False) -> Cut:
    """How a bundle's run.py cuts a picture of `width` × `height` into windows.

    Pictures smaller than the tile go through the network of open shape, as all do with
    `open_shape`: its windows end at the picture's border and are at most as large as the tile.
    """
    reach = halo(graph)
    fixed = not open_shape and height >= tile.height and width >= tile.width
    shapes = ((tile.height, tile.width),) if fixed else ()
    inner = None if fixed else min(tile.height, tile.width) - 2 * reach
    network = _Network(graph.name, graph.scale, reach, shapes)
    rows, columns = tiling.plan(height, width, network, inner)
    sizes = Counter((r.stop - r.start) * (c.stop - c.start) for r in rows for c in columns)
    computed = sum(size * count for size, count in sizes.items())
    return Cut(dict(sizes), fixed, computed / (width * height))


def _fits(live_bytes: int, profile: DeviceProfile) -> bool | None:
    if profile.memory_bytes is None:
        return None
    return MEMORY_FACTOR * live_bytes <= USABLE_SHARE * profile.memory_bytes
