"""The networks of a benchmark: found by name, counted, and laid down as ONNX files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesr.errors import BadModel, MissingExtra
from edgesr.runtime.base import Runtime

UNTRAINED = "untrained weights: shown for speed and memory only"


@dataclass(frozen=True)
class Subject:
    """One network before it is run; `role` is "teacher" or "student".

    `counts` are parameters and MACs at the size of the benchmark, or `{"missing": why}`.
    `path` is its ONNX file, of `file_bytes` bytes; `open` makes a runtime of it.
    """

    name: str
    role: str
    path: Path
    sha256: str
    counts: dict[str, Any]
    open: Callable[[], Runtime]
    untrained: bool = False
    file_bytes: int | None = None


def labels(names: Sequence[str]) -> list[str]:
    """Short, distinct names for a table: a path becomes its last parts, without the suffix."""
    paths = [Path(name) for name in names]
    for parts in range(1, max(len(p.parts) for p in paths) + 1):
        short = ["/".join(p.with_suffix("").parts[-parts:]) for p in paths]
        if len(set(short)) == len(short) and not {"student", "model"} & set(short):
            return short
    return list(names)


def find(
    name: str, role: str, *, width: int, height: int, threads: int | None, scratch: Path,
    runtime: str = "auto",
) -> Subject:  # fmt: skip
    """The network called `name` (a name, checkpoint, bundle or ONNX file), run by `runtime`.

    ONNX that exists only in memory is written into the folder `scratch`, so that the process
    that measures memory loads a file, as on a board. Raises `UnknownName`, `BadModel`.
    """
    from edgesr.models.find import onnx_of
    from edgesr.runtime.open import open_runtime

    source = onnx_of(name)
    if isinstance(source, bytes):
        path = scratch / f"{role}-{hashlib.sha256(name.encode()).hexdigest()[:12]}.onnx"
        path.write_bytes(source)
    else:
        path = source
    counts, untrained = _counted(name, width, height)
    return Subject(
        name=name,
        role=role,
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        counts=counts,
        open=lambda: open_runtime(path, runtime, threads=threads),
        untrained=untrained,
        file_bytes=path.stat().st_size,
    )


def _counted(name: str, width: int, height: int) -> tuple[dict[str, Any], bool]:
    from edgesr.graph.counts import macs, parameters
    from edgesr.models.find import describe, load_network

    try:
        network = load_network(name)
    except MissingExtra as e:
        card = next((m for m in describe() if m.name == name), None)
        if card is None:
            return {"missing": str(e)}, False
        # MACs grow with the pixels, and by whole numbers.
        scaled = card.macs_320x180 * width * height // (320 * 180)
        return {"parameters": card.params, "macs": scaled}, False
    except BadModel:
        return {"missing": "an ONNX file without its EdgeSR network cannot be counted"}, False
    untrained = bool(network.metrics.get("untrained") or network.lineage.get("untrained"))
    graph = network.graph
    return {"parameters": parameters(graph), "macs": macs(graph, height, width)}, untrained
