"""JPEG files read row by row, by libvips: Pillow decodes only the whole."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.errors import BadImage, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

PURPOSE = "reading a JPEG row by row"
_ROWS = 16  # those of the largest blocks of a JPEG
# Measured on pictures of 1,000 to 50,000 columns: what libvips holds between decoder and us.
HELD_ROWS = 2400
_BASELINE = (0xC0, 0xC1)  # markers of frames that are decoded as they come
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _TEMPORARY = 0xDA, 0x01


def why_not_in_rows(file: IO[bytes]) -> str | None:
    """Why the JPEG in `file` cannot be decoded from top to bottom; None if it can."""
    file.seek(2)
    components = 0
    while True:
        head = file.read(2)
        if len(head) < 2 or head[0] != 0xFF:
            return "the file is damaged"
        marker = head[1]
        if marker in (0xFF, _TEMPORARY):
            file.seek(-1 if marker == 0xFF else 0, 1)
            continue
        length = file.read(2)
        data = file.read(struct.unpack(">H", length)[0] - 2) if len(length) == 2 else b""
        if marker in _FRAMES and len(data) > 5:
            components = data[5]
            if marker not in _BASELINE:
                return "a progressive JPEG must be decoded as a whole"
            if components not in (1, 3):
                return "CMYK pixels are converted as a whole"
        if marker == _SCAN:
            several = bool(data) and data[0] != components
            return "this JPEG has several scans and must be decoded as a whole" if several else None


def jpeg_strips(file: IO[bytes], height: int, name: str) -> Iterator[NDArray[Any]]:
    """The rows of the JPEG in `file` in order, HWC uint8, not turned.

    Raises `BadImage` where the file is damaged, `MissingExtra` without pyvips; `name` is for
    messages.
    """
    try:
        import pyvips
    except ImportError as e:
        raise MissingExtra("pyvips", "stream", PURPOSE) from e
    pyvips.cache_set_max(0)
    try:
        source = pyvips.Source.new_from_descriptor(file.fileno())
        # Not by path: libvips takes a name that ends in brackets for options.
        whole = pyvips.Image.jpegload_source(source, access="sequential", fail_on="truncated")
        region = pyvips.Region.new(whole)
        for start in range(0, min(height, whole.height), _ROWS):
            rows = min(_ROWS, whole.height - start)
            pixels = np.frombuffer(region.fetch(0, start, whole.width, rows), np.uint8)
            yield pixels.reshape(rows, whole.width, whole.bands)
    except pyvips.Error as e:
        raise BadImage(f"{name}: the picture is damaged: {_reason(e)}") from e


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "libvips cannot decode it"
