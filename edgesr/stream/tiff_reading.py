"""TIFF files read row by row.

The file's strips, or rows of tiles, are taken as they are into small TIFFs with the same tags, and
`image.decode` makes pixels of each: so all layouts and compressions come out just as when the
whole file is read.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from edgesr import image
from edgesr.image import exif
from edgesr.image.exif import LONG, Field, field
from edgesr.image.tiff import ICC
from edgesr.stream.directory import Fields, numbers, read_directory, read_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAND_BYTES = 1 << 20
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PLANES = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
# What decides how bytes become pixels: bits, compression and its options, kind of colours, order
# of bits, samples, planes, predictor, palette, inks, extra samples, format, JPEG tables, YCbCr's
# constants; and the profile, through which CMYK becomes RGB.
_KEPT = {_WIDTH, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _PLANES, 292, 293, 317, 320,
         _TILE_WIDTH, _TILE_HEIGHT, 332, 338, 339, 347, 529, 530, 531, 532, ICC}  # fmt: skip
_UNCOMPRESSED, _OLD_JPEG, _YCBCR, _SEPARATE = 1, 6, 6, 2


@dataclass(frozen=True)
class TiffHead:
    """Where the pixels of a TIFF are: in strips or tiles of `part_rows` rows."""

    order: str  # < or >
    fields: Fields
    tiled: bool
    part_rows: int
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]  # bytes

    def value(self, tag: int, default: int = 0) -> int:
        """The first number of a tag."""
        found = numbers(self.fields.get(tag), self.order)
        return found[0] if found else default

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return self.value(_HEIGHT)

    @property
    def down(self) -> int:
        """How many strips, or rows of tiles, there are."""
        return -(-self.height // self.part_rows)

    @property
    def across(self) -> int:
        """How many tiles are beside one another; 1 for strips."""
        return -(-self.value(_WIDTH) // self.value(_TILE_WIDTH)) if self.tiled else 1

    @property
    def planes(self) -> int:
        """How many planes of one sample are kept apart; 1 when samples are interleaved."""
        return self.value(_SAMPLES, 1) if self.value(_PLANES) == _SEPARATE else 1

    @property
    def row_bytes(self) -> int:
        """Of one row of the picture with all its samples, uncompressed."""
        columns = self.value(_TILE_WIDTH if self.tiled else _WIDTH)
        return -(-columns * self.value(_SAMPLES, 1) * self.value(_BITS, 1) // 8) * self.across

    @property
    def part_bytes(self) -> int:
        """Of one strip or row of tiles, uncompressed."""
        return self.part_rows * self.row_bytes


def read_tiff_head(file: IO[bytes]) -> TiffHead | None:
    """The head of a TIFF or BigTIFF, or None where it is damaged or of an odd kind."""
    try:
        order, big, at = read_head(file)
        fields = read_directory(file, order, big, at)
    except (struct.error, OverflowError):
        return None
    tiled = _TILE_OFFSETS in fields
    offsets = numbers(fields.get(_TILE_OFFSETS if tiled else _OFFSETS), order)
    lengths = numbers(fields.get(_TILE_BYTES if tiled else _STRIP_BYTES), order)
    head = TiffHead(order, fields, tiled, 1, offsets, lengths)
    height = head.height
    rows = head.value(_TILE_HEIGHT) if tiled else min(head.value(_STRIP_ROWS, height), height)
    columns = head.value(_TILE_WIDTH) if tiled else head.value(_WIDTH)
    if min(rows, columns, head.value(_WIDTH)) < 1:
        return None
    head = replace(head, part_rows=rows)
    if not len(offsets) == len(lengths) == head.down * head.across * head.planes:
        return None
    return None if head.value(_COMPRESSION, 1) == _OLD_JPEG else _cut(head)


def _cut(head: TiffHead) -> TiffHead:
    """Large strips without compression as several small ones."""
    rows = max(1, BAND_BYTES // head.row_bytes)
    plain = head.value(_COMPRESSION, 1) == _UNCOMPRESSED and head.value(_PHOTOMETRIC) != _YCBCR
    if not plain or head.tiled or head.planes > 1 or rows >= head.part_rows:
        return head
    while head.down > 1 and head.part_rows % rows:
        rows -= 1  # only the last piece of all may have fewer rows
    offsets, lengths = [], []
    for strip, offset in enumerate(head.offsets):
        in_strip = min(head.part_rows, head.height - strip * head.part_rows)
        for row in range(0, in_strip, rows):
            offsets.append(offset + row * head.row_bytes)
            lengths.append(min(rows, in_strip - row) * head.row_bytes)
    return replace(head, part_rows=rows, offsets=tuple(offsets), lengths=tuple(lengths))


def tiff_strips(file: IO[bytes], head: TiffHead, name: str) -> Iterator[NDArray[Any]]:
    """The rows of the TIFF in `file` in order, HWC as `image.read` gives them, but not turned.

    Raises `BadImage` where the file is damaged; `name` is for messages.
    """
    group = max(1, BAND_BYTES // head.part_bytes)
    for first in range(0, head.down, group):
        small = _small(file, head, first, min(first + group, head.down))
        yield image.decode(small, name, sys.maxsize).pixels


def _small(file: IO[bytes], head: TiffHead, first: int, last: int) -> bytes:
    """A file of the strips, or rows of tiles, `first:last`."""
    parts, at, offsets, lengths = [], 8, [], []
    for plane in range(head.planes):
        for i in range(first * head.across, last * head.across):
            i += plane * head.down * head.across
            file.seek(min(head.offsets[i], sys.maxsize))
            data = file.read(head.lengths[i])
            parts.append(data)
            offsets.append(at)
            lengths.append(len(data))
            at += len(data)
    parts.append(bytes(at % 2))
    at += at % 2
    kept: dict[int, Field | bytes] = {t: f for t, f in head.fields.items() if t in _KEPT}
    rows = min(last * head.part_rows, head.height) - first * head.part_rows
    kept[_HEIGHT] = field(head.order, LONG, rows)
    if not head.tiled:
        kept[_STRIP_ROWS] = field(head.order, LONG, head.part_rows)
    kept[_TILE_OFFSETS if head.tiled else _OFFSETS] = field(head.order, LONG, *offsets)
    kept[_TILE_BYTES if head.tiled else _STRIP_BYTES] = field(head.order, LONG, *lengths)
    mark = b"II" if head.order == "<" else b"MM"
    start = mark + struct.pack(head.order + "HI", 42, at)
    return b"".join((start, *parts, exif.directory(head.order, kept, at)))
