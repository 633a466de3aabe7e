"""Runtimes by name: what `--runtime` gives, what each needs, what is said where it is missing.

No GPU here: ONNX Runtime's providers are stand-ins over its CPU provider, TensorRT is the
stand-in of fake_tensorrt.py, whose engines run in ONNX Runtime.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgesr.errors import BadModel, Impossible, UnknownName
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.graph.reach import halo
from edgesr.runtime import open as opening
from edgesr.runtime.open import open_runtime
from edgesr.runtime.ort import OrtRuntime
from edgesr.runtime.parts import in_parts
from edgesr.tiling import upscale_tiles
from tests.fake_tensorrt import FakeTensorRt
from tests.kit import cudart, trt, use_memory
from tests.quantised import exact
from tests.test_export import tiny

__all__ = ["cudart", "trt"]  # fixtures


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "tiny.onnx"
    made = tiny(gain=0.3)
    path.write_bytes(to_onnx(made.graph, made.weights))
    return path


def picture(height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((1, 3, height, width), np.float32)


# ---------------------------------------------------------------- parts


def test_parts_are_exactly_the_whole(network: Path) -> None:
    with_halo = OrtRuntime(network, threads=1, optimize=False)
    whole = with_halo.run(picture(50, 83))
    seen: list[tuple[int, ...]] = []

    def run(batch: Any) -> Any:
        seen.append(batch.shape[2:])
        return with_halo.run(batch)

    parts = in_parts(run, picture(50, 83), (32, 40), halo=with_halo.halo, scale=4)
    assert max(h for h, _ in seen) <= 32 and max(w for _, w in seen) <= 40 and len(seen) > 3
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    # A halo that is too small shows, so the test can.
    wrong = in_parts(run, picture(50, 83), (32, 40), halo=with_halo.halo - 1, scale=4)
    assert np.abs(wrong - whole).max() > 1e-4


def test_a_window_inside_its_halo_is_refused() -> None:
    with pytest.raises(BadModel, match="nothing inside a halo of 8"):
        in_parts(lambda b: b, picture(20, 20), (16, 16), halo=8, scale=1)


# ---------------------------------------------------------------- by name


def test_auto_is_the_cpu_for_onnx_and_the_same_pixels(network: Path) -> None:
    for name in ("auto", "ort"):
        runtime = open_runtime(network, name, threads=1)
        assert runtime.name == "onnxruntime-cpu"
        assert runtime.memory() == {}
        np.testing.assert_array_equal(
            runtime.run(picture(9, 11)), OrtRuntime(network, threads=1).run(picture(9, 11))
        )
    assert open_runtime(network.read_bytes(), threads=1).scale == 4


def test_an_unknown_name_lists_the_known_ones(network: Path) -> None:
    with pytest.raises(UnknownName, match=r"ort-cuda.*Did you mean ort-cuda"):
        open_runtime(network, "ort-cude")


@pytest.mark.parametrize("name", ["ort-cuda", "ort-tensorrt"])
def test_a_provider_that_is_not_built_in_is_exit_code_4(
    network: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(Impossible, match=r"has no \w+ExecutionProvider.*onnxruntime-gpu") as e:
        open_runtime(network, name, cache=tmp_path)
    assert e.value.exit_code == 4 and "\n" not in str(e.value)


class Session:
    """onnxruntime's, which takes any provider and computes on the CPU."""

    starts = True
    asked: list[Any]
    real = onnxruntime.InferenceSession

    def __init__(self, source: Any, options: Any, providers: list[Any]) -> None:
        Session.asked = providers
        self.names = [name for name, _ in providers if Session.starts or name.startswith("CPU")]
        self.inner = Session.real(source, options, ["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return self.names

    def run(self, outputs: Any, inputs: Any) -> Any:
        Session.largest = max(Session.largest, *inputs["input"].shape[2:])
        return self.inner.run(outputs, inputs)

    largest = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, cudart: Path) -> type[Session]:
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(Session, "starts", True)
    monkeypatch.setattr(Session, "largest", 0)
    use_memory("libcudart", cudart, monkeypatch)
    return Session


def test_a_provider_that_does_not_start_is_no_silent_cpu(
    network: Path, gpu: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "starts", False)
    with pytest.raises(Impossible, match="CUDAExecutionProvider is in this onnxruntime and does"):
        open_runtime(network, "ort-cuda")


def test_cuda_computes_fp32_without_tf32_and_says_what_it_takes(
    network: Path, gpu: type[Session]
) -> None:
    runtime = open_runtime(network, "ort-cuda", threads=1)
    assert runtime.name == "onnxruntime-cuda"
    assert gpu.asked == [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})]
    assert runtime.memory() == {"device_bytes": 0}  # the stand-in's free memory stays the same


