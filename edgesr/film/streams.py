"""The streams beside the pictures: which of them the output takes, and how they are carried."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesr.errors import BadImage
from edgesr.film import pyav
from edgesr.film.source import main_video
from edgesr.film.times import Clock

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

# Tags that describe the file they stand in, not the film.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
_STATISTICS = ("bps", "number_of_", "_statistics", "duration", "encoder")
_CHAPTER_TRACK = "bin_data"  # MP4 keeps chapter titles in a stream too; the muxer makes it anew


@dataclass(frozen=True)
class Carried:
    """Indices of the source's streams that go along, and a line for each that does not."""

    indices: tuple[int, ...]
    notes: tuple[str, ...]


def carried(source: Path, output: Path, fmt: str) -> Carried:
    """Which streams the format `fmt` takes, tried on a file in memory.

    Raises `BadImage` when it does not take the sound: a silent film is not what was asked for.
    """
    indices, notes = [], []
    with pyav.open_film(source) as container:
        main = main_video(container, source)
        for stream in container.streams:
            if stream.index == main.index or _is_chapter_track(stream, container):
                continue
            if stream.type == "video" and not _is_cover(stream):
                notes.append(f"video stream {stream.index} was left out: one is upscaled")
            elif _fits(stream, fmt):
                indices.append(stream.index)
            elif stream.type == "audio":
                instead = output.with_suffix(".mkv").name
                raise BadImage(
                    f"{output.suffix} takes no {_codec(stream)} sound, and it is copied unchanged; "
                    + ("encode it anew first" if instead == output.name else f"write {instead}")
                )
            else:
                notes.append(
                    f"{stream.type} stream {stream.index} ({_codec(stream)}) was left out: "
                    f"{output.suffix} does not take it"
                )
    return Carried(tuple(indices), tuple(notes))


def add_streams(
    container: InputContainer, out: OutputContainer, indices: tuple[int, ...]
) -> dict[int, Stream]:
    """A stream of `out` for each of those, with tags and disposition; by the source's index."""
    return {index: _add(container.streams[index], out) for index in indices}


def packets(
    container: InputContainer, streams: dict[int, Stream], origin: Fraction
) -> Iterator[tuple[float, Packet[Any]]]:
    """The packets of those streams in file order, bytes unchanged: (seconds, packet).

    Times count from `origin` (seconds of the film's clock), and never fall.
    """
    av = pyav.load()
    flowing = [container.streams[i] for i, new in streams.items() if new.type != "attachment"]
    if not flowing:
        return
    source = container.demux(flowing)
    clocks: dict[int, Clock] = {}
    seconds = 0.0
    while True:
        try:
            packet = next(source, None)
        except av.FFmpegError:
            return  # the file ends inside a packet; so did the pictures
        if packet is None:
            return
        if packet.dts is None and packet.size == 0:
            continue  # demux's own, for flushing decoders
        if _is_pause(packet):
            continue
        clock = clocks.setdefault(packet.stream_index, Clock(packet.time_base, strict=False))
        if packet.dts is not None:
            dts = clock.mend(packet.dts - round(origin / packet.time_base), packet.duration or 0)
            packet.pts = None if packet.pts is None else packet.pts + dts - packet.dts
            packet.dts = dts
            seconds = float(dts * packet.time_base)
        packet.stream = streams[packet.stream_index]
        yield seconds, packet


def film_tags(container: InputContainer) -> dict[str, str]:
    """The container's tags that still hold in another file."""
    return {k: v for k, v in container.metadata.items() if k.lower() not in _OF_THE_FILE}


def video_tags(stream: Stream) -> dict[str, str]:
    """The stream's tags that still hold after it has been encoded again."""
    return {k: v for k, v in stream.metadata.items() if not k.lower().startswith(_STATISTICS)}


def _fits(stream: Stream, fmt: str) -> bool:
    av = pyav.load()
    try:
        with av.open(io.BytesIO(), "w", format=fmt) as trial:
            _add(stream, trial)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _add(stream: Stream, out: OutputContainer) -> Stream:
    if stream.type == "attachment":
        data: Any = stream
        return out.add_attachment(data.name or "attachment", data.mimetype or "", data.data)
    if _is_cover(stream) and out.format.name == "matroska":
        kind = "png" if _codec(stream) == "png" else "jpeg"
        return out.add_attachment(f"cover.{kind}", f"image/{kind}", _only_packet(stream))
    added: Stream = out.add_stream_from_template(stream, opaque=True)
    added.metadata.update(stream.metadata)
    added.disposition = stream.disposition
    return added


def _only_packet(stream: Stream) -> bytes:
    with pyav.open_film(Path(stream.container.name)) as again:
        return bytes(next(again.demux(again.streams[stream.index])))


def _is_cover(stream: Stream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _is_chapter_track(stream: Stream, container: InputContainer) -> bool:
    return stream.type == "data" and stream.name == _CHAPTER_TRACK and bool(container.chapters())


def _is_pause(packet: Packet[Any]) -> bool:
    """Whether it only clears MP4's subtitle; the muxer puts such packets into gaps itself."""
    return packet.size == 2 and packet.stream.name == "mov_text" and bytes(packet) == b"\0\0"


def _codec(stream: Stream) -> str:
    if stream.codec_context:
        return str(stream.codec_context.name)
    return str(getattr(stream, "name", None) or "unknown")  # some kinds have no such attribute
