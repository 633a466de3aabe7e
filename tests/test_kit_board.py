"""A board in a folder: build.py, then run.py on the engines it built, as a user types them.

TensorRT is the stand-in of fake_tensorrt.py, one for each era of its interface; its engines
run in ONNX Runtime on memory of the stand-in of libcudart.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
from tests.kit import add_int8, bare, copy, cudart, made

__all__ = ["bare", "copy", "cudart", "made"]  # fixtures


@pytest.fixture
def site(bare: Path, cudart: Path, tmp_path: Path) -> Path:
    """The board's Python packages: TensorRT, and a libcudart beside them."""
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copyfile(Path(__file__).with_name("fake_tensorrt.py"), folder / "tensorrt.py")
    (folder / "libcudart.so").symlink_to(cudart)
    return folder


def call(
    site: Path, bare: Path, version: str, *words: object, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{site}:{bare}",
                   "LD_LIBRARY_PATH": str(site), "FAKE_TENSORRT": version} | more  # fmt: skip
    return subprocess.run(
        [sys.executable, "-S", *map(str, words)], env=environment, cwd="/",
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("version", ["8.2.1", "8.6.2", "11.4.1"])
def test_build_then_run(site: Path, bare: Path, copy: Path, photograph: Any, version: str) -> None:
    cv2 = pytest.importorskip("cv2")
    built = call(site, bare, version, copy / "build.py", "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["student.tile"]["key"]["compute_capability"] == "8.7"
    verified = call(site, bare, version, copy / "run.py", "--verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "ok       student.tile.engine on TensorRT" in verified.stdout
    source = copy.parent / "in.png"
    for height, width in ((90, 121), (40, 130)):  # fixed tiles, and the engine of open shape
        picture = np.ascontiguousarray(photograph("coffee")[:height, :width])
        cv2.imwrite(str(source), picture[:, :, ::-1])
        done = call(site, bare, version, copy / "run.py", source, "-y")
        assert done.returncode == 0, done.stderr
        assert f"student on tensorrt-{version}" in done.stdout
        found = cv2.imread(str(copy.parent / "in_x4.png"))[:, :, ::-1].astype(int)
        whole = upscale_tiles(picture, OrtRuntime(copy / "student.dynamic.fp32.onnx"))
        assert np.abs(found - whole).max() <= 1


def test_a_precision_that_was_not_built_says_how(
    site: Path, bare: Path, copy: Path, photograph: Any
) -> None:
    cv2 = pytest.importorskip("cv2")
    add_int8(copy)
    built = call(site, bare, "10.3.0", copy / "build.py", "--precision", "fp16")
    assert built.returncode == 0, built.stderr
    source = copy.parent / "in.png"
    cv2.imwrite(str(source), photograph("coffee")[:90, :121, ::-1])
    done = call(site, bare, "10.3.0", copy / "run.py", source, "--precision", "int8")
    assert done.returncode == 4
    assert "is fp16, not int8: python3 build.py --precision int8" in done.stderr
    assert call(site, bare, "10.3.0", copy / "build.py", "--precision", "int8").returncode == 0
    done = call(site, bare, "10.3.0", copy / "run.py", source, "--precision", "int8")
    assert done.returncode == 0, done.stderr


def test_a_precision_that_the_bundle_has_not_is_refused(
    site: Path, bare: Path, copy: Path, photograph: Any
) -> None:
    cv2 = pytest.importorskip("cv2")
    source = copy.parent / "in.png"
    cv2.imwrite(str(source), photograph("coffee")[:90, :121, ::-1])
    words = ("--runtime", "onnxruntime", "--precision", "int8")
    done = call(site, bare, "10.3.0", copy / "run.py", source, *words)
    assert done.returncode == 1
    assert "no int8 student for pictures of this size in this bundle (fp32, fp16)" in done.stderr


def test_lost_quality_is_exit_code_3(site: Path, bare: Path, copy: Path) -> None:
    assert call(site, bare, "10.3.0", copy / "build.py").returncode == 0
    done = call(site, bare, "10.3.0", copy / "run.py", "--verify", FAKE_TENSORRT_GAIN="0.98")
    assert done.returncode == 3
    assert "LOST     student.tile.engine on TensorRT" in done.stdout


def test_an_engine_of_another_tensorrt_says_to_rebuild(site: Path, bare: Path, copy: Path) -> None:
    """JetPack was upgraded, and build.py not run again."""
    assert call(site, bare, "8.6.2", copy / "build.py").returncode == 0
    done = call(site, bare, "10.3.0", copy / "run.py", "--verify")
    assert done.returncode == 3
    assert "TensorRT 10.3.0 does not load it; run build.py --force" in done.stdout
    again = call(site, bare, "10.3.0", copy / "build.py")
    assert "building (tensorrt was tensorrt 8.6.2, is tensorrt 10.3.0)" in again.stderr
    assert call(site, bare, "10.3.0", copy / "run.py", "--verify").returncode == 0
