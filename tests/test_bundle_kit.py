"""The deployment kit: it stands alone, keeps to old Pythons, and handles each TensorRT.

No board and no GPU here: TensorRT and libcudart are stand-ins that raise where the real
version lacks a call. The builder meets a real TensorRT in test_tensorrt_rtx.py.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesr import checkpoint, resources
from edgesr.bundle import kit
from edgesr.errors import BadModel, Impossible
from edgesr.export import Bundle, export_bundle
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
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


def script(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"kit_{name}", KIT / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- what travels


def test_copied_modules_are_verbatim_complete_and_free_of_torch(made: Bundle) -> None:
    package = made.path / "edgesr"
    copied = sorted(p.relative_to(package) for p in package.rglob("*.py"))
    source = Path(str(files("edgesr")))
    for module in copied:
        assert (package / module).read_bytes() == (source / module).read_bytes()
    assert Path("tiling.py") in copied
    assert Path("runtime/ort.py") in copied
    allowed = {"edgesr", "numpy", "onnxruntime", "cv2", "trt", *sys.stdlib_module_names}
    for path in made.path.rglob("*.py"):
        assert imports(path) <= allowed, path
    # The closure of the copies is the copies: nothing is missing from the bundle.
    scripts = [made.path / name for name in kit.SCRIPTS]
    assert [p.relative_to(package) for p in kit.closure(scripts, package)] == copied


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_closure_skips_what_only_a_type_checker_reads(tmp_path: Path) -> None:
    package = tmp_path / "edgesr"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__", "a", "b", "c", "deep/__init__", "deep/d"):
        (package / f"{name}.py").write_text("")
    (package / "a.py").write_text("def f():\n    from edgesr.deep import d\n")
    start = tmp_path / "run.py"
    start.write_text(
        "from typing import TYPE_CHECKING\nfrom edgesr import a\n"
        "if TYPE_CHECKING:\n    from edgesr import b\n"
    )
    found = [p.relative_to(package).as_posix() for p in kit.closure([start], package)]
    assert found == ["__init__.py", "a.py", "deep/__init__.py", "deep/d.py"]


def test_scripts_keep_to_the_boards_pythons(made: Bundle) -> None:
    text = (KIT / "build.py").read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 6))
    assert imports(KIT / "build.py") <= set(sys.stdlib_module_names)
    assert "dataclasses" not in imports(KIT / "build.py")
    assert not any(isinstance(n, ast.AnnAssign) for n in ast.walk(tree))
    for path in made.path.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


# ---------------------------------------------------------------- the bundle alone


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


def test_edgesr_is_out_of_reach_there(bare: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-S", "-c", "import numpy, cv2, onnxruntime, edgesr"],
        env={"PYTHONPATH": str(bare)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No module named 'edgesr'" in found.stderr


def test_the_bundle_verifies_itself_alone(bare: Path, copy: Path) -> None:
    good = run(bare, copy, "--verify", "--json")
    assert good.returncode == 0, good.stderr
    assert len(json.loads(good.stdout)["hops"]) == 3
    data = bytearray((copy / "student.fp32.onnx").read_bytes())
    data[-2000] ^= 64
    (copy / "student.fp32.onnx").write_bytes(data)
    bad = run(bare, copy, "--verify")
    assert bad.returncode == 1
    assert "CHANGED  student.fp32.onnx" in bad.stdout


def test_numpy_of_jetpack_5_is_enough(bare: Path, copy: Path) -> None:
    """Ubuntu 20.04's numpy 1.17 has no numpy.typing."""
    code = (
        "import sys, runpy; sys.modules['numpy.typing'] = None; "
        f"sys.argv = ['run.py', '--verify']; sys.path.insert(0, {str(copy)!r}); "
        f"runpy.run_path({str(copy / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(bare)}, cwd=copy.parent,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ok       student.fp32.onnx" in done.stdout


@pytest.mark.parametrize(("height", "width"), [(150, 201), (40, 130), (1, 1), (64, 64)])
def test_the_bundle_alone_gives_the_untiled_picture(
    bare: Path, copy: Path, photograph: Any, height: int, width: int
) -> None:
    """Larger than the tile, one side smaller, one pixel, exactly the tile: 8-bit identical."""
    cv2 = pytest.importorskip("cv2")
    picture = np.ascontiguousarray(photograph("coffee")[100 : 100 + height, 50 : 50 + width])
    cv2.imwrite(str(copy.parent / "in.png"), picture[:, :, ::-1])
    done = run(bare, copy, str(copy.parent / "in.png"))
    assert done.returncode == 0, done.stderr
    found = cv2.imread(str(copy.parent / "in_x4.png"))[:, :, ::-1]
    whole = upscale_tiles(picture, OrtRuntime(copy / "student.dynamic.fp32.onnx"))
    np.testing.assert_array_equal(found, whole)


def test_fixed_tiles_in_half_precision_differ_by_one_level_at_most(
    bare: Path, made: Bundle, tmp_path: Path, photograph: Any
) -> None:
    """What a board does: the fp16 file of fixed shape on large pictures, the open one on small."""
    cv2 = pytest.importorskip("cv2")
    half = tmp_path / "half"
    export_bundle(
        made.path.parent / "student.safetensors", teacher=None, target="jetson-orin", out=half,
        tile=TILE,
    )  # fmt: skip
    for height, width in ((100, 130), (40, 130)):
        picture = np.ascontiguousarray(photograph("coffee")[:height, :width])
        cv2.imwrite(str(tmp_path / "in.png"), picture[:, :, ::-1])
        done = run(bare, half, str(tmp_path / "in.png"), "-y")
        assert done.returncode == 0, done.stderr
        found = cv2.imread(str(tmp_path / "in_x4.png"))[:, :, ::-1].astype(int)
        whole = upscale_tiles(picture, OrtRuntime(half / "student.dynamic.fp32.onnx"))
        assert np.abs(found - whole).max() <= 1


def test_alpha_grey_and_16_bits_are_kept(bare: Path, copy: Path, photograph: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = photograph("chelsea")[:30, :40]
    alpha = np.full((30, 40), 77, np.uint8)
    kinds = {
        "rgba": np.dstack([picture[:, :, ::-1], alpha]),
        "grey": picture[:, :, 0],
        "deep": picture[:, :, ::-1].astype(np.uint16) * 257,
    }
    for name, pixels in kinds.items():
        path = copy.parent / f"{name}.png"
        cv2.imwrite(str(path), pixels)
        done = run(bare, copy, str(path), "-o", str(copy.parent / f"{name}-out.png"))
        assert done.returncode == 0, done.stderr
        found = cv2.imread(str(copy.parent / f"{name}-out.png"), cv2.IMREAD_UNCHANGED)
        assert found.dtype == pixels.dtype
        assert found.shape == (120, 160, *pixels.shape[2:])
        assert abs(float(found.mean()) - float(pixels.mean())) < 0.05 * np.iinfo(found.dtype).max
    rgba = cv2.imread(str(copy.parent / "rgba-out.png"), cv2.IMREAD_UNCHANGED)
    assert (rgba[:, :, 3] == 77).all()


def test_bad_input_is_one_line_and_nothing_is_written(bare: Path, copy: Path) -> None:
    text = copy.parent / "text.png"
    text.write_text("no picture")
    for arguments, code, words in [
        ((str(text),), 1, "not a picture"),
        ((str(copy.parent / "none.png"),), 1, "No such file"),
        (("--model", "teacher", str(text)), 1, "not a picture"),
        (("--verify", "--runtime", "tensorrt"), 4, "no engines"),
        ((), 2, "give a picture"),
    ]:
        done = run(bare, copy, *arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (copy.parent / "text_x4.png").exists()


# ---------------------------------------------------------------- build.py and each version


FILES = {"fp32": "m.fp32.onnx", "fp16": "m.fp16.onnx"}


@pytest.mark.parametrize(
    ("version", "rtx", "onnx", "flags", "network"),
    [
        ((8, 2), False, "m.fp32.onnx", ["FP16"], ["EXPLICIT_BATCH"]),
        ((8, 5), False, "m.fp32.onnx", ["FP16"], ["EXPLICIT_BATCH"]),
        ((8, 6), False, "m.fp32.onnx", ["FP16"], ["EXPLICIT_BATCH"]),
        ((10, 3), False, "m.fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((10, 16), False, "m.fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((11, 4), False, "m.fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((1, 7), True, "m.fp16.onnx", [], []),
    ],
)
def test_file_and_flags_follow_the_version(
    version: tuple[int, int], rtx: bool, onnx: str, flags: list[str], network: list[str]
) -> None:
    first, last = script("build").attempts(version, rtx, "fp16", FILES)
    assert (first["onnx"], first["flags"], first["network"]) == (onnx, flags, network)
    assert (last["onnx"], last["flags"], last["precision"]) == ("m.fp32.onnx", [], "fp32")
    (only,) = script("build").attempts(version, rtx, "fp32", FILES)
    assert only["flags"] == []
    without = script("build").attempts(version, rtx, "fp16", {"fp32": "m.fp32.onnx"})
    assert all(t["onnx"] == "m.fp32.onnx" for t in without)


class FakeTensorRt(types.ModuleType):
    """A TensorRT of a given version, with the calls that version has and no others.

    `limit`: a workspace above it runs out of memory. `broken`: flags it cannot build with.
    """

    def __init__(self, version: str, limit: int = 1 << 60, broken: tuple[str, ...] = ()) -> None:
        super().__init__("tensorrt")
        self.__version__ = version
        self.limit, self.broken = limit, broken
        self.tries: list[dict[str, Any]] = []
        numbers = tuple(int(n) for n in version.split(".")[:2])
        old, typed = numbers < (8, 4), numbers >= (10, 0)
        flags = ["TF32", "SPARSE_WEIGHTS"] + ([] if version.startswith("11") else ["FP16"])
        self.BuilderFlag = types.SimpleNamespace(**{name: name for name in flags})
        # NvInferRuntime.h: kEXPLICIT_BATCH = 0, kSTRONGLY_TYPED = 1; 10 has both.
        names = {"EXPLICIT_BATCH": 0, **({"STRONGLY_TYPED": 1} if typed else {})}
        self.NetworkDefinitionCreationFlag = types.SimpleNamespace(**names)
        self.MemoryPoolType = types.SimpleNamespace(WORKSPACE="WORKSPACE")
        self.ILogger = type("ILogger", (), {"Severity": types.SimpleNamespace(
            INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3)})  # fmt: skip
        fake = self

        class AnyConfig:
            __slots__ = ("cache", "flags", "workspace")  # any other attribute raises

            def __init__(self) -> None:
                self.flags = {"TF32"}
                self.cache = b""
                self.workspace = 1 << 62

            def set_flag(self, flag: str) -> None:
                self.flags.add(flag)

            def clear_flag(self, flag: str) -> None:
                self.flags.discard(flag)

            def create_timing_cache(self, data: bytes) -> bytes:
                return data

            def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
                self.cache = cache
                return True

            def get_timing_cache(self) -> Any:
                return types.SimpleNamespace(serialize=lambda: self.cache + b"t")

        class OldConfig(AnyConfig):
            __slots__ = ()

            def _set(self, size: int) -> None:
                self.workspace = size

            max_workspace_size = property(fset=_set)

        class NewConfig(AnyConfig):
            __slots__ = ()

            def set_memory_pool_limit(self, pool: str, size: int) -> None:
                assert pool == "WORKSPACE"
                self.workspace = size

        class Builder:
            platform_has_fast_fp16 = True

            def __init__(self, logger: Any) -> None:
                self.logger = logger

            def create_network(self, bits: int) -> Any:
                source = types.SimpleNamespace(shape=(1, 3, 64, 64))
                return types.SimpleNamespace(bits=bits, get_input=lambda i: source)

            def create_builder_config(self) -> AnyConfig:
                return OldConfig() if old else NewConfig()

            def build_serialized_network(self, network: Any, config: AnyConfig) -> Any:
                fake.tries.append({"workspace": config.workspace, "bits": network.bits,
                                   "flags": sorted(config.flags)})  # fmt: skip
                if config.workspace > fake.limit:
                    self.logger.log(1, "[virtualMemoryBuffer.cpp] OutOfMemory (no further info)")
                    return None
                if config.flags & set(fake.broken):
                    self.logger.log(1, "no implementation for node Conv_3")
                    return None
                return memoryview(b"plan")

        class OnnxParser:
            num_errors = 0

            def __init__(self, network: Any, logger: Any) -> None:
                pass

            def parse(self, data: bytes) -> bool:
                return bool(data)

        self.Builder, self.OnnxParser = Builder, OnnxParser


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


@pytest.mark.parametrize("version", ["8.2.1.8", "8.5.2.2", "10.3.0", "11.4.1"])
def test_each_version_is_asked_only_for_what_it_has(
    copy: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    fake = FakeTensorRt(version)
    code, facts = built(copy, monkeypatch, fake, "--precision", "fp16", "--sparse-weights")
    assert code == 0
    assert facts["precision"] == "fp16"
    typed = not version.startswith("8")
    assert facts["onnx"] == ("student.fp16.onnx" if typed else "student.fp32.onnx")
    flags = {"SPARSE_WEIGHTS", "TF32"} | (set() if typed else {"FP16"})
    assert set(fake.tries[0]["flags"]) == flags
    assert fake.tries[0]["bits"] == (2 if typed else 1)  # STRONGLY_TYPED, or EXPLICIT_BATCH
    cache = copy / "engines" / f"timing-tensorrt-{version}-unknown.cache"
    assert cache.read_bytes() == b"tt"  # two engines, the second began with the first's timings


def test_fp32_is_not_tf32(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt("8.5.2")
    code, facts = built(copy, monkeypatch, fake, "--precision", "fp32")
    assert (code, facts["precision"]) == (0, "fp32")
    assert fake.tries[0]["flags"] == []


def test_workspace_shrinks_until_it_fits(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt("10.3.0", limit=300 << 20)
    code, facts = built(copy, monkeypatch, fake, "--workspace-mb", "1024")
    assert code == 0
    assert [t["workspace"] >> 20 for t in fake.tries[:3]] == [1024, 512, 256]
    assert facts["workspace_bytes"] == 256 << 20


def test_workspace_is_a_share_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc").mkdir()
    # Orin Nano 8 GB, JetPack 6.2, desktop running.
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal:        7802900 kB\nMemFree:          312200 kB\nMemAvailable:    4718592 kB\n"
    )
    build = script("build")
    free = build.available_bytes(str(tmp_path))
    assert free == 4718592 * 1024
    for available, workspace in ((free, 1_932_735_283), (0, 32 << 20)):  # 40 %; never nothing
        monkeypatch.setattr(build, "available_bytes", lambda size=available: size)
        assert build.default_workspace() == workspace


def test_l4t_is_read_as_the_board_writes_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    )
    assert script("build").l4t_version(str(tmp_path)) == "36.4.3"


def test_fp16_that_does_not_build_falls_back_with_the_reason(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, facts = built(
        copy, monkeypatch, FakeTensorRt("8.5.2", broken=("FP16",)), "--precision", "fp16"
    )
    assert code == 0
    assert facts["precision"] == "fp32"
    assert "Conv_3" in facts["reason"]
    assert "trying fp32" in capsys.readouterr().err


def test_a_tensorrt_that_is_too_old_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = built(copy, monkeypatch, FakeTensorRt("8.0.1"))
    assert code == 4
    assert "older than 8.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"), "python3-libnvinfer"),
        (ImportError("libnvdla_compiler.so: cannot open shared object file"), "DLA"),
        (OSError("libnvinfer.so.10: cannot open shared object file"), "reinstall"),
    ],
)
def test_a_tensorrt_that_does_not_load_gets_cause_and_remedy(error: Exception, words: str) -> None:
    line = script("build").import_remedy("tensorrt", error)
    assert words in line
    assert "\n" not in line


# ---------------------------------------------------------------- trt.py


FAKE_CUDART = """
#include <stdlib.h>
#include <string.h>
int cudaStreamCreate(void **s) { *s = (void *)0x51; return 0; }
int cudaStreamSynchronize(void *s) { return s != (void *)0x51; }
int cudaStreamDestroy(void *s) { return s != (void *)0x51; }
const char *cudaGetErrorString(int status) { return status == 2 ? "out of memory" : "other"; }
int cudaMalloc(void **p, size_t n) { if (n > 1 << 24) return 2; *p = malloc(n); return 0; }
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
    """trt.py with a stand-in for one of the three ways to device memory."""
    module = script("trt")
    library = ctypes.CDLL(str(cudart))
    names = {"cuda-python": ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"),
             "pycuda": ("pycuda", "pycuda.driver")}  # fmt: skip
    for name in (n for group in names.values() for n in group):
        monkeypatch.setitem(sys.modules, name, None)
    if request.param == "cuda-python":
        monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.bindings", types.ModuleType("cuda.bindings"))
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake_cuda_python(library))
    elif request.param == "pycuda":
        monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
        monkeypatch.setitem(sys.modules, "pycuda.driver", fake_pycuda(library))
    else:
        monkeypatch.setattr(module, "_CUDART_NAMES", ("no-such-library.so", str(cudart)))
    module.__dict__["expected_memory"] = request.param
    yield module


def with_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Any) -> Path:
    fake = types.ModuleType("tensorrt")
    fake.__dict__.update(
        __version__="8.6.2", Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda s, v: None}),
        Runtime=lambda logger: types.SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    (tmp_path / "x.engine").write_bytes(b"plan")
    return tmp_path / "x.engine"


@pytest.mark.parametrize("named", [True, False], ids=["8.5 and later", "before 8.5"])
def test_engine_runs_through_each_way_to_device_memory(
    trt: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
) -> None:
    path = with_engine(monkeypatch, tmp_path, FakeEngine(named, None))
    runtime = trt.TensorRtRuntime(path, scale=4, halo=1)
    assert runtime._memory.name == trt.expected_memory  # type: ignore[attr-defined]
    assert runtime.tile_shapes == ()
    rng = np.random.default_rng(1)
    for shape in ((5, 7), (20, 9), (3, 3)):  # the buffers grow, and are used again
        batch = rng.random((1, 3, *shape), np.float32)
        np.testing.assert_array_equal(runtime.run(batch), batch.repeat(4, axis=2).repeat(4, axis=3))
    assert runtime.memory() == {"engine_bytes": 12345, "buffer_bytes": 20 * 9 * 3 * 4 * 17}
    runtime.close()


def test_fixed_engines_tile_a_picture(
    trt: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = with_engine(monkeypatch, tmp_path, FakeEngine(True, (16, 16)))
    runtime = trt.TensorRtRuntime(path, scale=4, halo=2)
    assert runtime.tile_shapes == ((16, 16),)
    picture = np.random.default_rng(2).integers(0, 256, (37, 50, 3), np.uint8)
    found = upscale_tiles(picture, runtime)
    np.testing.assert_array_equal(found, picture.repeat(4, axis=0).repeat(4, axis=1))
    with pytest.raises(BadModel, match="refused a picture of 8×8"):
        runtime.run(np.zeros((1, 3, 8, 8), np.float32))


def test_an_engine_of_another_tensorrt_says_to_rebuild(
    trt: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = with_engine(monkeypatch, tmp_path, None)
    with pytest.raises(BadModel, match=r"build\.py --force"):
        trt.TensorRtRuntime(path, scale=4, halo=1)


def test_without_cuda_every_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("trt")
    monkeypatch.setattr(module, "_CUDART_NAMES", ("no-such-library.so",))
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Impossible) as e:
        module.open_memory()
    for way in ("cuda-python", "pycuda", "libcudart"):
        assert way in str(e.value)
