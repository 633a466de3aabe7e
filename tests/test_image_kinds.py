"""Kinds of pixels that need more than a decoder: CMYK, odd TIFFs, AVIF, transparent colours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.fuzz.seeds import cmyk_profile
from edgesr import image
from edgesr.errors import BadImage
from edgesr.image import Picture, decode, png, probe, read, write
from edgesr.image.opening import has_avif
from edgesr.image.picture import straight_alpha

RNG = np.random.default_rng(8)
avif = pytest.mark.skipif(not has_avif(), reason="this Pillow has no AVIF")


def deep(*shape: int) -> NDArray[np.uint16]:
    return RNG.integers(0, 65536, shape, dtype=np.uint16)


def tiff(pixels: NDArray[np.generic], **options: object) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def srgb_of_lab(lab: NDArray[np.uint8]) -> NDArray[np.float64]:
    """8-bit encoded Lab (ICC.1:2001-04, A.3), D50, as sRGB levels: CIE 15 and IEC 61966-2-1."""
    lightness = lab[..., 0] / 255 * 100
    a, b = lab[..., 1] - 128.0, lab[..., 2] - 128.0
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * [0.9642, 1.0, 0.8249]
    matrix = [  # Bradford-adapted from D50 to sRGB's primaries
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.transpose(matrix), 0, 1)
    coded = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.asarray(coded * 255)


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile(tmp_path: Path, fmt: str) -> None:
    """Each ink full or absent: there the profile's table says the colour, by the formulas."""
    corners = np.empty((2, 2, 2, 2, 3), np.uint8)
    # In gamut; the darkest is black and the lightest white, so that neither point is shifted.
    corners[..., 0] = RNG.integers(90, 160, (2, 2, 2, 2))
    corners[..., 1:] = RNG.integers(118, 139, (2, 2, 2, 2, 2))
    corners[0, 0, 0, 0], corners[1, 1, 1, 1] = (255, 128, 128), (0, 128, 128)
    corners[0, 0, 0, 1] = (0, 128, 128)
    inks = np.indices((2, 2, 2, 2)).reshape(4, 16).T.astype(np.uint8) * 255
    blocks = np.broadcast_to(inks[:, None, None], (16, 16, 16, 4)).reshape(256, 16, 4)
    path = tmp_path / f"a.{fmt}"
    Image.fromarray(np.ascontiguousarray(blocks), "CMYK").save(
        path, fmt, icc_profile=cmyk_profile(corners), **{"JPEG": {"quality": 100}}.get(fmt, {})
    )
    assert probe(path).channels == 3
    got = read(path)
    assert got.icc is None
    middle = got.pixels.reshape(16, 16, 16, 3)[:, 8, 8].astype(float)
    expected = srgb_of_lab(corners).reshape(16, 3)
    assert np.abs(middle - expected).max() <= 3, np.abs(middle - expected).max(1)


@pytest.mark.parametrize("profile", [None, b"junk" * 50, cmyk_profile()[:300]])
def test_cmyk_without_a_profile_is_refused(tmp_path: Path, profile: bytes | None) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg", icc_profile=profile)
    with pytest.raises(BadImage, match=r"a\.jpg: .*CMYK.*; convert it to RGB first"):
        read(tmp_path / "a.jpg")


def test_lab_is_refused_with_the_reason(tmp_path: Path) -> None:
    Image.new("LAB", (8, 8)).save(tmp_path / "a.tif")
    for call in (read, probe):
        with pytest.raises(BadImage, match="LAB pixels are not taken; convert it to"):
            call(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_read_the_same_elsewhere(tmp_path: Path, channels: int, dtype: type) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels = RNG.integers(0, np.iinfo(dtype).max, (700, 600, channels), dtype=dtype)
    pixels[20:] = pixels[:1]  # some strips compress well, some do not
    write(tmp_path / "a.tif", Picture(pixels))
    expected = pixels[..., [0, 0, 0, 1]] if dtype == np.uint16 and channels == 2 else pixels
    with tifffile.TiffFile(tmp_path / "a.tif") as theirs:
        assert len(theirs.pages) == 1 and len(theirs.pages[0].dataoffsets) >= channels // 2
        assert theirs.pages[0].shape == expected.squeeze().shape
    np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, expected)
    if dtype == np.uint8:
        with Image.open(tmp_path / "a.tif") as same:
            np.testing.assert_array_equal(np.asarray(same).reshape(pixels.shape), pixels)
    elif channels != 2:
        cv2 = pytest.importorskip("cv2")
        bgr = cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
        np.testing.assert_array_equal(bgr[..., order], pixels)


