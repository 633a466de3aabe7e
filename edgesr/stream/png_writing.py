"""PNG files written row by row, compressed by several threads.

Each block of rows is a stretch of one deflate stream that refers to nothing before it, as pigz
(zlib.net/pigz) does it, and an IDAT chunk of its own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.image import profile
from edgesr.image.exif import HEADER
from edgesr.image.png import SIGNATURE, XMP, chunk
from edgesr.stream.blocks import in_blocks, in_order, rows_of_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.image import Metadata

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
# On enlarged photographs "Average" at level 2 makes smaller files than "Up" at level 3, in half
# the time.
_AVERAGE = 3
_LEVEL = 2
_ZLIB_HEADER = b"\x78\x01"
_ZLIB_END = b"\x03\x00"  # a last block with nothing in it
_ADLER_BASE = 65521


@dataclass(frozen=True)
class _Stretch:
    """One IDAT chunk, and what its `length` bytes before compression have for a checksum."""

    chunk: bytes
    adler: int
    length: int


def write_png(
    file: IO[bytes],
    strips: Iterator[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    metadata: Metadata,
) -> None:
    """Write HWC `strips` that make up a picture of `shape`, uint8 or uint16, to `file`."""
    height, width, channels = shape
    pixel = channels * dtype.itemsize
    head = (width, height, dtype.itemsize * 8, _COLOUR_TYPE[channels], 0, 0, 0)
    file.write(SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", *head)))
    for kind, data in _ancillary(metadata, channels):
        file.write(chunk(kind, data))
    file.write(chunk(b"IDAT", _ZLIB_HEADER))
    adler = 1
    blocks = in_blocks(strips, rows_of_block(width * pixel), width * channels)
    for stretch in in_order(lambda block: _stretch(block, pixel), blocks):
        file.write(stretch.chunk)
        adler = adler_of_both(adler, stretch.adler, stretch.length)
    file.write(chunk(b"IDAT", _ZLIB_END + struct.pack(">I", adler)) + chunk(b"IEND", b""))


def adler_of_both(first: int, second: int, second_length: int) -> int:
    """The Adler-32 (RFC 1950) of two stretches of bytes in a row, from that of each."""
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + second_length * ((first & 0xFFFF) - 1)
    return (high % _ADLER_BASE) << 16 | low % _ADLER_BASE


def _stretch(block: NDArray[Any], pixel: int) -> _Stretch:
    """The rows of `block` but its first, of `pixel` bytes a pixel."""
    if block.dtype == np.uint16:
        block = block.astype(">u2")
    filtered = _filtered(block.view(np.uint8), pixel)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    # The flush ends at a whole byte, and leaves the stream open for the next stretch.
    data = deflate.compress(filtered.data) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return _Stretch(chunk(b"IDAT", data), zlib.adler32(filtered.data), filtered.nbytes)


def _filtered(block: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    """Each byte less the floored mean of those left of it and above it, modulo 256."""
    above, rows = block[:-1], block[1:]
    filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _AVERAGE
    filtered[:, 1 : 1 + pixel] = rows[:, :pixel] - (above[:, :pixel] >> 1)
    left, above = rows[:, :-pixel], above[:, pixel:]
    mean = ((left ^ above) >> 1) + (left & above)  # left + above would not fit in 8 bit
    np.subtract(rows[:, pixel:], mean, out=filtered[:, 1 + pixel :])
    return filtered


def _ancillary(metadata: Metadata, channels: int) -> Iterator[tuple[bytes, bytes]]:
    icc = profile.for_channels(metadata.icc, channels)
    # Of a grey PNG libpng refuses a profile of colours.
    if icc and (channels > 2 or profile.space(icc) == "GRAY"):
        yield b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(icc)
    if metadata.dpi:
        x, y = (min(round(v / 0.0254), 2**31 - 1) for v in metadata.dpi)
        yield b"pHYs", struct.pack(">IIB", x, y, 1)  # pixels per metre
    if metadata.exif:
        yield b"eXIf", metadata.exif.removeprefix(HEADER)
    if metadata.xmp:
        yield b"iTXt", XMP + bytes(5) + metadata.xmp
