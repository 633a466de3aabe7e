"""Profile, EXIF, XMP and DPI: in every format, upright, with the size that was written."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from edgesr import image
from edgesr.image import Metadata, Picture, exif, metadata_of, png, probe, read, write, xmp
from edgesr.image.opening import has_avif

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="Grüße" '
    'tiff:Orientation="{0}" exif:PixelXDimension="{1}" exif:PixelYDimension = \'{2}\'>'
    "<tiff:ImageWidth>{1}</tiff:ImageWidth><tiff:ImageLength>{2}</tiff:ImageLength>"
    "</rdf:Description></x:xmpmeta>"
)
ALL = [".png", ".jpg", ".webp", ".tif", ".avif"]
avif = pytest.mark.skipif(not has_avif(), reason="this Pillow has no AVIF")
CARRIERS = [pytest.param(s, marks=avif) if s == ".avif" else s for s in ALL]


def packet(orientation: int, width: int, height: int) -> bytes:
    return PACKET.format(orientation, width, height).encode()


def camera(orientation: int, width: int, height: int) -> bytes:
    """A big-endian block with directories of the camera's own and of GPS."""
    block = Image.Exif()
    block[ExifTags.Base.Orientation], block[ExifTags.Base.Make] = orientation, "Maker"
    block[ExifTags.Base.ImageWidth], block[ExifTags.Base.ImageLength] = width, height
    inner = block.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = "2024:05:06 07:08:09"
    inner[ExifTags.Base.ExifImageWidth], inner[ExifTags.Base.ExifImageHeight] = width, height
    inner[ExifTags.Base.MakerNote] = bytes(range(200))
    block.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return block.tobytes()


def opened(path: Path) -> Image.Exif:
    """The EXIF block as another program finds it."""
    with Image.open(path) as theirs:
        block = theirs.getexif()
        for pointer in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.IFD1):
            block.get_ifd(pointer)
    return block


@pytest.mark.parametrize("suffix", CARRIERS)
@pytest.mark.parametrize("bits", [8, 16])
def test_all_is_carried_with_the_size_that_is_written(
    tmp_path: Path, suffix: str, bits: int
) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = np.full((20, 24, 3), 99, np.uint8 if bits == 8 else np.uint16)
    write(path, Picture(pixels, SRGB, camera(1, 6, 5), (300.0, 150.0), packet(6, 6, 5)))
    theirs = opened(path)
    if suffix != ".tif":  # where these two are the file's own
        assert (theirs[ExifTags.Base.ImageWidth], theirs[ExifTags.Base.ImageLength]) == (24, 20)
    inner = theirs.get_ifd(ExifTags.IFD.Exif)
    assert inner[ExifTags.Base.ExifImageWidth] == 24
    assert inner[ExifTags.Base.ExifImageHeight] == 20
    assert inner[ExifTags.Base.DateTimeOriginal] == "2024:05:06 07:08:09"
    assert inner[ExifTags.Base.MakerNote] == bytes(range(200))
    assert theirs.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert theirs[ExifTags.Base.Make] == "Maker"
    with Image.open(path) as same:
        assert same.info["icc_profile"] == SRGB
        assert same.size == (24, 20)
    got = read(path)
    assert got.pixels.shape == (20, 24, 3)
    assert got.xmp == packet(1, 24, 20)
    assert got.icc == SRGB
    assert got.dpi == pytest.approx((300, 150), abs=0.02)
    assert metadata_of(path) == got.metadata


@pytest.mark.parametrize("first", CARRIERS)
@pytest.mark.parametrize("second", CARRIERS)
def test_from_any_format_to_any_other(tmp_path: Path, first: str, second: str) -> None:
    source, target = tmp_path / f"a{first}", tmp_path / f"b{second}"
    pixels = np.full((8, 9, 3), 50, np.uint8)
    write(source, Picture(pixels, SRGB, camera(1, 9, 8), (72.0, 72.0), packet(1, 9, 8)))
    write(target, read(source))
    got = read(target)
    assert (got.icc, got.xmp) == (SRGB, packet(1, 9, 8))
    assert got.dpi == pytest.approx((72, 72), abs=0.02)
    inner = opened(target).get_ifd(ExifTags.IFD.Exif)
    assert inner[ExifTags.Base.DateTimeOriginal] == "2024:05:06 07:08:09"


