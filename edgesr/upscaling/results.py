"""What became of each input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from edgesr.errors import EdgeSRError


@dataclass(frozen=True)
class Done:
    """A picture or film that has been written, whole."""

    source: str
    output: str
    width: int  # of the source, upright, pixels
    height: int
    new_width: int
    new_height: int
    network_s: float  # inside the network
    total_s: float  # read, enlarged and written; without waiting for its turn, or the model
    streamed: bool = False  # row by row, never whole in memory
    frames: int | None = None  # of a film
    fps: float | None = None  # at which they were made
    source_fps: float | None = None  # at which a live source gave them
    dropped: int = 0  # frames of a live source that came while the network was busy
    notes: tuple[str, ...] = ()  # what of a film could not be kept

    @property
    def scale(self) -> float:
        """How many times wider, to three digits behind the point; whole where it is."""
        scale = round(self.new_width / self.width, 3)
        return int(scale) if scale == int(scale) else scale


@dataclass(frozen=True)
class Planned:
    """What would be done, for `--dry-run`."""

    source: str
    output: str
    width: int
    height: int
    new_width: int
    new_height: int
    tile: tuple[int, int] | None  # (height, width) in pixels of the source; None for a film
    memory_bytes: int | None  # what it takes beside the process itself
    streamed: bool = False
    overwrites: bool = False


@dataclass(frozen=True)
class Skipped:
    """An input for which nothing is to be done, and why."""

    source: str
    output: str
    reason: str


@dataclass(frozen=True)
class Failed:
    """An input of which nothing has been written, and why."""

    source: str
    error: EdgeSRError


Outcome: TypeAlias = "Done | Planned | Skipped | Failed"
