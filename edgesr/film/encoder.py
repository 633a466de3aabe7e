"""Which encoder makes the film, and how it is set."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesr.errors import BadConfig, UnknownName
from edgesr.film import pyav
from edgesr.film.colour import Colours

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

# An output's suffix → the container format and the encoder that everybody can play.
CONTAINERS = {
    ".mp4": ("mp4", "libx264"),
    ".m4v": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}
_LOOKAHEAD_BYTES = 256 * 2**20  # of frames that x264 and x265 hold back to plan ahead
_SLOWEST_RATE = Fraction(1)


@dataclass(frozen=True)
class Encoder:
    """An encoder with a quality `crf`: `fine` sets it for files, `quick` for live sources."""

    crf: int
    top: int  # the largest crf it takes
    fine: dict[str, str]
    quick: dict[str, str]


ENCODERS = {
    "libx264": Encoder(17, 51, {"preset": "medium"}, {"preset": "veryfast"}),
    "libx265": Encoder(
        20,
        51,
        {"preset": "medium", "x265-params": "log-level=none"},
        {"preset": "veryfast", "x265-params": "log-level=none"},
    ),
    "libvpx-vp9": Encoder(
        24,
        63,
        {"deadline": "good", "cpu-used": "4", "row-mt": "1", "b": "0"},
        {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "b": "0"},
    ),
    "libsvtav1": Encoder(26, 63, {"preset": "8"}, {"preset": "11"}),
}


@dataclass(frozen=True)
class Coding:
    """All that the encoder must know: size in pixels (even), times, colours, quality."""

    codec: str
    crf: int | None
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    colours: Colours
    aspect: Fraction | None = None  # of one pixel
    quick: bool = False
    options: dict[str, str] = field(default_factory=dict, compare=False)

    def settings(self) -> dict[str, str]:
        """The encoder's options; raises `BadConfig` for a crf that it does not take."""
        known = ENCODERS.get(self.codec)
        if known is None:
            if self.crf is not None:
                raise BadConfig(
                    f"{self.codec} is not set by a crf; encoders that are: {', '.join(ENCODERS)}"
                )
            return dict(self.options)
        crf = known.crf if self.crf is None else self.crf
        if crf > known.top:
            raise BadConfig(f"crf {crf}: {self.codec} takes 0 (best) to {known.top}")
        own = known.quick if self.quick else known.fine
        return {**own, "crf": str(crf), **self._lookahead(), **self.options}

    def _lookahead(self) -> dict[str, str]:
        if self.codec not in ("libx264", "libx265"):
            return {}
        frames = max(5, min(40, _LOOKAHEAD_BYTES // (self.width * self.height * 3 // 2)))
        if self.codec == "libx264":
            return {"rc-lookahead": str(frames)}
        return {"x265-params": f"log-level=none:rc-lookahead={min(frames, 20)}"}


def container_of(output: Path) -> str:
    """FFmpeg's name of the output's format; raises `UnknownName` for one that we do not write."""
    if output.suffix.lower() not in CONTAINERS:
        raise UnknownName("film format to write", output.suffix, CONTAINERS)
    return CONTAINERS[output.suffix.lower()][0]


def codec_for(output: Path, codec: str | None) -> str:
    """The encoder's name; raises `UnknownName` when this FFmpeg has none of that name."""
    av = pyav.load()
    name = codec or CONTAINERS[output.suffix.lower()][1]
    try:
        found = av.Codec(name, "w")
    except (av.FFmpegError, ValueError) as e:
        have = [c for c in ENCODERS if c in av.codecs_available]
        raise UnknownName("video encoder", name, have) from e
    formats = {f.name for f in found.video_formats or ()} if found.type == "video" else set()
    if "yuv420p" not in formats:
        raise BadConfig(f"{name} does not encode 8-bit 4:2:0 video; take one of {_known()}")
    return str(found.name)


def add_video(container: OutputContainer, coding: Coding) -> VideoStream:
    """A video stream whose encoder is open; raises `BadConfig` when it cannot be."""
    av = pyav.load()
    settings = coding.settings()
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings otherwise
    try:
        stream: Any = container.add_stream(coding.codec, rate=coding.rate, options=settings)
        stream.width, stream.height, stream.pix_fmt = coding.width, coding.height, "yuv420p"
        stream.time_base = coding.time_base
        context = stream.codec_context
        context.time_base = coding.time_base
        context.thread_type = "AUTO"  # frames, not slices: slices cost quality
        describe(context, coding)
        context.open()
    except (av.FFmpegError, ValueError) as e:
        why = pyav.reason(e) if isinstance(e, av.FFmpegError) else str(e)
        raise BadConfig(
            f"{coding.codec} cannot make {coding.width}x{coding.height} film as "
            f"{container.format.name}: {why}; take another --codec or a smaller size"
        ) from e
    opened: VideoStream = stream
    return opened


def describe(context: Any, coding: Coding) -> None:
    """Colours and the shape of a pixel, for players."""
    context.color_range = coding.colours.range
    context.colorspace = coding.colours.matrix
    context.color_primaries = coding.colours.primaries
    context.color_trc = coding.colours.transfer
    if coding.aspect:
        context.sample_aspect_ratio = coding.aspect


def frame_rate(*candidates: Fraction | None) -> Fraction:
    """The first that can be one; it guides the encoder only, frames have their own times."""
    for rate in candidates:
        if rate and _SLOWEST_RATE <= rate <= 1000:
            return rate
    return Fraction(25)


def _known() -> str:
    return ", ".join(ENCODERS)
