"""PNG (W3C, third edition): what its chunks say, and files of any of our layouts.

Pillow reads chunks that follow the pixels only when it decodes those, and writes no 16-bit
colour; OpenCV writes no metadata.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.image import exif, profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.image.picture import Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP = b"XML:com.adobe.xmp"
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
# A profile or text that unpacks to more is ignored: it may be a bomb.
_MOST_UNPACKED = 16 << 20
_MOST_CHUNKS = 2_000_000  # pixels come in some thousands; a file of empty chunks would take long

_AVERAGE = 3  # filter type
# Of seven enlarged photographs, 3.78 MB in 126 ms; with "Up" at level 3, 3.85 MB in 195 ms; with
# the filter chosen row by row at level 3 (OpenCV), 3.73 MB in 244 ms.
_LEVEL = 2
_STRIP_BYTES = 1 << 20


def header(file: IO[bytes]) -> tuple[int, int]:
    """Bit depth and colour type of a PNG; (0, 0) where it is cut short."""
    file.seek(24)
    found = file.read(2)
    return (found[0], found[1]) if len(found) == 2 else (0, 0)


def chunks(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Kind, offset and length in bytes of the data of each chunk that the file holds."""
    size = file.seek(0, 2)
    at = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if at + 12 + length > size:
            return
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length


def ancillary(file: IO[bytes], *kinds: bytes) -> dict[bytes, list[bytes]]:
    """The data of all chunks of these `kinds`; nothing else is read, pixels are skipped."""
    found: dict[bytes, list[bytes]] = {kind: [] for kind in kinds}
    for kind, at, length in chunks(file):
        if kind in found:
            file.seek(at)
            found[kind].append(file.read(length))
    return found


def icc_profile(data: bytes) -> bytes | None:
    """The profile in an iCCP chunk."""
    _, _, packed = data.partition(b"\x00")
    return _unpacked(packed[1:])


def texts(found: dict[bytes, list[bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Keyword and text of tEXt, zTXt and iTXt chunks that bear metadata of other formats."""
    for data in found[b"tEXt"]:
        keyword, _, text = data.partition(b"\x00")
        yield keyword, text
    for data in found[b"zTXt"]:
        keyword, _, packed = data.partition(b"\x00")
        if keyword in _RAW_EXIF:
            yield keyword, _unpacked(packed[1:]) or b""
    for data in found[b"iTXt"]:
        keyword, _, rest = data.partition(b"\x00")
        if keyword == XMP and len(rest) > 2:
            text = rest[2:].split(b"\x00", 2)[-1]
            yield keyword, (_unpacked(text) or b"") if rest[0] else text


def raw_exif(keyword: bytes, text: bytes) -> bytes | None:
    """EXIF that older programs wrote as hexadecimal text: name, length, digits."""
    if keyword not in _RAW_EXIF:
        return None
    digits = b"".join(text.split()[2:])
    try:
        block = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None
    return block if block.startswith(exif.HEADER) or keyword == _RAW_EXIF[0] else None


def encode(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """A PNG of HWC `pixels`, 1 to 4 channels, uint8 or uint16."""
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    head = struct.pack(">IIBBBBB", width, height, bits, _COLOUR_TYPE[channels], 0, 0, 0)
    parts = [SIGNATURE, chunk(b"IHDR", head)]
    icc = profile.for_channels(metadata.icc, channels)
    # Of a grey PNG libpng refuses a profile of colours.
    if icc and (channels > 2 or profile.space(icc) == "GRAY"):
        parts.append(chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(icc)))
    if metadata.dpi:
        x, y = (min(round(v / 0.0254), 2**31 - 1) for v in metadata.dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))  # pixels per metre
    if metadata.exif:
        parts.append(chunk(b"eXIf", metadata.exif.removeprefix(exif.HEADER)))
    if metadata.xmp:
        parts.append(chunk(b"iTXt", XMP + bytes(5) + metadata.xmp))
    parts += [chunk(b"IDAT", data) for data in _deflated(pixels)]
    parts.append(chunk(b"IEND", b""))
    return b"".join(parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A whole chunk: length, kind, data, checksum."""
    crc = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)))


def _deflated(pixels: NDArray[Any]) -> Iterator[bytes]:
    """The filtered rows as one stream in pieces; filtered strip by strip, to save memory."""
    height, width, channels = pixels.shape
    pixel = channels * pixels.dtype.itemsize
    rows = max(1, _STRIP_BYTES // (width * pixel))
    above = np.zeros((1, width * pixel), np.uint8)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9)
    for start in range(0, height, rows):
        strip = np.ascontiguousarray(pixels[start : start + rows])
        if strip.dtype == np.uint16:
            strip = strip.astype(">u2")
        bytes_ = strip.view(np.uint8).reshape(len(strip), width * pixel)
        data = deflate.compress(_filtered(bytes_, above, pixel).data)
        above = bytes_[-1:]
        if data:
            yield data
    yield deflate.flush()


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    """Each byte less the floored mean of those left of it and above it, modulo 256."""
    up = np.concatenate([above, rows[:-1]])
    filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _AVERAGE
    filtered[:, 1 : 1 + pixel] = rows[:, :pixel] - (up[:, :pixel] >> 1)
    left, up = rows[:, :-pixel], up[:, pixel:]
    mean = ((left ^ up) >> 1) + (left & up)  # left + up would not fit in 8 bit
    np.subtract(rows[:, pixel:], mean, out=filtered[:, 1 + pixel :])
    return filtered


def _unpacked(packed: bytes) -> bytes | None:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(packed, _MOST_UNPACKED)
    except zlib.error:
        return None
    return data if stream.eof else None
