"""Pictures to files, row by row: the whole is never in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesr.atomic import atomic_file
from edgesr.image.picture import SUFFIXES
from edgesr.stream.png_writing import write_png
from edgesr.stream.tiff_writing import write_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.image import Metadata

WRITTEN = ("PNG", "TIFF")


def write_strips(
    path: Path,
    strips: Iterator[NDArray[Any]],
    *,
    height: int,
    width: int,
    channels: int,
    dtype: np.dtype[Any],
    metadata: Metadata,
) -> None:
    """Write `strips`, in order from the top, to the PNG or TIFF file `path`.

    Each strip is HWC of any height, `width` and `channels` (1 grey, 2 grey and alpha, 3 RGB,
    4 RGBA), and `dtype` (uint8 or uint16); together they have `height` rows. The file appears
    whole or not at all, with `metadata`: where EXIF or XMP state a size, it becomes this one.
    Compression goes on in threads while `strips` computes. A TIFF that passes 4 GiB is a BigTIFF.
    Raises `WriteFailed` when the disk refuses.
    """
    dtype, shape = np.dtype(dtype), (height, width, channels)
    checked = _checked(strips, shape, dtype)
    said = metadata.for_size(width, height)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        if SUFFIXES[path.suffix.lower()] == "PNG":
            write_png(file, checked, shape, dtype, said)
        elif channels == 2 and dtype == np.uint16:  # nearly nothing reads such a TIFF
            rgba = (strip[..., [0, 0, 0, 1]] for strip in checked)
            write_tiff(file, rgba, (height, width, 4), dtype, said)
        else:
            write_tiff(file, checked, shape, dtype, said)


def _checked(
    strips: Iterator[NDArray[Any]], shape: tuple[int, int, int], dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    rows = 0
    for strip in strips:
        assert strip.shape[1:] == shape[1:], f"a strip of {strip.shape} in a picture of {shape}"
        assert strip.dtype == dtype, f"a strip of {strip.dtype} where {dtype} was said"
        rows += len(strip)
        yield strip
        del strip  # or it lives on beside the next one
    assert rows == shape[0], f"{rows} rows where {shape[0]} were said"
