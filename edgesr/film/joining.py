"""Segments and the source's other streams, put together into the film."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesr.atomic import atomic_file
from edgesr.errors import Impossible, WriteFailed
from edgesr.film import pyav
from edgesr.film.encoder import Coding, describe
from edgesr.film.parts import Segment
from edgesr.film.source import Facts, main_video
from edgesr.film.streams import add_streams, film_tags, packets, video_tags

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

_FINEST_SCALE = 600  # ticks a second from which MP4 keeps the source's time base as it is


def join(
    segments: list[Segment],
    source: Path,
    output: Path,
    fmt: str,
    facts: Facts,
    coding: Coding,
    indices: tuple[int, ...],
) -> None:
    """Write `output` whole or not at all: the segments' video and the streams `indices`."""
    av = pyav.load()
    with pyav.open_film(source) as container, atomic_file(output) as temporary:
        try:
            with av.open(
                str(temporary), "w", format=fmt, container_options=_muxing(fmt, coding)
            ) as out:
                out.metadata.update(film_tags(container))
                out.set_chapters(container.chapters())
                video = _add_video(out, container, segments[0], source, facts, coding)
                streams = add_streams(container, out, indices)
                both = merge(
                    _video_packets(segments, coding, video, facts.origin),
                    packets(container, streams, facts.origin),
                    key=lambda timed: timed[0],
                )
                for _, packet in both:
                    out.mux(packet)
        except av.FFmpegError as e:
            raise WriteFailed(f"cannot write {output}: {pyav.reason(e)}") from e


def refuse_unturnable(facts: Facts) -> None:
    """Raise `Impossible` when the film is turned and this PyAV cannot say so in the output."""
    stream_type = pyav.load().video.stream.VideoStream
    if facts.matrix is not None and not hasattr(stream_type, "set_display_matrix"):
        raise Impossible(
            "the film is to be shown turned, which needs a newer PyAV: pip install -U av"
        )


def _muxing(fmt: str, coding: Coding) -> dict[str, str]:
    if fmt not in ("mp4", "mov"):
        return {}
    options = {"movflags": "+faststart"}  # the index in front, so that players can start at once
    if coding.time_base.denominator >= _FINEST_SCALE:
        options["video_track_timescale"] = str(coding.time_base.denominator)
    return options


def _add_video(
    out: OutputContainer,
    container: InputContainer,
    first: Segment,
    source: Path,
    facts: Facts,
    coding: Coding,
) -> VideoStream:
    original = main_video(container, source)
    with pyav.load().open(str(first.path), "r") as piece:
        video: VideoStream = out.add_stream_from_template(piece.streams.video[0], opaque=True)
    video.time_base = coding.time_base
    describe(video.codec_context, coding)
    video.codec_context.framerate = coding.rate
    if out.format.name in ("mp4", "mov") and coding.codec == "libx265":
        video.codec_context.codec_tag = "hvc1"  # Apple's players know no other
    video.metadata.update(video_tags(original))
    video.disposition = original.disposition
    if facts.matrix is not None:
        video.set_display_matrix(facts.matrix)
    return video


def _video_packets(
    segments: list[Segment], coding: Coding, video: VideoStream, origin: Fraction
) -> Iterator[tuple[float, Packet[Any]]]:
    """All packets in order, with the times that the segments' records give them.

    Decoding times are made anew: the sorted times of presentation, `depth` packets late. Those
    of the segments would not rise where one ends and the next begins with longer frames.
    """
    depth = max(_reorder_depth(s.pts) for s in segments)
    start = round(origin / coding.time_base)
    late: deque[int] = deque()
    for segment in segments:
        shown = sorted(segment.pts)
        ends = dict(zip(shown, [*shown[1:], _end(segment)], strict=True))
        if not late:
            step = ends[shown[0]] - shown[0]
            late.extend(shown[0] - step * k for k in range(depth, 0, -1))
        late.extend(shown)
        for packet, pts in zip(_stored(segment), segment.pts, strict=True):
            packet.time_base = coding.time_base
            packet.pts, packet.dts = pts - start, late.popleft() - start
            packet.duration = ends[pts] - pts
            packet.stream = video
            yield float(packet.dts * coding.time_base), packet


def _end(segment: Segment) -> int:
    return segment.end if segment.following is None else segment.following


def _reorder_depth(pts: tuple[int, ...]) -> int:
    """How many packets at most come before one that is shown earlier than they are."""
    place = {time: k for k, time in enumerate(sorted(pts))}
    return max(stored - place[time] for stored, time in enumerate(pts))


def _stored(segment: Segment) -> Iterator[Packet[Any]]:
    with pyav.load().open(str(segment.path), "r") as piece:
        for packet in piece.demux(video=0):
            if packet.size:
                yield packet
