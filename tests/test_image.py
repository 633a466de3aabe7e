"""Pictures and their metadata, there and back; what is not taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from edgesr import image
from edgesr.errors import BadImage
from edgesr.image import (
    Facts,
    Picture,
    load_folder,
    png,
    probe,
    read,
    read_rgb8,
    to_8_bit,
    write,
)

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
RNG = np.random.default_rng(5)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(channels: int, dtype: type = np.uint8, size: tuple[int, int] = (23, 31)) -> NDArray:
    top = np.iinfo(dtype).max
    return RNG.integers(0, top, (*size, channels), dtype=dtype, endpoint=True)


def turned_png16(stored: NDArray[np.uint8], orientation: int) -> bytes:
    """A 16-bit PNG whose EXIF, behind the pixels, says how it is to be turned."""
    data = image.encode(Picture(stored.astype(np.uint16) * 257), Path("a.png"))
    end = data.rindex(b"IEND") - 4
    return data[:end] + png.chunk(b"eXIf", exif(orientation)[6:]) + data[end:]


def smooth(channels: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:40, 0:60]
    planes = [(x * 2 + y * k) % 200 for k in range(1, channels + 1)]
    return np.dstack(planes).astype(np.uint8)


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "Maker"
    block.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    return block.tobytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_pixels_and_metadata(tmp_path: Path, channels: int, dtype: type) -> None:
    pixels = noise(channels, dtype)
    icc = SRGB if channels > 2 else None
    write(tmp_path / "a.png", Picture(pixels, icc, exif(1), (300.0, 150.0)))
    got = read(tmp_path / "a.png")
    assert got.pixels.dtype == dtype
    np.testing.assert_array_equal(got.pixels, pixels)
    assert got.icc == icc
    assert got.exif == exif(1)
    assert probe(tmp_path / "a.png") == Facts("PNG", 31, 23, channels, got.pixels.itemsize * 8)
    assert got.dpi == pytest.approx((300, 150), abs=0.02)  # PNG counts dots per metre


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_reads_the_same_elsewhere(tmp_path: Path, channels: int) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = noise(channels, np.uint16)
    write(tmp_path / "a.png", Picture(pixels))
    theirs = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    if channels == 2:
        theirs = theirs[..., [0, 3]]
    elif channels > 2:
        theirs = theirs[..., [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(theirs.reshape(pixels.shape), pixels)
    Image.open(tmp_path / "a.png").verify()  # checks each chunk's CRC


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_lossless_formats(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = noise(channels)
    write(tmp_path / f"a{suffix}", Picture(pixels, dpi=(72.0, 72.0)))
    got = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(got.pixels, pixels)
    assert got.dpi == pytest.approx((72, 72), abs=0.1)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_formats_stay_near(tmp_path: Path, suffix: str, channels: int) -> None:
    pixels = smooth(channels)
    write(tmp_path / f"a{suffix}", Picture(pixels, SRGB, exif(1)), quality=100)
    got = read(tmp_path / f"a{suffix}")
    expected = np.repeat(pixels, 3, axis=2) if suffix == ".webp" and channels == 1 else pixels
    assert got.pixels.shape == expected.shape
    assert np.abs(got.pixels.astype(int) - expected).mean() < 3
    assert got.icc == SRGB
    assert got.exif == exif(1)


def test_quality_counts(tmp_path: Path) -> None:
    picture = Picture(noise(3))
    for suffix in (".jpg", ".webp"):
        assert len(image.encode(picture, tmp_path / f"a{suffix}", 30)) < len(
            image.encode(picture, tmp_path / f"a{suffix}", 95)
        )


def test_webp_keeps_alpha(tmp_path: Path) -> None:
    pixels = smooth(4)
    write(tmp_path / "a.webp", Picture(pixels))
    np.testing.assert_array_equal(read(tmp_path / "a.webp").pixels[..., 3], pixels[..., 3])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "png16", "webp", "tif", "tif16", "tifz"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    """Corners and sides of a picture that has none alike, as EXIF's table shows them."""
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12], upright[:8, 12:], upright[8:, :12] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    stored = {  # what to do to an upright picture so that the tag makes it upright again
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    path, bits = tmp_path / f"a.{kind.rstrip('16z')}", 16 if "16" in kind else 8
    if kind == "png16":
        path.write_bytes(turned_png16(np.ascontiguousarray(stored), orientation))
    elif kind == "tif16":
        tifffile = pytest.importorskip("tifffile")
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, photometric="rgb", extratags=[tag])
    else:
        options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(
            kind, {}
        )
        tags = exif(orientation)
        if kind == "tifz":  # Pillow cannot write EXIF's own directory there
            tags, options = Image.Exif(), {"compression": "tiff_lzw"}
            tags[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=tags, **options)
    got = read(path)
    assert np.abs(to_8_bit(got.pixels).astype(int) - upright).max() <= 4
    assert probe(path) == Facts("TIFF" if "tif" in kind else FORMATS[path.suffix], 24, 16, 3, bits)
    if not kind.startswith("tif"):  # whose tags are copied into a new block
        assert got.exif == exif(1)  # only the orientation in it has changed


