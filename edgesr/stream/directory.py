"""Directories of tags (TIFF 6.0, section 2; BigTIFF): out of files, and into new ones."""

from __future__ import annotations

import io
import struct
from typing import IO, Union

from edgesr.image.exif import EXIF, GPS, HEADER, LONG, SHORT, Field

# Bytes of one value, by field type; 13 (IFD) and 16 to 18 (BigTIFF) came after TIFF 6.0.
_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
         16: 8, 17: 8, 18: 8}  # fmt: skip
_RATIONALS = (5, 10)  # two numbers of 4 bytes
LONG8 = 16
_UNSIGNED = {1: "B", SHORT: "H", LONG: "I", LONG8: "Q"}

_POINTERS = (EXIF, GPS, 40965)  # their values are where further directories are
_DEEPEST = 2

Fields = dict[int, Field]
Nested = dict[int, Union[Field, "Nested"]]


def read_head(file: IO[bytes]) -> tuple[str, bool, int]:
    """Byte order (`<` or `>`), whether it is a BigTIFF, and where the first directory is.

    Raises `struct.error` for anything that is no TIFF.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise struct.error("no byte order mark")
    (magic,) = struct.unpack_from(order + "H", head, 2)
    if magic == 43:
        return order, True, struct.unpack_from(order + "Q", head, 8)[0]
    return order, False, struct.unpack_from(order + "I", head, 4)[0]


def read_directory(file: IO[bytes], order: str, big: bool, at: int) -> Fields:
    """The fields of the directory at byte `at`, in the byte order of the file.

    Fields of unknown type, or that reach beyond the end of the file, are left out.
    """
    end = file.seek(0, io.SEEK_END)
    file.seek(at)
    number, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    size = struct.calcsize("<" + entry) + inline
    (count,) = struct.unpack(order + number, file.read(8 if big else 2))
    entries = file.read(min(count, 1 << 16) * size)
    found: Fields = {}
    for i in range(0, len(entries) - size + 1, size):
        tag, kind, values = struct.unpack_from(order + entry, entries, i)
        length = _SIZE.get(kind, 0) * values
        data = entries[i + size - inline : i + size]
        if length > inline:
            (offset,) = struct.unpack(order + ("Q" if big else "I"), data)
            if offset + length > end:
                continue
            file.seek(offset)
            data = file.read(length)
        if length:
            found[tag] = Field(kind, values, data[:length])
    return found


def numbers(field: Field | None, order: str) -> tuple[int, ...]:
    """The values of a field of unsigned numbers; none where it is absent or of another type."""
    if field is None or field.kind not in _UNSIGNED:
        return ()
    return struct.unpack(f"{order}{field.count}{_UNSIGNED[field.kind]}", field.data)


def read_exif(block: bytes) -> Nested:
    """All directories of an EXIF block, little-endian; raises `struct.error` where it is none."""
    file = io.BytesIO(block.removeprefix(HEADER))
    order, big, at = read_head(file)
    return _nested(file, order, big, at, 0)


def _nested(file: IO[bytes], order: str, big: bool, at: int, depth: int) -> Nested:
    found: Nested = {}
    for tag, field in read_directory(file, order, big, at).items():
        if tag not in _POINTERS:
            found[tag] = _little_endian(field, order)
        elif depth < _DEEPEST:
            for inner in numbers(field, order)[:1]:
                found[tag] = _nested(file, order, big, inner, depth + 1)
    return found


def _little_endian(field: Field, order: str) -> Field:
    unit = 4 if field.kind in _RATIONALS else _SIZE[field.kind]
    if order == "<" or unit == 1:
        return field
    data = field.data
    swapped = b"".join(data[i : i + unit][::-1] for i in range(0, len(data), unit))
    return Field(field.kind, field.count, swapped)


def packed(directory: Nested, at: int, big: bool) -> bytes:
    """`directory` and those in it as they stand at byte `at` (even) of a little-endian file.

    `big` is the layout of BigTIFF, with offsets of 64 bit.
    """
    number, entry, offset = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    inline = struct.calcsize(offset)
    head = bytearray(struct.pack(number, len(directory)))
    behind = at + len(head) + len(directory) * (struct.calcsize(entry) + inline) + inline
    after = bytearray()
    for tag, value in sorted(directory.items(), key=lambda item: item[0]):
        here = behind + len(after)
        if isinstance(value, Field):
            kind, count, data = value.kind, value.count, value.data
        else:
            kind, count, data = LONG8 if big else LONG, 1, struct.pack(offset, here)
            after += packed(value, here, big)
        if len(data) > inline:
            after += data + b"\x00" * (len(data) % 2)
            data = struct.pack(offset, here)
        head += struct.pack(entry, tag, kind, count) + data.ljust(inline, b"\x00")
    return bytes(head) + bytes(inline) + bytes(after)
