"""Pictures from and to files, with what belongs to them: orientation, profile, EXIF, DPI.

Read and written: PNG, JPEG, WebP, BMP and TIFF. Pixels are HWC with 1 (grey), 2 (grey and
alpha), 3 (RGB) or 4 (RGBA, not premultiplied) channels, uint8 or uint16. Pillow decodes,
except 16-bit colour, which it would cut to 8 bit: OpenCV does that, and 16-bit PNGs are
written here. Only single pictures are taken, no animations or pages.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edgesr.atomic import write_bytes
from edgesr.errors import BadImage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

MAX_PIXELS = 100_000_000  # of a picture that is read; ×4 it fills 4.8 GB in 8-bit RGB
SUFFIXES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP",
    ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
_READ = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_KNOWN = "PNG, JPEG, WebP, BMP and TIFF"
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # limits of the formats, pixels
_NO_ALPHA = ("JPEG", "BMP")
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}

# What Pillow's decoders raise on damaged files, beside UnidentifiedImageError (an OSError).
_DECODE_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError,
    struct.error, zlib.error, MemoryError,
)  # fmt: skip

_ORIENTATION = 0x0112  # EXIF tag number
_BITS, _PHOTOMETRIC, _EXTRA_SAMPLES = 258, 262, 338  # TIFF tag numbers
_EXIF_HEADER = b"Exif\x00\x00"


@dataclass(frozen=True)
class Picture:
    """Upright pixels (HWC, 1 to 4 channels, uint8 or uint16) and the file's metadata.

    `exif` begins with `Exif\\0\\0` and says orientation 1; `dpi` is (horizontal, vertical).
    """

    pixels: NDArray[Any]
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None


def read(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in `path`, upright.

    Palettes become RGB or RGBA. Raises `BadImage`, one line with the reason, for anything
    that is missing, damaged, animated, larger than `max_pixels` or of another colour space.
    """
    if not path.is_file():
        if path.is_dir():
            raise BadImage(f"{path}: is a folder, not a picture; name its pictures: {path}/*.png")
        raise BadImage(f"{path}: no such file")
    try:
        # Pillow warns of doubtful metadata; pixels that it doubts are errors.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(path, file, max_pixels)
    except _DECODE_ERRORS as e:
        raise BadImage(f"{path}: {_reason(path, e)}") from e


def read_rgb8(path: Path) -> NDArray[np.uint8]:
    """The picture in `path` as HWC uint8 RGB; grey is replicated, 16 bit rounded to 8.

    An alpha channel that is opaque everywhere is dropped. Raises `BadImage` as `read` does,
    and for a picture with transparency.
    """
    pixels = read(path).pixels
    if pixels.shape[2] in (2, 4):
        if pixels[..., -1].min() < np.iinfo(pixels.dtype).max:
            raise BadImage(f"{path}: has transparency, and RGB is wanted here; flatten it first")
        pixels = pixels[..., :-1]
    pixels = np.ascontiguousarray(to_8_bit(pixels))
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def write(path: Path, picture: Picture, quality: int = 95) -> None:
    """Write `picture` in the format that the suffix of `path` names, whole or not at all.

    `quality` is 1 to 100, for JPEG (4:4:4) and WebP. JPEG, WebP and BMP hold 8 bit: 16 bit is
    rounded to them. PNG, JPEG and WebP keep profile, EXIF and DPI as far as the format has a
    place for them. Raises `BadImage` for what the format cannot hold, `WriteFailed` when the
    disk refuses.
    """
    write_bytes(path, encode(picture, path, quality))