def test_palettes(tmp_path: Path) -> None:
    rgb = Image.fromarray(smooth(3)).quantize(16)
    rgb.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read(tmp_path / "p.png").pixels, np.asarray(rgb.convert("RGB")))
    rgb.save(tmp_path / "t.png", transparency=bytes([0, 128] + [255] * 14))
    got = read(tmp_path / "t.png").pixels
    assert got.shape == (40, 60, 4)
    index = np.asarray(rgb)
    assert (got[..., 3][index == 0] == 0).all()
    assert (got[..., 3][index == 1] == 128).all()
    assert (got[..., 3][index > 1] == 255).all()


def test_one_bit_and_a_transparent_colour(tmp_path: Path) -> None:
    bits = RNG.integers(0, 2, (9, 9)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read(tmp_path / "1.png").pixels[..., 0], bits * np.uint8(255))
    grey = np.array([[0, 7, 200]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "l.png", transparency=7)
    assert read(tmp_path / "l.png").pixels.tolist() == [[[0, 255], [7, 0], [200, 255]]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff(tmp_path: Path, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = noise(channels, np.uint16)
    options = {
        1: {"photometric": "minisblack"},
        3: {"photometric": "rgb", "compression": "deflate", "predictor": True},
        4: {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    }[channels]
    try:
        tifffile.imwrite(tmp_path / "a.tif", pixels.squeeze(), **options)
    except KeyError as e:  # its predictor needs another package
        pytest.skip(f"tifffile cannot write this kind here: {e}")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, pixels)


def test_16_bit_into_8_bit_formats(tmp_path: Path) -> None:
    deep = np.full((8, 8, 3), 40_000, np.uint16)
    write(tmp_path / "a.jpg", Picture(deep))
    assert abs(int(read(tmp_path / "a.jpg").pixels[0, 0, 0]) - round(40_000 / 257)) <= 1
    assert read(tmp_path / "a.jpg").pixels.dtype == np.uint8


def test_to_8_bit_rounds() -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_8_bit(every), np.rint(every / 257).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_never_dropped(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadImage, match="holds no transparency; write PNG or WebP"):
        write(tmp_path / f"a{suffix}", Picture(noise(4)))
    assert not list(tmp_path.iterdir())


def test_format_limits(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="16383"):
        write(tmp_path / "a.webp", Picture(np.zeros((1, 16384, 3), np.uint8)))
    with pytest.raises(BadImage, match=r"unknown format '\.gif'"):
        write(tmp_path / "a.gif", Picture(noise(3)))


def test_read_rgb8(tmp_path: Path) -> None:
    grey = noise(1)
    write(tmp_path / "g.png", Picture(grey))
    np.testing.assert_array_equal(read_rgb8(tmp_path / "g.png"), np.repeat(grey, 3, axis=2))
    write(tmp_path / "a.png", Picture(noise(4)))
    with pytest.raises(BadImage, match="transparency"):
        read_rgb8(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_read_rgb8_drops_alpha_that_hides_nothing(
    tmp_path: Path, channels: int, dtype: type
) -> None:
    pixels, top = noise(channels, dtype), np.iinfo(dtype).max
    pixels[..., -1] = top
    write(tmp_path / "a.png", Picture(pixels))
    got = read_rgb8(tmp_path / "a.png")
    assert got.shape == (23, 31, 3) and got.flags.c_contiguous
    np.testing.assert_array_equal(got[..., :1], to_8_bit(pixels[..., :1]))
    pixels[3, 5, -1] = top - 1  # in 16 bit that rounds to opaque, and still is not
    write(tmp_path / "b.png", Picture(pixels))
    with pytest.raises(BadImage, match=r"b\.png: has transparency"):
        read_rgb8(tmp_path / "b.png")


def test_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "c.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "d.png").mkdir()
    assert [p.name for p in load_folder(tmp_path)] == ["a.JPG", "b.png"]
    with pytest.raises(BadImage, match="no such folder"):
        load_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadImage, match="no pictures there"):
        load_folder(tmp_path / "empty")
