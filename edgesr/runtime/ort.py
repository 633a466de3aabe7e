"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel, Impossible

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
    """A `Runtime` on ONNX Runtime's CPU provider.

    `model` is a path or the bytes of an ONNX file that EdgeSR wrote (scale and halo are
    read from its metadata). `threads` defaults to the physical cores. `spin` lets idle
    worker threads burn CPU for a little less latency; off, so that CPU time means work.
    Raises `BadModel` for a file that is not such a model.
    """

    name = "onnxruntime-cpu"

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int | None = None,
        spin: bool = False,
        optimize: bool = True,
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or physical_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        source: Any = model if isinstance(model, bytes) else str(model)
        if isinstance(model, Path) and not model.is_file():
            raise BadModel(f"no such file: {model}")
        label = "the model" if isinstance(model, bytes) else str(model)
        try:
            self._session = ort.InferenceSession(source, options, ["CPUExecutionProvider"])
        except Exception as e:
            # onnxruntime raises its own pybind classes, which share no public base.
            raise BadModel(
                f"{label} does not load in ONNX Runtime, it is no ONNX file or a damaged one: "
                f"{_reason(e)}"
            ) from e
        facts = self._session.get_modelmeta().custom_metadata_map
        try:
            self.scale = int(facts["edgesr.scale"])
            self.halo = int(facts["edgesr.halo"])
        except (KeyError, ValueError) as e:
            raise BadModel(
                f"{label} has no edgesr.scale and edgesr.halo metadata: not an EdgeSR ONNX file"
            ) from e
        inputs = [(i.name, i.type, len(i.shape)) for i in self._session.get_inputs()]
        if inputs != [("input", "tensor(float)", 4)]:
            raise BadModel(
                f"{label} does not take one NCHW float32 'input': not an EdgeSR ONNX file"
            )
        height, width = self._session.get_inputs()[0].shape[2:]
        fixed = isinstance(height, int) and isinstance(width, int)
        self.tile_shapes: tuple[tuple[int, int], ...] = ((height, width),) if fixed else ()
        self.threads = options.intra_op_num_threads

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """NCHW float32 RGB in [0, 1] → the same, `scale` times larger, not clipped.

        Raises `Impossible` when memory does not suffice, `BadModel` for what else goes wrong.
        """
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
        """ONNX Runtime's CPU provider reports no memory of its own."""
        return {}

    def close(self) -> None:
        """Free the session."""
        del self._session


def _reason(error: Exception) -> str:
    """What onnxruntime says, on one line and without its codes."""
    return _PREFIX.sub("", (str(error) or type(error).__name__).splitlines()[0])
