"""TIFF 6.0 files of any of our layouts, with their metadata.

Pillow writes no 16-bit colour and no EXIF directory in compressed files; OpenCV no metadata. An
EXIF block becomes the start of the file as it is, so that all that points into it stays right.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesr.errors import BadImage
from edgesr.image import exif, profile
from edgesr.image.exif import LONG, SHORT, Field, field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.image.picture import Metadata

WIDTH, HEIGHT, _BITS, _COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PREDICTOR = 273, 277, 278, 279, 317
EXTRA_SAMPLES, XMP, ICC = 338, 700, 34675
_BYTE, _UNDEFINED = 1, 7
_DEFLATE, _DIFFERENCES, _UNASSOCIATED = 8, 2, 2
_LEVEL = 2
_ONE_STRIP_BYTES = 1 << 20
_LIMIT = 1 << 32  # offsets have 32 bit

# Tags of a first directory that speak of the picture and not of how it lies in the file:
# description, make, model, software, date, artist, host computer, rating, copyright, Windows' XP*.
DESCRIPTIVE = frozenset(
    {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
)


def encode(pixels: NDArray[Any], metadata: Metadata, name: str) -> bytes:
    """A TIFF of HWC `pixels`, 1 to 4 channels, uint8 or uint16: strips, deflate, differences.

    Raises `BadImage` for one of more than 4 GiB; `name` is for that message.
    """
    body, order, merged = _start(metadata)
    if pixels.shape[2] == 2 and pixels.dtype == np.uint16:
        pixels = pixels[..., [0, 0, 0, 1]]  # nearly nothing reads 16-bit grey with alpha
    height, width, channels = pixels.shape
    rows = max(1, _ONE_STRIP_BYTES // (width * channels * pixels.dtype.itemsize))
    parts, at = [body], len(body)
    offsets, lengths = [], []
    for start in range(0, height, rows):
        data = _strip(pixels[start : start + rows], order)
        parts.append(data)
        offsets.append(at)
        lengths.append(len(data))
        at += len(data)
    parts.append(b"\x00" * (at % 2))
    at += at % 2
    if at + 8 * len(offsets) + 64_000 > _LIMIT:
        raise BadImage(f"{name}: more than TIFF holds (4 GiB); write PNG")
    merged |= _layout(order, pixels, rows)
    merged |= _described(order, channels, metadata)
    merged[_OFFSETS] = field(order, LONG, *offsets)
    merged[_STRIP_BYTES] = field(order, LONG, *lengths)
    parts.append(exif.directory(order, merged, at))
    parts[0] = body[:4] + struct.pack(order + "I", at) + body[8:]
    return b"".join(parts)


def _start(metadata: Metadata) -> tuple[bytes, str, dict[int, Field | bytes]]:
    """The file's first bytes, their byte order, and what of an EXIF directory goes into ours."""
    body = metadata.exif.removeprefix(exif.HEADER) if metadata.exif else b""
    kept: dict[int, Field | bytes] = {}
    try:
        order = exif.byte_order(body)
        for tag, entry in exif.entries(body).items():
            if tag in DESCRIPTIVE or tag in (exif.EXIF, exif.GPS):
                kept[tag] = entry
    except struct.error:
        body, order, kept = b"II*\x00" + bytes(4), "<", {}
    return body + b"\x00" * (len(body) % 2), order, kept


def _layout(order: str, pixels: NDArray[Any], rows: int) -> dict[int, Field]:
    height, width, channels = pixels.shape
    fields = {
        WIDTH: field(order, LONG, width),
        HEIGHT: field(order, LONG, height),
        _BITS: field(order, SHORT, *[pixels.dtype.itemsize * 8] * channels),
        _COMPRESSION: field(order, SHORT, _DEFLATE),
        PHOTOMETRIC: field(order, SHORT, 2 if channels > 2 else 1),  # RGB; 0 is black
        exif.ORIENTATION: field(order, SHORT, 1),
        _SAMPLES: field(order, SHORT, channels),
        _STRIP_ROWS: field(order, LONG, rows),
        _PREDICTOR: field(order, SHORT, _DIFFERENCES),
    }
    if channels in (2, 4):
        fields[EXTRA_SAMPLES] = field(order, SHORT, _UNASSOCIATED)
    return fields


def _described(order: str, channels: int, metadata: Metadata) -> dict[int, Field]:
    fields: dict[int, Field] = {}
    icc = profile.for_channels(metadata.icc, channels)
    if icc:
        fields[ICC] = Field(_UNDEFINED, len(icc), icc)
    if metadata.xmp:
        fields[XMP] = Field(_BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.dpi:
        fields |= exif.resolution_fields(order, metadata.dpi)
    return fields


def _strip(rows: NDArray[Any], order: str) -> bytes:
    """The rows' differences from pixel to pixel, deflated."""
    little = rows.dtype.newbyteorder("<")
    differences = np.empty(rows.shape, little if order == "<" else little.newbyteorder(">"))
    differences[:, 0] = rows[:, 0]
    np.subtract(rows[:, 1:], rows[:, :-1], out=differences[:, 1:])
    return zlib.compress(differences.tobytes(), _LEVEL)
