"""Ways to damage a file: anywhere, and where its format says what is where."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

_INTERESTING = (0, 1, 2, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF,
                0x80000000, 0xFFFFFFFF)  # fmt: skip
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def damaged(kinds: Sequence[bytes], fmt: str, number: int) -> bytes:
    """One of `kinds` with one to four damages; `number` decides all of it."""
    rng = random.Random(f"{fmt} {number}")
    data = bytearray(rng.choice(kinds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        if len(data) < 16:
            break
        rng.choice(_STRUCTURED[fmt] if rng.random() < 0.5 else _ANYWHERE)(data, rng, kinds)
    # Half of the damaged PNGs get checksums that hold, or little would reach what is behind them.
    if fmt == "PNG" and rng.random() < 0.5:
        _mend_checksums(data)
    return bytes(data)


Damage = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def _flip_bits(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    for _bit in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _flip_in_head(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    data[rng.randrange(min(64, len(data)))] = rng.randrange(256)


def _cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 2, 4, 32))]


def _repeat(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice((1, 4, 32, 256))] * rng.choice((1, 3))


def _splice(data: bytearray, rng: random.Random, kinds: Sequence[bytes]) -> None:
    other = rng.choice(kinds)
    start, theirs = rng.randrange(len(data)), rng.randrange(len(other))
    if rng.random() < 0.5:
        data[start:] = other[theirs:]
    else:
        length = rng.choice((4, 16, 64, 256))
        data[start : start + length] = other[theirs : theirs + length]


def _set_number(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    kind = rng.choice(("<H", ">H", "<I", ">I"))
    at = rng.randrange(len(data) - 4)
    value = rng.choice(_INTERESTING) & (0xFFFF if kind.endswith("H") else 0xFFFFFFFF)
    struct.pack_into(kind, data, at, value)


def _lengths(find: Callable[[bytes], Iterator[int]], kind: str) -> Damage:
    """Changes one of the numbers that stand where `find` says."""

    def change(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
        places = [at for at in find(bytes(data)) if at + struct.calcsize(kind) <= len(data)]
        if not places:
            return
        at = rng.choice(places)
        (value,) = struct.unpack_from(kind, data, at)
        near = value + rng.choice((-4, -1, 1, 4, 255))
        new = rng.choice((near, *_INTERESTING))
        struct.pack_into(kind, data, at, new & ((1 << 8 * struct.calcsize(kind)) - 1))

    return change


def _swap_parts(find: Callable[[bytes], Iterator[int]]) -> Damage:
    """Exchanges, repeats or removes the stretches between the places that `find` gives."""

    def change(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
        places = [*find(bytes(data)), len(data)]
        if len(places) < 4:
            return
        a, b = sorted(rng.sample(range(1, len(places) - 1), 2))
        one, two = data[places[a] : places[a + 1]], data[places[b] : places[b + 1]]
        how = rng.randrange(3)
        data[places[b] : places[b + 1]] = one if how == 0 else two + one if how == 1 else b""
        if how == 0:
            data[places[a] : places[a + 1]] = two

    return change


def _png_chunks(data: bytes) -> Iterator[int]:
    at = len(_PNG_SIGNATURE)
    while at + 12 <= len(data):
        yield at
        at += 12 + int(struct.unpack_from(">I", data, at)[0])


def _mend_checksums(data: bytearray) -> None:
    for at in _png_chunks(bytes(data)):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 <= len(data):
            struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))


def _png_header(data: bytes) -> Iterator[int]:
    yield from (16, 20)  # width and height


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Where the length of each segment before the first scan stands."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        yield at + 2
        if data[at + 1] == 0xDA:
            return
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]


def _jpeg_frames(data: bytes) -> Iterator[int]:
    """Where height and width stand."""
    for at in _jpeg_segments(data):
        if 0xC0 <= data[at - 1] <= 0xCF and at + 7 <= len(data):
            yield from (at + 3, at + 5)


def _riff_chunks(data: bytes) -> Iterator[int]:
    at = 12
    while at + 8 <= len(data):
        yield at
        at += 8 + struct.unpack_from("<I", data, at + 4)[0] // 2 * 2


def _riff_lengths(data: bytes) -> Iterator[int]:
    yield 4
    yield from (at + 4 for at in _riff_chunks(data))


def _bmp_header(data: bytes) -> Iterator[int]:
    yield from (at for at in (2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50) if at + 4 <= len(data))


def _tiff_values(data: bytes) -> Iterator[int]:
    """Where the counts and values of the first directory's entries stand."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from(order + "H", data, start)
    for i in range(count):
        at = start + 2 + 12 * i
        if at + 12 > len(data):
            return
        yield from (at, at + 4, at + 8)


def _boxes(data: bytes) -> Iterator[int]:
    """Where the boxes of an ISO file stand, and those within `meta`, `iprp` and `ipco`."""
    stack = [(0, len(data))]
    while stack:
        at, end = stack.pop()
        while at + 8 <= end:
            yield at
            size, kind = struct.unpack_from(">I4s", data, at)
            inner = {b"meta": 12, b"iprp": 8, b"ipco": 8}.get(kind)
            if inner:
                stack.append((at + inner, min(at + size, end)))
            if size < 8:
                break
            at += size


_ANYWHERE: tuple[Damage, ...] = (
    _flip_bits, _flip_bits, _flip_in_head, _cut, _remove, _repeat, _splice, _set_number,
)  # fmt: skip
_STRUCTURED: dict[str, tuple[Damage, ...]] = {
    "PNG": (_lengths(_png_chunks, ">I"), _swap_parts(_png_chunks), _lengths(_png_header, ">I")),
    "JPEG": (_lengths(_jpeg_segments, ">H"), _lengths(_jpeg_frames, ">H")),
    "WEBP": (_lengths(_riff_lengths, "<I"), _swap_parts(_riff_chunks)),
    "BMP": (_lengths(_bmp_header, "<I"), _lengths(_bmp_header, "<H")),
    "TIFF": (
        _lengths(_tiff_values, "<I"), _lengths(_tiff_values, ">I"), _lengths(_tiff_values, "<H"),
        _lengths(_tiff_values, ">H"),
    ),
    "AVIF": (_lengths(_boxes, ">I"), _swap_parts(_boxes)),
}  # fmt: skip
