"""A runtime by its name: what `--runtime` chooses between.

auto          a TensorRT engine on TensorRT, an ONNX file on ONNX Runtime's CPU provider: the
              same pixels everywhere, a GPU only when asked for
ort           ONNX Runtime, CPU
ort-cuda      ONNX Runtime's CUDA provider (onnxruntime-gpu, CUDA, cuDNN)
ort-tensorrt  ONNX Runtime's TensorRT provider (the same, and TensorRT)
tensorrt      TensorRT itself; from an ONNX file it first builds an engine and keeps it
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from edgesr.errors import BadModel, EdgeSRError, Impossible, UnknownName
from edgesr.runtime.base import Runtime
from edgesr.runtime.providers import LARGEST

RUNTIMES = ("auto", "ort", "ort-cuda", "ort-tensorrt", "tensorrt")
ENGINE = ".engine"


def open_runtime(
    model: Path | bytes,
    runtime: str = "auto",
    *,
    threads: int | None = None,
    cache: Path | None = None,
    module: str | None = None,
) -> Runtime:
    """`model` ready to run: an ONNX file of EdgeSR (a path or its bytes) or an `.engine`.

    `runtime` is one of `RUNTIMES`. Engines that are built here go to the folder `cache`, by
    default the user's, and are built again when TensorRT, the GPU or the file is another.
    `module` is TensorRT's (tensorrt, or tensorrt_rtx). Raises `UnknownName` for another
    runtime, `Impossible` (exit code 4) when it is not on this machine, `BadModel` for a file
    that it does not take.
    """
    check_runtime(runtime)
    is_engine = not isinstance(model, bytes) and model.suffix == ENGINE
    if runtime == "auto":
        runtime = "tensorrt" if is_engine else "ort"
    if runtime == "tensorrt":
        module = module or os.environ.get("EDGESR_TRT_MODULE", "tensorrt")
        if isinstance(model, Path) and is_engine:
            return _open_engine(model, module)
        return _open_engine(_built(model, cache or cache_folder(), module), module)
    if is_engine:
        raise BadModel(f"{_label(model)} is a TensorRT engine, which {runtime} cannot run")
    from edgesr.runtime.ort import OrtRuntime

    provider = {"ort": "cpu", "ort-cuda": "cuda", "ort-tensorrt": "tensorrt"}[runtime]
    kept = None
    if provider == "tensorrt":
        kept = cache or cache_folder()
        kept.mkdir(parents=True, exist_ok=True)
    return OrtRuntime(model, threads=threads, provider=provider, cache=kept)


def check_runtime(name: str) -> None:
    """Raise `UnknownName` for a runtime that is none of `RUNTIMES`."""
    if name not in RUNTIMES:
        raise UnknownName("runtime", name, RUNTIMES)


def cache_folder() -> Path:
    """Where engines that are built for this machine are kept: the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "edgesr" / "engines"


def _open_engine(engine: Path, module: str) -> Runtime:
    """An engine with the description that its builder left beside it."""
    from edgesr.runtime.tensorrt import TensorRtRuntime

    try:
        about = json.loads(Path(f"{engine}.json").read_text(encoding="utf-8"))
        scale, halo = int(about["scale"]), int(about["halo"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadModel(
            f"{engine} has no {engine.name}.json with its scale and halo: build it with the "
            "bundle's build.py, or give the ONNX file"
        ) from e
    return TensorRtRuntime(engine, scale=scale, halo=halo, module=module)


def _built(model: Path | bytes, folder: Path, module: str) -> Path:
    """The engine of an ONNX file, built now unless it is there and current."""
    from edgesr.board import engine
    from edgesr.board.builder import PythonTensorRT
    from edgesr.board.facts import machine
    from edgesr.board.failed import Failed, NoTensorRT

    try:
        tool = PythonTensorRT(module)  # first: without it the rest is for nothing
        folder.mkdir(parents=True, exist_ok=True)
        job, precision = _job(model, folder)
        engine.build(tool, job, engine.Settings(str(folder), precision, machine()))
    except NoTensorRT as e:
        raise Impossible(str(e)) from e
    except Failed as e:
        raise BadModel(str(e)) from e
    except OSError as e:
        raise EdgeSRError(f"{e.filename}: {e.strerror}") from e
    return folder / f"{job.name}{ENGINE}"


def _job(model: Path | bytes, folder: Path) -> tuple[Any, str]:
    """What to build, and in which precision: that of the file."""
    from edgesr.board.choice import WEAK_INT8
    from edgesr.board.engine import Job
    from edgesr.runtime.ort import OrtRuntime

    facts = OrtRuntime(model, threads=1, optimize=False)
    plain = "fp16" if ".fp16." in _label(model) else "fp32"
    form, shapes = facts.metadata.get("edgesr.precision", plain), facts.tile_shapes
    network = {"scale": facts.scale, "halo": facts.halo}
    facts.close()
    if form == "int8.ort":
        raise BadModel(f"{_label(model)} is int8 in ONNX Runtime's form; TensorRT takes int8.trt")
    data = model if isinstance(model, bytes) else model.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = model
    if isinstance(path, bytes):
        path = folder / f"{digest}.onnx"
        path.write_bytes(data)
    files = {"fp32": str(path), form: str(path)}
    if form.startswith("int8"):
        files[WEAK_INT8] = str(path)
    largest = shapes[0] if shapes else LARGEST
    job = Job(digest, files, largest, not shapes, network)
    return job, form.split(".")[0]


def _label(model: Path | bytes) -> str:
    return "the model" if isinstance(model, bytes) else str(model)
