"""What a picture is, in memory and in its file's header."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesr.image import exif, xmp

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_PIXELS = 100_000_000  # of a picture that is read; ×4 it fills 4.8 GB in 8-bit RGB
SUFFIXES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP",
    ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF",
}  # fmt: skip
KNOWN = "PNG, JPEG, WebP, BMP, TIFF and AVIF"


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels.

    `exif` begins with `Exif\\0\\0`; in it and in `xmp` (UTF-8) the orientation is 1, while
    `orientation` (1 to 8, EXIF 2.32, 4.6.4) is how the file's own rows are to be turned. `dpi`
    is (horizontal, vertical).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    orientation: int = 1

    def for_size(self, width: int, height: int) -> Metadata:
        """The same for upright pixels of this size, where EXIF and XMP state one."""
        block, packet = self.exif, self.xmp
        return replace(
            self,
            exif=exif.sized(block, width, height) if block else None,
            xmp=xmp.sized(xmp.upright(packet), width, height) if packet else None,
            orientation=1,
        )


@dataclass(frozen=True)
class Picture:
    """Upright pixels (HWC, 1 to 4 channels, uint8 or uint16) and the file's metadata.

    Channels are grey, grey and alpha, RGB, or RGBA; colours are not premultiplied. `exif` begins
    with `Exif\\0\\0` and says orientation 1; `xmp` is UTF-8; `dpi` is (horizontal, vertical).
    """

    pixels: NDArray[Any]
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None

    @property
    def metadata(self) -> Metadata:
        """All but the pixels."""
        return Metadata(self.icc, self.exif, self.xmp, self.dpi)


@dataclass(frozen=True)
class Facts:
    """What a header says: `read` would give `height` x `width` x `channels` of `bits`."""

    fmt: str  # one of the values of SUFFIXES
    width: int  # upright, pixels
    height: int
    channels: int
    bits: int  # 8 or 16

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)


def to_8_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint16 pixels rounded to uint8 (65535 → 255); uint8 ones unchanged."""
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The rows of a file as EXIF `orientation` (1 to 8) wants them shown; a view."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def straight_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels whose colours were multiplied by alpha (the last channel), divided by it again.

    Where alpha is 0 the colour is 0. Rounded to the nearest, at most the largest value.
    """
    top = int(np.iinfo(pixels.dtype).max)
    alpha = pixels[..., -1:].astype(np.uint32)
    # 16 bit just fits: 65535 * 65535 + 32767 < 2**32.
    divided = (pixels[..., :-1] * np.uint32(top) + alpha // 2) // np.maximum(alpha, 1)
    colours = np.where(alpha > 0, np.minimum(divided, top), 0).astype(pixels.dtype)
    return np.concatenate([colours, pixels[..., -1:]], axis=2)
