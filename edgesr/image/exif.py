"""EXIF blocks, changed in place: orientation, size, resolution.

A block is a small TIFF file (EXIF 2.32, 4.5), and makers' notes point into it from its start. So
nothing in it is moved: values are overwritten where they are, and new ones come behind it with a
new first directory. Damaged blocks raise `struct.error`, or are given back as they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

HEADER = b"Exif\x00\x00"

ORIENTATION, EXIF, GPS = 0x0112, 0x8769, 0x8825  # tags
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x011A, 0x011B, 0x0128
SHORT, LONG, RATIONAL = 3, 4, 5  # field types
_INCH, _CM = 2, 3
MOST_DPI = 1e6  # what states more states nonsense
_EMPTY = b"II*\x00" + struct.pack("<IHI", 8, 0, 0)


@dataclass(frozen=True)
class Field:
    """A tag's value: `count` numbers of field type `kind`, in the byte order of its block."""

    kind: int
    count: int
    data: bytes


def field(order: str, kind: int, *values: int | float) -> Field:
    """SHORT, LONG or RATIONAL numbers as a field; `order` is `<` or `>`."""
    if kind == RATIONAL:
        # So the numerator fits its 32 bits.
        parts = [Fraction(min(v, MOST_DPI)).limit_denominator(1000) for v in values]
        flat = [n for part in parts for n in (part.numerator, part.denominator)]
        return Field(kind, len(values), struct.pack(f"{order}{len(flat)}I", *flat))
    code = "H" if kind == SHORT else "I"
    return Field(kind, len(values), struct.pack(f"{order}{len(values)}{code}", *map(int, values)))


def byte_order(body: bytes | bytearray) -> str:
    """`<` or `>`, as the first two bytes of a TIFF structure say."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(body[:2]))
    if order is None:
        raise struct.error("no byte order mark")
    return order


def upright(block: bytes) -> tuple[int | None, bytes]:
    """The orientation that `block` states, and the block with 1.

    None where it states none. The thumbnail of a turned picture is unlinked: it is not turned.
    """
    body = bytearray(block.removeprefix(HEADER))
    order, stated = byte_order(body), None
    for tag, at in _entries(body, order):
        if tag == ORIENTATION and stated is None:
            (value,) = struct.unpack_from(order + "H", body, at + 8)
            stated = value if 1 <= value <= 8 else 1
            struct.pack_into(order + "H", body, at + 8, 1)
    if stated not in (None, 1):
        start, count = _first_directory(body, order)
        if start + 2 + 12 * count + 4 <= len(body):
            struct.pack_into(order + "I", body, start + 2 + 12 * count, 0)
    return stated, HEADER + bytes(body)


def sized(block: bytes, width: int, height: int) -> bytes:
    """`block` with this size in the tags that state one; as it is when it is damaged."""
    body = bytearray(block.removeprefix(HEADER))
    try:
        order = byte_order(body)
        inner = [_pointer(body, order, at) for tag, at in _entries(body, order) if tag == EXIF]
        for start in (None, *inner[:1]):
            for tag, at in _entries(body, order, start):
                if tag in _WIDTHS + _HEIGHTS:
                    size = width if tag in _WIDTHS else height
                    struct.pack_into(order + "HII", body, at + 2, LONG, 1, size)
    except struct.error:
        return block
    return HEADER + bytes(body)


def resolution(block: bytes) -> tuple[float, float] | None:
    """Dots per inch (horizontal, vertical), where the block states them."""
    body = block.removeprefix(HEADER)
    found: dict[int, float] = {}
    try:
        order = byte_order(body)
        for tag, at in _entries(body, order):
            if tag in (X_RESOLUTION, _Y_RESOLUTION):
                n, d = struct.unpack_from(order + "II", body, _pointer(body, order, at))
                found[tag] = n / d
            elif tag == _UNIT:
                (found[tag],) = struct.unpack_from(order + "H", body, at + 8)
        per_inch = {_INCH: 1.0, _CM: 2.54}[int(found.get(_UNIT, _INCH))]
        x, y = (found[tag] * per_inch for tag in (X_RESOLUTION, _Y_RESOLUTION))
    except (struct.error, ZeroDivisionError, KeyError):
        return None
    return (x, y) if 0.0 < x < MOST_DPI and 0.0 < y < MOST_DPI else None


def with_resolution(block: bytes | None, dpi: tuple[float, float]) -> bytes:
    """`block` (or a new one) with these dots per inch, for formats with no other place."""
    body = block.removeprefix(HEADER) if block else _EMPTY
    try:
        order = byte_order(body)
        merged = entries(body) | resolution_fields(order, dpi)
    except struct.error:
        return with_resolution(None, dpi) if block else HEADER + body
    at = len(body) + len(body) % 2
    head = body[:4] + struct.pack(order + "I", at) + body[8:].ljust(at - 8, b"\x00")
    return HEADER + head + directory(order, merged, at)


def resolution_fields(order: str, dpi: tuple[float, float]) -> dict[int, Field]:
    """The three tags of EXIF and TIFF that hold dots per inch."""
    return {
        X_RESOLUTION: field(order, RATIONAL, dpi[0]),
        _Y_RESOLUTION: field(order, RATIONAL, dpi[1]),
        _UNIT: field(order, SHORT, _INCH),
    }


def entries(body: bytes) -> dict[int, Field | bytes]:
    """The 12 bytes of each entry of the first directory, by tag; they point into `body`."""
    found: dict[int, Field | bytes] = {}
    for tag, at in _entries(body, byte_order(body)):
        found[tag] = bytes(body[at : at + 12])
    return found


def directory(order: str, fields: Mapping[int, Field | bytes], at: int) -> bytes:
    """A directory that starts at byte `at` of a file, with the values that need room behind it.

    It has no successor. Entries of 12 bytes are taken as they are.
    """
    head, after = bytearray(struct.pack(order + "H", len(fields))), bytearray()
    behind = at + 2 + 12 * len(fields) + 4
    for tag, value in sorted(fields.items(), key=lambda item: item[0]):
        if isinstance(value, bytes):
            head += value
            continue
        data = value.data
        if len(data) > 4:
            data = struct.pack(order + "I", behind + len(after))
            after += value.data + b"\x00" * (len(value.data) % 2)
        head += struct.pack(order + "HHI", tag, value.kind, value.count) + data.ljust(4, b"\x00")
    return bytes(head) + bytes(4) + bytes(after)


def _first_directory(body: bytes | bytearray, order: str) -> tuple[int, int]:
    (start,) = struct.unpack_from(order + "I", body, 4)
    (count,) = struct.unpack_from(order + "H", body, start)
    return start, count


def _entries(
    body: bytes | bytearray, order: str, start: int | None = None
) -> Iterator[tuple[int, int]]:
    """Tag and offset of each entry that lies within `body`; of the first directory if None."""
    if start is None:
        start, _ = _first_directory(body, order)
    (count,) = struct.unpack_from(order + "H", body, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(body) - 11), 12):
        yield struct.unpack_from(order + "H", body, at)[0], at


def _pointer(body: bytes | bytearray, order: str, at: int) -> int:
    return int(struct.unpack_from(order + "I", body, at + 8)[0])
