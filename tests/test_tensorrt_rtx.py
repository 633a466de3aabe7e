"""The on-device builder against a real TensorRT parser and builder, which needs no GPU.

tensorrt_rtx is the one TensorRT that PyPI carries whole. It shows that the exported files
parse and build and that build.py's calls exist; it shows nothing about a Jetson's kernels,
speed or SPARSE_WEIGHTS.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgesr import checkpoint
from edgesr.export import Bundle, export_bundle
from tests.test_export import TILE, tiny

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
if importlib.util.find_spec("tensorrt_rtx") is None:
    if IN_CI:
        pytest.fail("in CI tensorrt_rtx must be installed", pytrace=False)
    pytest.skip("tensorrt_rtx is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("rtx")
    for name, width in (("student", 8), ("teacher", 16)):
        checkpoint.save(folder / f"{name}.safetensors", tiny(width))
    return export_bundle(
        folder / "student.safetensors", teacher=folder / "teacher.safetensors",
        target="jetson-orin", out=folder / "bundle", tile=TILE,
    )  # fmt: skip


@pytest.fixture
def copy(made: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(made.path, tmp_path / "copy")
    return tmp_path / "copy"


def build(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "build.py"), "--trt-module", "tensorrt_rtx"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd="/", timeout=300, check=False
    )


def test_every_file_for_tensorrt_builds_a_plan(copy: Path) -> None:
    for precision in ("fp16", "fp32"):
        run = build(copy, "--precision", precision, "--json")
        assert run.returncode == 0, run.stderr
        built = json.loads(run.stdout)
        assert set(built) == {"student.tile", "student.dynamic", "teacher.tile"}
        for name, facts in built.items():
            plan = (copy / "engines" / f"{name}.engine").read_bytes()
            assert len(plan) == facts["plan_bytes"] > 1000
            assert hashlib.sha256(plan).hexdigest() == facts["plan_sha256"]
            assert facts["key"]["tensorrt"].startswith("tensorrt_rtx ")
        assert built["student.tile"]["onnx"] == f"student.{precision}.onnx"
        assert built["teacher.tile"]["precision"] == precision
        assert built["student.dynamic"]["precision"] == "fp32"


def test_engines_are_kept_until_something_changes(copy: Path) -> None:
    student = ("--model", "student")
    assert "student.tile: building (not built yet)" in build(copy, *student).stderr
    assert "student.tile: current" in build(copy, *student).stderr
    again = build(copy, *student, "--precision", "fp32").stderr
    assert "student.tile: building (precision was fp16, is fp32)" in again
    engine = copy / "engines" / "student.tile.engine"
    engine.write_bytes(engine.read_bytes()[:-1])
    again = build(copy, *student, "--precision", "fp32").stderr
    assert "student.tile: building (the engine file is not the one that was built)" in again
    sidecar = copy / "engines" / "student.tile.engine.json"
    facts = json.loads(sidecar.read_text())
    facts["key"]["l4t"] = "36.4.3"
    sidecar.write_text(json.dumps(facts))
    again = build(copy, *student, "--precision", "fp32").stderr
    assert "student.tile: building (l4t was 36.4.3, is unknown)" in again


def rehash(folder: Path, name: str) -> None:
    """Make build.py's own hash check pass, so that TensorRT sees the file."""
    path = folder / "manifest.json"
    about = json.loads(path.read_text())
    about["files"][name]["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    path.write_text(json.dumps(about))


def test_a_changed_onnx_is_refused_before_tensorrt_sees_it(copy: Path) -> None:
    with (copy / "student.fp16.onnx").open("ab") as file:
        file.write(b"x")
    run = build(copy)
    assert run.returncode == 1
    assert "student.fp16.onnx is not the file that was exported" in run.stderr


def test_a_truncated_onnx_is_rejected_by_the_parser(copy: Path) -> None:
    for name in ("student.fp16.onnx", "student.fp32.onnx"):
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[: len(data) // 2])
        rehash(copy, name)
    run = build(copy, "--model", "student")
    assert run.returncode == 1
    assert "student.fp32.onnx is not an ONNX file that TensorRT" in run.stderr
    assert not (copy / "engines" / "student.tile.engine").exists()


def test_an_unknown_operator_falls_back_to_fp32_with_the_reason(copy: Path) -> None:
    import onnx

    model: Any = onnx.load(copy / "student.fp16.onnx")
    next(n for n in model.graph.node if n.op_type == "DepthToSpace").op_type = "DeepToSpace"
    (copy / "student.fp16.onnx").write_bytes(model.SerializeToString())
    rehash(copy, "student.fp16.onnx")
    run = build(copy, "--model", "student", "--json")
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)["student.tile"]
    assert facts["precision"] == "fp32"
    assert "DeepToSpace" in facts["reason"]
    assert "trying fp32" in run.stderr


def test_the_int8_files_for_tensorrt_build_a_plan_and_the_other_does_not(
    tmp_path: Path, photograph: Any
) -> None:
    """What RTX's kernels do with int8 is not said: only that parser and builder take the files."""
    import tensorrt_rtx as trt
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.fromarray(photograph("rocket")).save(tmp_path / "photos" / "rocket.png")
    checkpoint.save(tmp_path / "student.safetensors", tiny(16))
    made = export_bundle(
        tmp_path / "student.safetensors", teacher=None, target="jetson-orin", tile=TILE,
        out=tmp_path / "bundle", precision="int8", calib=tmp_path / "photos",
    )  # fmt: skip
    types = {}
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    for name in sorted(n for n in made.manifest.files if n.endswith(".onnx") and "int8" in n):
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, trt.Logger(trt.Logger.INTERNAL_ERROR))
        if not parser.parse((made.path / name).read_bytes()):
            types[name] = None
            continue
        convs = [network.get_layer(i) for i in range(network.num_layers)]
        types[name] = {x.get_output(0).dtype for x in convs if x.type == trt.LayerType.CONVOLUTION}
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        assert plan is not None and plan.nbytes > 1000
    assert types == {
        "student.int8.trt.onnx": {trt.float32},
        "student.int8.trt-fp16.onnx": {trt.float16},  # strongly typed: head and tail are fp16
        "student.int8.ort.onnx": None,
        "student.dynamic.int8.ort.onnx": None,
    }