def check_writable(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """The format that `path` names; `BadImage` if it cannot hold such HWC pixels."""
    fmt = SUFFIXES.get(path.suffix.lower())
    if fmt is None:
        raise BadImage(f"{path}: unknown format '{path.suffix}'; written are {_KNOWN}")
    height, width, channels = shape
    if fmt in _NO_ALPHA and channels in (2, 4):
        raise BadImage(f"{path}: {fmt} holds no transparency; write PNG or WebP")
    longest = _LONGEST_SIDE.get(fmt)
    if longest is not None and max(height, width) > longest:
        raise BadImage(f"{path}: {width}x{height} is more than {fmt} holds ({longest}); write PNG")
    if fmt == "TIFF" and dtype == np.uint16:
        raise BadImage(f"{path}: 16-bit pictures are written as PNG; name a .png file")
    return fmt


def encode(picture: Picture, path: Path, quality: int = 95) -> bytes:
    """The bytes of the file that `write` would write to `path`."""
    fmt = check_writable(path, picture.pixels.shape, picture.pixels.dtype)
    if fmt == "PNG" and picture.pixels.dtype == np.uint16:
        return _png16(picture)
    from PIL import Image

    pixels = to_8_bit(picture.pixels)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    options: dict[str, Any] = {
        "PNG": {"compress_level": 3},  # a third of the time of 6 for 5 % more bytes
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
    }.get(fmt, {})
    if picture.icc and not (fmt == "WEBP" and picture.icc[16:20] == b"GRAY"):
        options["icc_profile"] = picture.icc  # WebP has no grey, so a grey profile would lie
    if picture.exif and fmt in ("PNG", "JPEG", "WEBP"):
        options["exif"] = picture.exif
    if picture.dpi:
        options["dpi"] = picture.dpi
    buffer = io.BytesIO()
    try:
        image.save(buffer, fmt, **options)
    except (OSError, ValueError) as e:
        raise BadImage(f"{path}: cannot be written as {fmt}: {e}") from e
    return buffer.getvalue()


def load_folder(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name; hidden files are left out.

    Raises `BadImage` when the folder is missing or has none.
    """
    if not folder.is_dir():
        raise BadImage(f"{folder}: no such folder")
    try:
        found = sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
        )
    except OSError as e:
        raise BadImage(f"{folder}: {e.strerror or e}") from e
    if not found:
        raise BadImage(f"{folder}: no pictures there; read are {_KNOWN}")
    return found


def to_8_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint16 pixels rounded to uint8 (65535 → 255); uint8 ones unchanged."""
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return pixels


def _decode(path: Path, file: IO[bytes], max_pixels: int) -> Picture:
    from PIL import Image

    try:
        image = Image.open(file, formats=_READ)
    except Image.DecompressionBombError:
        raise BadImage(f"{path}: more than {max_pixels / 1e6:.0f} megapixels") from None
    with image:
        width, height = image.size
        if width * height > max_pixels:
            limit = f"more than {max_pixels / 1e6:.0f} megapixels"
            raise BadImage(f"{path}: {width}x{height} is {limit}; cut it into parts first")
        frames = getattr(image, "n_frames", 1)
        if image.format != "MPO" and frames > 1:  # an MPO's first one is a plain JPEG
            raise BadImage(f"{path}: holds {frames} pictures; save them one by one")
        image.load()
        deep = _is_deep(image, file)
        pixels = _decode_deep(path, image, file) if deep else _pixels(path, image)
        exif = None
        if image.format != "TIFF":  # Pillow and OpenCV give it upright; its tags are its own
            orientation, exif = _exif(image)
            pixels = _upright(pixels, orientation)
        icc = image.info.get("icc_profile") or None
        if icc and icc[16:20] == b"GRAY" and pixels.shape[2] > 2:
            icc = None
        return Picture(np.ascontiguousarray(pixels), icc, exif, _dpi(image))


def _reason(path: Path, e: BaseException) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(e, UnidentifiedImageError):
        if path.stat().st_size == 0:
            return "the file is empty"
        return f"not a picture that EdgeSR reads ({_KNOWN})"
    if isinstance(e, PermissionError):
        return "no permission to read it"
    if isinstance(e, MemoryError):
        return "does not fit in memory"
    text = (str(e) or type(e).__name__).splitlines()[0]
    return f"the picture is damaged: {text}"


def _pixels(path: Path, image: Image) -> NDArray[Any]:
    """8-bit pixels in one of our four layouts."""
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "F") or image.mode.startswith("I"):
        raise BadImage(f"{path}: pixels of kind {image.mode} are not taken; convert it to RGB")
    alpha = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA", "La")
    mode = ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")
    if image.mode == "La":  # Pillow un-premultiplies to LA only
        image = image.convert("LA")
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(image.height, image.width, _CHANNELS[mode])


def _is_deep(image: Image, file: IO[bytes]) -> bool:
    if image.format == "PNG":
        file.seek(24)  # bit depth in IHDR, always the first chunk
        return file.read(1) == b"\x10"
    return image.format == "TIFF" and 16 in getattr(image, "tag_v2", {}).get(_BITS, ())


def _decode_deep(path: Path, image: Image, file: IO[bytes]) -> NDArray[Any]:
    """16-bit pixels by OpenCV; `image` has been loaded, so the file is whole."""
    import cv2

    if image.format == "TIFF" and (
        _tiff_tag(image, _PHOTOMETRIC) not in ((1,), (2,)) or 1 in _tiff_tag(image, _EXTRA_SAMPLES)
    ):
        raise BadImage(f"{path}: 16-bit TIFF of a kind that is not taken; convert it to PNG")
    file.seek(0)
    data = np.frombuffer(file.read(), np.uint8)
    # UNCHANGED leaves the orientation of a PNG alone, but not that of a TIFF.
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # damage that Pillow overlooked
        pixels = None
    size = (image.height, image.width)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != size:
        raise BadImage(f"{path}: 16-bit picture that cannot be decoded; convert it to 8 bit")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    file.seek(25)
    if image.format == "PNG" and file.read(1) == b"\x04":  # grey and alpha comes as BGRA
        return np.asarray(pixels[..., [0, 3]])
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    return np.asarray(pixels[..., order])


def _tiff_tag(image: Image, tag: int) -> tuple[int, ...]:
    value = getattr(image, "tag_v2", {}).get(tag, ())
    return tuple(value) if isinstance(value, tuple) else (int(value),)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The picture as EXIF `orientation` (1 to 8) wants it shown."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _exif(image: Image) -> tuple[int, bytes | None]:
    """Orientation, and the EXIF block with orientation 1 in it."""
    raw = image.info.get("exif")
    if not raw:
        try:  # PNGs of older programs carry it as text, some files in XMP
            exif = image.getexif()
            raw = exif.tobytes() if exif else None
        except _DECODE_ERRORS:
            raw = None
    if not raw:
        return 1, None
    body = bytes(raw[6:] if raw.startswith(_EXIF_HEADER) else raw)
    try:
        orientation, body = _reset_orientation(body)
    except struct.error:  # damaged metadata is no reason to refuse the pixels
        return 1, None
    return orientation, _EXIF_HEADER + body


def _reset_orientation(tiff: bytes) -> tuple[int, bytes]:
    """Orientation in the first directory of an EXIF block, and the block with 1 there."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        raise struct.error("no byte order mark")
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for i in range(count):
        at = start + 2 + 12 * i
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, at)
        if tag == _ORIENTATION:
            fixed = tiff[: at + 8] + struct.pack(order + "H", 1) + tiff[at + 10 :]
            return (value if 1 <= value <= 8 else 1), fixed
    return 1, tiff


def _dpi(image: Image) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0.0 < x < 1e6 and 0.0 < y < 1e6 else None


def _png16(picture: Picture) -> bytes:
    """A 16-bit PNG: Pillow writes only grey ones, OpenCV no metadata."""
    height, width, channels = picture.pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if picture.icc:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(picture.icc)))
    if picture.dpi:
        x, y = (round(v / 0.0254) for v in picture.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if picture.exif:
        chunks.append(_chunk(b"eXIf", picture.exif[len(_EXIF_HEADER) :]))
    big_endian = picture.pixels.astype(">u2")
    rows = np.frombuffer(big_endian.tobytes(), np.uint8).reshape(height, width * channels * 2)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # filter "Up": each byte less the one above, modulo 256
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    chunks += [_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 3)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