def test_the_tensorrt_provider_keeps_engines_and_runs_large_pictures_in_parts(
    network: Path, gpu: type[Session], tmp_path: Path
) -> None:
    runtime = open_runtime(network, "ort-tensorrt", threads=1, cache=tmp_path / "kept")
    (name, options), (second, _), _ = gpu.asked
    assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["trt_engine_cache_path"] == str(tmp_path / "kept")
    assert options["trt_profile_max_shapes"] == "input:1x3x512x512"
    found = runtime.run(picture(16, 530))
    assert gpu.largest <= 512
    plain = OrtRuntime(network, threads=1).run(picture(16, 530))
    np.testing.assert_allclose(found, plain, atol=1e-5)


# ---------------------------------------------------------------- TensorRT


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch, cudart: Path) -> FakeTensorRt:
    use_memory("libcudart", cudart, monkeypatch)
    fake = FakeTensorRt("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


def test_tensorrt_builds_from_onnx_once_and_runs_any_size(
    network: Path, tensorrt: FakeTensorRt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(3)
    large = rng.integers(0, 256, (20, 530, 3), np.uint8)
    expected = upscale_tiles(large, OrtRuntime(network, threads=1))
    for _ in range(2):
        runtime = open_runtime(network, "tensorrt", cache=tmp_path)
        assert runtime.name == "tensorrt-10.3.0" and runtime.tile_shapes == ()
        assert runtime.halo == halo(tiny().graph)
        found = upscale_tiles(large, runtime)
        assert np.abs(found.astype(int) - expected).max() <= 1
        memory = runtime.memory()
        assert memory["engine_bytes"] == 4096 and memory["plan_bytes"] > network.stat().st_size
        runtime.close()
    assert len(tensorrt.tries) == 1
    said = capsys.readouterr().err
    assert "building (not built yet)" in said and "current, fp32" in said
    (engine,) = tmp_path.glob("*.engine")
    again = open_runtime(engine)  # auto: what it is, is beside it
    assert (again.scale, again.name) == (4, "tensorrt-10.3.0")
    again.close()


def test_bytes_and_int8_become_engines_too(tensorrt: FakeTensorRt, tmp_path: Path) -> None:
    graph = tiny().graph
    weights, quant = exact(graph, ("head", "tail"))
    data = to_onnx_int8(graph, weights, quant, form="trt", shape=(24, 32))
    runtime = open_runtime(data, "tensorrt", cache=tmp_path)
    assert runtime.tile_shapes == ((24, 32),)
    assert set(tensorrt.tries[0]["flags"]) >= {"INT8", "FP16"}  # the form that takes flags
    runtime.close()
    (sidecar,) = tmp_path.glob("*.engine.json")
    assert json.loads(sidecar.read_text())["precision"] == "int8"
    other = to_onnx_int8(graph, weights, quant, form="ort")
    with pytest.raises(BadModel, match=r"TensorRT takes int8\.trt"):
        open_runtime(other, "tensorrt", cache=tmp_path)


def test_without_tensorrt_it_is_exit_code_4_in_one_line(
    network: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(Impossible, match="tensorrt") as e:
        open_runtime(network, "tensorrt", cache=tmp_path)
    assert e.value.exit_code == 4 and "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_is_only_for_tensorrt_and_needs_its_description(tmp_path: Path) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"plan")
    with pytest.raises(BadModel, match="which ort cannot run"):
        open_runtime(engine, "ort")
    with pytest.raises(BadModel, match=r"has no x\.engine\.json"):
        open_runtime(engine)


def test_engines_go_to_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert opening.cache_folder() == tmp_path / "edgesr" / "engines"


def test_free_memory_is_what_the_driver_says(cudart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgesr.runtime import cuda

    use_memory("libcudart", cudart, monkeypatch)
    assert cuda.free_bytes() == 1 << 24
    monkeypatch.setattr(cuda, "_CUDART_NAMES", ("no-such-library.so",))
    assert cuda.free_bytes() is None
