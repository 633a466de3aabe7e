"""Files that are damaged, too large, of several pictures, or meant to fill the memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesr import image
from edgesr.errors import BadImage
from edgesr.image import Picture, decode, metadata_of, png, probe, read, write
from edgesr.image.exif import LONG, SHORT, directory, field
from edgesr.image.opening import has_avif


def fake_png(width: int, height: int, *extra: bytes) -> bytes:
    header = png.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    end = png.chunk(b"IDAT", zlib.compress(b"0")) + png.chunk(b"IEND", b"")
    return png.SIGNATURE + header + b"".join(extra) + end


def fake_webp(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + canvas + b"VP8 " + struct.pack("<I", 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fake_tiff(width: int, height: int, tile: int | None = None) -> bytes:
    numbers = {256: width, 257: height, 259: 8, 262: 1, 277: 1}
    numbers |= {273: 8, 278: height, 279: 4} if tile is None else {
        322: tile, 323: tile, 324: 8, 325: 4
    }  # fmt: skip
    fields = {tag: field("<", LONG, value) for tag, value in numbers.items()}
    fields[258] = field("<", SHORT, 8)
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + directory("<", fields, 12)


def fake_jpeg(width: int, height: int) -> bytes:
    data = image.encode(Picture(np.zeros((8, 8, 3), np.uint8)), Path("a.jpg"))
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def fake_bmp(width: int, height: int) -> bytes:
    data = image.encode(Picture(np.zeros((8, 8, 3), np.uint8)), Path("a.bmp"))
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


BOMBS = {
    "png": fake_png(40_000, 40_000),
    "jpg": fake_jpeg(50_000, 50_000),
    "webp": fake_webp(16_000, 16_000),
    "tif": fake_tiff(40_000, 40_000),
    "bmp": fake_bmp(40_000, 40_000),
}


@pytest.mark.parametrize("suffix", BOMBS)
def test_the_limit_is_told_with_the_option_that_raises_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(BOMBS[suffix])
    for call in (read, probe):
        with pytest.raises(
            BadImage, match=r"^.*: \d+x\d+ is more than 100 megapixels; .* --max-pixels$"
        ):
            call(path)


def test_size_limit_is_exact(tmp_path: Path) -> None:
    Image.new("1", (400, 300)).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match=r"400x300 is more than 0\.12 megapixels"):
        read(tmp_path / "a.png", max_pixels=119_999)
    assert read(tmp_path / "a.png", max_pixels=120_000).pixels.shape == (300, 400, 1)


def test_the_limit_can_be_raised_beyond_that_of_pillow(tmp_path: Path) -> None:
    """Only headers: the pixels would take their time. Pillow's own limit is as before then."""
    before = Image.MAX_IMAGE_PIXELS
    for suffix in ("png", "jpg", "tif", "bmp"):
        path = tmp_path / f"bomb.{suffix}"
        path.write_bytes(BOMBS[suffix])
        assert probe(path, max_pixels=3_000_000_000).width >= 40_000
        assert metadata_of(path).icc is None
    assert before == Image.MAX_IMAGE_PIXELS is not None


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    """A process that may take 64 MB more than it has refuses them all with their own reason."""
    for suffix, data in BOMBS.items():
        (tmp_path / f"bomb.{suffix}").write_bytes(data)
    (tmp_path / "tile.tif").write_bytes(fake_tiff(40, 40, tile=65_536))
    profile = png.chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(100_000_000), 1))
    (tmp_path / "profile.png").write_bytes(fake_png(4, 4, profile))
    text = png.chunk(b"iTXt", png.XMP + b"\0\1\0\0\0" + zlib.compress(bytes(100_000_000), 1))
    (tmp_path / "text.png").write_bytes(fake_png(4, 4, text))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from edgesr import errors, image\n"
        "good, *bombs = map(Path, sys.argv[1:])\n"
        "image.read(good)\n"
        "import PIL.JpegImagePlugin, PIL.WebPImagePlugin, PIL.TiffImagePlugin, PIL.BmpImagePlugin\n"
        "size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)\n"
        "for path in bombs:\n"
        "    try:\n"
        "        image.read(path)\n"
        "    except errors.BadImage as e:\n"
        "        print(e)\n"
    )
    bombs = sorted(tmp_path.iterdir())
    write(tmp_path / "good.png", Picture(np.zeros((8, 8, 3), np.uint8)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "good.png"), *map(str, bombs)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(bombs)
    assert "fit in memory" not in done.stdout
    for path, line in zip(bombs, lines, strict=True):
        reason = {
            "tile": "tiles of 4295 megapixels",
            "profile": "unpacks to more than 1 MB",
            "text": "unpacks to more than 1 MB",
        }.get(path.stem, "--max-pixels")
        assert reason in line


def test_animations_and_pages_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = [Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)) for _ in range(3)]
    names = ["a.png", "a.webp", "a.tif", *(["a.avif"] if has_avif() else [])]
    for name in names:
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        for call in (read, probe):
            with pytest.raises(BadImage, match="holds 3 pictures; save them one by one"):
                call(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF89a" + bytes(50), "it is GIF, not a picture that EdgeSR reads"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "it is HEIC, not a picture"),
        (b"%PDF-1.7 " + bytes(50), "it is PDF, not a picture"),
        (b"hello", r"not a picture that EdgeSR reads \(PNG, JPEG, WebP, BMP, TIFF and AVIF\)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "the picture is damaged: "),
        (b"II*\0\x08\0\0\0\0\0", "the picture is damaged: "),
        (b"\xff\xd8\xff\xe0\0", "the picture is damaged: "),
        (b"BM" + bytes(60), "the picture is damaged: "),
        (b"RIFF\x20\0\0\0WEBPVP8X" + bytes(40), "the picture is damaged: "),
    ],
)
def test_bytes_that_are_no_picture(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=f"^standard input: {reason}") as caught:
        decode(data, "standard input")
    assert "\n" not in str(caught.value)