def test_sizes_beyond_16_bit_fit_a_tag_that_had_16() -> None:
    block = exif.sized(camera(1, 6, 5), 70_000, 80_000)
    again = Image.Exif()
    again.load(block)
    assert again[ExifTags.Base.ImageWidth] == 70_000
    assert again.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageHeight] == 80_000


@pytest.mark.parametrize(("orientation", "kept"), [(1, True), (6, False)])
def test_the_thumbnail_of_a_turned_picture_goes(
    tmp_path: Path, orientation: int, kept: bool
) -> None:
    turn = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    thumbnail = struct.pack("<HHHIHHI", 1, 0x0103, 3, 1, 6, 0, 0)  # Compression: JPEG
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + turn + struct.pack("<I", 26) + thumbnail
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=block)
    write(tmp_path / "b.jpg", read(tmp_path / "a.jpg"))
    assert bool(opened(tmp_path / "b.jpg").get_ifd(ExifTags.IFD.IFD1)) == kept


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_of_exif(tmp_path: Path, order: str) -> None:
    mark = b"II" if order == "<" else b"MM"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, 8, 0)
    block = b"Exif\0\0" + mark + struct.pack(order + "HIH", 42, 8, 1) + entry + bytes(4)
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=block)
    got = read(tmp_path / "a.jpg")
    assert got.pixels.shape == (6, 4, 3)
    upright = struct.pack(order + "HHIHH", 0x0112, 3, 1, 1, 0)
    assert got.exif == block.replace(entry, upright)
    for suffix in (".tif", ".webp"):  # which put directories of their own behind such a block
        write(tmp_path / f"a{suffix}", Picture(got.pixels, None, got.exif, (200.0, 100.0)))
        assert read(tmp_path / f"a{suffix}").dpi == (200, 100)
        np.testing.assert_allclose(read(tmp_path / f"a{suffix}").pixels, 0, atol=2)


@pytest.mark.parametrize("junk", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"nonsense" * 9])
def test_damaged_exif_does_not_stop_the_picture(tmp_path: Path, junk: bytes) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + junk)
    got = read(tmp_path / "a.jpg")
    assert got.pixels.shape == (4, 6, 3)
    assert got.exif is None
    for suffix in ALL[:4]:
        write(tmp_path / f"b{suffix}", Picture(got.pixels, exif=b"Exif\0\0" + junk, dpi=(9.0, 9.0)))
        assert read(tmp_path / f"b{suffix}").pixels.shape == (4, 6, 3)


def test_exif_decides_and_xmp_fills_in(tmp_path: Path) -> None:
    """As Pillow has it, checked against `ImageOps.exif_transpose`."""
    from PIL import ImageOps

    for name, tags in (("both", camera(1, 6, 4)), ("alone", b"")):
        for suffix in (".jpg", ".png", ".webp"):
            path = tmp_path / f"{name}{suffix}"
            Image.new("RGB", (6, 4)).save(path, exif=tags, xmp=packet(6, 6, 4))
            if suffix == ".png":
                data = path.read_bytes()
                text = png.chunk(b"iTXt", png.XMP + bytes(5) + packet(6, 6, 4))
                path.write_bytes(data[:33] + text + data[33:])
            with Image.open(path) as theirs:
                expected = ImageOps.exif_transpose(theirs).size
            assert expected == ((6, 4) if name == "both" else (4, 6))
            assert (probe(path).width, probe(path).height) == expected
            got = read(path)
            assert got.pixels.shape[1::-1] == expected
            assert got.xmp == packet(1, 6, 4)


