"""A film's pictures, one after the other, with their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadImage
from edgesr.film import pyav
from edgesr.film.colour import Colours, colours_of, has_alpha, to_rgb
from edgesr.film.encoder import frame_rate
from edgesr.film.times import Clock

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Seconds before the wanted frame to begin decoding at: past what an open group of pictures
# lacks at its start.
_RUN_UP_S = 2
_BROKEN_IN_A_ROW = 100  # after so many packets the rest of the file is given up
_ANY_ORIGIN = ("mpegts", "mpeg")


@dataclass(frozen=True)
class Timed:
    """A picture (HWC uint8 RGB), shown from `pts` to `end` in ticks of the film's time base.

    `own` says that this time and those before it are the film's own, none was mended.
    """

    pts: int
    end: int
    pixels: NDArray[np.uint8]
    own: bool = True


@dataclass(frozen=True)
class Facts:
    """What a film is, from its header and its first frame; `frames` may be an estimate.

    `origin` (seconds) is where the film's clock stands when it begins, for formats whose clock
    does not begin near zero.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    frames: int | None
    colours: Colours
    aspect: Fraction | None
    matrix: tuple[int, ...] | None  # the display matrix: 9 numbers, when the film is turned
    origin: Fraction
    notes: tuple[str, ...]


def main_video(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is no cover picture; raises `BadImage` without one."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise BadImage(f"{path}: this FFmpeg cannot decode the film's video")
            return stream
    raise BadImage(f"{path} has no video in it")


def probe(path: Path) -> Facts:
    """Open the film and decode its first frame; raises `BadImage` when that cannot be."""
    with pyav.open_film(path) as container:
        stream = main_video(container, path)
        frame = next(_decoded(container, stream, Damage()), None)
        if frame is None:
            raise BadImage(f"{path}: no frame of the film could be decoded")
        colours = colours_of(frame, stream.codec_context.name)
        try:
            to_rgb(frame, colours)
        except pyav.load().FFmpegError as e:
            raise BadImage(
                f"{path}: pixels of the format {frame.format.name} are not known here; "
                "convert the film to yuv420p first"
            ) from e
        rate = frame_rate(stream.guessed_rate, stream.average_rate)
        return Facts(
            width=frame.width,
            height=frame.height,
            time_base=stream.time_base or Fraction(1, 90_000),
            rate=rate,
            frames=_count(container, stream, rate),
            colours=colours,
            aspect=stream.sample_aspect_ratio or None,
            matrix=_display_matrix(frame),
            origin=_origin(container),
            notes=tuple(_peculiar(frame)),
        )


class Damage:
    """What was wrong in the film, counted."""

    def __init__(self) -> None:
        self.packets = 0
        self.frames = 0
        self.times = 0
        self.jumps = 0
        self.sizes = 0

    def notes(self) -> Iterator[str]:
        """A line for each kind of damage."""
        if self.packets:
            yield f"damaged packets of the film, left out: {self.packets}"
        if self.frames:
            yield f"frames of the film with damaged places: {self.frames}"
        if self.times:
            yield f"frames whose time was missing or slipped back, mended: {self.times}"
        if self.jumps:
            yield (
                f"jumps back of the film's clock: {self.jumps}; the pictures go on without a "
                "gap, the sound may be out of step"
            )
        if self.sizes:
            yield f"frames of another size, fitted to the first one's: {self.sizes}"


@dataclass(frozen=True)
class Start:
    """Where to begin: at the frame of time `pts`, before which there are `frames`."""

    pts: int | None = None
    frames: int = 0


FROM_THE_START = Start()


class _Frame(NamedTuple):
    frame: VideoFrame
    pts: int
    end: int
    own: bool


class Film:
    """The pictures of the film at `path`; `damage` counts while they are read."""

    def __init__(self, path: Path, facts: Facts) -> None:
        self.path = path
        self.facts = facts
        self.damage = Damage()

    def pictures(self, start: Start = FROM_THE_START) -> Iterator[Timed]:
        """From `start` to the end; times rise from picture to picture."""
        if start.pts is not None and (found := self._from_time(start.pts)) is not None:
            yield from found
            return
        with pyav.open_film(self.path) as container:
            for count, timed in enumerate(self._timed(container, self.damage)):
                if count >= start.frames:
                    yield self._picture(timed)

    def _from_time(self, wanted: int) -> Iterator[Timed] | None:
        """The pictures from exactly that time on, by seeking; None when that misses it."""
        container = pyav.open_film(self.path)
        damage = Damage()
        frames = self._timed(container, damage)
        try:
            before = wanted - int(_RUN_UP_S / self.facts.time_base)
            container.seek(before, stream=main_video(container, self.path))
            first = next((timed for timed in frames if timed.pts >= wanted), None)
        except pyav.load().FFmpegError:
            first = None
        if first is None or first.pts != wanted or not first.own:
            container.close()
            return None
        damage.packets = damage.frames = 0  # what the run-up lacked is no damage
        self.damage = damage
        return self._go_on(container, first, frames)

    def _go_on(
        self, container: InputContainer, first: _Frame, frames: Iterator[_Frame]
    ) -> Iterator[Timed]:
        with container:
            yield self._picture(first)
            for timed in frames:
                yield self._picture(timed)

    def _timed(self, container: InputContainer, damage: Damage) -> Iterator[_Frame]:
        """Frames with their times, mended where they do not rise."""
        stream = main_video(container, self.path)
        usual = max(1, round(1 / (self.facts.rate * self.facts.time_base)))
        clock = Clock(self.facts.time_base)
        for frame in _decoded(container, stream, damage):
            length = frame.duration or usual
            pts = clock.mend(frame.dts if frame.pts is None else frame.pts, length)  # AVI has dts
            damage.times, damage.jumps = clock.slips, clock.jumps
            yield _Frame(frame, pts, pts + length, clock.own)

    def _picture(self, timed: _Frame) -> Timed:
        frame = timed.frame
        if (frame.height, frame.width) != (self.facts.height, self.facts.width):
            self.damage.sizes += 1
        return Timed(timed.pts, timed.end, to_rgb(frame, self.facts.colours), timed.own)


def _decoded(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[VideoFrame]:
    av = pyav.load()
    stream.thread_type = "AUTO"
    for packet in _packets(container, stream, damage):
        try:
            for frame in stream.decode(packet):
                damage.frames += frame.is_corrupt
                yield frame
        except av.EOFError:
            return
        except MemoryError:
            raise
        except av.FFmpegError:
            damage.packets += 1


def _packets(
    container: InputContainer, stream: VideoStream, damage: Damage
) -> Iterator[Packet[VideoStream] | None]:
    """The stream's packets, past damage, and None, which flushes the decoder."""
    av = pyav.load()
    in_a_row = 0
    while in_a_row < _BROKEN_IN_A_ROW:
        try:
            for packet in container.demux(stream):
                in_a_row = 0
                if packet.size:
                    yield packet
            break
        except av.error.InvalidDataError:
            in_a_row += 1
            damage.packets += 1
        except av.FFmpegError as e:
            raise BadImage(f"reading the film stopped: {pyav.reason(e)}") from e
    yield None


def _count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base:
        return round(stream.duration * stream.time_base * rate)
    return round(container.duration / 1_000_000 * rate) if container.duration else None


def _origin(container: InputContainer) -> Fraction:
    start = container.start_time if container.format.name in _ANY_ORIGIN else None
    return Fraction(start or 0, 1_000_000)


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    matrix = pyav.side_data(frame).get("DISPLAYMATRIX")
    return None if matrix is None else tuple(int(n) for n in np.frombuffer(matrix, np.int32))


def _peculiar(frame: VideoFrame) -> Iterator[str]:
    if frame.interlaced_frame:
        yield "the film is interlaced: moving edges stay combed; deinterlace it first"
    if has_alpha(frame):
        yield "the film's transparency is not kept"
    bits = max(component.bits for component in frame.format.components)
    if bits > 8:
        yield f"the film has {bits} bit a channel; the result has 8"
