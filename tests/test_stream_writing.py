"""Files written row by row hold the pixels and the metadata, or are not there at all."""

from __future__ import annotations

import resource
import struct
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from streamed import photograph

from edgesr import image
from edgesr.enlarge import Enlarger, Settings
from edgesr.errors import BadImage, WriteFailed
from edgesr.image import Metadata
from edgesr.models.find import onnx_of
from edgesr.runtime.open import open_runtime
from edgesr.stream import StreamedRows, blocks, working_bytes, write_strips
from edgesr.stream.png_writing import adler_of_both
from edgesr.stream.tiff_writing import write_tiff

SUFFIXES = ("png", "tif")


def in_strips(pixels: NDArray[Any], heights: tuple[int, ...] = (3, 1, 20)) -> Iterator[Any]:
    start, i = 0, 0
    while start < len(pixels):
        yield pixels[start : start + heights[i % len(heights)]]
        start, i = start + heights[i % len(heights)], i + 1


def written(path: Path, pixels: NDArray[Any], metadata: Metadata | None = None) -> Path:
    height, width, channels = pixels.shape
    write_strips(
        path, in_strips(pixels), height=height, width=width, channels=channels,
        dtype=pixels.dtype, metadata=metadata or Metadata(),
    )  # fmt: skip
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few rows, and few of them on the way."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 900)
    monkeypatch.setattr(blocks, "PENDING_BYTES", 2000)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (70, 1), (1, 700), (61, 47)])
def test_pixels_come_back(
    tmp_path: Path, suffix: str, dtype: Any, channels: int, size: tuple[int, int]
) -> None:
    pixels = photograph(*size, channels, dtype)
    path = written(tmp_path / f"a.{suffix}", pixels)
    whole = image.read(path).pixels
    if suffix == "tif" and channels == 2 and dtype == np.uint16:
        pixels = pixels[..., [0, 0, 0, 1]]  # as image.write has it
    np.testing.assert_array_equal(whole, pixels)
    facts = image.probe(path)
    assert (facts.height, facts.width, facts.channels) == whole.shape
    assert facts.dtype == dtype


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_readers_agree(tmp_path: Path, suffix: str) -> None:
    pixels = photograph(61, 47, 3)
    path = written(tmp_path / f"a.{suffix}", pixels)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], pixels)
    pyvips = pytest.importorskip("pyvips")
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(path)).numpy(), pixels)


@pytest.mark.usefixtures("small_blocks")
def test_the_png_is_one_zlib_stream_with_right_checksums(tmp_path: Path) -> None:
    data = written(tmp_path / "a.png", photograph(61, 47, 3)).read_bytes()
    at, packed, kinds = 8, b"", []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", data, at + 8 + length)
        assert crc == zlib.crc32(kind + body)
        packed += body if kind == b"IDAT" else b""
        kinds.append(kind)
        at += 12 + length
    stream = zlib.decompressobj()
    assert len(stream.decompress(packed)) == 61 * (1 + 47 * 3)
    assert stream.eof and stream.unused_data == b""
    assert kinds.count(b"IDAT") > 5


@given(st.binary(max_size=200_000), st.binary(max_size=300))
def test_adler_of_two_stretches(first: bytes, second: bytes) -> None:
    both = adler_of_both(zlib.adler32(first), zlib.adler32(second), len(second))
    assert both == zlib.adler32(first + second)


def rich_metadata(order: str = "big") -> Metadata:
    exif = Image.Exif()
    exif.endian = ">" if order == "big" else "<"
    exif[0x010F] = "A maker"
    exif[0x0132] = "2026:11:26 10:00:00"
    inner = exif.get_ifd(0x8769)
    inner[0xA002], inner[0xA003] = 40, 30  # the size of the source
    inner[0x829A] = 0.008  # exposure time
    exif.get_ifd(0x8825)[1] = "N"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:ImageWidth="40"/></x:xmpmeta>'
    return Metadata(icc, b"Exif\x00\x00" + exif.tobytes()[6:], xmp, (300.0, 150.0))


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_metadata_is_that_of_image_write(tmp_path: Path, suffix: str, order: str) -> None:
    said, pixels = rich_metadata(order), photograph(61, 47, 3)
    streamed = image.metadata_of(written(tmp_path / f"a.{suffix}", pixels, said))
    whole = tmp_path / f"b.{suffix}"
    image.write(whole, image.Picture(pixels, said.icc, said.exif, said.dpi, said.xmp))
    expected = image.metadata_of(whole)
    assert streamed.icc == expected.icc == said.icc
    assert streamed.xmp == expected.xmp and b'ImageWidth="47"' in (streamed.xmp or b"")
    assert streamed.dpi == pytest.approx(said.dpi, rel=1e-3)
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        exif = picture.getexif()
        assert exif[0x010F] == "A maker"
        inner = exif.get_ifd(0x8769)
        assert (inner[0xA002], inner[0xA003]) == (47, 61)
        assert float(inner[0x829A]) == pytest.approx(0.008)
        assert exif.get_ifd(0x8825)[1] == "N"


