"""Small pictures of every kind that EdgeSR reads, as the files of other programs and its own."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesr import image
from edgesr.image.opening import has_avif

HEIGHT, WIDTH = 9, 13
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" '
    b'exif:PixelXDimension="13"><tiff:ImageLength>9</tiff:ImageLength></rdf:Description>'
    b"</x:xmpmeta>"
)


def seeds() -> dict[str, dict[str, bytes]]:
    """The bytes of each seed, by format and by kind. The same in every run on one machine."""
    kinds = {
        "PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "BMP": _bmp, "TIFF": _tiff, "AVIF": _avif,
    }  # fmt: skip
    return {fmt: dict(make()) for fmt, make in kinds.items()}


def pixels(channels: int, bits: int = 8) -> NDArray[np.generic]:
    """HWC: a ramp with some noise on it."""
    rng = np.random.default_rng(channels * 100 + bits)
    top = (1 << bits) - 1
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    ramp = (x * 17 + y * 9 + c * 40) % 230 / 255 * top
    noisy = ramp + rng.integers(0, top // 12, ramp.shape)
    return noisy.astype(np.uint8 if bits == 8 else np.uint16)


def exif(orientation: int) -> bytes:
    """An EXIF block with a directory of its own for the camera, and a size."""
    from PIL import Image

    block = Image.Exif()
    block[0x0112], block[0x010F] = orientation, "Maker"
    block.get_ifd(0x8769).update({0x9003: "2024:05:06 07:08:09", 0xA002: WIDTH, 0xA003: HEIGHT})
    return block.tobytes()


def srgb() -> bytes:
    """A profile of RGB."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def cmyk_profile(corners: NDArray[np.uint8] | None = None) -> bytes:
    """An ICC profile (version 2, `lut8Type`, ICC.1:2001-04, 6.5.8) from CMYK to Lab.

    `corners` (2, 2, 2, 2, 3) are the encoded Lab of ink off and on, the axes C, M, Y, K; the
    default makes each ink darken alike and colour as its name says.
    """
    if corners is None:
        c, m, y, k = np.mgrid[0:2, 0:2, 0:2, 0:2]
        lightness = np.clip(255 - 60 * (c + m + y) - 150 * k, 10, 255)
        corners = np.stack([lightness, 128 - 50 * c + 60 * m, 128 - 40 * c + 70 * y], -1)
        corners = np.where(k[..., None] * [0, 1, 1] == 1, 128, corners).astype(np.uint8)
    line = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + line * 4
    table += corners.tobytes() + line * 3
    table += bytes(-len(table) % 4)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"test\x00" + bytes(3)
    tags, at = [], 128 + 4 + 3 * 12
    for name, data in ((b"A2B0", table), (b"wtpt", white), (b"cprt", text)):
        tags.append((name, at, data))
        at += len(data)
    head = struct.pack(">I4sI4s4s4s", at, b"lcms", 0x02200000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    head = head.ljust(128, b"\x00") + struct.pack(">I", len(tags))
    entries = b"".join(struct.pack(">4sII", name, at, len(data)) for name, at, data in tags)
    return head + entries + b"".join(data for _, _, data in tags)


def _saved(
    array: NDArray[np.generic], fmt: str, mode: str | None = None, **options: object
) -> bytes:
    from PIL import Image

    made = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if mode == "P":
        made = made.quantize(16)
    elif mode:
        made = made.convert(mode)
    buffer = io.BytesIO()
    made.save(buffer, fmt, **options)
    return buffer.getvalue()


def _ours(suffix: str, channels: int, bits: int, rich: bool = True) -> bytes:
    picture = image.Picture(
        pixels(channels, bits),
        srgb() if channels > 2 and rich else None,
        exif(1) if rich else None,
        (300.0, 150.0) if rich else None,
        XMP if rich else None,
    )
    return image.encode(picture, Path("a" + suffix))


def _png() -> Iterator[tuple[str, bytes]]:
    for channels in (1, 2, 3, 4):
        for bits in (8, 16):
            yield f"{channels}x{bits}", _ours(".png", channels, bits, rich=False)
    yield "metadata", _ours(".png", 3, 8)
    yield "metadata 16", _ours(".png", 4, 16)
    yield "palette", _saved(pixels(3), "PNG", "P")
    yield "transparent palette", _saved(pixels(3), "PNG", "P", transparency=b"\x00\x80\xff")
    yield "transparent grey", _saved(pixels(1), "PNG", transparency=7)
    yield "transparent colour", _saved(pixels(3), "PNG", transparency=(1, 2, 3))
    yield "1 bit", _saved(pixels(1), "PNG", "1")
    yield "turned", _saved(pixels(3), "PNG", exif=exif(6))
    yield "transparent 16", _transparent_16()
    yield "adam7", _interlaced()
    yield "animation", _animated("PNG")


def _transparent_16() -> bytes:
    from edgesr.image import png

    data = _ours(".png", 3, 16, rich=False)
    hidden = png.chunk(b"tRNS", struct.pack(">3H", *map(int, pixels(3, 16)[0, 0])))
    return data[:33] + hidden + data[33:]  # behind IHDR


def _interlaced() -> bytes:
    from edgesr.image import png

    rows = b"".join(
        b"\x00" + bytes(-(-(WIDTH - x) // dx) * 3) + b""
        for x, y, dx, dy in (
            (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
            (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
        )
        for _ in range(y, HEIGHT, dy)
    )  # fmt: skip
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(png.chunk(kind, data) for kind, data in parts)


def _jpeg() -> Iterator[tuple[str, bytes]]:
    yield "grey", _ours(".jpg", 1, 8, rich=False)
    yield "colour", _ours(".jpg", 3, 8, rich=False)
    yield "metadata", _ours(".jpg", 3, 8)
    yield "turned", _saved(pixels(3), "JPEG", exif=exif(8))
    yield "progressive", _saved(pixels(3), "JPEG", progressive=True)
    yield "subsampled", _saved(pixels(3), "JPEG", subsampling=2, restart_marker_blocks=1)
    yield "cmyk", _saved(pixels(4), "JPEG", "CMYK", icc_profile=cmyk_profile())
    yield "pages", _animated("MPO")


def _webp() -> Iterator[tuple[str, bytes]]:
    for channels in (3, 4):
        yield f"lossy {channels}", _ours(".webp", channels, 8, rich=False)
        yield f"lossless {channels}", _saved(pixels(channels), "WEBP", lossless=True)
    yield "metadata", _ours(".webp", 4, 8)
    yield "turned", _saved(pixels(3), "WEBP", exif=exif(5), xmp=XMP)
    yield "animation", _animated("WEBP")


def _bmp() -> Iterator[tuple[str, bytes]]:
    yield "grey", _saved(pixels(1), "BMP")
    yield "colour", _saved(pixels(3), "BMP", dpi=(96, 96))
    yield "alpha", _saved(pixels(4), "BMP")
    yield "palette", _saved(pixels(3), "BMP", "P")
    yield "1 bit", _saved(pixels(1), "BMP", "1")
    head = b"BM" + struct.pack("<IHHI", 14 + 40 + 1024 + 40, 0, 0, 14 + 40 + 1024)
    info = struct.pack("<IiiHHIIiiII", 40, 8, 4, 1, 8, 1, 0, 2835, 2835, 256, 0)
    runs = b"\x04\x10\x04\x20\x00\x00" * 3 + b"\x00\x04\x01\x02\x03\x04\x04\x05\x00\x01"
    yield "rle8", head + info + bytes(range(256)) * 4 + runs
    head = b"BM" + struct.pack("<IHHI", 14 + 40 + 64, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 8, -4, 1, 16, 0, 0, 0, 0, 0, 0)
    yield "16 bit, top down", head + info + bytes(range(64))


def _tiff() -> Iterator[tuple[str, bytes]]:
    for channels in (1, 2, 3, 4):
        for bits in (8, 16):
            yield f"{channels}x{bits}", _ours(".tif", channels, bits, rich=False)
    yield "metadata", _ours(".tif", 3, 8)
    yield "metadata 16", _ours(".tif", 3, 16)
    for method in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"):
        yield method, _saved(pixels(3), "TIFF", compression=method)
    yield "fax", _saved(pixels(1), "TIFF", "1", compression="group4")
    yield "palette", _saved(pixels(3), "TIFF", "P")
    yield "cmyk", _saved(pixels(4), "TIFF", "CMYK", icc_profile=cmyk_profile())
    yield "turned", _saved(pixels(3), "TIFF", tiffinfo={274: 6, 700: XMP})
    yield "turned by xmp", _saved(pixels(3), "TIFF", tiffinfo={700: XMP})
    yield "big", _saved(pixels(3), "TIFF", big_tiff=True)
    yield "tiled", _tiled(8)
    yield "tiled 16", _tiled(16)
    yield "premultiplied 16", _tiled(16, extra=1)
    yield "pages", _animated("TIFF")


def _tiled(bits: int, extra: int | None = None) -> bytes:
    """Raw tiles of 16x16, big-endian, made by hand."""
    from edgesr.image.exif import LONG, SHORT, directory, field

    channels = 3 if extra is None else 4
    tile = np.zeros((16, 16, channels), f">u{bits // 8}")
    tile[:HEIGHT, :WIDTH] = pixels(channels, bits)
    numbers = {
        256: WIDTH, 257: HEIGHT, 259: 1, 262: 2, 277: channels, 322: 16, 323: 16, 324: 8,
        325: tile.nbytes,
    }  # fmt: skip
    fields = {tag: field(">", LONG, value) for tag, value in numbers.items()}
    fields[258] = field(">", SHORT, *[bits] * channels)
    if extra is not None:
        fields[338] = field(">", SHORT, extra)
    at = 8 + tile.nbytes
    return b"MM\x00*" + struct.pack(">I", at) + tile.tobytes() + directory(">", fields, at)


def _avif() -> Iterator[tuple[str, bytes]]:
    if not has_avif():
        return
    for channels in (1, 3, 4):
        yield f"{channels}x8", _ours(".avif", channels, 8, rich=False)
    yield "metadata", _ours(".avif", 3, 8)
    yield "turned", _saved(pixels(3), "AVIF", exif=exif(6), xmp=XMP)
    yield "subsampled", _saved(pixels(3), "AVIF", quality=30)
    yield "animation", _animated("AVIF")
    yield from _deep_avif()


def _deep_avif() -> Iterator[tuple[str, bytes]]:
    import cv2

    for depth in (10, 12):
        array = (pixels(3, 16) >> (16 - depth)).astype(np.uint16)
        options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 90]
        try:
            done, data = cv2.imencode(".avif", array, options)
        except cv2.error:  # a build without AVIF
            return
        if done:
            yield f"{depth} bit", data.tobytes()


def _animated(fmt: str) -> bytes:
    from PIL import Image

    first, second = Image.fromarray(pixels(3)), Image.fromarray(255 - pixels(3))
    buffer = io.BytesIO()
    first.save(buffer, fmt, save_all=True, append_images=[second])
    return buffer.getvalue()
