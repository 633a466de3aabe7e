"""PNG files read row by row.

The pixels are inflated band by band. Each band, still filtered, becomes a small PNG with the row
above it on top, and `image.decode` makes pixels of that: so all layouts come out just as when the
whole file is read.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr import image
from edgesr.errors import BadImage
from edgesr.image.png import SIGNATURE, chunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAND_BYTES = 1 << 20
_READ_BYTES = 1 << 16
_GREY, _PALETTE = 0, 3  # colour types
_SAMPLES = {_GREY: 1, 2: 3, _PALETTE: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class PngHead:
    """What stands before the pixels of a PNG."""

    width: int
    height: int
    depth: int  # bits a sample
    colour_type: int
    interlaced: bool
    colours: tuple[bytes, ...]  # the chunks PLTE and tRNS, where they are
    start: int  # of the first IDAT chunk, bytes

    @property
    def row_bytes(self) -> int:
        """Of one row, without its filter type."""
        return -(-self.width * _SAMPLES[self.colour_type] * self.depth // 8)

    @property
    def plain(self) -> bool:
        """Whether decoded samples are the bytes of the file."""
        return self.depth >= 8 and self.colour_type != _PALETTE

    def small(self, rows: int, filtered: bytes) -> bytes:
        """A file of this kind with `rows` filtered rows."""
        kind = (self.width, rows, self.depth, self.colour_type)
        return _small(kind, filtered, *self.colours)

    def small_bytes(self, rows: int, filtered: bytes) -> bytes:
        """A grey file whose pixels are the bytes of rows with less than 8 bits a sample."""
        return _small((self.row_bytes, rows, 8, _GREY), filtered)


def read_png_head(file: IO[bytes]) -> PngHead | None:
    """The head of a PNG, or None where it is damaged."""
    file.seek(len(SIGNATURE))
    head, colours, at = b"", [], len(SIGNATURE)
    while True:
        start = file.read(8)
        if len(start) < 8:
            return None
        length, kind = struct.unpack(">I4s", start)
        if kind == b"IDAT":
            break
        if kind in (b"IHDR", b"PLTE", b"tRNS"):
            data = file.read(min(length, 1 << 12))
            if kind == b"IHDR":
                head = data
            else:
                colours.append(chunk(kind, data))
        at += 12 + length
        file.seek(at)
    if len(head) != 13 or head[9] not in _SAMPLES:
        return None
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", head)
    return PngHead(width, height, depth, colour_type, bool(interlace), tuple(colours), at)


def png_strips(file: IO[bytes], head: PngHead, name: str) -> Iterator[NDArray[Any]]:
    """The rows of the PNG in `file` in order, HWC as `image.read` gives them, but not turned.

    Raises `BadImage` where the file is damaged; `name` is for messages.
    """
    pixels_of = _Inflated(file, head.start, name)
    row = 1 + head.row_bytes
    rows = max(1, BAND_BYTES // row)
    above = b""
    for start in range(0, head.height, rows):
        count = min(rows, head.height - start)
        filtered = above + pixels_of.read(count * row)
        extra = 1 if above else 0
        decoded = image.decode(head.small(count + extra, filtered), name, sys.maxsize).pixels
        if start + count < head.height:
            above = b"\x00" + _last_row(head, decoded, filtered, count + extra, name)
        else:
            pixels_of.finish()
        yield decoded[extra:]
        del decoded, filtered  # or they live on beside the next ones


def _last_row(head: PngHead, decoded: NDArray[Any], filtered: bytes, rows: int, name: str) -> bytes:
    """The last row of a band as it is in the file, without filter."""
    if not head.plain:
        row = image.decode(head.small_bytes(rows, filtered), name, sys.maxsize).pixels[-1]
    else:
        row = decoded[-1, :, : _SAMPLES[head.colour_type]]  # without alpha made from tRNS
    data: bytes = row.astype(">u2" if head.depth == 16 else np.uint8).tobytes()
    return data


class _Inflated:
    """The bytes that the IDAT chunks of a file hold, in order."""

    def __init__(self, file: IO[bytes], start: int, name: str) -> None:
        self._pieces, self._name = _pieces(file, start), name
        self._stream, self._rest = zlib.decompressobj(), b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        parts = []
        while size:
            part = self._next(size)
            if not part:
                raise BadImage(f"{self._name}: the picture is damaged: it ends early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Read what follows the pixels: their checksum."""
        self._next(1)

    def _next(self, most: int) -> bytes:
        """Up to `most` further bytes; none at the end."""
        while not self._stream.eof:
            source = self._rest or next(self._pieces, b"")
            try:
                part = self._stream.decompress(source, most)
            except zlib.error as e:
                raise BadImage(f"{self._name}: the picture is damaged: {e}") from e
            self._rest = self._stream.unconsumed_tail
            if part or not source:
                return part
        return b""


def _pieces(file: IO[bytes], start: int) -> Iterator[bytes]:
    at = start
    while True:
        file.seek(at)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        if kind != b"IDAT":
            return
        at += 12 + length
        while length > 0:
            piece = file.read(min(length, _READ_BYTES))
            if not piece:
                return
            length -= len(piece)
            yield piece


def _small(kind: tuple[int, int, int, int], filtered: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(filtered, 0))
    return b"".join((SIGNATURE, header, *chunks, data, chunk(b"IEND", b"")))
