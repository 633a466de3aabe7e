"""Small films for the tests, made here; and what is in a film, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

RATE = Fraction(30_000, 1001)
TICK = Fraction(1, 30_000)
HEIGHT, WIDTH = 48, 64
# A quarter turn, as MP4 stores it.
QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)


def enlarge(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """×4, in place of a network."""
    return np.asarray(cv2.resize(pixels, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST))


def scale_size(height: int, width: int) -> tuple[int, int]:
    return 4 * height, 4 * width


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Different for each number, and told apart after encoding."""
    out = np.full((height, width, 3), 40 + number % 160, np.uint8)
    out[8:24, (number * 3) % (width - 16) :][:, :16] = (200, 60, 40)
    return out


def make_film(
    path: Path,
    frames: int = 45,
    *,
    times: Sequence[int] | None = None,
    time_base: Fraction = TICK,
    codec: str = "libx264",
    size: tuple[int, int] = (HEIGHT, WIDTH),
    sound: str | None = "aac",
    subtitles: str | None = None,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    chapters: bool = False,
    attachment: bytes | None = None,
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A film of `picture`s; `times` are ticks of `time_base` (None: 30000/1001 a second)."""
    times = [n * 1001 for n in range(frames)] if times is None else times
    with av.open(str(path), "w") as out:
        out.metadata.update(tags or {})
        video = out.add_stream(codec, rate=RATE, options=options or {})
        video.height, video.width = size
        video.time_base = video.codec_context.time_base = time_base
        video.codec_context.gop_size = 12
        if matrix:
            video.set_display_matrix(matrix)
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        audio = out.add_stream(sound, rate=48_000) if sound else None
        words = out.add_mux_stream(subtitles, time_base=Fraction(1, 1000)) if subtitles else None
        if chapters:
            out.set_chapters(_chapters())
        if attachment is not None:
            out.add_attachment("font.ttf", "application/x-truetype-font", attachment)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24")
            frame.pts, frame.time_base = time, time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            _add_sound(out, audio, float(times[-1] * time_base))
        if words is not None:
            _add_words(out, words, subtitles == "mov_text")
    return path


def add_cover(film: Path, path: Path) -> bytes:
    """Copy `film` to `path` with a cover picture; the picture's bytes."""
    data: bytes = cv2.imencode(".jpg", picture(0))[1].tobytes()
    with av.open(str(film)) as old, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s, opaque=True) for s in old.streams}
        cover = out.add_stream("mjpeg", options={"strict": "-1"})
        cover.height, cover.width, cover.pix_fmt = HEIGHT, WIDTH, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
        packet = av.Packet(data)
        packet.stream, packet.time_base, packet.pts, packet.dts = cover, TICK, 0, 0
        packet.is_keyframe = True
        out.mux(packet)
    return data


def _add_sound(out: Any, audio: Any, seconds: float) -> None:
    rate = audio.rate
    for start in range(0, max(1, int(seconds * rate)), 1024):
        wave = np.sin(2 * np.pi * 440 * np.arange(start, start + 1024) / rate) * 0.3
        samples: Any = np.stack([wave, wave]).astype(np.float32)
        kind = audio.format.name
        if kind.startswith("s16"):
            samples = (samples * 32767).astype(np.int16)
        if not kind.endswith("p"):
            samples = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, kind, "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def _add_words(out: Any, words: Any, counted: bool) -> None:
    for number in range(2):
        text = f"line {number}".encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text if counted else text)
        packet.stream, packet.time_base = words, Fraction(1, 1000)
        packet.pts = packet.dts = number * 500
        packet.duration = 400
        out.mux(packet)


def _chapters() -> list[Any]:
    milli = Fraction(1, 1000)
    return [
        {"id": 1, "start": 0, "end": 700, "time_base": milli, "metadata": {"title": "one"}},
        {"id": 2, "start": 700, "end": 1400, "time_base": milli, "metadata": {"title": "two"}},
    ]


@dataclass
class Content:
    """A film read back: per stream the packets, and the pictures' times in seconds."""

    packets: dict[str, list[bytes]] = field(default_factory=dict)
    packet_times: dict[str, list[Fraction]] = field(default_factory=dict)
    times: list[Fraction] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    titles: list[tuple[float, str]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    first: Any = None
    aspect: Fraction | None = None


def read(path: Path) -> Content:
    """What is in the film; streams are known by their type (one of each)."""
    content = Content()
    with av.open(str(path)) as film:
        content.tags = dict(film.metadata)
        content.titles = [
            (float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in film.chapters()
        ]
        for stream in film.streams:
            if stream.duration:
                content.seconds[stream.type] = float(stream.duration * stream.time_base)
            if stream.type == "attachment":
                content.packets["attachment"] = [stream.data]
        content.aspect = film.streams.video[0].sample_aspect_ratio
        for packet in film.demux():
            if packet.size:
                content.packets.setdefault(packet.stream.type, []).append(bytes(packet))
                times = content.packet_times.setdefault(packet.stream.type, [])
                times.append(packet.pts * packet.time_base)
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            if content.first is None:
                content.first = frame
            content.times.append(frame.pts * frame.time_base)
    return content


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    """The decoded frames, as the decoder gives their luma."""
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="gray") for frame in film.decode(video=0)]
