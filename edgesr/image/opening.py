"""A picture's file, opened by Pillow with only its header read, and refused early if need be.

The checks come before memory is taken for pixels: what it is, its size against the limit, that
it is one picture, and that its parts are not larger than itself.
"""

from __future__ import annotations

import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import IO, TYPE_CHECKING

from edgesr.errors import BadImage
from edgesr.image.picture import KNOWN

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow's decoders raise on damaged files.
DECODE_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError,
    AttributeError, AssertionError, RuntimeError, struct.error, zlib.error, MemoryError,
)  # fmt: skip

_PLUGINS = {
    "PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "BMP": "Bmp", "TIFF": "Tiff", "AVIF": "Avif",
}  # fmt: skip
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis")  # brands
_OTHERS = {
    b"GIF8": "GIF", b"\xff\x0a": "JPEG XL", b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000", b"%PDF": "PDF", b"8BPS": "a Photoshop file",
    b"v/1\x01": "OpenEXR",
}  # fmt: skip
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF tags
_INTERNAL = re.compile(r"^\d+$|unpack|out of range|not identified")  # texts for programmers
_SEVERAL_VIEWS = "Multi-Frame"  # kinds of MPO whose pictures are of equal rank


class _Tamed:
    """Pillow without its warnings and its own limit of pixels, while any thread is inside.

    Both are global. Doubtful metadata is no matter for its users here, and doubtful pixels are
    errors; the limit is ours to check.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        from PIL import Image

        with self._lock:
            if self._inside == 0:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._warnings.__exit__(None, None, None)
                    Image.MAX_IMAGE_PIXELS = self._limit


_tamed = _Tamed()


@contextmanager
def opened(file: IO[bytes], name: str, max_pixels: int) -> Iterator[Image]:
    """The picture in `file`, its header read and found in order; `name` is for messages.

    Whatever decoders raise, here or in the block, becomes `BadImage`.
    """
    with _tamed():
        try:
            kind = _format(file, name)
            if kind == "WEBP":  # its decoder takes memory as soon as it is made
                _check_size(*_webp_size(file), name, max_pixels)
            with _plugin(kind, file, name) as image:
                _check_size(*image.size, name, max_pixels)
                _check_parts(image, name, max_pixels)
                yield image
        except DECODE_ERRORS as e:
            raise BadImage(f"{name}: {_reason(e)}") from e


def has_avif() -> bool:
    """Whether the Pillow at hand reads and writes AVIF; its wheels do since 11.3."""
    from PIL import features

    return "avif" in features.modules and features.check_module("avif")


def format_of(image: Image) -> str:
    """`PNG`, `JPEG`…, as in `SUFFIXES`."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def _format(file: IO[bytes], name: str) -> str:
    """The format that the first bytes name."""
    file.seek(0)
    head = file.read(64)
    if not head:
        raise BadImage(f"{name}: the file is empty")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM"):
        return "BMP"
    if head.startswith(_TIFF_MAGIC):
        return "TIFF"
    if head[4:8] == b"ftyp" and (b"avif" in head or b"avis" in head):
        return "AVIF"
    other = next((text for magic, text in _OTHERS.items() if head.startswith(magic)), None)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        other = "HEIC"
    it_is = f"it is {other}, " if other else ""
    raise BadImage(f"{name}: {it_is}not a picture that EdgeSR reads ({KNOWN})")


def _plugin(kind: str, file: IO[bytes], name: str) -> Image:
    """Pillow's reader of that one format, which says what it dislikes; `Image.open` does not."""
    from PIL import Image

    if kind == "AVIF" and not has_avif():
        raise BadImage(f"{name}: this Pillow reads no AVIF; pip install 'pillow>=11.3'")
    import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
    file.seek(0)
    return Image.OPEN[kind][0](file, "")


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        limit = f"more than {max_pixels / 1e6:.4g} megapixels"
        raise BadImage(f"{name}: {width}x{height} is {limit}; raise the limit with --max-pixels")


def _check_parts(image: Image, name: str, max_pixels: int) -> None:
    if image.format == "MPO":
        # Beside a photograph lie previews, depth or gain maps; only stereo pairs are several.
        entries = getattr(image, "mpinfo", {}).get(0xB002, ())
        views = [e for e in entries if _SEVERAL_VIEWS in str(e["Attribute"]["MPType"])]
        frames = max(1, len(views))
    else:
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise BadImage(f"{name}: holds {frames} pictures; save them one by one")
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        # Its decoder takes memory for whole tiles. Tiles reach over the picture by less than one.
        tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
        if tile > max(max_pixels, 1 << 20):
            raise BadImage(f"{name}: the picture is damaged: tiles of {tile / 1e6:.0f} megapixels")


def _webp_size(file: IO[bytes]) -> tuple[int, int]:
    """Width and height of the canvas (RFC 9649, 2.5 to 2.7); (0, 0) where it says none."""
    file.seek(12)
    head = file.read(18)
    kind, data = head[:4], head[8:]
    if kind == b"VP8X" and len(data) >= 10:
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (4, 7))
    elif kind == b"VP8L" and len(data) >= 5:
        bits = int.from_bytes(data[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and len(data) >= 10:
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    else:
        width = height = 0
    return width, height


def _reason(e: BaseException) -> str:
    if isinstance(e, PermissionError):
        return "no permission to read it"
    if isinstance(e, MemoryError):
        return "does not fit in memory"
    text = (str(e) or type(e).__name__).splitlines()[0]
    if isinstance(e, SyntaxError | LookupError | struct.error) and _INTERNAL.search(text):
        text = "its header makes no sense"
    elif text.startswith("decoder error"):
        text = "its pixels cannot be decoded"
    if "max_text" in text.lower() or "data too large" in text.lower():
        return "a text or profile in it unpacks to more than 1 MB, which may be a bomb; remove it"
    if "unknown pixel mode" in text or "unknown data organization" in text:
        return "a TIFF of a kind that is not taken; convert it to 8- or 16-bit RGB"
    return f"the picture is damaged: {text}"
