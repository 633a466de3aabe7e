"""Colour: embedded profiles, CMYK through them, and what is no ordinary RGB."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from edgesr.errors import BadImage

if TYPE_CHECKING:
    from PIL.Image import Image

_BLACK_POINT_COMPENSATION = 0x2000  # LittleCMS's flag
# ITU-T H.273: what a file may say of its colours without a profile.
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics
_LIKE_SRGB = (1, 2, 5, 6, 7)  # primaries: BT.709, unstated, and those of standard television


def space(icc: bytes | None) -> str | None:
    """The colour space of an ICC profile (ICC.1, 7.2): `RGB`, `GRAY`, `CMYK`…; None: no profile."""
    if icc is None or len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("ascii", "replace").strip()


def for_channels(icc: bytes | None, channels: int) -> bytes | None:
    """`icc` if it says something of pixels with 1 to 4 such channels, else None."""
    allowed = ("RGB",) if channels > 2 else ("GRAY", "RGB")
    return icc if space(icc) in allowed else None


def check_cmyk(icc: bytes | None, name: str) -> bytes:
    """The profile of a CMYK picture; `BadImage` without one, for its colours are unknown."""
    if icc is None or space(icc) != "CMYK":
        raise BadImage(
            f"{name}: CMYK pixels without a profile that says their colours; "
            "convert it to RGB first"
        )
    return icc


def cmyk_to_srgb(image: Image, icc: bytes, name: str) -> Image:
    """The CMYK `image` as sRGB, relative colorimetric with black point compensation."""
    from PIL import ImageCms

    # Pillow has a name for it since 10.3.
    flags: Any = getattr(ImageCms, "Flags", int)(_BLACK_POINT_COMPENSATION)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            "RGB",
            flags=flags,
        )
    except (ImageCms.PyCMSError, OSError) as e:
        raise BadImage(f"{name}: its CMYK profile cannot be used; convert it to RGB first") from e
    assert converted is not None  # only in-place conversion gives None
    return converted


def check_coded(primaries: int, transfer: int, icc: bytes | None, name: str) -> None:
    """Raise `BadImage` for H.273 colours that would come out wrong."""
    if transfer in _HDR:
        kind = _HDR[transfer]
        raise BadImage(f"{name}: HDR pixels ({kind}) are not taken; convert it to sRGB first")
    if primaries not in _LIKE_SRGB and space(icc) is None:
        raise BadImage(
            f"{name}: colours of a wide gamut (H.273 primaries {primaries}) without a profile; "
            "convert it to sRGB first"
        )
