"""What a file says beside its pixels, read without decoding them."""

from __future__ import annotations

import struct
from typing import IO, TYPE_CHECKING, Any

from edgesr.image import exif, png, profile, tiff, xmp
from edgesr.image.opening import DECODE_ERRORS
from edgesr.image.picture import Metadata

if TYPE_CHECKING:
    from PIL.Image import Image

JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\x00"  # begins its segment


def metadata(image: Image, file: IO[bytes], channels: int) -> Metadata:
    """All that `image`, freshly opened from `file`, says beside its pixels of `channels`.

    What is damaged or does not fit is left out: it is no reason to refuse the pixels.
    """
    if image.format == "PNG":
        icc, raw, text = _of_png(file)
    else:
        icc, text = image.info.get("icc_profile"), _xmp(image)
        raw = _tiff_exif(image) if image.format == "TIFF" else image.info.get("exif")
    block, stated = _upright_exif(raw)
    if image.format == "TIFF":
        stated = _tag(image, exif.ORIENTATION)
    packet = xmp.packet(text)
    if stated is None and packet and image.format != "AVIF":  # which has a place of its own
        stated = xmp.orientation(packet)
    return Metadata(
        profile.for_channels(icc if isinstance(icc, bytes) else None, channels),
        block,
        xmp.upright(packet) if packet else None,
        _dpi(image) or (exif.resolution(block) if block else None),
        stated or 1,
    )


def _of_png(file: IO[bytes]) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Profile, EXIF and XMP, wherever they stand in the file."""
    found = png.ancillary(file, b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
    icc = png.icc_profile(found[b"iCCP"][0]) if found[b"iCCP"] else None
    raw = found[b"eXIf"][0] if found[b"eXIf"] else None
    text = None
    for keyword, value in png.texts(found):
        if keyword == png.XMP:
            text = value
        elif raw is None:
            raw = png.raw_exif(keyword, value)
    return icc, raw, text


def _xmp(image: Image) -> bytes | None:
    """Of another file than a PNG. Takes it away, or Pillow would turn a TIFF as it says."""
    text = image.info.pop("xmp", None)
    if text is None and image.format == "TIFF":  # older versions of Pillow leave it there
        text = getattr(image, "tag_v2", {}).get(tiff.XMP)
    for name, segment in () if text else getattr(image, "applist", ()):
        if name == "APP1" and segment.startswith(JPEG_XMP):
            text = segment[len(JPEG_XMP) :]
    return text if isinstance(text, bytes) else None


def _upright_exif(raw: object) -> tuple[bytes | None, int | None]:
    """The EXIF block with orientation 1, and the one it stated."""
    if not isinstance(raw, bytes) or not raw:
        return None, None
    try:
        stated, block = exif.upright(raw)
    except struct.error:
        return None, None
    return block, stated


def _tiff_exif(image: Image) -> bytes | None:
    """A block of those of the file's tags that speak of the picture."""
    from PIL import Image as pil

    try:
        theirs, ours = image.getexif(), pil.Exif()
        for tag in tiff.DESCRIPTIVE & set(theirs):
            ours[tag] = theirs[tag]
        for pointer in (exif.EXIF, exif.GPS):
            inner = theirs.get_ifd(pointer) if pointer in theirs else None
            if inner:
                ours.get_ifd(pointer).update(inner)
        block = ours.tobytes() if len(ours) or ours.get_ifd(exif.EXIF) else None
    except DECODE_ERRORS:
        return None
    return block


def _tag(image: Image, tag: int) -> int | None:
    value: Any = getattr(image, "tag_v2", {}).get(tag)
    return None if value is None else value if value in range(1, 9) else 1


def _dpi(image: Image) -> tuple[float, float] | None:
    # Where a file states none, Pillow makes one up.
    if image.format == "TIFF" and exif.X_RESOLUTION not in getattr(image, "tag_v2", {}):
        return None
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2):
        return None
    try:
        x, y = (float(v) for v in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0.0 < x < exif.MOST_DPI and 0.0 < y < exif.MOST_DPI else None
