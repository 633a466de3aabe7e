"""Device memory and a stream, from whatever is installed.

cuda-python, else pycuda, else ctypes on libcudart, which every JetPack has. Tested with
stand-ins for all three; not run on a board yet. Python 3.8 and numpy: it travels inside
bundles.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
from typing import Any

import numpy as np

from edgesr.board.facts import CUDART_NAMES as _CUDART_NAMES
from edgesr.errors import Impossible

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2


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
            raise Impossible(first_line(e)) from e

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
            reasons.append(f"{kind.name}: {first_line(e)}")
    raise Impossible(f"no CUDA memory here: {'; '.join(reasons)}")


def free_bytes() -> int | None:
    """Free memory of the GPU as its driver counts it; None without libcudart or a GPU.

    On a Jetson that is the memory which CPU and GPU share.
    """
    try:
        lib = _load_cudart()
    except OSError:
        return None
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    if lib.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) != 0:
        return None
    return int(free.value)


def first_line(e: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(e) or type(e).__name__).splitlines()[0]
