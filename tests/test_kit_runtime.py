"""The TensorRT runtime of the kit, on stand-ins for TensorRT and for each way to device memory."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from edgesr.errors import BadModel, Impossible
from edgesr.tiling import upscale_tiles
from tests.kit import FakeEngine, cudart, script, trt, with_engine

__all__ = ["cudart", "trt"]  # fixtures


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
    assert runtime.memory() == {
        "plan_bytes": 4,
        "engine_bytes": 12345,
        "buffer_bytes": 20 * 9 * 3 * 4 * 17,
    }
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
