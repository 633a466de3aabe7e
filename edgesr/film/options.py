"""What may be asked of a film, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgesr.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    # HWC uint8 RGB of any size → HWC uint8 RGB, larger.
    Enlarge: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
    # (height, width) of a frame → (height, width) of what `Enlarge` makes of it.
    ScaleSize: TypeAlias = Callable[[int, int], tuple[int, int]]
    # (frames done, frames in all or None where nobody knows, frames per second of this run)
    OnProgress: TypeAlias = Callable[[int, int | None, float], None]
else:
    Enlarge = ScaleSize = OnProgress = Any

FILM_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts")
_LIVE_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "http://", "https://", "udp://")
SHORTEST_SEGMENT_S = 0.1


@dataclass(frozen=True)
class FilmOptions:
    """How a film is written; raises `BadConfig` for values that make no sense.

    `codec` is an encoder's name (None: by the output's suffix) and `crf` its quality (None: the
    encoder's entry in `edgesr.film.encoder.ENCODERS`). `resume` goes on with an interrupted
    run, whose parts hold `segment_s` seconds of film each. `yes` overwrites the output and
    starts again over parts. `enlarger` says in a line what `enlarge` is (model, its hash,
    scale): parts that another one made are not gone on with.
    """

    codec: str | None = None
    crf: int | None = None
    resume: bool = False
    segment_s: float = 10.0
    yes: bool = False
    enlarger: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.segment_s) and self.segment_s >= SHORTEST_SEGMENT_S):
            raise BadConfig(
                f"segments of {self.segment_s} s: give at least {SHORTEST_SEGMENT_S} s of film"
            )
        if self.crf is not None and not 0 <= self.crf <= 63:
            raise BadConfig(f"crf {self.crf}: give 0 (best) to 51 (63 for VP9 and AV1)")


@dataclass(frozen=True)
class FilmResult:
    """What was made: size in pixels, frames, and how long it took.

    `frames` counts those of the output, `resumed` those of them that an earlier run had made.
    `seconds` is the wall time of this run, `fps` its frames by it, `network_s` the time inside
    `enlarge`. For a live source `dropped` frames came while the network was busy, and
    `source_fps` is the measured rate of the source. `notes` are lines for the user: what could
    not be kept, what was mended.
    """

    source: str
    output: Path
    width: int
    height: int
    frames: int
    seconds: float
    fps: float
    network_s: float
    resumed: int = 0
    dropped: int = 0
    source_fps: float | None = None
    notes: tuple[str, ...] = ()


def is_film(path: Path) -> bool:
    """Whether the suffix of `path` is that of a film."""
    return path.suffix.lower() in FILM_SUFFIXES


def is_live(text: str) -> bool:
    """Whether `text` names a camera, a network stream or a GStreamer pipeline."""
    lower = text.lower()
    return lower.startswith(("/dev/video", *_LIVE_SCHEMES)) or is_pipeline(text)


def is_pipeline(text: str) -> bool:
    """Whether `text` is a GStreamer pipeline that ends in an appsink."""
    return "!" in text and text.rpartition("!")[2].split()[:1] == ["appsink"]
