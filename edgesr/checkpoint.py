"""Checkpoints: one `.safetensors` file that holds the weights and, as JSON, the network.

The JSON lies under the metadata key `edgesr`: `format`, `graph`, `scale`, `lineage` (where the
weights come from) and `metrics`; for an int8 network also `quant`, its scales. Nothing in such a
file can run code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.atomic import write_bytes
from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Graph, Weights

FORMAT = 1
_KEY = "edgesr"
_HEADER_LIMIT = 100_000_000  # bytes; the limit of the safetensors format itself


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights (float32), its lineage and what was measured on it.

    `quant` has the int8 scales of a network that was trained with them.
    """

    graph: Graph
    weights: Weights
    lineage: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    quant: QuantSpec | None = None


@dataclass(frozen=True)
class Summary:
    """What a checkpoint says about itself, without its weights."""

    graph: Graph
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    quant: QuantSpec | None = None


def save(path: str | os.PathLike[str], ckpt: Checkpoint, *, half: bool = False) -> None:
    """Write `ckpt` to `path`: whole or not at all, and the same bytes for the same content.

    `half` stores float16, half the size, and is read back as float32. Raises `BadModel` when
    the weights or scales are not those of the graph, or weights do not fit in float16;
    `WriteFailed` when the disk refuses; `MissingExtra` without the package safetensors.
    """
    packer = _safetensors("saving a checkpoint")
    ckpt.graph.check_weights(ckpt.weights)
    if ckpt.quant is not None:
        ckpt.quant.check(ckpt.graph)
    dtype = np.float16 if half else np.float32
    tensors = {name: _stored(name, w, dtype) for name, w in ckpt.weights.items()}
    about = {
        "format": FORMAT,
        "graph": json.loads(ckpt.graph.to_json()),
        "scale": ckpt.graph.scale,
        "lineage": ckpt.lineage,
        "metrics": ckpt.metrics,
        **({} if ckpt.quant is None else {"quant": ckpt.quant.to_json()}),
    }
    # One metadata key only: safetensors keeps several in a hash map, in an order that varies.
    text = json.dumps(about, separators=(",", ":"), sort_keys=True)
    write_bytes(Path(path), packer.numpy.save(tensors, metadata={_KEY: text}))


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read the checkpoint at `path`; its weights are float32.

    Raises `BadModel` for a file that is missing, no safetensors file, cut off, not EdgeSR's,
    of a newer format, or whose weights do not fit its graph; `MissingExtra` without the
    package safetensors. Nothing is ever unpickled.
    """
    path = Path(path)
    about = summary(path)
    packer = _safetensors("reading a checkpoint")
    try:
        tensors = packer.numpy.load(path.read_bytes())
    except (packer.SafetensorError, ValueError, OSError) as e:
        raise BadModel(f"{path}: damaged or cut off ({e}); fetch it again") from e
    except KeyError as e:
        raise BadModel(f"{path}: holds numbers of type {e}; EdgeSR stores F32 or F16") from e
    weights = {name: _restored(path, name, w) for name, w in tensors.items()}
    try:
        about.graph.check_weights(weights)
    except BadModel as e:
        raise BadModel(f"{path}: weights do not fit the network: {e}") from e
    return Checkpoint(about.graph, weights, about.lineage, about.metrics, about.quant)


def summary(path: str | os.PathLike[str]) -> Summary:
    """The network, lineage, metrics and scales of the checkpoint at `path`; needs no package.

    Raises `BadModel` as `load` does.
    """
    path = Path(path)
    metadata = _header(path).get("__metadata__")
    if not isinstance(metadata, dict) or _KEY not in metadata:
        raise BadModel(
            f"{path}: a safetensors file, but not an EdgeSR checkpoint; "
            "for foreign weights give their .pth"
        )
    try:
        about = json.loads(metadata[_KEY])
        version, graph = about["format"], about["graph"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise BadModel(f"{path}: its EdgeSR description cannot be read ({e})") from e
    if not isinstance(version, int) or version < 1:
        raise BadModel(f"{path}: checkpoint format {version!r} is none that EdgeSR wrote")
    if version > FORMAT:
        raise BadModel(
            f"{path}: checkpoint format {version}, this EdgeSR reads up to {FORMAT}; update edgesr"
        )
    network = _graph(path, graph)
    return Summary(network, _section(path, about, "lineage"), _section(path, about, "metrics"),
                   _quant(path, about.get("quant"), network))  # fmt: skip


def _graph(path: Path, description: object) -> Graph:
    try:
        return Graph.from_json(json.dumps(description))
    except (BadModel, ArithmeticError) as e:
        raise BadModel(f"{path}: {e}") from e


def _section(path: Path, about: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = about.get(name, {})
    if not isinstance(section, dict):
        raise BadModel(f"{path}: its {name} is no table")
    return section


def _quant(path: Path, description: object, graph: Graph) -> QuantSpec | None:
    if description is None:
        return None
    try:
        quant = QuantSpec.from_json(description)
        quant.check(graph)
    except BadModel as e:
        raise BadModel(f"{path}: {e}") from e
    return quant


def _header(path: Path) -> dict[str, Any]:
    """The JSON in front of a safetensors file."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) == 8 and 2 <= length <= _HEADER_LIMIT:
                text = file.read(length)
            else:
                raise BadModel(_not_safetensors(path, start))
    except OSError as e:
        raise BadModel(f"{path}: cannot be read ({e.strerror})") from e
    if not text.startswith(b"{"):
        raise BadModel(_not_safetensors(path, start))
    if len(text) < length:
        raise BadModel(f"{path}: cut off; fetch it again")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise BadModel(_not_safetensors(path, start)) from e
    assert isinstance(header, dict)  # its text starts with a brace
    return header


def _not_safetensors(path: Path, start: bytes) -> str:
    if not start:
        return f"{path}: empty file"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return f"{path}: not a safetensors file but a PyTorch one; if you trust it, name it .pth"
    return f"{path}: not a safetensors file"


def _stored(name: str, array: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=dtype)
    if dtype is np.float16 and bool((np.isinf(stored) & np.isfinite(array)).any()):
        raise BadModel(f"'{name}' holds values above 65504: store this network in float32")
    return stored


def _restored(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype not in (np.float16, np.float32):
        raise BadModel(f"{path}: '{name}' is {array.dtype}; EdgeSR stores F32 or F16")
    return np.array(array, dtype=np.float32)


def _safetensors(purpose: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError as e:
        raise MissingExtra("safetensors", "export", purpose) from e
    return safetensors
