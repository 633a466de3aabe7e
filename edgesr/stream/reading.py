"""Pictures from files, row by row: the whole is never in memory."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr import image
from edgesr.errors import BadImage, Impossible, MissingExtra
from edgesr.image.picture import SUFFIXES
from edgesr.rows import BufferedRows
from edgesr.stream import blocks, jpeg_reading, png_reading, tiff_reading
from edgesr.stream.jpeg_reading import jpeg_strips, why_not_in_rows
from edgesr.stream.png_reading import png_strips, read_png_head
from edgesr.stream.tiff_reading import read_tiff_head, tiff_strips
from edgesr.stream.writing import WRITTEN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.image import Facts

READ = ("PNG", "TIFF", "JPEG")
_MOST_BYTES = 64 << 20  # of a part that is decoded at once
# Of the part that is decoded, at the peak, measured: as a file, in the decoder, as pixels, and
# what is still due of the part before.
_COPIES = 6
_UPRIGHT, _MIRRORED = 1, 2  # orientations (EXIF 2.32, 4.6.4) that keep the order of rows


def can_stream(facts: Facts, output: Path, source: Path) -> str | None:
    """None if the picture in `source` can go to `output` row by row; else the reason in words.

    `facts` are what `image.probe` says of it; no pixel is decoded. Raises `BadImage` when the
    file cannot be read.
    """
    fmt = SUFFIXES.get(output.suffix.lower(), output.suffix)
    if fmt not in WRITTEN:
        return f"{fmt} is not written row by row; name a .png or .tif file"
    if facts.fmt == "JPEG" and find_spec("pyvips") is None:
        return str(MissingExtra("pyvips", "stream", jpeg_reading.PURPOSE))
    with _opened(source) as file:
        return _why_not(file, source, facts)


def working_bytes(source: Path, facts: Facts, size: tuple[int, int]) -> int:
    """What reading the picture and writing it at `size` (height, width) holds at its peak.

    An upper bound, beside what `Enlarger.strips` holds; `facts` are what `image.probe` says.
    """
    pixel = facts.channels * facts.bits // 8
    block = max(blocks.BLOCK_BYTES, size[1] * pixel)
    count = blocks.threads()
    writing = max(blocks.PENDING_BYTES, 2 * count * block) + 4 * count * block
    return writing + _reading_bytes(source, facts, facts.width * pixel)


def _reading_bytes(source: Path, facts: Facts, row: int) -> int:
    if facts.fmt == "JPEG":
        return row * min(jpeg_reading.HELD_ROWS, facts.height)
    part = max(png_reading.BAND_BYTES, row)
    if facts.fmt == "TIFF":
        with _opened(source) as file:
            head = read_tiff_head(file)
        part = max(tiff_reading.BAND_BYTES, head.part_bytes if head else 0)
    return _COPIES * part


class StreamedRows(BufferedRows):
    """The rows of the picture in `path`, upright, decoded as they are taken.

    The pixels are those of `image.read`. `facts` are what `image.probe` says. Raises
    `Impossible` with the reason for a file that can be read only as a whole, `MissingExtra` for
    a JPEG without pyvips; `take` raises `BadImage` where the file is damaged. `close` it.
    """

    def __init__(self, path: Path, facts: Facts) -> None:
        if facts.fmt == "JPEG" and find_spec("pyvips") is None:
            raise MissingExtra("pyvips", "stream", jpeg_reading.PURPOSE)
        self._file = _opened(path)
        try:
            why = _why_not(self._file, path, facts)
        except BaseException:
            self.close()
            raise
        if why is not None:
            self.close()
            raise Impossible(f"{path} cannot be read row by row: {why}")
        super().__init__(
            _upright(self._file, path, facts),
            height=facts.height, width=facts.width, channels=facts.channels, dtype=facts.dtype,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as e:
        raise BadImage(f"{path}: cannot be read: {e.strerror or e}") from e


def _why_not(file: IO[bytes], path: Path, facts: Facts) -> str | None:
    if facts.fmt not in READ:
        return f"{facts.fmt} is not read row by row; convert it to PNG or TIFF first"
    if image.metadata_of(path).orientation not in (_UPRIGHT, _MIRRORED):
        return "it is stored turned; save it upright first"
    if facts.fmt == "JPEG":
        return why_not_in_rows(file)
    if facts.fmt == "PNG":
        png = read_png_head(file)
        if png is None:
            return "the file is damaged"
        interlaced = "an interlaced PNG must be decoded as a whole; save it without"
        return interlaced if png.interlaced else None
    tiff = read_tiff_head(file)
    if tiff is None:
        return "this kind of TIFF, or damage in it, does not let it be read in parts"
    most = max(tiff.part_bytes, max(tiff.lengths))
    if most > _MOST_BYTES:
        kind = "rows of tiles" if tiff.tiled else "strips"
        return f"its {kind} are of {most / 2**20:.0f} MB; save it with smaller ones"
    return None


def _upright(file: IO[bytes], path: Path, facts: Facts) -> Iterator[NDArray[Any]]:
    mirrored = image.metadata_of(path).orientation == _MIRRORED
    try:
        for strip in _strips(file, str(path), facts):
            yield np.ascontiguousarray(strip[:, ::-1]) if mirrored else strip
    except OSError as e:  # not of the output, though that is open meanwhile
        raise BadImage(f"{path}: cannot be read: {e.strerror or e}") from e


def _strips(file: IO[bytes], name: str, facts: Facts) -> Iterator[NDArray[Any]]:
    if facts.fmt == "JPEG":
        return jpeg_strips(file, facts.height, name)
    if facts.fmt == "PNG":
        png = read_png_head(file)
        assert png is not None
        return png_strips(file, png, name)
    tiff = read_tiff_head(file)
    assert tiff is not None
    return tiff_strips(file, tiff, name)
