"""XMP packets: the few statements in them that a change of the pixels makes wrong."""

from __future__ import annotations

import re

# Properties of RDF stand as attributes or as elements (XMP part 1, 7.9.2.2).
_VALUE = rb"(%s\s{0,9}(?:=\s{0,9}[\"']|>)\s{0,9})(\d{1,9})"
_ORIENTATION = re.compile(_VALUE % b"tiff:Orientation")
_WIDTH = re.compile(_VALUE % b"(?:exif:PixelXDimension|tiff:ImageWidth)")
_HEIGHT = re.compile(_VALUE % b"(?:exif:PixelYDimension|tiff:ImageLength)")
# The packet of an "Ultra HDR" JPEG describes a second picture in the file, which is not kept.
_GAIN_MAP = b"hdrgm:Version"


def packet(raw: bytes | None) -> bytes | None:
    """`raw` if it can be carried on: UTF-8 text that describes this picture alone."""
    text = (raw or b"").strip(b"\x00")
    if not text or _GAIN_MAP in text:
        return None
    try:
        text.decode()
    except UnicodeDecodeError:
        return None
    return text


def orientation(text: bytes) -> int | None:
    """The EXIF orientation that the packet states, 1 to 8."""
    found = _ORIENTATION.search(text)
    value = int(found[2]) if found else 0
    return value if 1 <= value <= 8 else None


def upright(text: bytes) -> bytes:
    """The packet with orientation 1, where it states one."""
    return _ORIENTATION.sub(rb"\g<1>1", text)


def sized(text: bytes, width: int, height: int) -> bytes:
    """The packet with this size, where it states one."""
    text = _WIDTH.sub(b"\\g<1>%d" % width, text)
    return _HEIGHT.sub(b"\\g<1>%d" % height, text)
