"""How large tiles may be: what enlarging costs in memory, and what is left for it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgesr.errors import BadConfig, Impossible
from edgesr.tiling import AUTO_PIXELS, SMALLEST_TILE, even

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}

# Windows of other shapes find no place where earlier ones were, and ONNX Runtime lays out a shape
# anew when it comes again: measured, 1.1 to 1.5 times as much (benchmarks/upscale/cost.py).
FRAGMENTS = 1.6
RESERVE = 12 * 1024**2  # what threads, codecs and Python take beside
# Sides of tiles that are tried when memory is short.
_SIDES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True)
class Cost:
    """Bytes that one picture needs, beside what the process holds without it.

    `working_bytes` is what `Enlarger.strips` holds at its peak: strips, windows and network.
    `source_bytes` and `result_bytes` are the whole pictures, for who keeps them in memory.
    `tile` is the (height, width) of a tile without its halo, in source pixels.
    """

    working_bytes: int
    source_bytes: int
    result_bytes: int
    tile: tuple[int, int]


@dataclass(frozen=True)
class Job:
    """One pass of the network over a picture, as far as memory is concerned."""

    height: int  # of what is enlarged, pixels
    width: int
    channels: int
    sample_bytes: int  # 1 or 2
    size: tuple[int, int]  # (height, width) that is made of the result
    scale: int
    halo: int
    margin: int  # rows and columns that are looked at beyond a window
    pixel_bytes: int  # the runtime's, for a pixel of a window
    ensemble: bool
    probe_bytes: int = 0  # that it took when it was tried, and does not give back

    def working_bytes(self, tile: tuple[int, int]) -> int:
        """What the pass holds at its peak with tiles of that (height, width)."""
        tile = even(self.height, tile[0]), even(self.width, tile[1])
        return self._strips(tile[0]) + self._window(tile) + RESERVE

    def _window(self, tile: tuple[int, int]) -> int:
        """Network and arrays of one tile."""
        rows = min(tile[0] + 2 * self.halo, self.height)
        columns = min(tile[1] + 2 * self.halo, self.width)
        larger = self.scale**2
        # The batch, the output in floats, and integers as planes and as pixels.
        each = 12.0 + larger * (12.0 + 2 * 3 * self.sample_bytes)
        if self.channels in (2, 4):
            # Sums over squares in float64, and alpha resized in two passes of float64.
            each += 8.0 * 4 * self.channels + 3 * 8 * larger
        if self.ensemble:
            each += 2 * 12 * larger
        return self.probe_bytes + int(rows * columns * (self.pixel_bytes * FRAGMENTS + each))

    def _strips(self, tile: int) -> int:
        """Rows of the source, twice (as they come, and joined), and of the result, twice."""
        row = self.width * self.channels * self.sample_bytes
        rows = min(tile + 2 * (self.halo + self.margin), self.height)
        made = min(tile, self.height) * self.scale
        held = 2 * rows * row + 2 * made * row * self.scale
        if self.size != (self.height * self.scale, self.width * self.scale):
            held += self._shrinking()
        return held

    def _shrinking(self) -> int:
        from edgesr.enlarge.shrink import working_bytes

        larger = (self.height * self.scale, self.width * self.scale)
        return working_bytes(larger, self.size, self.channels, self.sample_bytes)


def choose_tile(job: Job, room: int | None) -> tuple[int, int]:
    """The (height, width) of tiles that makes `job` fit into `room` bytes, with least overlap.

    None: no limit. Tiles are never larger than those that are chosen without one. Raises
    `Impossible`, with what is needed, when not even the smallest fits.
    """
    preferred = _preferred(job)
    if room is None or job.working_bytes(preferred) <= room:
        return preferred
    best, least = None, math.inf
    for height in _sides(preferred[0], job.height):
        for width in _sides(preferred[1] * 4, job.width):
            window = _window_pixels(job, height, width)
            work = window / (min(height, job.height) * min(width, job.width))
            if (
                work < least
                and window <= AUTO_PIXELS
                and job.working_bytes((height, width)) <= room
            ):
                best, least = (height, width), work
    if best is None:
        smallest = (min(_SIDES[0], job.height), min(_SIDES[0], job.width))
        raise too_little(job.working_bytes(smallest), room)
    return best


def choose_tiles(jobs: list[Job], room: int) -> list[tuple[int, int]]:
    """The tiles of passes that run one on the other's result, and share `room`."""
    tiles: list[tuple[int, int]] = []
    for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
        tiles.append(choose_tile(job, room // left))
        room -= job.working_bytes(tiles[-1])
    return tiles


def too_little(need: int, room: int) -> Impossible:
    """The error of a picture that does not fit."""
    return Impossible(
        f"this picture takes {megabytes(need)} of memory beside what is in use, and "
        f"{megabytes(max(0, room))} are left; raise --max-memory, or use a smaller model"
    )


def megabytes(size: int) -> str:
    """Bytes as a text, rounded up: `310 MB`, `4.9 GB`."""
    mega = size / 1024**2
    return f"{math.ceil(mega):,} MB" if mega < 1000 else f"{math.ceil(mega / 102.4) / 10:,} GB"


def parse_bytes(text: str) -> int:
    """Bytes of "512M", "1.5G", "800000k" or "1000000": units of 1024, in either case.

    Raises `BadConfig` for anything else, and for less than 1 byte.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if size < 1:
        raise BadConfig(f"'{text}' is no amount of memory; write it as 512M or 1.5G")
    return size


def _preferred(job: Job) -> tuple[int, int]:
    if job.height * job.width <= AUTO_PIXELS:
        return job.height, job.width
    side = max(SMALLEST_TILE, math.isqrt(AUTO_PIXELS) - 2 * job.halo)
    return min(side, job.height), min(side, job.width)


def _sides(most: int, length: int) -> list[int]:
    """Sides to try along an axis of that `length`."""
    most = min(most, length)
    return [side for side in _SIDES if side < most] + [most]


def _window_pixels(job: Job, height: int, width: int) -> int:
    """Source pixels of an inner window."""
    rows = min(height + 2 * job.halo, job.height)
    columns = min(width + 2 * job.halo, job.width)
    return rows * columns
