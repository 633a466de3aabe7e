"""Pictures from files and bytes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from edgesr.errors import BadImage
from edgesr.image import deep, exif, tiff
from edgesr.image.layout import layout, pixels
from edgesr.image.metadata import metadata
from edgesr.image.opening import format_of, opened
from edgesr.image.picture import (
    KNOWN,
    MAX_PIXELS,
    SUFFIXES,
    Facts,
    Metadata,
    Picture,
    to_8_bit,
    upright,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


def probe(path: Path, max_pixels: int = MAX_PIXELS) -> Facts:
    """What the header of the picture in `path` says; no pixel is decoded.

    Raises `BadImage` as `read` does, but for damage that only decoding shows.
    """
    with _file(path) as file, opened(file, str(path), max_pixels) as image:
        found = layout(image, file, str(path))
        said = metadata(image, file, found.channels)
        width, height = _stored_size(image)
        if said.orientation > 4:
            width, height = height, width
        return Facts(format_of(image), width, height, found.channels, found.bits)


def metadata_of(path: Path) -> Metadata:
    """What the picture in `path` says beside its pixels; raises `BadImage` as `probe` does."""
    with _file(path) as file, opened(file, str(path), sys.maxsize) as image:
        return metadata(image, file, layout(image, file, str(path)).channels)


def read(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in `path`, upright.

    Palettes become RGB or RGBA; CMYK becomes sRGB through its profile. Raises `BadImage`, one
    line with the reason, for anything that is missing, damaged, animated, larger than
    `max_pixels` or of another colour space.
    """
    with _file(path) as file:
        return _read(file, str(path), max_pixels)


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture that a file of these bytes holds, as `read`; `name` is for messages."""
    return _read(io.BytesIO(data), name, max_pixels)


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """The picture in `path` as HWC uint8 RGB; grey is replicated, 16 bit rounded to 8.

    An alpha channel that is opaque everywhere is dropped. Raises `BadImage` as `read` does,
    and for a picture with transparency.
    """
    found = read(path).pixels
    if found.shape[2] in (2, 4):
        if found[..., -1].min() < np.iinfo(found.dtype).max:
            raise BadImage(f"{path}: has transparency, and RGB is wanted here; flatten it first")
        found = found[..., :-1]
    rgb = np.ascontiguousarray(to_8_bit(found))
    return np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb


def load_folder(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name; hidden files are left out.

    Raises `BadImage` when the folder is missing or has none.
    """
    if not folder.is_dir():
        raise BadImage(f"{folder}: no such folder")
    try:
        found = sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
        )
    except OSError as e:
        raise BadImage(f"{folder}: {e.strerror or e}") from e
    if not found:
        raise BadImage(f"{folder}: no pictures there; read are {KNOWN}")
    return found


def _read(file: IO[bytes], name: str, max_pixels: int) -> Picture:
    with opened(file, name, max_pixels) as image:
        found = layout(image, file, name)
        said = metadata(image, file, found.channels)
        orientation = _to_turn(image, said)
        decoder = deep.pixels if found.bits == 16 else pixels
        decoded = upright(decoder(image, found, file, name), orientation)
        return Picture(np.ascontiguousarray(decoded), said.icc, said.exif, said.dpi, said.xmp)


def _stored_size(image: Image) -> tuple[int, int]:
    """Width and height as in the file; Pillow gives those of a TIFF upright since 11.2."""
    if image.format != "TIFF":
        return image.size
    tags = getattr(image, "tag_v2", {})
    return int(tags[tiff.WIDTH]), int(tags[tiff.HEIGHT])


def _to_turn(image: Image, said: Metadata) -> int:
    """The orientation that is still to be applied; both decoders follow the tag of a TIFF."""
    by_tag = image.format == "TIFF" and exif.ORIENTATION in getattr(image, "tag_v2", {})
    return 1 if by_tag else said.orientation


@contextmanager
def _file(path: Path) -> Iterator[IO[bytes]]:
    if not path.is_file():
        if path.is_dir():
            raise BadImage(f"{path}: is a folder, not a picture; name its pictures: {path}/*.png")
        raise BadImage(f"{path}: no such file")
    try:
        file = path.open("rb")
    except PermissionError as e:
        raise BadImage(f"{path}: no permission to read it") from e
    except OSError as e:
        raise BadImage(f"{path}: cannot be read: {e.strerror or e}") from e
    with file:
        yield file
