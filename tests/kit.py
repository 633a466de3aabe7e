"""What the tests of the deployment kit share: bundles, stand-ins for TensorRT and CUDA.

No board and no GPU here: TensorRT and libcudart are stand-ins that raise where the real
version lacks a call. The builder meets a real TensorRT in test_tensorrt_rtx.py.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesr import checkpoint, resources
from edgesr.bundle import manifest
from edgesr.export import Bundle, export_bundle
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.graph.quant import QuantSpec
from edgesr.runtime.calibrate import post_training
from tests.fake_tensorrt import FakeTensorRt
from tests.test_export import TILE, tiny

KIT = resources.folder("export")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("kit")
    checkpoint.save(folder / "student.safetensors", tiny())
    return export_bundle(
        folder / "student.safetensors", teacher=None, target="cpu", out=folder / "bundle", tile=TILE
    )


@pytest.fixture
def copy(made: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(made.path, tmp_path / "copy")
    return tmp_path / "copy"


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def script(name: str) -> types.ModuleType:
    """build.py or run.py, loaded anew; `trt` is the module of device memory."""
    if name == "trt":
        return importlib.import_module("edgesr.runtime.cuda")
    spec = importlib.util.spec_from_file_location(f"kit_{name}", KIT / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import numpy, cv2 and onnxruntime from, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("numpy", "cv2", "onnxruntime"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        site = Path(spec.origin).parent.parent
        (folder / name).symlink_to(site / name)
        for libraries in site.glob(f"*{name.replace('cv2', 'opencv')}*.libs"):
            (folder / libraries.name).symlink_to(libraries)
    return folder


def run(bare: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -S: no site-packages, so no installed edgesr either.
    return subprocess.run(
        [sys.executable, "-S", str(folder / "run.py"), *arguments],
        env={"PYTHONPATH": str(bare), "PATH": "/usr/bin:/bin"}, cwd=folder.parent,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


# ---------------------------------------------------------------- bundles in int8


INT8_FORMS = ("trt", "trt-fp16", "ort")


def add_int8(folder: Path, *forms: str) -> QuantSpec:
    """Add the student's int8 files to a bundle of `tiny()`, as export does; int8 is its default."""
    network = tiny()
    pictures = [np.load(path) for path in sorted((folder / "golden").glob("tile-*.npy"))]
    quant = post_training(network.graph, network.weights, pictures)
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    student = data["models"]["student"]
    for form in forms or INT8_FORMS:
        name = f"student.int8.{form}.onnx"
        model = to_onnx_int8(
            network.graph,
            network.weights,
            quant,
            form=form,
            shape=tuple(student["tile"]),  # type: ignore[arg-type]
        )
        (folder / name).write_bytes(model)
        student["onnx"]["tile"][f"int8.{form}"] = name
        data["files"][name] = vars(manifest.entry(folder / name)) | {
            "role": "student", "shape": "tile", "precision": "int8", "form": form,
        }  # fmt: skip
    data["limits"].setdefault(
        "int8", {"psnr_db": 36.0, "beyond_one_share": 0.7, "mean_shift_levels": 0.5}
    )
    data["precision"] = "int8"
    seal(folder, data)
    return quant


def seal(folder: Path, data: dict[str, Any]) -> None:
    """Write a changed manifest with the hash it should have."""
    data.pop("manifest_sha256", None)
    data["files"] = {
        name: {k: v for k, v in about.items() if v is not None}
        for name, about in data["files"].items()
    }
    text = manifest._canonical(data).encode("utf-8", "surrogatepass")
    digest = manifest.hashlib.sha256(text).hexdigest()
    (folder / "manifest.json").write_text(
        manifest._canonical(dict(data, manifest_sha256=digest)), encoding="utf-8"
    )


# ---------------------------------------------------------------- build.py


def built(
    copy: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeTensorRt, *arguments: str
) -> tuple[int, dict[str, Any]]:
    """Run build.py with `fake` as tensorrt; its exit code and the student's sidecar."""
    build = script("build")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(build, "__file__", str(copy / "build.py"))
    code = build.main(["--model", "student", *arguments])
    sidecar = copy / "engines" / "student.tile.engine.json"
    return code, json.loads(sidecar.read_text()) if sidecar.is_file() else {}


# ---------------------------------------------------------------- CUDA


FAKE_CUDART = """
#include <stdlib.h>
#include <string.h>
int cudaStreamCreate(void **s) { *s = (void *)0x51; return 0; }
int cudaStreamSynchronize(void *s) { return s != (void *)0x51; }
int cudaStreamDestroy(void *s) { return s != (void *)0x51; }
const char *cudaGetErrorString(int status) { return status == 2 ? "out of memory" : "other"; }
int cudaMalloc(void **p, size_t n) { if (n > 1 << 24) return 2; *p = malloc(n); return 0; }
int cudaMemGetInfo(size_t *f, size_t *t) { *f = 1 << 24; *t = 1 << 25; return 0; }
int cudaDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : 7; return d; }
int cudaFree(void *p) { free(p); return 0; }
int cudaMemcpyAsync(void *d, const void *s, size_t n, int kind, void *stream) {
    if ((kind != 1 && kind != 2) || stream != (void *)0x51) return 1;
    memcpy(d, s, n);
    return 0;
}
"""


@pytest.fixture(scope="module")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcudart whose device memory is ordinary memory."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in of libcudart")
    folder = tmp_path_factory.mktemp("cudart")
    (folder / "cudart.c").write_text(FAKE_CUDART)
    library = folder / "libcudart-stand-in.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "cudart.c")], check=True
    )
    return library


