"""Rows read one by one are those of the whole picture, in every layout."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamed import photograph, streamed

from edgesr import image
from edgesr.errors import BadImage, EdgeSRError, Impossible, MissingExtra
from edgesr.stream import StreamedRows, can_stream, png_reading, reading, tiff_reading
from edgesr.stream.directory import numbers, read_directory, read_head

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


@pytest.fixture(autouse=True)
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of few rows, so that small pictures have seams too."""
    for module in (png_reading, tiff_reading):
        monkeypatch.setattr(module, "BAND_BYTES", 700)


def pillow(mode: str, height: int = 61, width: int = 47) -> Image.Image:
    channels = {"L": 1, "1": 1, "LA": 2, "RGBA": 4}.get(mode, 3)
    pixels = photograph(height, width, channels)
    picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if mode == "P":
        return picture.quantize(200)
    return picture if picture.mode == mode else picture.convert(mode)


def assert_same(path: Path) -> None:
    whole = image.read(path).pixels
    found = streamed(path)
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("mode", MODES)
def test_png_of_each_mode(tmp_path: Path, mode: str) -> None:
    pillow(mode).save(tmp_path / "a.png")
    assert_same(tmp_path / "a.png")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bit(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.png"
    image.write(path, image.Picture(photograph(40, 31, channels, np.uint16)))
    assert_same(path)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_palette_of_few_bits_with_transparency(tmp_path: Path, bits: int) -> None:
    few = pillow("RGB").quantize(2**bits)
    few.save(tmp_path / "a.png", bits=bits)
    assert_same(tmp_path / "a.png")
    few.save(tmp_path / "b.png", bits=bits, transparency=bytes([0, 130]))
    assert image.probe(tmp_path / "b.png").channels == 4
    assert_same(tmp_path / "b.png")


def test_png_with_one_transparent_colour(tmp_path: Path) -> None:
    for mode, hidden in (("L", 7), ("RGB", (1, 2, 3))):
        picture = pillow(mode)
        picture.paste(hidden, (0, 0, 30, 30))
        picture.save(tmp_path / "a.png", transparency=hidden)
        assert image.probe(tmp_path / "a.png").channels in (2, 4)
        assert_same(tmp_path / "a.png")


def test_png_with_every_filter_and_chunk_size(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    pixels = photograph(50, 33, 3)
    for kind in ("none", "sub", "up", "avg", "paeth", "all"):
        path = tmp_path / f"{kind}.png"
        pyvips.Image.new_from_array(pixels).pngsave(str(path), filter=kind)
        np.testing.assert_array_equal(streamed(path), pixels)


def test_bands_of_one_row_and_of_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow("P").save(tmp_path / "a.png")
    for size in (1, 1 << 20):
        monkeypatch.setattr(png_reading, "BAND_BYTES", size)
        assert_same(tmp_path / "a.png")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", MODES)
def test_tiff_of_each_mode(tmp_path: Path, mode: str, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    pillow(mode).save(path, compression=compression, tiffinfo={278: 5})  # rows of a strip
    assert_same(path)


def test_tiff_in_jpeg_compression(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pillow("RGB", 64, 48).save(path, compression="jpeg", tiffinfo={278: 16})
    assert_same(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_in_tiles(tmp_path: Path, channels: int, dtype: Any) -> None:
    pyvips = pytest.importorskip("pyvips")
    path, pixels = tmp_path / "a.tif", photograph(75, 50, channels, dtype)
    pyvips.Image.new_from_array(pixels).tiffsave(
        str(path), tile=True, tile_width=32, tile_height=16, compression="deflate"
    )
    np.testing.assert_array_equal(streamed(path), image.read(path).pixels)
    np.testing.assert_array_equal(streamed(path), pixels)


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"byteorder": ">", "compression": "zlib"},
        {"rowsperstrip": 7},
        {"rowsperstrip": 64},
        {"rowsperstrip": 30, "compression": "zlib"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_other_programs(tmp_path: Path, options: dict[str, Any], dtype: Any) -> None:
    tifffile = pytest.importorskip("tifffile")
    path, pixels = tmp_path / "a.tif", photograph(61, 47, 3, dtype)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **options)
    np.testing.assert_array_equal(streamed(path), pixels)


def test_tiff_with_separate_planes(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path, pixels = tmp_path / "a.tif", photograph(61, 47, 3)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tifffile.imwrite(
        path, planes, photometric="rgb", planarconfig="separate", rowsperstrip=9, metadata=None
    )
    np.testing.assert_array_equal(streamed(path), pixels)


def test_tiff_with_white_zero_and_with_premultiplied_alpha(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    grey, rgba = photograph(61, 47, 1), photograph(61, 47, 4)
    rgba[..., :3] = rgba[..., :3] // 255.0 * rgba[..., 3:]
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite", rowsperstrip=8)
    tifffile.imwrite(
        tmp_path / "b.tif", rgba, photometric="rgb", extrasamples=["assocalpha"], rowsperstrip=8
    )
    assert_same(tmp_path / "a.tif")
    assert_same(tmp_path / "b.tif")


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg(tmp_path: Path, mode: str, subsampling: int) -> None:
    pytest.importorskip("pyvips")
    path = tmp_path / "a[1].jpg"  # libvips takes the bracket in a path for options
    pillow(mode, 131, 77).save(path, subsampling=subsampling, quality=88)
    assert_same(path)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_a_mirror_streams_and_turns_do_not(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyvips")
    path = tmp_path / f"a.{suffix}"
    for orientation in range(1, 9):
        pillow("RGB").save(path, exif=turned(orientation))
        facts = image.probe(path)
        why = can_stream(facts, tmp_path / "out.png", path)
        if orientation <= 2:
            assert why is None
            assert_same(path)
        else:
            assert why == "it is stored turned; save it upright first"


def refused(path: Path, reason: str) -> None:
    facts = image.probe(path)
    assert reason in str(can_stream(facts, path.with_name("out.tif"), path))
    with pytest.raises(Impossible, match=f"a\\..* cannot be read row by row: .*{reason}"):
        StreamedRows(path, facts)


def test_what_is_stored_out_of_order_is_refused(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    pillow("RGB").save(tmp_path / "a.jpg", progressive=True)
    refused(tmp_path / "a.jpg", "progressive JPEG")
    pixels = photograph(61, 47, 3)
    pyvips.Image.new_from_array(pixels).pngsave(str(tmp_path / "a.png"), interlace=True)
    refused(tmp_path / "a.png", "interlaced PNG")


def test_large_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_BYTES", 5000)
    pillow("RGB").save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={278: 61})
    refused(tmp_path / "a.tif", "its strips are of")


def test_other_formats_are_refused_by_their_names(tmp_path: Path) -> None:
    pillow("RGB").save(tmp_path / "a.webp")
    facts = image.probe(tmp_path / "a.webp")
    assert "WEBP is not read" in str(can_stream(facts, tmp_path / "b.png", tmp_path / "a.webp"))
    pillow("RGB").save(tmp_path / "a.png")
    facts = image.probe(tmp_path / "a.png")
    assert "JPEG is not written" in str(can_stream(facts, tmp_path / "b.jpg", tmp_path / "a.png"))
    assert can_stream(facts, tmp_path / "B.TIFF", tmp_path / "a.png") is None


def test_jpeg_without_pyvips_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow("RGB").save(tmp_path / "a.jpg")
    facts = image.probe(tmp_path / "a.jpg")
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    why = can_stream(facts, tmp_path / "out.png", tmp_path / "a.jpg")
    assert "pip install 'edgesr[stream]'" in str(why)
    with pytest.raises(MissingExtra, match="reading a JPEG row by row needs pyvips"):
        StreamedRows(tmp_path / "a.jpg", facts)


def test_rows_are_read_as_they_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (600, 600, 3), np.uint8)).save(path)
    rows = StreamedRows(path, image.probe(path))
    rows.take(0, 5)
    assert rows._file.tell() < path.stat().st_size / 2
    rows.close()


def files(folder: Path) -> list[Path]:
    pixels = pillow("RGB")
    paths = [folder / "a.png", folder / "a.tif", folder / "b.tif", folder / "a.jpg"]
    pixels.save(paths[0])
    pixels.save(paths[1], compression="tiff_lzw", tiffinfo={278: 5})
    pixels.save(paths[2])
    pixels.save(paths[3])
    return paths


def test_files_that_end_early(tmp_path: Path) -> None:
    pytest.importorskip("pyvips")
    for path in files(tmp_path)[:1] + files(tmp_path)[3:]:
        data = path.read_bytes()
        facts = image.probe(path)
        path.write_bytes(data[: len(data) - 400])
        rows = StreamedRows(path, facts)
        with pytest.raises(BadImage, match=f"{path.name}: the picture is damaged"):
            rows.take(0, rows.height)
        rows.close()


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pillow("RGB").save(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"IEND") - 12  # Adler-32, then a CRC, then the next length
    data[at] ^= 1
    path.write_bytes(data)
    rows = StreamedRows(path, image.probe(path))
    with pytest.raises(BadImage, match="damaged"):
        rows.take(0, rows.height)
    rows.close()


def test_damaged_files_give_one_line_or_all_rows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyvips")
    rng = np.random.default_rng(7)
    for path in files(tmp_path):
        whole = path.read_bytes()
        facts = image.probe(path)
        for _ in range(30):
            data = bytearray(whole)
            for at in rng.integers(0, len(data), 3):
                data[at] = rng.integers(256)
            path.write_bytes(data)
            try:
                rows = StreamedRows(path, facts)
            except EdgeSRError as e:
                assert "\n" not in str(e)
                continue
            try:
                assert rows.take(0, rows.height).shape == (facts.height, facts.width, 3)
            except EdgeSRError as e:
                assert "\n" not in str(e)
            finally:
                rows.close()
        said = capfd.readouterr()
        assert path.suffix == ".tif" or said == ("", "")  # Pillow's libtiff talks to the terminal


def test_directories_of_files_and_damaged_ones() -> None:
    big = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", 1)
    big += struct.pack("<HHQQ", 256, 16, 1, 12345) + bytes(8)
    order, is_big, at = read_head(io.BytesIO(big))
    assert (order, is_big, at) == ("<", True, 16)
    fields = read_directory(io.BytesIO(big), order, is_big, at)
    assert numbers(fields[256], order) == (12345,)
    with pytest.raises(struct.error):
        read_head(io.BytesIO(b"\x89PNG"))
    # A field that points beyond the end is left out.
    cut = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 273, 4, 9, 4000, 0)
    assert read_directory(io.BytesIO(cut), "<", False, 8) == {}
