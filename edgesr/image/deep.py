"""Pixels of more than 8 bits, which Pillow would cut to 8: OpenCV decodes them."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.errors import BadImage
from edgesr.image import png
from edgesr.image.layout import Layout, is_premultiplied, is_white_zero
from edgesr.image.picture import straight_alpha

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

_TOP = 65535


def pixels(image: Image, found: Layout, file: IO[bytes], name: str) -> NDArray[Any]:
    """HWC uint16 pixels of `image`, as the decoder gives them: TIFFs come upright.

    `found` is its layout. 10 and 12 bits are spread over all 16.
    """
    white_zero, premultiplied = is_white_zero(image), is_premultiplied(image)
    image.load()  # OpenCV gives what it has of a file that ends early
    decoded = _decoded(file, name)
    if decoded.shape[:2] != (image.height, image.width):
        raise _undecodable(name)
    if image.format == "PNG" and found.channels in (2, 4):
        return _png_alpha(decoded, found, file, name)
    decoded = _ordered(decoded, name)
    if found.channels == 3:
        decoded = decoded[..., :3]
    if decoded.shape[2] != found.channels:
        raise _undecodable(name)
    if image.format == "TIFF" and white_zero:
        decoded = _TOP - decoded
    if image.format == "TIFF" and premultiplied and found.channels == 4:
        decoded = straight_alpha(decoded)
    if found.depth < 16:
        top = (1 << found.depth) - 1
        spread = np.minimum(decoded, top).astype(np.uint32) * _TOP + top // 2
        decoded = (spread // top).astype(np.uint16)
    return decoded


def _decoded(file: IO[bytes], name: str) -> NDArray[Any]:
    """HW or HWC uint16, colours in OpenCV's order, as the file has them."""
    import cv2

    file.seek(0, 2)  # older versions of Pillow move the file behind its buffer's back
    file.seek(0)
    data = np.frombuffer(file.read(), np.uint8)
    # It writes to the terminal what is wrong with a file.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        # UNCHANGED leaves the orientation of a PNG alone, but not that of a TIFF.
        decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # damage that Pillow overlooked
        decoded = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if decoded is None or decoded.dtype != np.uint16:
        raise _undecodable(name)
    return decoded


def _ordered(decoded: NDArray[Any], name: str) -> NDArray[Any]:
    """HWC with channels in our order."""
    if decoded.ndim == 2:
        return decoded[..., None]
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(decoded.shape[2])
    if order is None:
        raise _undecodable(name)
    return np.asarray(decoded[..., order])


def _png_alpha(decoded: NDArray[Any], found: Layout, file: IO[bytes], name: str) -> NDArray[Any]:
    """A PNG with alpha, or with one transparent colour: not all of OpenCV's versions expand it."""
    grey = found.channels == 2
    colours = decoded[..., :1] if grey and decoded.ndim == 3 else _ordered(decoded, name)
    if not grey:
        colours = colours[..., :3]
    if png.header(file)[1] in (4, 6):
        if decoded.ndim != 3 or decoded.shape[2] != 4:  # grey with alpha comes as BGRA too
            raise _undecodable(name)
        return np.concatenate([colours, decoded[..., 3:]], axis=2)
    hidden = np.frombuffer(png.ancillary(file, b"tRNS")[b"tRNS"][0], ">u2")
    if colours.shape[2] != len(hidden):
        raise _undecodable(name)
    alpha = np.where((colours == hidden).all(axis=2, keepdims=True), 0, _TOP)
    return np.concatenate([colours, alpha.astype(np.uint16)], axis=2)


def _undecodable(name: str) -> BadImage:
    return BadImage(f"{name}: its 16-bit pixels cannot be decoded; convert it to 8 bit")
