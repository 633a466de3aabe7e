"""What goes wrong on boards: no GPU, damaged caches, leftovers, full memory, odd pictures.

The stand-ins for TensorRT and CUDA are those of test_bundle_kit.py.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesr.bundle import manifest
from edgesr.errors import BadConfig, Impossible
from edgesr.export import Bundle, export_bundle
from tests.test_bundle_kit import (
    FakeEngine,
    FakeTensorRt,
    bare,
    built,
    copy,
    cudart,
    made,
    run,
    script,
    trt,
    with_engine,
)

__all__ = ["bare", "copy", "cudart", "made", "trt"]  # fixtures

OLD = "8.5.2.2"

# ---------------------------------------------------------------- build.py


def test_a_tensorrt_without_a_gpu_is_one_line_and_exit_4(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bindings raise TypeError where CUDA does not start (NVIDIA/TensorRT issue 2913)."""
    fake = FakeTensorRt(OLD)

    def builder(logger: Any) -> None:
        logger.log(1, "CUDA initialization failure\nwith error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    fake.Builder = builder  # type: ignore[assignment,misc]
    code, _ = built(copy, monkeypatch, fake)
    assert code == 4
    line = capsys.readouterr().err.splitlines()[-1]
    assert "CUDA initialization failure with error: 35" in line
    assert "trying fp32" not in line


@pytest.mark.parametrize("refusal", ["create", "set"])
def test_a_damaged_timing_cache_is_replaced(
    copy: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    fake = FakeTensorRt(OLD)
    config = type(fake.Builder(None).create_builder_config())
    create, use = config.create_timing_cache, config.set_timing_cache
    damaged = b"damaged"
    if refusal == "create":
        monkeypatch.setattr(
            config, "create_timing_cache", lambda c, d: None if d == damaged else create(c, d)
        )
    else:
        monkeypatch.setattr(
            config, "set_timing_cache", lambda c, d, m: d != damaged and use(c, d, m)
        )
    cache = copy / "engines" / f"timing-tensorrt-{OLD}-unknown.cache"
    cache.parent.mkdir()
    cache.write_bytes(damaged)
    code, _ = built(copy, monkeypatch, fake)
    assert code == 0
    assert cache.read_bytes() == b"tt"  # the first engine's timings, then the second's


def test_timings_that_cannot_be_written_cost_no_engine(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeTensorRt(OLD)
    (copy / "engines" / f"timing-tensorrt-{OLD}-unknown.cache").mkdir(parents=True)
    code, facts = built(copy, monkeypatch, fake, "--precision", "fp16")
    assert (code, facts["precision"], facts["reason"]) == (0, "fp16", "")
    assert "the next build takes as long" in capsys.readouterr().err


def test_a_current_engine_says_that_it_fell_back(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        built(copy, monkeypatch, FakeTensorRt(OLD, broken=("FP16",)), "--precision", "fp16")
    again = capsys.readouterr().err.splitlines()[-2:]
    assert all("current, fp32, since fp16: " in line and "Conv_3" in line for line in again)


def test_a_build_can_be_interrupted(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt(OLD)

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fake.Builder, "build_serialized_network", interrupted)
    assert built(copy, monkeypatch, fake) == (130, {})


@pytest.mark.parametrize("part", ["role", "shape", "no fp32", "no tile", "a list"])
def test_a_manifest_that_builds_outside_or_not_at_all_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    path = copy / "manifest.json"
    data = json.loads(path.read_text())
    student = data["models"]["student"]
    if part == "role":
        data["models"]["../../student"] = student
    elif part == "shape":
        student["onnx"]["../tile"] = student["onnx"]["tile"]
    elif part == "no fp32":
        student["onnx"]["tile"] = {}
    elif part == "no tile":
        del student["tile"]
    path.write_text("[]" if part == "a list" else json.dumps(data))
    code, _ = built(copy, monkeypatch, FakeTensorRt(OLD), "--model", "all")
    assert code == 1
    assert "is damaged" in capsys.readouterr().err
    assert not list(copy.parent.rglob("*.engine"))


def test_golden_tiles_fit_the_engine_of_open_shape(made: Bundle, tmp_path: Path) -> None:
    """Its profile ends at the tile, also at one smaller than the usual small picture."""
    small = export_bundle(
        made.path.parent / "student.safetensors", teacher=None, target="cpu",
        out=tmp_path / "small", tile=32, precision="fp32",
    )  # fmt: skip
    (case,) = (g for g in small.manifest.golden if g.shape == "dynamic")
    assert np.load(small.path / case.input).shape == (32, 32, 3)


# ---------------------------------------------------------------- runtime/tensorrt.py


def test_a_runtime_gives_everything_back_once(
    trt: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = with_engine(monkeypatch, tmp_path, FakeEngine(True, None))
    runtime = trt.TensorRtRuntime(path, scale=4, halo=1)
    pycuda = sys.modules["pycuda.driver"]
    if pycuda is not None:  # it aborts the process if a context stays on its stack
        assert pycuda.__dict__["stack"] == ["primary"]
    runtime.run(np.zeros((1, 3, 4, 4), np.float32))
    runtime.close()
    runtime.close()
    if pycuda is not None:
        assert pycuda.__dict__["stack"] == []


def test_full_device_memory_is_one_line_and_nothing_is_freed_twice(
    trt: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = with_engine(monkeypatch, tmp_path, FakeEngine(True, None))
    runtime = trt.TensorRtRuntime(path, scale=4, halo=1)
    runtime.run(np.zeros((1, 3, 4, 4), np.float32))
    freed: list[int] = []
    free = runtime._memory.free
    monkeypatch.setattr(runtime._memory, "free", lambda a: (freed.append(a), free(a)))
    with pytest.raises(Impossible, match=r"out of memory|error 2"):
        runtime.run(np.zeros((1, 3, 2000, 2000), np.float32))  # the stand-in has 16 MiB
    runtime.close()
    assert len(freed) == 2  # both small buffers
    assert len(set(freed)) == 2


def test_an_engine_that_does_not_load_leaves_no_context_behind(
    trt: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = with_engine(monkeypatch, tmp_path, None)

    def refused(logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(sys.modules["tensorrt"], "Runtime", refused)
    with pytest.raises(Impossible, match="does not start on this GPU"):
        trt.TensorRtRuntime(path, scale=4, halo=1)
    pycuda = sys.modules["pycuda.driver"]
    assert pycuda is None or pycuda.__dict__["stack"] == []


@pytest.mark.parametrize("fault", ["no device", "too old"])
def test_a_pycuda_that_does_not_start_is_a_reason_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """pycuda's errors are children of Exception alone; before 2020 it had no primary context."""
    module, driver = script("trt"), types.ModuleType("pycuda.driver")

    class Error(Exception):
        pass

    def init() -> None:
        if fault == "no device":
            raise Error("cuInit failed: no CUDA-capable device is detected")

    driver.__dict__.update(Error=Error, init=init, Device=lambda i: object())
    monkeypatch.setattr(module, "_CUDART_NAMES", ("no-such-library.so",))
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pycuda", types.ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    with pytest.raises(Impossible, match="cuInit failed" if fault == "no device" else "too old"):
        module.open_memory()


# ---------------------------------------------------------------- run.py


def test_an_engine_of_an_older_bundle_is_refused(
    bare: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """engines/ stays where a newer bundle is copied over an older one."""
    built(copy, monkeypatch, FakeTensorRt("10.3.0"), "--precision", "fp16")
    sidecar = copy / "engines" / "student.tile.engine.json"
    current = run(bare, copy, "--verify")
    assert "built from another" not in current.stderr  # only TensorRT is missing
    assert "tensorrt" in current.stderr
    built_from = json.loads(sidecar.read_text())
    built_from["key"]["sha256 of student.fp16.onnx"] = "0" * 64
    sidecar.write_text(json.dumps(built_from))
    stale = run(bare, copy, "--verify")
    assert stale.returncode == 4
    assert "was built from another student.fp16.onnx: run build.py" in stale.stderr
    assert len(stale.stderr.splitlines()) == 1


def test_sixteen_bits_are_scaled_into_formats_of_eight(
    bare: Path, copy: Path, photograph: Any
) -> None:
    """OpenCV's encoders cut values at 255 instead: a white picture."""
    cv2 = pytest.importorskip("cv2")
    picture = photograph("chelsea")[:30, :40, ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(copy.parent / "deep.png"), picture)
    for suffix in ("jpg", "webp", "bmp"):
        target = copy.parent / f"out.{suffix}"
        done = run(bare, copy, str(copy.parent / "deep.png"), "-o", str(target))
        assert done.returncode == 0, done.stderr
        assert abs(cv2.imread(str(target)).mean() - picture.mean() / 257) < 8


def test_a_grey_jpeg_stays_grey(bare: Path, copy: Path, photograph: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(copy.parent / "grey.jpg"), photograph("chelsea")[:30, :40, 1])
    done = run(bare, copy, str(copy.parent / "grey.jpg"))
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(copy.parent / "grey_x4.jpg"), cv2.IMREAD_UNCHANGED).shape == (120, 160)


@pytest.mark.parametrize(("name", "words"), [("out", "name it .png"), ("o.jpg", "transparency")])
def test_what_cannot_be_written_is_refused_before_the_work(
    bare: Path, copy: Path, photograph: Any, name: str, words: str
) -> None:
    cv2 = pytest.importorskip("cv2")
    alpha = np.full((150, 201), 77, np.uint8)
    rgba = np.dstack([photograph("coffee")[:150, :201], alpha])
    cv2.imwrite(str(copy.parent / "in.png"), rgba)
    done = run(bare, copy, str(copy.parent / "in.png"), "-o", str(copy.parent / name))
    assert done.returncode == 1
    assert words in done.stderr
    assert "tile" not in done.stderr  # no tile was computed
    assert not (copy.parent / name).exists()


# ---------------------------------------------------------------- manifest.json


def sealed(folder: Path, data: dict[str, Any]) -> None:
    """Write `data` with the hash it should have, as somebody with EdgeSR at hand could."""
    data.pop("manifest_sha256", None)
    text = manifest._canonical(data).encode("utf-8", "surrogatepass")
    seal = manifest.hashlib.sha256(text).hexdigest()
    (folder / "manifest.json").write_text(
        manifest._canonical(dict(data, manifest_sha256=seal)), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["models"].update({"../x": d["models"]["student"]}), "no name"),
        (lambda d: d.update(golden=[]), "no golden tile"),
        (lambda d: d.update(limits={}), "no limits"),
        (lambda d: d["models"]["student"]["onnx"]["tile"].update(fp16=7), "no file"),
        (lambda d: d["golden"][0].update(input="../../etc/passwd"), "no file"),
    ],
)
def test_a_sealed_manifest_is_still_checked(copy: Path, change: Any, words: str) -> None:
    data = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    sealed(copy, data)
    assert manifest.read(copy).target == "cpu"  # the seal is as export writes it
    change(data)
    sealed(copy, data)
    with pytest.raises(BadConfig, match=words) as e:
        manifest.read(copy)
    assert "\n" not in str(e.value)


def test_half_a_surrogate_pair_is_refused_not_a_crash(copy: Path) -> None:
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    changed = text.replace('"target": "cpu"', '"target": "\\ud800"')
    assert changed != text
    (copy / "manifest.json").write_text(changed, encoding="utf-8")
    with pytest.raises(BadConfig, match="changed after the export"):
        manifest.read(copy)