def test_threads_leave_pillow_as_it_was(tmp_path: Path) -> None:
    """It has a global limit and global warnings; both must survive readers side by side."""
    write(tmp_path / "a.png", Picture(np.zeros((64, 64, 3), np.uint8)))
    (tmp_path / "b.png").write_bytes(BOMBS["png"])
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    failures = []

    def reading() -> None:
        for _ in range(40):
            try:
                read(tmp_path / "a.png")
                probe(tmp_path / "b.png")
            except BadImage as e:
                if "megapixels" not in str(e):
                    failures.append(e)

    threads = [threading.Thread(target=reading) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert limit == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 3), (13, 1)])
def test_sizes_at_the_edge(
    tmp_path: Path, size: tuple[int, int], dtype: type, channels: int
) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, np.iinfo(dtype).max, (*size, channels), dtype=dtype, endpoint=True)
    for suffix in (".png", ".tif"):
        write(tmp_path / f"a{suffix}", Picture(pixels))
        got = read(tmp_path / f"a{suffix}").pixels
        if suffix == ".tif" and dtype == np.uint16 and channels == 2:
            got = got[..., [0, 3]]  # nearly nothing reads such TIFFs: written as RGBA
        np.testing.assert_array_equal(got, pixels)


def test_what_avif_and_others_cannot_hold() -> None:
    with pytest.raises(BadImage, match="more than AVIF holds"):
        image.check_writable(Path("a.avif"), (20_000, 20_000, 3), np.dtype(np.uint8))
    with pytest.raises(BadImage, match="BMP holds no transparency"):
        image.check_writable(Path("a.bmp"), (20, 20, 4), np.dtype(np.uint8))
    for suffix in (".png", ".tif"):
        image.check_writable(Path(f"a{suffix}"), (80_000, 80_000, 4), np.dtype(np.uint16))
