"""On the board: the networks of its bundles, as the bundle's own run.py would choose them.

`edgesr.runtime` and `edgesr.bundle` are those of the bundle. Python 3.8.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from edgesr.bundle import manifest
from edgesr.errors import BadConfig, BadModel, Impossible
from edgesr.runtime.base import Runtime

PROVIDERS = {"ort": "cpu", "ort-cuda": "cuda", "ort-tensorrt": "tensorrt"}


@dataclass(frozen=True)
class Network:
    """One network that can be opened; `onnx` is the ONNX file that runs, or was built.

    `file_bytes` is the size of what is loaded: the engine, or that ONNX file.
    `engine` is that of TensorRT, None where ONNX Runtime takes the file itself. `tile` is the
    tile in which run.py takes a whole picture through it; None: the runtime's own.
    """

    model: manifest.Model
    precision: str
    onnx: str
    sha256: str
    file_bytes: int
    engine: str | None
    tile: int | None
    open: Callable[[], Runtime]


@dataclass(frozen=True)
class Wanted:
    """What is asked for: pictures of `size` (height, width) on `runtime`, a name of `--runtime`."""

    size: tuple[int, int]
    runtime: str
    threads: int | None


def chosen(folder: Path, runtime: str) -> str:
    """`runtime`, for auto what the bundle has there: its engines, else ONNX Runtime.

    Raises `Impossible` (exit code 4) with what is missing.
    """
    engines = folder / manifest.ENGINES
    built = any(engines.glob("*.engine"))
    if runtime == "tensorrt" or (runtime == "auto" and built):
        if not built:
            raise Impossible(f"no engines in {engines}: run build.py there, it needs TensorRT")
        return "tensorrt"
    try:
        importlib.import_module("onnxruntime")
    except ImportError as e:
        lacks = f"no engines in {engines} (run build.py there, it needs TensorRT) and "
        raise Impossible(f"{lacks if runtime == 'auto' else ''}{e}: pip install onnxruntime") from e
    return "ort" if runtime == "auto" else runtime


def find(folder: Path, role: str, wanted: Wanted) -> Network:
    """The bundle's network `role`, its files checked; nothing is loaded yet.

    Raises `BadConfig` for a bundle that was changed, `BadModel` when it takes no pictures of
    that size, `Impossible` when it was not built.
    """
    about = manifest.read(folder)
    model = about.models[role]
    if wanted.runtime == "tensorrt":
        return _engine(folder, about, role, wanted)
    shape, precision = _shape(model, wanted.size), about.precision
    if precision == "fp32" and "dynamic" in model.onnx:
        shape = "dynamic"  # a fixed one brings nothing there
    files = model.onnx[shape]
    form = "int8.ort" if precision == "int8" else precision
    if form not in files:
        precision = form = "fp32"
    path = _checked(folder, about, files[form])

    def opened() -> Runtime:
        from edgesr.runtime.ort import OrtRuntime

        provider = PROVIDERS[wanted.runtime]
        return OrtRuntime(path, threads=wanted.threads, provider=provider)

    sha256 = about.files[files[form]].sha256
    tile = None if shape == "tile" or precision == "fp32" else _tile(model)
    return Network(model, precision, files[form], sha256, path.stat().st_size, None, tile, opened)


def _engine(folder: Path, about: manifest.Manifest, role: str, wanted: Wanted) -> Network:
    from edgesr.runtime.tensorrt import TensorRtRuntime

    model = about.models[role]
    shape = _shape(model, wanted.size)
    engine = folder / manifest.ENGINES / f"{role}.{shape}.engine"
    if not engine.is_file():
        raise Impossible(f"no {engine.name} in {engine.parent}: run build.py there")
    try:
        built = json.loads(Path(f"{engine}.json").read_text(encoding="utf-8"))
        precision, onnx = str(built["precision"]), str(built["onnx"])
        source = built["key"]["sha256 of " + onnx]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise Impossible(f"{engine.name} has no readable {engine.name}.json: run build.py") from e
    if onnx not in about.files or about.files[onnx].sha256 != source:
        raise Impossible(f"{engine.name} was built from another {onnx}: run build.py")
    module = os.environ.get("EDGESR_TRT_MODULE", "tensorrt")

    def opened() -> Runtime:
        return TensorRtRuntime(engine, scale=model.scale, halo=model.halo, module=module)

    tile = None if shape == "tile" else _tile(model)
    return Network(model, precision, onnx, source, engine.stat().st_size, engine.name, tile, opened)


def _tile(model: manifest.Model) -> int:
    """A tile whose halo is still inside the window that the network of open shape takes."""
    return min(model.tile) - 2 * model.halo


def _shape(model: manifest.Model, size: tuple[int, int]) -> str:
    """The fixed network where it fits exactly, else that of open shape."""
    if size == model.tile and "tile" in model.onnx:
        return "tile"
    if "dynamic" in model.onnx:
        return "dynamic"
    known = f"{model.tile[1]}x{model.tile[0]}"
    raise BadModel(f"'{model.name}' of this bundle runs at {known} only; say --size {known}")


def _checked(folder: Path, about: manifest.Manifest, name: str) -> Path:
    """The path of a file whose hash is right."""
    try:
        right = manifest.entry(folder / name).sha256 == about.files[name].sha256
    except OSError:
        right = False
    if not right:
        raise BadConfig(f"{folder / name} is not the file that was exported: deploy it again")
    return folder / name


def facts(network: Network, size: tuple[int, int]) -> dict[str, Any]:
    """Of the report's entry what the bundle knows: counts at `size`, precision, files."""
    model = network.model
    return {
        "scale": model.scale,
        "untrained": bool(model.lineage.get("untrained")),
        "onnx_sha256": network.sha256,
        "file_bytes": network.file_bytes,
        "precision": network.precision,
        "onnx": network.onnx,
        "engine": network.engine,
        "counts": {
            "parameters": model.parameters,
            "macs": model.macs_per_pixel * size[0] * size[1],
        },
    }
