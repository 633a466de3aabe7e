"""Pictures to files and bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesr.atomic import write_bytes
from edgesr.errors import BadImage
from edgesr.image import exif, png, profile, tiff
from edgesr.image.metadata import JPEG_XMP
from edgesr.image.opening import has_avif
from edgesr.image.picture import KNOWN, SUFFIXES, Metadata, Picture, to_8_bit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Limits of the formats (and of libavif's default), pixels.
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
_MOST_PIXELS = {"AVIF": 16_384 * 16_384}
_NO_ALPHA = ("JPEG", "BMP")
_SEGMENT_BYTES = 65_533  # the most that a segment of a JPEG holds
_AVIF_SPEED = 8  # 0 to 10: a third of the time of the default 6, for a quarter more bytes


def write(path: Path, picture: Picture, quality: int = 95) -> None:
    """Write `picture` in the format that the suffix of `path` names, whole or not at all.

    `quality` is 1 to 100, for JPEG, AVIF (both 4:4:4) and WebP. PNG and TIFF hold 16 bit; the
    others 8: 16 bit is rounded to them. Profile, EXIF, XMP and DPI are kept as far as the format
    has a place for them (BMP: DPI alone); where EXIF or XMP state a size, it becomes that of the
    pixels. Raises `BadImage` for what the format cannot hold, `WriteFailed` when the disk refuses.
    """
    write_bytes(path, encode(picture, path, quality))


def encode(picture: Picture, path: Path, quality: int = 95) -> bytes:
    """The bytes of the file that `write` would write to `path`."""
    pixels = picture.pixels
    fmt = check_writable(path, pixels.shape, pixels.dtype)
    said = picture.metadata.for_size(pixels.shape[1], pixels.shape[0])
    if fmt == "PNG":
        return png.encode(pixels, said)
    if fmt == "TIFF":
        return tiff.encode(pixels, said, str(path))
    return _by_pillow(to_8_bit(pixels), said, fmt, path, quality)


def check_writable(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """The format that `path` names; `BadImage` if it cannot hold such HWC pixels."""
    fmt = SUFFIXES.get(path.suffix.lower())
    if fmt is None:
        raise BadImage(f"{path}: unknown format '{path.suffix}'; written are {KNOWN}")
    height, width, channels = shape
    if fmt in _NO_ALPHA and channels in (2, 4):
        raise BadImage(f"{path}: {fmt} holds no transparency; write PNG or WebP")
    longest = _LONGEST_SIDE.get(fmt)
    if longest is not None and max(height, width) > longest:
        raise BadImage(f"{path}: {width}x{height} is more than {fmt} holds ({longest}); write PNG")
    most = _MOST_PIXELS.get(fmt)
    if most is not None and height * width > most:
        limit = f"{most / 1e6:.0f} megapixels"
        raise BadImage(f"{path}: {width}x{height} is more than {fmt} holds ({limit}); write PNG")
    if fmt == "AVIF" and not has_avif():
        raise BadImage(f"{path}: this Pillow writes no AVIF; write PNG or WebP")
    return fmt


def _by_pillow(
    pixels: NDArray[np.uint8], said: Metadata, fmt: str, path: Path, quality: int
) -> bytes:
    from PIL import Image

    channels = pixels.shape[2]
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    options = _carrying(said, fmt, channels)
    if fmt != "BMP":
        options["quality"] = quality
    if fmt == "JPEG":
        options["subsampling"] = 0
    if fmt == "AVIF":
        options |= {"speed": _AVIF_SPEED, "subsampling": "4:4:4" if channels > 1 else "4:0:0"}
    buffer = io.BytesIO()
    try:
        image.save(buffer, fmt, **options)
    except (OSError, ValueError, SyntaxError, struct.error) as e:
        raise BadImage(f"{path}: cannot be written as {fmt}: {e}") from e
    return buffer.getvalue()


def _carrying(said: Metadata, fmt: str, channels: int) -> dict[str, Any]:
    """Pillow's options that carry the metadata; what a format cannot hold is left out."""
    options: dict[str, Any] = {}
    if said.dpi and fmt in ("JPEG", "BMP") and max(said.dpi) < 1 << 16:
        options["dpi"] = said.dpi
    if fmt == "BMP":
        return options
    # WebP has no grey, and neither AVIF nor Pillow grey with alpha: such a profile would lie.
    coloured = fmt == "WEBP" or (fmt == "AVIF" and channels == 2)
    icc = profile.for_channels(said.icc, 3 if coloured else channels)
    if icc:
        options["icc_profile"] = icc
    block = said.exif
    if said.dpi and fmt != "JPEG" and not (block and exif.resolution(block)):
        block = exif.with_resolution(block, said.dpi)
    if block and (fmt != "JPEG" or len(block) <= _SEGMENT_BYTES):
        options["exif"] = block
    if said.xmp and fmt == "JPEG":
        text = JPEG_XMP + said.xmp
        if len(text) <= _SEGMENT_BYTES:
            options["extra"] = b"\xff\xe1" + struct.pack(">H", 2 + len(text)) + text
    elif said.xmp:
        options["xmp"] = said.xmp
    return options