def test_16_bit_tiff_variants() -> None:
    grey, rgb, rgba = deep(24, 32), deep(24, 32, 3), deep(24, 32, 4)
    for options in ({}, {"byteorder": ">"}, {"tile": (16, 16)}, {"bigtiff": True}):
        got = decode(tiff(rgb, photometric="rgb", **options), "a")
        np.testing.assert_array_equal(got.pixels, rgb)
    got = decode(tiff(grey, photometric="miniswhite"), "a")
    np.testing.assert_array_equal(got.pixels[..., 0], 65535 - grey)
    # Samples without a meaning are no transparency.
    got = decode(tiff(rgba, photometric="rgb", extrasamples=["unspecified"]), "a")
    np.testing.assert_array_equal(got.pixels, rgba[..., :3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_tiffs_are_divided(dtype: type) -> None:
    """Against exact division. 8 bit is Pillow's, which may be a level off."""
    top = int(np.iinfo(dtype).max)
    alpha = RNG.integers(top // 8, top, (9, 9, 1), endpoint=True)
    colours = RNG.integers(0, top, (9, 9, 3), endpoint=True)
    alpha[0, 0] = colours[0, 0] = 0
    stored = np.concatenate([np.rint(colours * (alpha / top)), alpha], 2).astype(dtype)
    got = decode(tiff(stored, photometric="rgb", extrasamples=["assocalpha"]), "a").pixels
    exact = np.minimum(stored[..., :3] / np.maximum(alpha, 1) * top, top)
    assert np.abs(got[..., :3] - exact).max() <= (1 if dtype == np.uint8 else 0.51)
    np.testing.assert_array_equal(got[..., 3], stored[..., 3])


def test_straight_alpha_at_the_ends() -> None:
    pixels = np.array([[[65535, 0, 40000, 65535], [7, 7, 7, 0], [500, 1, 0, 1]]], np.uint16)
    assert straight_alpha(pixels).tolist() == [
        [[65535, 0, 40000, 65535], [0, 0, 0, 0], [65535, 65535, 0, 1]]
    ]


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (deep(8, 8, 4), {"photometric": "separated"}, "16-bit TIFF of a kind"),
        (deep(3, 8, 8), {"photometric": "rgb", "planarconfig": "separate"}, "separate planes"),
        (deep(8, 8).astype(np.int16), {}, "signed pixels are not taken"),
        (deep(8, 8).astype(np.float32), {}, "floating point"),
        (deep(8, 8, 2), {"planarconfig": "contig", "extrasamples": [2]}, "kind that is not taken"),
    ],
    ids=["cmyk", "planar", "signed", "float", "grey and alpha"],
)
def test_tiffs_that_are_not_taken(
    pixels: NDArray[np.generic], options: dict[str, object], reason: str
) -> None:
    with pytest.raises(BadImage, match=rf"^a: .*({reason}).*; \w+"):
        decode(tiff(pixels, **({"photometric": "minisblack"} | options)), "a")


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_grey_of_few_bits(depth: int) -> None:
    levels = np.arange(8) % (1 << depth)
    bits = np.unpackbits(levels.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    row = b"\0" + np.packbits(bits.ravel()).tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 8, 1, depth, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", 1)),
        (b"IDAT", zlib.compress(row)),
        (b"IEND", b""),
    )
    got = decode(png.SIGNATURE + b"".join(png.chunk(*part) for part in parts), "a").pixels
    np.testing.assert_array_equal(got[0, :, 0], levels * (255 // ((1 << depth) - 1)))
    np.testing.assert_array_equal(got[0, :, 1], np.where(levels == 1, 0, 255))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits(tmp_path: Path, channels: int) -> None:
    pixels = deep(6, 7, channels)
    pixels[2, 3] = pixels[4, 5]
    pixels[0, 0] = pixels[4, 5]
    pixels[0, 0, 0] ^= 1  # as 8 bit it would be the same colour
    data = image.encode(Picture(pixels), Path("a.png"))
    hidden = png.chunk(b"tRNS", pixels[4, 5].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(data[:33] + hidden + data[33:])
    got = read(tmp_path / "a.png").pixels
    assert probe(tmp_path / "a.png").channels == got.shape[2] == channels + 1
    np.testing.assert_array_equal(got[..., :-1], pixels)
    assert np.argwhere(got[..., -1] == 0).tolist() == [[2, 3], [4, 5]]
    assert set(np.unique(got[..., -1])) == {0, 65535}


@avif
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_avif_stays_near(tmp_path: Path, channels: int) -> None:
    y, x = np.mgrid[0:40, 0:60]
    planes = [(x * 2 + y * k) % 200 for k in range(1, channels + 1)]
    pixels = np.dstack(planes).astype(np.uint8)
    write(tmp_path / "a.avif", Picture(pixels), quality=100)
    got = read(tmp_path / "a.avif").pixels
    expected = pixels[..., [0, 0, 0, 1]] if channels == 2 else pixels
    assert probe(tmp_path / "a.avif").channels == expected.shape[2]
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).mean() < 3


@avif
@pytest.mark.parametrize("depth", [10, 12])
def test_avif_of_more_bits(tmp_path: Path, depth: int) -> None:
    cv2 = pytest.importorskip("cv2")
    y, x = np.mgrid[0:32, 0:48]
    ramp = np.dstack([x * 20, y * 30, 1000 - x * 10]).astype(np.uint16) << (depth - 10)
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    try:
        done = cv2.imwrite(str(tmp_path / "a.avif"), ramp[..., ::-1], options)
    except cv2.error:
        done = False
    if not done:
        pytest.skip("this OpenCV writes no AVIF")
    assert probe(tmp_path / "a.avif").bits == 16
    got = read(tmp_path / "a.avif").pixels
    assert got.dtype == np.uint16
    assert np.abs(got / 65535 - ramp / ((1 << depth) - 1)).mean() < 0.005


@avif
@pytest.mark.parametrize(("field", "reason"), [((9, 16), "HDR"), ((12, 13), "wide gamut")])
def test_coded_colours_that_would_come_out_wrong(field: tuple[int, int], reason: str) -> None:
    pixels = Picture(np.zeros((8, 8, 3), np.uint8))
    data = image.encode(pixels, Path("a.png"))
    coded = data[:33] + png.chunk(b"cICP", bytes([*field, 0, 1])) + data[33:]
    with pytest.raises(BadImage, match=reason):
        decode(coded, "a")
    data = image.encode(pixels, Path("a.avif"))
    at = data.index(b"colrnclx") + 8
    with pytest.raises(BadImage, match=reason):
        decode(data[:at] + struct.pack(">HH", *field) + data[at + 4 :], "a")


def test_stereo_pairs_are_refused_and_photographs_with_more_behind_them_are_not() -> None:
    first, second = Image.new("RGB", (8, 8), (9, 9, 9)), Image.new("RGB", (8, 8))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    data = buffer.getvalue()
    assert decode(data, "a").pixels.shape == (8, 8, 3)
    at = data.index(b"MPF\0") + 4
    entries = data.index(struct.pack("<H", 0xB002), at)
    (where,) = struct.unpack_from("<I", data, entries + 8)
    stereo = bytearray(data)
    for i in range(2):  # each entry's attribute: Multi-Frame Image (Disparity)
        struct.pack_into("<I", stereo, at + where + 16 * i, 0x020002)
    with pytest.raises(BadImage, match="holds 2 pictures; save them one by one"):
        decode(bytes(stereo), "a")
