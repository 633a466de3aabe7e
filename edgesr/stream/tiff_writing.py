"""TIFF files written row by row, compressed by several threads.

Each strip is deflated on its own, as differences from pixel to pixel (TIFF 6.0, section 14). The
directory comes last: only then is it known whether the file passes 4 GiB and must be a BigTIFF.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.image import exif, profile
from edgesr.image.exif import EXIF, GPS, LONG, ORIENTATION, SHORT, Field, field
from edgesr.image.tiff import DESCRIPTIVE, EXTRA_SAMPLES, ICC, PHOTOMETRIC, XMP
from edgesr.stream.blocks import in_blocks, in_order, rows_of_block
from edgesr.stream.directory import LONG8, Nested, packed, read_exif

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.image import Metadata

_LEVEL = 2
_HEADER_BYTES = 16  # of a BigTIFF; a TIFF leaves half of them unused
LIMIT_BYTES = 1 << 32  # offsets of a TIFF have 32 bit

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS = 256, 257, 258, 259, 273
_SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PREDICTOR = 277, 278, 279, 317
_DEFLATE, _DIFFERENCES, _UNASSOCIATED_ALPHA = 8, 2, 2
_BYTE, _UNDEFINED = 1, 7


def write_tiff(
    file: IO[bytes],
    strips: Iterator[NDArray[Any]],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    metadata: Metadata,
    limit_bytes: int = LIMIT_BYTES,
) -> None:
    """Write HWC `strips` that make up a picture of `shape`, uint8 or uint16, to `file`.

    `file` is new and can seek. From `limit_bytes` on it is a BigTIFF.
    """
    _, width, channels = shape
    rows = rows_of_block(width * channels * dtype.itemsize)
    blocks = in_blocks(strips, rows, width * channels)
    file.write(bytes(_HEADER_BYTES))
    at, offsets, lengths = _HEADER_BYTES, [], []
    for data in in_order(lambda block: _deflated(block, channels), blocks):
        file.write(data)
        offsets.append(at)
        lengths.append(len(data))
        at += len(data)
    at += file.write(bytes(at % 2))
    directory = _described(metadata, channels) | _layout(shape, dtype, rows)
    directory[_STRIP_BYTES] = field("<", LONG, *lengths)
    directory[_OFFSETS] = Field(LONG8, len(offsets), struct.pack(f"<{len(offsets)}Q", *offsets))
    tail = packed(directory, at, big=True)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at)
    if at + len(tail) < limit_bytes:
        directory[_OFFSETS] = field("<", LONG, *offsets)
        tail = packed(directory, at, big=False)
        head = struct.pack("<2sHI", b"II", 42, at)
    file.write(tail)
    file.seek(0)
    file.write(head)


def _deflated(block: NDArray[Any], channels: int) -> bytes:
    """The rows of `block` but its first as a strip."""
    rows = block[1:].reshape(len(block) - 1, -1, channels)
    differences = np.empty(rows.shape, rows.dtype.newbyteorder("<"))
    differences[:, 0] = rows[:, 0]
    np.subtract(rows[:, 1:], rows[:, :-1], out=differences[:, 1:])
    return zlib.compress(differences.data, _LEVEL)


def _layout(shape: tuple[int, int, int], dtype: np.dtype[Any], rows: int) -> Nested:
    height, width, channels = shape
    fields: Nested = {
        _WIDTH: field("<", LONG, width),
        _HEIGHT: field("<", LONG, height),
        _BITS: field("<", SHORT, *[dtype.itemsize * 8] * channels),
        _COMPRESSION: field("<", SHORT, _DEFLATE),
        PHOTOMETRIC: field("<", SHORT, 2 if channels > 2 else 1),  # RGB; 0 is black
        ORIENTATION: field("<", SHORT, 1),
        _SAMPLES: field("<", SHORT, channels),
        _STRIP_ROWS: field("<", LONG, min(rows, height)),
        _PREDICTOR: field("<", SHORT, _DIFFERENCES),
    }
    if channels in (2, 4):
        fields[EXTRA_SAMPLES] = field("<", SHORT, _UNASSOCIATED_ALPHA)
    return fields


def _described(metadata: Metadata, channels: int) -> Nested:
    fields: Nested = {}
    try:
        found = read_exif(metadata.exif) if metadata.exif else {}
    except struct.error:  # damaged metadata is no reason to lose the picture
        found = {}
    fields.update({t: v for t, v in found.items() if t in DESCRIPTIVE or t in (EXIF, GPS)})
    icc = profile.for_channels(metadata.icc, channels)
    if icc:
        fields[ICC] = Field(_UNDEFINED, len(icc), icc)
    if metadata.xmp:
        fields[XMP] = Field(_BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.dpi:
        fields.update(exif.resolution_fields("<", metadata.dpi))
    return fields
