"""A TensorRT engine as a `Runtime`, with device memory from whatever is installed.

Memory and streams come from cuda-python, else pycuda, else ctypes on libcudart, which every
JetPack has. Written against the documented interfaces of TensorRT 8.2 to 11 and tested with
stand-ins for TensorRT and libcudart; not run on a board yet.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from edgesr.errors import BadModel, Impossible

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_CUDART_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0",
                 "libcudart.so.10.2",
                 "/usr/local/cuda/lib64/libcudart.so")  # fmt: skip


class CudaPython:
    """Device memory through NVIDIA's cuda-python."""

    name = "cuda-python"

    def __init__(self) -> None:
        try:
            self._rt: Any = importlib.import_module("cuda.bindings.runtime")
        except ImportError:  # before 12.6 it was called this
            self._rt = importlib.import_module("cuda.cudart")
        self.stream = int(self._call("cudaStreamCreate"))

    def _call(self, function: str, *arguments: Any) -> Any:
        status, *result = getattr(self._rt, function)(*arguments)
        if int(status) != 0:
            raise Impossible(f"{function}: CUDA error {int(status)} ({status})")
        return result[0] if result else None

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        return int(self._call("cudaMalloc", size))

    def upload(self, address: int, array: np.ndarray) -> None:
        """Queue a copy of `array` to the device."""
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes,
                   self._rt.cudaMemcpyKind(_HOST_TO_DEVICE), self.stream)  # fmt: skip

    def download(self, array: np.ndarray, address: int) -> None:
        """Queue a copy from the device into `array`."""
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes,
                   self._rt.cudaMemcpyKind(_DEVICE_TO_HOST), self.stream)  # fmt: skip

    def synchronize(self) -> None:
        """Wait for what is queued."""
        self._call("cudaStreamSynchronize", self.stream)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", address)

    def close(self) -> None:
        """Give the stream back."""
        self._call("cudaStreamDestroy", self.stream)


class PyCuda:
    """Device memory through pycuda, in the primary context, which TensorRT uses too."""

    name = "pycuda"

    def __init__(self) -> None:
        self._driver: Any = importlib.import_module("pycuda.driver")
        self._call(self._driver.init)
        device = self._call(self._driver.Device, 0)
        if not hasattr(device, "retain_primary_context"):
            raise Impossible("too old: it knows no primary context")
        self._context = self._call(device.retain_primary_context)
        self._call(self._context.push)
        # pycuda aborts the process at its end if a context is still pushed then.
        atexit.register(self.close)
        self._stream = self._call(self._driver.Stream)
        self.stream = int(self._stream.handle)
        self._held: dict[int, Any] = {}

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._driver.Error as e:  # a child of Exception alone
            raise Impossible(_first_line(e)) from e

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        memory = self._call(self._driver.mem_alloc, size)
        self._held[int(memory)] = memory
        return int(memory)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Queue a copy of `array` to the device."""
        self._call(self._driver.memcpy_htod_async, address, array, self._stream)

    def download(self, array: np.ndarray, address: int) -> None:
        """Queue a copy from the device into `array`."""
        self._call(self._driver.memcpy_dtoh_async, array, address, self._stream)

    def synchronize(self) -> None:
        """Wait for what is queued."""
        self._call(self._stream.synchronize)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call(self._held.pop(address).free)

    def close(self) -> None:
        """Give the stream and the context back."""
        atexit.unregister(self.close)
        self._stream = None
        self._call(self._context.pop)


class Cudart:
    """Device memory through ctypes on the CUDA runtime library itself."""

    name = "libcudart"

    def __init__(self) -> None:
        self._lib = _load_cudart()
        self._lib.cudaGetErrorString.restype = ctypes.c_char_p
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        self.stream = int(stream.value or 0)

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._lib, function)(*arguments)
        if status != 0:
            reason = self._lib.cudaGetErrorString(status).decode("ascii", "replace")
            raise Impossible(f"{function}: CUDA error {status} ({reason})")

    def _copy(self, to: int, source: int, size: int, kind: int) -> None:
        self._call("cudaMemcpyAsync", ctypes.c_void_p(to), ctypes.c_void_p(source),
                   ctypes.c_size_t(size), ctypes.c_int(kind),
                   ctypes.c_void_p(self.stream))  # fmt: skip

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value or 0)

    def upload(self, address: int, array: np.ndarray) -> None:
        """Queue a copy of `array` to the device."""
        self._copy(address, array.ctypes.data, array.nbytes, _HOST_TO_DEVICE)

    def download(self, array: np.ndarray, address: int) -> None:
        """Queue a copy from the device into `array`."""
        self._copy(array.ctypes.data, address, array.nbytes, _DEVICE_TO_HOST)

    def synchronize(self) -> None:
        """Wait for what is queued."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def close(self) -> None:
        """Give the stream back."""
        self._call("cudaStreamDestroy", ctypes.c_void_p(self.stream))


def _load_cudart() -> ctypes.CDLL:
    for name in _CUDART_NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(f"none of {', '.join(_CUDART_NAMES)} loads; is /usr/local/cuda/lib64 known?")


def open_memory() -> Any:
    """Device memory from the first of cuda-python, pycuda and libcudart that works here.

    Raises `Impossible` with the reason of each when none does.
    """
    reasons = []
    for kind in (CudaPython, PyCuda, Cudart):
        try:
            return kind()
        except (ImportError, OSError, RuntimeError, Impossible) as e:
            # cuda-python without a driver raises a RuntimeError, pycuda an ImportError.
            reasons.append(f"{kind.name}: {_first_line(e)}")
    raise Impossible(f"no CUDA memory here: {'; '.join(reasons)}")


class TensorRtRuntime:
    """A `Runtime` on a TensorRT engine that build.py made on this board.

    The engine takes one picture at a time; it has a fixed (height, width), then it is in
    `tile_shapes`, or takes any up to the tile it was built for. Raises `Impossible` without
    TensorRT or CUDA, `BadModel` for an engine that this TensorRT does not load.
    """

    def __init__(self, engine: Path, *, scale: int, halo: int, module: str = "tensorrt") -> None:
        trt = _import(module)
        self.name = f"{module}-{trt.__version__}"
        self.scale, self.halo = scale, halo
        try:
            plan = engine.read_bytes()
        except OSError as e:
            raise BadModel(f"{engine}: {e.strerror}; run build.py first") from e
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
        """`engine_bytes`: working memory of the engine; `buffer_bytes`: ours on the device."""
        buffers = sum(size for _, size in self._buffers.values())
        working = getattr(self._engine, "device_memory_size_v2", None)
        if working is None:
            working = self._engine.device_memory_size
        return {"engine_bytes": int(working), "buffer_bytes": buffers}

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
        raise Impossible(f"import {module}: {_first_line(e)}; build.py says more") from e


def _first_line(e: BaseException) -> str:
    return (str(e) or type(e).__name__).splitlines()[0]
