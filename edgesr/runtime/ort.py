"""ONNX Runtime on the CPU, or through its CUDA and TensorRT providers."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel, Impossible
from edgesr.runtime.cuda import free_bytes
from edgesr.runtime.parts import in_parts
from edgesr.runtime.providers import LARGEST, PROVIDERS, Provider, check_started, wanted

# What onnxruntime puts before a reason: error code and name, and the path once more.
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?")


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once where Linux tells."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if allowed is None:
        return max(1, (os.cpu_count() or 2) // 2)
    cores = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text().strip() if siblings.is_file() else str(cpu))
    return max(1, len(cores))


class OrtRuntime:
    """A `Runtime` on ONNX Runtime.

    `model` is a path or the bytes of an ONNX file that EdgeSR wrote (scale and halo are
    read from its metadata). `threads` defaults to the physical cores. `spin` lets idle
    worker threads burn CPU for a little less latency; off, so that CPU time means work.
    `provider` is cpu, cuda or tensorrt; TensorRT's engines are kept in the folder `cache`.
    Raises `BadModel` for a file that is not such a model, `Impossible` for a provider that
    is not here or does not start.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int | None = None,
        spin: bool = False,
        optimize: bool = True,
        provider: str = "cpu",
        cache: Path | None = None,
    ) -> None:
        import onnxruntime as ort

        if isinstance(model, Path) and not model.is_file():
            raise BadModel(f"no such file: {model}")
        self.name = f"onnxruntime-{provider}"
        self.threads = threads or physical_cores()
        options = _options(ort, self.threads, spin=spin, optimize=optimize)
        self._free_before = free_bytes() if provider != "cpu" else None
        open_shape = provider == "tensorrt" and _is_open(ort, model)
        asked = wanted(ort, provider, open_shape=open_shape, cache=cache)
        self._session = _session(ort, model, options, asked)
        check_started(self._session, provider)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.scale, self.halo = _scale_and_halo(self.metadata, _label(model))
        height, width = _input_size(self._session, _label(model))
        fixed = isinstance(height, int) and isinstance(width, int)
        self.tile_shapes: tuple[tuple[int, int], ...] = ((height, width),) if fixed else ()
        self._largest = LARGEST if open_shape else None

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """NCHW float32 RGB in [0, 1] → the same, `scale` times larger, not clipped.

        Raises `Impossible` when memory does not suffice, `BadModel` for what else goes wrong.
        """
        if self._largest is not None:
            return in_parts(self._run, batch, self._largest, halo=self.halo, scale=self.scale)
        return self._run(batch)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            result: NDArray[np.float32] = self._session.run(None, {"input": batch})[0]
        except Exception as e:
            # onnxruntime raises its own pybind classes, which share no public base.
            size = f"{batch.shape[3]}x{batch.shape[2]}"
            if "alloc" in str(e):  # "Failed to allocate memory …", "std::bad_alloc"
                raise Impossible(
                    f"{size} pixels at once do not fit in memory; take a smaller tile or size"
                ) from e
            raise BadModel(f"the model fails on {size} pixels: {_reason(e)}") from e
        return result

    def memory(self) -> dict[str, int]:
        """`device_bytes`: how much less of the GPU's memory is free than before this was opened.

        Others who take some meanwhile are in it. The CPU provider reports none of its own.
        """
        now = free_bytes() if self._free_before is not None else None
        if now is None or self._free_before is None:
            return {}
        return {"device_bytes": max(0, self._free_before - now)}

    def close(self) -> None:
        """Free the session."""
        del self._session


def _options(ort: Any, threads: int, *, spin: bool, optimize: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A plan of all tensors for each new size of window: a third more memory, for no time.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _session(ort: Any, model: Path | bytes, options: Any, providers: list[Provider]) -> Any:
    source: Any = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers)
    except Exception as e:
        # onnxruntime raises its own pybind classes, which share no public base.
        raise BadModel(
            f"{_label(model)} does not load in ONNX Runtime, it is no ONNX file or a damaged one: "
            f"{_reason(e)}"
        ) from e


def _is_open(ort: Any, model: Path | bytes) -> bool:
    """Whether the file takes pictures of any size: read without building an engine."""
    options = _options(ort, 1, spin=False, optimize=False)
    session = _session(ort, model, options, [(PROVIDERS["cpu"], {})])
    return not all(isinstance(n, int) for n in _input_size(session, _label(model)))


def _scale_and_halo(facts: dict[str, str], label: str) -> tuple[int, int]:
    try:
        return int(facts["edgesr.scale"]), int(facts["edgesr.halo"])
    except (KeyError, ValueError) as e:
        raise BadModel(
            f"{label} has no edgesr.scale and edgesr.halo metadata: not an EdgeSR ONNX file"
        ) from e


def _input_size(session: Any, label: str) -> Any:
    """(height, width), each a number or the name of an open dimension."""
    inputs = [(i.name, i.type, len(i.shape)) for i in session.get_inputs()]
    if inputs != [("input", "tensor(float)", 4)]:
        raise BadModel(f"{label} does not take one NCHW float32 'input': not an EdgeSR ONNX file")
    return session.get_inputs()[0].shape[2:]


def _label(model: Path | bytes) -> str:
    return "the model" if isinstance(model, bytes) else str(model)


def _reason(error: Exception) -> str:
    """What onnxruntime says, on one line and without its codes."""
    return _PREFIX.sub("", (str(error) or type(error).__name__).splitlines()[0])
