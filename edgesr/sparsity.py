"""What zeros in a network's weights amount to: counts, and bytes in a coding that can be read.

`encode` writes every tensor in the smallest of three codings, `decode` gives back the same
bits. All numbers are little-endian:

    file    "EDSRSP1\\n", number of tensors u32, tensors
    tensor  length of name u16, name UTF-8, coding u8, dimensions u8, each dimension u32, payload
    coding  0 dense    every value, float32
            1 bitmap   one bit a value (first value in the highest bit, padded with 0 to a whole
                       byte; 1: it is there), then the values that are there, float32
            2 2:4      two values of every four along dimension 1, float32, then two bits for
                       the place of each (four of them a byte, first in the lowest bits)

The 2:4 coding is what sparse tensor cores read (Mishra et al., arXiv 2104.08378): both codings
spend one bit a weight on places when half of the weights are zero, so 2:4 saves no more bytes
than any other pruning to one half. A value whose bits are not all 0 is there: -0.0 is kept.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel

Tensors = Mapping[str, NDArray[np.float32]]

ZEROS_SENTENCE = (
    "Zeros alone do not make a network faster: the usual kernels multiply them like any other "
    "number. They save bytes where the weights are stored sparse-coded, and time only where "
    "the hardware and the engine have kernels for their pattern."
)
FEW_ZEROS = 1e-3  # a share of zeros below this is chance, not pruning

_MAGIC = b"EDSRSP1\n"
_DENSE, _BITMAP, _TWO_FOUR = 0, 1, 2


def nonzeros(weights: Tensors) -> int:
    """How many values of all tensors (biases and slopes too) are not zero."""
    return sum(int(np.count_nonzero(w)) for w in weights.values())


def dense_bytes(weights: Tensors) -> int:
    """Bytes of all values as float32, zeros included."""
    return 4 * sum(w.size for w in weights.values())


def coded_bytes(weights: Tensors) -> int:
    """Bytes that `encode` writes, names and shapes included."""
    return len(encode(weights))


def violations(weight: NDArray[np.float32]) -> int:
    """How many fours along the input channels hold more than two non-zeros.

    `weight` is (O, I, K, K) with I a multiple of four; raises `BadModel` for any other.
    """
    return int((np.count_nonzero(_fours(weight), axis=2) > 2).sum())


def pattern(weights: Tensors) -> Literal["dense", "unstructured", "2:4"]:
    """How the zeros of the convolutions lie.

    `2:4` when every weight whose input channels come in fours holds at most two non-zeros in
    each of them; `dense` when fewer than one convolution weight in a thousand is zero.
    """
    convs = [w for w in weights.values() if w.ndim == 4]
    in_fours = [w for w in convs if w.shape[1] % 4 == 0]
    if in_fours and not any(violations(w) for w in in_fours):
        return "2:4"
    size = sum(w.size for w in convs)
    zeros = size - sum(int(np.count_nonzero(w)) for w in convs)
    return "unstructured" if zeros > FEW_ZEROS * size else "dense"


def eligible(weights: Tensors) -> tuple[str, ...]:
    """The layers that 2:4 kernels could run: convolutions whose input channels come in fours.

    Names without `.weight`, in the order of `weights`. Along the input channels is how TensorRT
    and polygraphy look for the pattern; whether a kernel is picked is TensorRT's choice.
    """
    convs = ((n, w) for n, w in weights.items() if w.ndim == 4)
    return tuple(n.removesuffix(".weight") for n, w in convs if w.shape[1] % 4 == 0)


def encode(weights: Tensors) -> bytes:
    """All tensors, in the format of this module; their order is kept."""
    parts = [_MAGIC, struct.pack("<I", len(weights))]
    for name, value in weights.items():
        w = np.asarray(value, "<f4", order="C")
        label = name.encode()
        coding, payload = min(_codings(w), key=lambda c: len(c[1]))
        parts.append(struct.pack("<H", len(label)) + label)
        parts.append(struct.pack(f"<BB{w.ndim}I", coding, w.ndim, *w.shape))
        parts.append(payload)
    return b"".join(parts)


def decode(data: bytes) -> dict[str, NDArray[np.float32]]:
    """The tensors that `encode` wrote, bit for bit. Raises `BadModel` for anything else."""
    reader = _Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise BadModel("not a sparse-coded file of EdgeSR: its first bytes are others")
    weights = {}
    for _ in range(reader.number("I")):
        try:
            name = reader.take(reader.number("H")).decode()
        except UnicodeDecodeError as e:
            raise BadModel("sparse-coded file is damaged: a name is not UTF-8") from e
        coding, dimensions = reader.number("B"), reader.number("B")
        shape = tuple(reader.number("I") for _ in range(dimensions))
        weights[name] = _decoded(reader, coding, shape)
    if reader.at != len(data):
        raise BadModel(f"sparse-coded file is damaged: {len(data) - reader.at} bytes too many")
    return weights


class _Reader:
    """Takes bytes off the front, and complains when there are none left."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        chunk = self.data[self.at : self.at + size]
        if len(chunk) < size:
            raise BadModel("sparse-coded file is cut off; write it again")
        self.at += size
        return chunk

    def number(self, kind: str) -> int:
        value: int = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]
        return value

    def floats(self, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self.take(4 * count), "<f4").astype(np.float32)

    def bits(self, count: int, order: Literal["big", "little"]) -> NDArray[np.uint8]:
        packed = np.frombuffer(self.take(-(-count // 8)), np.uint8)
        return np.unpackbits(packed, count=count, bitorder=order)


def _codings(w: NDArray[np.float32]) -> list[tuple[int, bytes]]:
    """(coding, payload) of every coding that holds `w`; of equal sizes the first is taken."""
    there = w.view("<u4") != 0
    codings = [(_DENSE, w.tobytes())]
    if w.ndim >= 2 and w.shape[1] % 4 == 0 and w.size and np.all(_fours(there).sum(2) <= 2):
        codings.append((_TWO_FOUR, _two_of_four(w, there)))
    codings.append((_BITMAP, np.packbits(there).tobytes() + w[there].tobytes()))
    return codings


def _two_of_four(w: NDArray[np.float32], there: NDArray[np.bool_]) -> bytes:
    # Fours as rows; those with fewer than two values are filled up with zeros at other places.
    rows = np.moveaxis(_fours(w), 2, -1).reshape(-1, 4)
    absent = np.moveaxis(_fours(~there), 2, -1).reshape(-1, 4)
    places = np.sort(np.argsort(absent, axis=1, kind="stable")[:, :2], axis=1)
    values = np.take_along_axis(rows, places, axis=1)
    bits = (places.reshape(-1, 1) >> np.arange(2)) & 1
    return values.tobytes() + np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _decoded(reader: _Reader, coding: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    size = math.prod(shape)
    if coding == _DENSE:
        return reader.floats(size).reshape(shape)
    if coding == _BITMAP:
        there = reader.bits(size, "big").astype(bool)
        w = np.zeros(size, np.float32)
        w[there] = reader.floats(int(there.sum()))
        return w.reshape(shape)
    if coding != _TWO_FOUR or len(shape) < 2 or shape[1] % 4:
        raise BadModel(f"sparse-coded file is damaged: no coding {coding} of shape {shape}")
    values = reader.floats(size // 2).reshape(-1, 2)
    bits = reader.bits(size, "little").reshape(-1, 2)
    places = (bits[:, 0] + 2 * bits[:, 1]).astype(np.int64).reshape(-1, 2)
    rows = np.zeros((size // 4, 4), np.float32)
    np.put_along_axis(rows, places, values, axis=1)
    fours = rows.reshape(shape[0], shape[1] // 4, *shape[2:], 4)
    return np.ascontiguousarray(np.moveaxis(fours, -1, 2).reshape(shape))


def _fours(w: NDArray[np.generic]) -> NDArray[np.generic]:
    """(O, I, …) → (O, I / 4, 4, …)."""
    if w.ndim < 2 or w.shape[1] % 4:
        raise BadModel(f"a weight of shape {w.shape} has no input channels in groups of four")
    return w.reshape(w.shape[0], w.shape[1] // 4, 4, *w.shape[2:])
