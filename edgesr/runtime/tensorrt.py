"""A TensorRT engine as a `Runtime`.

Written against the documented interfaces of TensorRT 8.2 to 11 and tested with stand-ins for
TensorRT and CUDA; not run on a board yet. Python 3.8 and numpy: it travels inside bundles.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from edgesr.errors import BadModel, Impossible
from edgesr.runtime.cuda import first_line, open_memory
from edgesr.runtime.parts import in_parts


class TensorRtRuntime:
    """A `Runtime` on a TensorRT engine that was built on this machine.

    The engine takes one picture at a time. It has a fixed (height, width), which is then in
    `tile_shapes`, or takes any up to the size it was built for; what is larger runs in parts.
    Raises `Impossible` without TensorRT or CUDA, `BadModel` for an engine that this TensorRT
    does not load.
    """

    def __init__(self, engine: Path, *, scale: int, halo: int, module: str = "tensorrt") -> None:
        trt = _import(module)
        self.name = f"{module}-{trt.__version__}"
        self.scale, self.halo = scale, halo
        try:
            plan = engine.read_bytes()
        except OSError as e:
            raise BadModel(f"{engine}: {e.strerror}; run build.py first") from e
        self._plan_bytes = len(plan)
        self._buffers: dict[str, tuple[int, int]] = {}
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._memory = open_memory()
        try:
            self._load(trt, engine.name, plan)
        except BaseException:
            self.close()
            raise
        self._named = hasattr(self._engine, "num_io_tensors")  # since 8.5
        height, width = tuple(self._shape("input"))[2:]
        fixed = height > 0 and width > 0
        self.tile_shapes: tuple[tuple[int, int], ...] = ((height, width),) if fixed else ()
        self._largest = None if fixed else self._profile()

    def _load(self, trt: Any, name: str, plan: bytes) -> None:
        self._logger = trt.Logger(trt.Logger.ERROR)
        try:
            self._runtime = trt.Runtime(self._logger)
        except TypeError as e:  # the bindings' answer to a runtime that CUDA did not give
            raise Impossible(f"TensorRT {trt.__version__} does not start on this GPU") from e
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BadModel(
                f"{name}: TensorRT {trt.__version__} does not load it; "
                "run build.py --force on this board"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise Impossible(f"{name}: no memory for its working space on the GPU")

    def run(self, batch: np.ndarray) -> np.ndarray:
        """1×3×H×W float32 RGB in [0, 1] → 1×3×sH×sW float32, not clipped."""
        if batch.shape[:2] != (1, 3):
            raise BadModel(f"engines take 1×3×H×W, not {batch.shape}")
        if self._largest is not None:
            return in_parts(self._run, batch, self._largest, halo=self.halo, scale=self.scale)
        return self._run(batch)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        source = np.ascontiguousarray(batch, np.float32)
        height, width = source.shape[2:]
        result = np.empty((1, 3, height * self.scale, width * self.scale), np.float32)
        addresses = {"input": self._buffer("input", source.nbytes),
                     "output": self._buffer("output", result.nbytes)}  # fmt: skip
        self._memory.upload(addresses["input"], source)
        if not self._execute(source.shape, addresses):
            raise BadModel(f"the engine refused a picture of {width}×{height}")
        self._memory.download(result, addresses["output"])
        self._memory.synchronize()
        return result

    def memory(self) -> dict[str, int]:
        """`plan_bytes`: weights and kernels; `engine_bytes`: working memory; `buffer_bytes`: ours.

        All on the device, besides what CUDA itself takes.
        """
        buffers = sum(size for _, size in self._buffers.values())
        working = getattr(self._engine, "device_memory_size_v2", None)
        if working is None:
            working = self._engine.device_memory_size
        sizes = {"plan_bytes": self._plan_bytes, "engine_bytes": int(working)}
        return dict(sizes, buffer_bytes=buffers)

    def close(self) -> None:
        """Free the engine, the device memory and the stream; a second call does nothing."""
        self._context = self._engine = self._runtime = None  # in this order
        memory, self._memory = self._memory, None
        if memory is not None:
            while self._buffers:
                memory.free(self._buffers.popitem()[1][0])
            memory.close()

    def _buffer(self, name: str, size: int) -> int:
        address, have = self._buffers.get(name, (0, 0))
        if have < size:
            if have:
                del self._buffers[name]  # should the next call fail, close() frees no more
                self._memory.free(address)
            address = self._memory.allocate(size)
            self._buffers[name] = (address, size)
        return address

    def _shape(self, name: str) -> Any:
        if self._named:
            return self._engine.get_tensor_shape(name)
        return self._engine.get_binding_shape(self._engine.get_binding_index(name))

    def _profile(self) -> tuple[int, int] | None:
        """The largest (height, width) that the engine was built for; None where it tells none."""
        if hasattr(self._engine, "get_tensor_profile_shape"):  # since 8.5
            _, _, largest = self._engine.get_tensor_profile_shape("input", 0)
        elif hasattr(self._engine, "get_profile_shape"):
            index = self._engine.get_binding_index("input")
            _, _, largest = self._engine.get_profile_shape(0, index)
        else:
            return None
        return int(largest[2]), int(largest[3])

    def _execute(self, shape: tuple[int, ...], addresses: dict[str, int]) -> bool:
        if self._named:
            if not self._context.set_input_shape("input", shape):
                return False
            for name, address in addresses.items():
                self._context.set_tensor_address(name, address)
            return bool(self._context.execute_async_v3(self._memory.stream))
        index = {name: self._engine.get_binding_index(name) for name in addresses}
        if not self._context.set_binding_shape(index["input"], shape):
            return False
        bindings = [0] * len(index)
        for name, address in addresses.items():
            bindings[index[name]] = address
        return bool(self._context.execute_async_v2(bindings, self._memory.stream))


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as e:
        raise Impossible(f"import {module}: {first_line(e)}; build.py says more") from e
