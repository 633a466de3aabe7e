"""Which of our layouts a file's pixels become, and the pixels that Pillow decodes for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.errors import BadImage
from edgesr.image import png, profile, tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_BITS, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 258, 277, 284, 339  # TIFF tag numbers
_ASSOCIATED = 1  # extra sample: alpha that the colours are multiplied by
_HIGH_BIT_DEPTH, _TWELVE_BIT = 0x40, 0x20  # in the third byte of av1C
_SEARCHED = 1 << 16  # bytes of an AVIF's start in which its boxes lie


@dataclass(frozen=True)
class Layout:
    """How `Image`'s pixels become ours: `mode` is Pillow's name of the same layout in 8 bit."""

    mode: str  # L, LA, RGB or RGBA
    depth: int  # of the file: 8, 10, 12 or 16; 1 to 4 count as 8

    @property
    def channels(self) -> int:
        """1 grey, 2 grey and alpha, 3 RGB, 4 RGBA."""
        return _CHANNELS[self.mode]

    @property
    def bits(self) -> int:
        """Of our pixels: 8 or 16."""
        return 16 if self.depth > 8 else 8


def layout(image: Image, file: IO[bytes], name: str) -> Layout:
    """Of `image`, freshly opened from `file`; raises `BadImage` for kinds that are not taken."""
    mode = image.mode
    if image.format == "TIFF" and 16 in _tags(image, _BITS):
        return _deep_tiff(image, name)
    if mode == "CMYK":
        profile.check_cmyk(image.info.get("icc_profile"), name)
        return Layout("RGB", 8)
    if mode in ("YCbCr", "LAB", "HSV", "F") or (mode.startswith("I") and image.format != "PNG"):
        kind = {"F": "floating point", "I": "32-bit"}.get(mode, mode)
        raise BadImage(f"{name}: {kind} pixels are not taken; convert it to 8- or 16-bit RGB")
    depth = 8
    if image.format == "PNG":
        return _png(image, file, name)
    if image.format == "AVIF":
        depth = _avif_depth(image, file, name)
    alpha = image.has_transparency_data
    grey = mode in _GREY
    return Layout(("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB"), depth)


def pixels(image: Image, found: Layout, file: IO[bytes], name: str) -> NDArray[Any]:
    """HWC uint8 pixels of `image`, as the decoder gives them: not turned upright."""
    if image.mode == "CMYK":
        icc = profile.check_cmyk(image.info.get("icc_profile"), name)
        image.load()
        return np.asarray(profile.cmyk_to_srgb(image, icc, name))
    image.load()
    hidden = None
    if image.format == "PNG" and image.mode in ("1", "L") and found.mode == "LA":
        # Pillow compares the transparent grey of 2 or 4 bits with pixels scaled to 8.
        stated = int.from_bytes(png.ancillary(file, b"tRNS")[b"tRNS"][-1][:2], "big")
        hidden = stated * (255 // ((1 << png.header(file)[0]) - 1))
        del image.info["transparency"]
    if image.mode in ("La", "RGBa"):  # Pillow un-premultiplies to these only
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    mode = "L" if hidden is not None else found.mode
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    array = array.reshape(image.height, image.width, _CHANNELS[mode])
    if hidden is None:
        return array
    return np.concatenate([array, np.where(array == hidden, 0, 255).astype(np.uint8)], axis=2)


def _png(image: Image, file: IO[bytes], name: str) -> Layout:
    depth, colour_type = png.header(file)
    found = png.ancillary(file, b"cICP", b"iCCP")
    for data in found[b"cICP"][:1]:
        if len(data) >= 2:
            icc = png.icc_profile(found[b"iCCP"][0]) if found[b"iCCP"] else None
            profile.check_coded(data[0], data[1], icc, name)
    alpha = image.has_transparency_data or colour_type in (4, 6)
    if colour_type in (0, 4):
        return Layout("LA" if alpha else "L", max(depth, 8))
    return Layout("RGBA" if alpha else "RGB", max(depth, 8))


def _deep_tiff(image: Image, name: str) -> Layout:
    photometric, extra = _tags(image, tiff.PHOTOMETRIC), _tags(image, tiff.EXTRA_SAMPLES)
    samples, planes = _tags(image, _SAMPLES) or (1,), _tags(image, _PLANES)
    if photometric not in ((0,), (1,), (2,)) or set(_tags(image, _BITS)) != {16}:
        raise BadImage(f"{name}: 16-bit TIFF of a kind that is not taken; convert it to RGB")
    if set(_tags(image, _SAMPLE_FORMAT)) - {1, 4}:
        raise BadImage(f"{name}: signed pixels are not taken; convert it to 16-bit RGB")
    if planes == (2,) and samples[0] > 1:
        raise BadImage(f"{name}: 16-bit TIFF with separate planes is not taken; interleave them")
    grey = photometric != (2,)
    if samples[0] > (1 if grey else 4) or samples[0] == 2:
        raise BadImage(f"{name}: 16-bit TIFF with extra channels is not taken; remove them")
    # An extra sample without a meaning is none of transparency.
    alpha = not grey and samples[0] == 4 and extra != (0,) and extra != ()
    return Layout("L" if grey else "RGBA" if alpha else "RGB", 16)


def _avif_depth(image: Image, file: IO[bytes], name: str) -> int:
    """Bits of each sample (AV1-ISOBMFF 2.3.3); refuses HDR, whose levels mean something else."""
    file.seek(0)
    head = file.read(_SEARCHED)
    at = head.find(b"colrnclx")
    if at >= 0 and at + 12 <= len(head):
        primaries, transfer = head[at + 9], head[at + 11]  # 16-bit, big-endian
        profile.check_coded(primaries, transfer, image.info.get("icc_profile"), name)
    at = head.find(b"av1C")
    flags = head[at + 6] if at >= 0 and at + 6 < len(head) else 0
    return 8 if not flags & _HIGH_BIT_DEPTH else 12 if flags & _TWELVE_BIT else 10


def is_white_zero(image: Image) -> bool:
    """Whether a TIFF counts its grey from white."""
    return _tags(image, tiff.PHOTOMETRIC) == (0,)


def is_premultiplied(image: Image) -> bool:
    """Whether a TIFF's colours are multiplied by its alpha."""
    return _ASSOCIATED in _tags(image, tiff.EXTRA_SAMPLES)


def _tags(image: Image, tag: int) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return tuple(value) if isinstance(value, tuple) else (int(value),)