def fake_cuda_python(library: ctypes.CDLL) -> types.ModuleType:
    """cuda.bindings.runtime: functions that return tuples of a status and their results."""
    module = types.ModuleType("cuda.bindings.runtime")
    stream = 0x51

    def malloc(size: int) -> tuple[int, int]:
        address = ctypes.c_void_p()
        status = library.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size))
        return status, int(address.value or 0)

    def copy(to: int, source: int, size: int, kind: int, on: int) -> tuple[int]:
        pointers = ctypes.c_void_p(to), ctypes.c_void_p(source)
        rest = ctypes.c_size_t(size), kind, ctypes.c_void_p(on)
        return (library.cudaMemcpyAsync(*pointers, *rest),)

    module.__dict__.update(
        cudaStreamCreate=lambda: (0, stream), cudaMalloc=malloc, cudaMemcpyAsync=copy,
        cudaStreamSynchronize=lambda s: (int(s != stream),),
        cudaStreamDestroy=lambda s: (int(s != stream),),
        cudaFree=lambda p: (library.cudaFree(ctypes.c_void_p(p)),),
        cudaMemcpyKind=lambda kind: kind,
    )  # fmt: skip
    return module


def fake_pycuda(library: ctypes.CDLL) -> types.ModuleType:
    """pycuda.driver, as far as it is used; `stack` holds the contexts that are pushed."""
    module = types.ModuleType("pycuda.driver")
    stack: list[str] = []

    class Error(Exception):  # as in pycuda: no RuntimeError, no MemoryError of Python's
        pass

    class Memory:
        def __init__(self, size: int) -> None:
            self.address = ctypes.c_void_p()
            if library.cudaMalloc(ctypes.byref(self.address), ctypes.c_size_t(size)):
                raise Error("cuMemAlloc failed: out of memory")

        def __int__(self) -> int:
            return int(self.address.value or 0)

        def free(self) -> None:
            library.cudaFree(self.address)

    class Stream:
        handle = 0x51

        def synchronize(self) -> None:
            pass

    context = types.SimpleNamespace(push=lambda: stack.append("primary"), pop=stack.pop)
    module.__dict__.update(
        init=lambda: None, Stream=Stream, mem_alloc=Memory, Error=Error, stack=stack,
        Device=lambda i: types.SimpleNamespace(retain_primary_context=lambda: context),
        memcpy_htod_async=lambda to, a, s: ctypes.memmove(to, a.ctypes.data, a.nbytes),
        memcpy_dtoh_async=lambda a, source, s: ctypes.memmove(a.ctypes.data, source, a.nbytes),
    )  # fmt: skip
    return module


class FakeEngine:
    """Nearest ×4 on raw addresses; `named` has the calls of 8.5 and later, else those before."""

    device_memory_size = 12345

    def __init__(self, named: bool, fixed: tuple[int, int] | None) -> None:
        self.size = fixed or (-1, -1)
        shape = (1, 3, *self.size)
        if named:
            self.num_io_tensors = 2
            self.get_tensor_shape = lambda name: shape
        else:
            self.get_binding_index = ["output", "input"].index  # the order is the engine's
            self.get_binding_shape = lambda index: shape
        self.named = named

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.address: dict[str, int] = {}
        if engine.named:
            self.set_input_shape = lambda name, shape: self._shape(shape)
            self.set_tensor_address = self.address.__setitem__
            self.execute_async_v3 = self._run
        else:
            self.set_binding_shape = lambda index, shape: self._shape(shape)
            self.execute_async_v2 = self._run_bindings

    def _shape(self, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return all(
            want in (-1, have) for want, have in zip(self.engine.size, shape[2:], strict=True)
        )

    def _run_bindings(self, bindings: list[int], stream: int) -> bool:
        self.address = {"output": bindings[0], "input": bindings[1]}
        return self._run(stream)

    def _run(self, stream: int) -> bool:
        assert stream == 0x51
        source = array_at(self.address["input"], self.shape)
        big = (*self.shape[:2], self.shape[2] * 4, self.shape[3] * 4)
        array_at(self.address["output"], big)[:] = source.repeat(4, axis=2).repeat(4, axis=3)
        return True


def array_at(address: int, shape: tuple[int, ...]) -> Any:
    floats = ctypes.c_float * int(np.prod(shape))
    return np.frombuffer(floats.from_address(address), np.float32).reshape(shape)


@pytest.fixture(params=["cuda-python", "pycuda", "libcudart"])
def trt(
    request: pytest.FixtureRequest, cudart: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[types.ModuleType]:
    """edgesr.runtime.tensorrt with a stand-in for one of the three ways to device memory."""
    use_memory(request.param, cudart, monkeypatch)
    module = importlib.import_module("edgesr.runtime.tensorrt")
    monkeypatch.setattr(module, "expected_memory", request.param, raising=False)
    yield module


def use_memory(way: str, cudart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one way to device memory, and make a stand-in of it."""
    library = ctypes.CDLL(str(cudart))
    names = ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart",
             "pycuda", "pycuda.driver")  # fmt: skip
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    if way == "cuda-python":
        monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.bindings", types.ModuleType("cuda.bindings"))
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake_cuda_python(library))
    elif way == "pycuda":
        monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
        monkeypatch.setitem(sys.modules, "pycuda.driver", fake_pycuda(library))
    else:
        paths = ("no-such-library.so", str(cudart))
        monkeypatch.setattr(script("trt"), "_CUDART_NAMES", paths)


def with_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Any) -> Path:
    fake = types.ModuleType("tensorrt")
    fake.__dict__.update(
        __version__="8.6.2", Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda s, v: None}),
        Runtime=lambda logger: types.SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    (tmp_path / "x.engine").write_bytes(b"plan")
    return tmp_path / "x.engine"
