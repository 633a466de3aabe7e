"""From rows of pixels to rows of pixels: a network with all that makes its pictures right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr import tiling
from edgesr.enlarge.alpha import reach
from edgesr.enlarge.careful import CarefulNetwork
from edgesr.enlarge.footprint import Footprint, free_bytes, resident_bytes
from edgesr.enlarge.memory import Cost, Job, choose_tile, choose_tiles, too_little
from edgesr.enlarge.passing import Pass
from edgesr.enlarge.shrink import shrink
from edgesr.enlarge.size import passes
from edgesr.errors import BadImage, Impossible
from edgesr.rows import ArrayRows, BufferedRows, Rows, check_layout
from edgesr.runtime.base import Runtime

OnProgress: TypeAlias = "Callable[[int, int], None]"  # tiles done, tiles in all

STREAMED = 0.7  # of the room, where pictures come and go in rows: codecs need theirs
NO_MATTER = 128 * 1024**2  # bytes for which nobody looks how much is free
USABLE = 0.8  # of the free memory, where no limit was given: others want some too


@dataclass(frozen=True)
class Settings:
    """How pictures are enlarged; the same pixels come out whatever `tile` and `max_bytes` are.

    Raises `BadImage` for a tile below 1 pixel.
    """

    tile: int | None = None  # side of a tile without its halo, source pixels; None: chosen
    max_bytes: int | None = None  # of the whole process; None: what the machine has free
    ensemble: bool = False  # mean over the eight flips and turns
    check: bool = True  # the guards against black, shifted and flat tiles

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < 1:
            raise BadImage(f"the tile must be at least 1 pixel, not {self.tile}")


class Enlarger:
    """`runtime` with all that makes its pictures right: tiles, colours, alpha, sizes, memory.

    What the process holds when this is made counts as in use; `settings.max_bytes` less that is
    what pictures may take. So make it when the model is open, and before pictures are read.
    Not for several threads at a time. `network_s` are the seconds inside the runtime so far.
    """

    def __init__(self, runtime: Runtime, settings: Settings | None = None) -> None:
        self._runtime, self.settings = runtime, settings or Settings()
        self._network = CarefulNetwork(
            runtime, ensemble=self.settings.ensemble, check=self.settings.check
        )
        self._in_use = resident_bytes() or 0
        self.scale = runtime.scale

    @property
    def network_s(self) -> float:
        """Seconds inside the runtime so far."""
        return self._network.seconds

    def strips(
        self,
        rows: Rows,
        size: tuple[int, int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[NDArray[Any]]:
        """The rows of the result in order: HWC strips of any height, of `rows`' layout and type.

        `size` is the (height, width) of the result; None: `scale` times. `on_progress` is called
        with (tiles done, tiles in all). Grey goes through the network as RGB, and the luma of
        its output is kept; alpha is resized bicubically. A result of more than `scale` times is
        made by running the network on its own result; what is larger than asked for is reduced
        with antialiasing.

        Raises `BadImage` for a size that cannot be made and `Impossible` when memory does not
        suffice, at once or while strips are made; `BadModel` when the network gives NaN or
        something that is not the picture.
        """
        check_layout((rows.height, rows.width, rows.channels), rows.dtype)
        jobs = self._jobs(rows.height, rows.width, rows.channels, rows.dtype.itemsize, size)
        tiles = self._tiles(jobs)
        return self._strips(rows, jobs, tiles, on_progress)

    def picture(
        self,
        pixels: NDArray[Any],
        size: tuple[int, int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> NDArray[Any]:
        """The whole result of `pixels`: HW, or HWC with 1 to 4 channels, uint8 or uint16.

        The result has the same layout and type. Arguments and errors as `strips`; `BadImage` for
        other arrays, `Impossible` when source and result do not fit into `max_bytes` either.
        """
        rows = ArrayRows(pixels)
        if self.settings.max_bytes is not None:
            bits = 8 * rows.dtype.itemsize
            cost = self.cost(rows.height, rows.width, rows.channels, bits, size)
            need = cost.working_bytes + cost.source_bytes + cost.result_bytes
            if need > self.settings.max_bytes - self._in_use:
                raise too_little(need, self.settings.max_bytes - self._in_use)
        height, width = size or (rows.height * self.scale, rows.width * self.scale)
        strips = self.strips(rows, size, on_progress)
        try:
            out = _whole(strips, (height, width, rows.channels), rows.dtype)
        except MemoryError as e:
            raise Impossible(
                f"{width}x{height} pixels do not fit in memory; close other programs"
            ) from e
        return out[..., 0] if pixels.ndim == 2 else out

    def cost(
        self,
        height: int,
        width: int,
        channels: int,
        bits: int,
        size: tuple[int, int] | None = None,
    ) -> Cost:
        """What `strips` will need for a picture of those measures; `bits` are 8 or 16.

        The first call may run the network on small windows, to see what they take. Raises
        `BadImage` for a size that cannot be made, `Impossible` when `max_bytes` or the free
        memory does not allow the smallest tile.
        """
        jobs = self._jobs(height, width, channels, bits // 8, size)
        tiles = self._tiles(jobs)
        working = sum(job.working_bytes(t) for job, t in zip(jobs, tiles, strict=True))
        return Cost(working, *_picture_bytes(jobs), tiles[0])

    def _strips(
        self,
        rows: Rows,
        jobs: list[Job],
        tiles: list[tuple[int, int]],
        on_progress: OnProgress | None,
    ) -> Iterator[NDArray[Any]]:
        plans = [self._plan(job, tile) for job, tile in zip(jobs, tiles, strict=True)]
        tick = _counting(sum(len(r) * len(c) for r, c in plans), on_progress)
        channels, dtype = rows.channels, rows.dtype
        for job, (r, c) in zip(jobs, plans, strict=True):
            made = Pass(self._network, job.scale, job.margin).strips(rows, r, c, tick)
            height, width = job.height * job.scale, job.width * job.scale
            if job is jobs[-1] and job.size == (height, width):
                return made
            rows = BufferedRows(made, height=height, width=width, channels=channels, dtype=dtype)
        return shrink(rows, jobs[-1].size)

    def _jobs(
        self, height: int, width: int, channels: int, sample: int, size: tuple[int, int] | None
    ) -> list[Job]:
        """The passes of the network, one after the other, each over the last one's result."""
        s, halo = self.scale, self._runtime.halo
        size = size or (height * s, width * s)
        times = passes(height, width, size, s)
        margin = reach(halo) if channels in (2, 4) else 0
        footprint = Footprint.of(self._runtime)
        each = footprint.pixel_bytes(self._runtime, height * width)
        jobs = []
        for n in range(times):
            h, w = height * s**n, width * s**n
            made = size if n == times - 1 else (h * s, w * s)
            jobs.append(Job(h, w, channels, sample, made, s, halo, margin, each,
                            self.settings.ensemble, footprint.probe_bytes))  # fmt: skip
        return jobs

    def _room(self) -> int | None:
        """Bytes that pictures and network may take beside what was in use."""
        if self.settings.max_bytes is not None:
            return self.settings.max_bytes - self._in_use
        free = free_bytes()
        return None if free is None else int(free * USABLE)

    def _tiles(self, jobs: list[Job]) -> list[tuple[int, int]]:
        """The (height, width) of the tiles of each pass, all of which fit into memory together."""
        fixed, limited = self._fixed_tile(), self.settings.max_bytes is not None
        tiles = [fixed or choose_tile(job, None) for job in jobs]
        need = sum(job.working_bytes(tile) for job, tile in zip(jobs, tiles, strict=True))
        if not limited and need + _held_bytes(jobs) < NO_MATTER:
            return tiles
        room = self._room()
        if fixed is not None and limited and room is not None and need > room:
            raise too_little(need, room)
        if fixed is not None or room is None:
            return tiles
        try:  # so that the pictures fit in memory beside it
            return choose_tiles(jobs, room - _held_bytes(jobs))
        except Impossible:  # else they have to come and go in rows
            return choose_tiles(jobs, int(room * STREAMED))

    def _fixed_tile(self) -> tuple[int, int] | None:
        """The tile that was asked for, or that the runtime's windows leave; None: free."""
        shapes, tile = self._runtime.tile_shapes, self.settings.tile
        if shapes:
            return max(shapes)
        return None if tile is None else (tile, tile)

    def _plan(self, job: Job, tile: tuple[int, int]) -> tuple[list[tiling.Span], list[tiling.Span]]:
        """The rows and columns of tiles of one pass."""
        if self._runtime.tile_shapes:
            return tiling.plan(job.height, job.width, self._runtime, self.settings.tile)
        rows = tiling.spans(job.height, tile[0], job.halo)
        return rows, tiling.spans(job.width, tile[1], job.halo)


def _whole(
    strips: Iterator[NDArray[Any]], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    first = next(strips)
    if first.shape == shape:
        return np.ascontiguousarray(first)
    out, row = np.empty(shape, dtype), 0
    for strip in chain([first], strips):
        out[row : row + len(strip)] = strip
        row += len(strip)
    return out


def _picture_bytes(jobs: list[Job]) -> tuple[int, int]:
    """Of the whole source and of the whole result."""
    first, (height, width) = jobs[0], jobs[-1].size
    deep = first.channels * first.sample_bytes
    return first.height * first.width * deep, height * width * deep


def _held_bytes(jobs: list[Job]) -> int:
    """What who keeps pictures whole needs: the source, the result, and the file made of it."""
    source, result = _picture_bytes(jobs)
    return source + 2 * result


def _counting(total: int, on_progress: OnProgress | None) -> Callable[[], None]:
    """To be called after each tile."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    return tick