@pytest.mark.parametrize("bits", [8, 16])
def test_xmp_turns_a_tiff_without_a_tag(tmp_path: Path, bits: int) -> None:
    pixels = np.arange(24, dtype=np.uint8 if bits == 8 else np.uint16).reshape(2, 4, 3)
    data = image.encode(Picture(pixels, xmp=packet(1, 4, 2)), tmp_path / "a.tif")
    order = struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
    assert data.count(order) == 1
    data = data.replace(order, struct.pack("<HHIHH", 0x0111 + 2, 3, 1, 1, 0))
    data = data.replace(b'Orientation="1"', b'Orientation="6"')
    (tmp_path / "a.tif").write_bytes(data)
    assert (probe(tmp_path / "a.tif").width, metadata_of(tmp_path / "a.tif").orientation) == (2, 6)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, np.rot90(pixels, -1))


def test_a_grey_profile_is_never_put_on_colours(tmp_path: Path) -> None:
    grey, colour = np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 3), np.uint8)
    for suffix in (".png", ".jpg", ".tif"):
        write(tmp_path / f"g{suffix}", Picture(grey, GREY))
        assert read(tmp_path / f"g{suffix}").icc == GREY
        write(tmp_path / f"c{suffix}", Picture(colour, GREY))
        assert read(tmp_path / f"c{suffix}").icc is None
    write(tmp_path / "g.webp", Picture(grey, GREY))
    with Image.open(tmp_path / "g.webp") as theirs:
        assert "icc_profile" not in theirs.info
    write(tmp_path / "g.png", Picture(grey, SRGB))  # libpng warns of these
    assert read(tmp_path / "g.png").icc is None


def test_old_exif_of_png_texts(tmp_path: Path) -> None:
    """Hexadecimal, as ImageMagick wrote it before PNG had a chunk for it."""
    block = camera(6, 6, 4)
    digits = block.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    text = f"Raw profile type APP1\0\nAPP1\n{len(block):8}\n{lines}\n".encode()
    data = image.encode(Picture(np.zeros((4, 6, 3), np.uint8)), tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(data[:33] + png.chunk(b"tEXt", text) + data[33:])
    got = read(tmp_path / "a.png")
    assert got.pixels.shape == (6, 4, 3)
    assert got.exif == camera(1, 6, 4)


def test_jpeg_leaves_out_what_it_cannot_hold(tmp_path: Path) -> None:
    long = packet(1, 4, 4).replace(b"Gr", b"x" * 70_000)
    big = np.zeros((4, 4, 3), np.uint8)
    write(tmp_path / "a.jpg", Picture(big, SRGB * 40, camera(1, 4, 4) + bytes(70_000), None, long))
    got = read(tmp_path / "a.jpg")
    assert (got.exif, got.xmp) == (None, None)
    assert got.icc == SRGB * 40  # a profile may lie in several segments


def test_no_resolution_is_made_up(tmp_path: Path) -> None:
    plain = Image.new("RGB", (6, 4))
    for suffix in ALL[:4]:
        plain.save(tmp_path / f"a{suffix}", exif=b"" if suffix == ".tif" else camera(1, 6, 4))
        assert read(tmp_path / f"a{suffix}").dpi is None


def test_xmp_of_a_gain_map_is_dropped() -> None:
    assert xmp.packet(b'<rdf:Description hdrgm:Version="1.0"/>') is None
    assert xmp.packet(b"\xff\xfe<") is None
    assert xmp.packet(None) is None
    assert xmp.packet(b"<x/>\0\0") == b"<x/>"


def test_only_statements_of_size_and_orientation_change() -> None:
    text = packet(8, 6, 5)
    sized = xmp.sized(xmp.upright(text), 24, 20).decode()
    assert re.findall(r"\d+", sized) == ["1", "24", "20", "24", "20"]
    assert re.sub(r"\d+", "#", sized) == re.sub(r"\d+", "#", text.decode())


def test_metadata_for_a_size() -> None:
    said = Metadata(SRGB, camera(1, 6, 5), packet(1, 6, 5), (72.0, 72.0), 6).for_size(24, 20)
    assert said.xmp == packet(1, 24, 20)
    assert said.orientation == 1
    assert said.exif == exif.sized(camera(1, 6, 5), 24, 20)