def test_a_profile_of_other_colours_and_damaged_exif_are_left_out(tmp_path: Path) -> None:
    said = Metadata(rich_metadata().icc, b"Exif\x00\x00nothing", None, None)
    for suffix in SUFFIXES:
        path = written(tmp_path / f"a.{suffix}", photograph(20, 20, 1), said)
        assert image.read(path).pixels.shape == (20, 20, 1)
    assert image.metadata_of(tmp_path / "a.png").icc is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_from_the_limit_on_is_a_bigtiff(tmp_path: Path, dtype: Any) -> None:
    pixels = photograph(61, 47, 3, dtype)
    for limit, magic in ((0, 43), (1 << 32, 42)):
        path = tmp_path / f"{magic}.tif"
        with path.open("wb") as file:
            shape = (61, 47, 3)
            said = rich_metadata()
            write_tiff(file, in_strips(pixels), shape, pixels.dtype, said, limit_bytes=limit)
        assert path.read_bytes()[2] == magic
        np.testing.assert_array_equal(image.read(path).pixels, pixels)
        found = image.metadata_of(path)
        assert (found.icc, found.xmp, found.dpi) == (said.icc, said.xmp, said.dpi)
        pyvips = pytest.importorskip("pyvips")
        np.testing.assert_array_equal(pyvips.Image.new_from_file(str(path)).numpy(), pixels)
        np.testing.assert_array_equal(pytest.importorskip("tifffile").imread(path), pixels)


@pytest.mark.parametrize("error", [BadImage("no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_is_left_of_a_file_that_failed(
    tmp_path: Path, suffix: str, error: BaseException
) -> None:
    def strips() -> Iterator[NDArray[Any]]:
        yield photograph(10, 20, 3)
        raise error

    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        write_strips(
            path, strips(), height=20, width=20, channels=3, dtype=np.dtype(np.uint8),
            metadata=Metadata(),
        )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_said(tmp_path: Path, suffix: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(WriteFailed, match=f"cannot write .*a.{suffix}"):
            written(tmp_path / f"a.{suffix}", photograph(300, 300, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_strips_are_let_go(tmp_path: Path, suffix: str) -> None:
    alive: list[weakref.ref[Any]] = []

    def strips() -> Iterator[NDArray[Any]]:
        for i in range(30):
            # An array is still held by the caller of this one until the next is made.
            assert sum(ref() is not None for ref in alive) == 0
            strip = photograph(10, 40, 3, seed=i)
            alive.append(weakref.ref(strip))
            yield strip
            del strip

    write_strips(
        tmp_path / f"a.{suffix}", strips(), height=300, width=40, channels=3,
        dtype=np.dtype(np.uint8), metadata=Metadata(),
    )  # fmt: skip


@pytest.mark.parametrize("source, output", [("png", "tif"), ("tif", "png"), ("jpg", "png")])
def test_streamed_is_what_fits_in_memory(tmp_path: Path, source: str, output: str) -> None:
    if source == "jpg":
        pytest.importorskip("pyvips")
    path, out = tmp_path / f"a.{source}", tmp_path / f"b.{output}"
    image.write(path, image.Picture(photograph(90, 70, 3)))
    runtime = open_runtime(onnx_of("tiny"), "auto")
    enlarger = Enlarger(runtime, Settings(tile=32))
    rows = StreamedRows(path, image.probe(path))
    write_strips(
        out, enlarger.strips(rows), height=360, width=280, channels=3, dtype=rows.dtype,
        metadata=image.metadata_of(path),
    )  # fmt: skip
    rows.close()
    expected = enlarger.picture(image.read(path).pixels)
    runtime.close()
    np.testing.assert_array_equal(image.read(out).pixels, expected)


def test_memory_is_said_and_does_not_grow_with_height(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    image.write(path, image.Picture(photograph(30, 200, 3)))
    small = image.probe(path)
    tall = image.Facts("TIFF", 200, 30_000_000, 3, 8)
    assert working_bytes(path, small, (120, 800)) == working_bytes(path, tall, (120, 800))
    wide = working_bytes(path, small, (120, 8_000_000))
    assert wide > working_bytes(path, small, (120, 800))


def test_blocks_own_their_memory_and_carry_the_row_above() -> None:
    rows = np.arange(14, dtype=np.uint8).reshape(7, 2)
    found = list(blocks.in_blocks(iter([rows[:5], rows[5:]]), 3, 2))
    assert [b.tolist() for b in found] == [
        [[0, 0], *rows[:3].tolist()],
        rows[2:6].tolist(),
        rows[5:].tolist(),
    ]
    assert not any(np.shares_memory(b, rows) for b in found)
    assert list(blocks.in_order(lambda b: len(b), iter(found))) == [4, 4, 2]
    assert list(blocks.in_blocks(iter([]), 3, 2)) == []


def test_reading_fails_as_reading_while_the_output_is_open(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image.write(path, image.Picture(photograph(90, 70, 3)))
    facts = image.probe(path)
    path.write_bytes(path.read_bytes()[:3000])
    rows = StreamedRows(path, facts)
    with pytest.raises(BadImage, match=r"a\.png: the picture is damaged"):
        write_strips(
            tmp_path / "b.png", (rows.take(i, i + 1) for i in range(90)), height=90, width=70,
            channels=3, dtype=rows.dtype, metadata=Metadata(),
        )  # fmt: skip
    rows.close()
    assert not (tmp_path / "b.png").exists()
