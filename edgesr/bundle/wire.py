"""What an ONNX file says it keeps in other files, read without the onnx package.

EdgeSR's files hold all their weights; one that refers to another file was not written by it,
and a runtime that follows the reference reads what nobody hashed. ONNX is protobuf: fields of
(number, kind, value); only those that can hold a tensor are entered (onnx.proto, IR 8 to 10).

Python 3.8, standard library only: it travels inside bundles.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgesr.errors import BadModel

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Of each message the fields that lead to tensors, with the message they hold.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_KEY, _VALUE = 1, 2  # of an entry of external_data
_DEEPEST = 32  # graphs within graphs: EdgeSR writes none


def external_references(data: bytes) -> list[str]:
    """The places outside the file that its tensors are kept in; empty for a whole file.

    `data` is an ONNX file. A tensor that is kept elsewhere without saying where gives ''.
    Raises `BadModel` for what is cut off or no protobuf message.
    """
    return list(_walk(memoryview(data), "model", 0))


def _walk(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise BadModel("graphs within graphs, deeper than any network")
    if kind == "tensor":
        yield from _tensor(data)
        return
    inside = _INSIDE[kind]
    for number, value in _fields(data):
        if number in inside and isinstance(value, memoryview):
            yield from _walk(value, inside[number], depth + 1)


def _tensor(data: memoryview) -> Iterator[str]:
    elsewhere, location = False, ""
    for number, value in _fields(data):
        if number == _DATA_LOCATION and value:
            elsewhere = True
        elif number == _EXTERNAL_DATA and isinstance(value, memoryview):
            elsewhere = True
            entry = dict(_fields(value))
            if _text(entry.get(_KEY)) == "location":
                location = _text(entry.get(_VALUE))
    if elsewhere:
        yield location


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field: a number for a varint, else its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise BadModel("no ONNX file, or a damaged one")
        if at + size > len(data):
            raise BadModel("cut off")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next field begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BadModel("cut off")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise BadModel("no ONNX file, or a damaged one")
