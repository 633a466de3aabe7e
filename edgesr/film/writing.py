"""Pictures into segments of encoded film."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from edgesr.film import pyav
from edgesr.film.colour import to_yuv
from edgesr.film.encoder import Coding, add_video
from edgesr.film.parts import Parts, Segment
from edgesr.film.source import Timed

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

# Packets go through it unchanged, whatever the codec.
_FORMAT = "nut"


class SegmentWriter:
    """Cuts the film every `segment_s` seconds of its own time, at frames that are then keys.

    `first` is the time of the film's first frame: where a cut falls depends on the film alone,
    so a run that was interrupted cuts where an uninterrupted one does.
    """

    def __init__(self, parts: Parts, coding: Coding, segment_s: float, done: list[Segment]) -> None:
        self._parts = parts
        self._coding = coding
        self._ticks = max(1, round(Fraction(segment_s) / coding.time_base))
        self.segments = list(done)
        self._first = min(done[0].pts) if done else None
        self._open: _OpenSegment | None = None
        self._end = 0
        self._own = True

    def add(self, picture: Timed) -> None:
        """One picture of the coding's size, later than those before it."""
        if self._first is None:
            self._first = picture.pts
        index = (picture.pts - self._first) // self._ticks
        if self._open is not None and index != self._open.index:
            self._finish(following=picture.pts)
        if self._open is None:
            place = self._parts.place(len(self.segments))
            self._open = _OpenSegment(place, self._coding, index)
        frame = to_yuv(picture.pixels, self._coding.colours)
        frame.pts, frame.time_base = picture.pts, self._coding.time_base
        frame.duration = picture.end - picture.pts
        self._open.add(frame)
        self._end, self._own = picture.end, picture.own

    def finish(self) -> None:
        """The film ends here."""
        self._finish(following=None)

    def abandon(self) -> None:
        """Leave only whole segments behind."""
        if self._open is not None:
            self._open.abandon()
            self._open = None

    def _finish(self, following: int | None) -> None:
        if self._open is None:
            return
        opened, self._open = self._open, None
        pts = opened.finish()
        segment = Segment(opened.path, tuple(pts), self._end, following, self._own)
        segment.save()
        self.segments.append(segment)


class _OpenSegment:
    """Encodes into a file that gets its name when it is whole."""

    def __init__(self, path: Path, coding: Coding, index: int) -> None:
        self.path = path
        self.index = index
        self._pts: list[int] = []
        self._time_base = coding.time_base
        self._unfinished = path.with_suffix(".unfinished")
        self._container = pyav.load().open(str(self._unfinished), "w", format=_FORMAT)
        self._stream = add_video(self._container, coding)

    def add(self, frame: VideoFrame) -> None:
        self._write(self._stream.encode(frame))

    def finish(self) -> list[int]:
        """The times of the packets, in the order they are stored."""
        self._write(self._stream.encode(None))
        self._container.close()
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        self._unfinished.replace(self.path)
        return self._pts

    def abandon(self) -> None:
        with suppress(pyav.load().FFmpegError):  # what brought us here is what to report
            self._container.close()
        self._unfinished.unlink(missing_ok=True)

    def _write(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            assert packet.pts is not None and packet.time_base == self._time_base
            self._pts.append(packet.pts)
            self._container.mux(packet)
