"""Whatever is done to a bundle after its export is found, and named: `edgesr verify`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.bundle import manifest
from edgesr.bundle.wire import external_references
from edgesr.cli.main import app
from edgesr.errors import BadModel
from edgesr.export import export_bundle
from tests.test_export import TILE, tiny

FORMS = ("fp32", "fp16", "dynamic.fp32", "int8.trt", "int8.trt-fp16", "int8.ort",
         "dynamic.int8.ort")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[str], Any]) -> Path:
    folder = tmp_path_factory.mktemp("tampering")
    (folder / "photos").mkdir()
    Image.fromarray(photograph("rocket")).save(folder / "photos" / "rocket.png")
    checkpoint.save(folder / "student.safetensors", tiny(gain=0.3))
    export_bundle(
        folder / "student.safetensors", teacher=None, target="jetson-orin", tile=TILE,
        out=folder / "bundle", precision="int8", calib=folder / "photos",
    )  # fmt: skip
    return folder / "bundle"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def verified(folder: Path) -> tuple[int, str]:
    run = CliRunner().invoke(app, ["verify", str(folder)])
    return run.exit_code, run.output


def sealed(folder: Path) -> None:
    """Hashes and seal made right again, as somebody with EdgeSR at hand could."""
    about = manifest.read(folder)
    files = {
        name: dataclasses.replace(about.files[name], sha256=e.sha256, bytes=e.bytes)
        for name, e in manifest.entries(folder).items()
        if name in about.files
    }
    (folder / manifest.FILE).write_text(
        dataclasses.replace(about, files=files).dumps(), encoding="utf-8"
    )


def test_an_untouched_int8_bundle_passes(made: Path) -> None:
    code, said = verified(made)
    assert code == 0, said
    for form in FORMS:
        assert f"ok       student.{form}.onnx on ONNX Runtime" in said


@pytest.mark.parametrize("form", FORMS)
def test_one_flipped_byte_of_a_weight_is_named(copy: Path, form: str) -> None:
    name = f"student.{form}.onnx"
    path = copy / name
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if t.name.startswith("body0.weight"))
    data = bytearray(path.read_bytes())
    place = data.find(weight.raw_data) + len(weight.raw_data) // 2
    assert place > len(weight.raw_data) // 2  # found
    data[place] ^= 0x01
    path.write_bytes(data)
    code, said = verified(copy)
    assert code == 1
    assert f"CHANGED  {name}: its bytes were changed after the export" in said
    assert said.count("CHANGED") == 1


def test_swapped_files_are_both_named(copy: Path) -> None:
    one, other = copy / "student.int8.trt.onnx", copy / "student.int8.ort.onnx"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    code, said = verified(copy)
    assert code == 1
    assert "CHANGED  student.int8.trt.onnx" in said
    assert "CHANGED  student.int8.ort.onnx" in said


def test_swapped_golden_tiles_with_right_hashes_are_lost_quality(copy: Path) -> None:
    tiles = sorted((copy / "golden").glob("student-tile-*.npy"))
    first, second = tiles[0].read_bytes(), tiles[1].read_bytes()
    tiles[0].write_bytes(second)
    tiles[1].write_bytes(first)
    sealed(copy)
    code, said = verified(copy)
    assert code == 3
    assert "LOST     student.fp32.onnx" in said


def test_a_truncated_onnx_is_named_even_with_the_right_hash(copy: Path) -> None:
    path = copy / "student.int8.ort.onnx"
    path.write_bytes(path.read_bytes()[:-200])
    code, said = verified(copy)
    assert code == 1 and "CHANGED  student.int8.ort.onnx" in said
    sealed(copy)
    code, said = verified(copy)
    assert code == 1
    assert "CHANGED  student.int8.ort.onnx: cut off" in said
    assert "LOST     student.int8.ort.onnx" in said


@pytest.mark.parametrize("place", ["files", "onnx", "golden"])
def test_a_path_out_of_the_bundle_is_refused_by_name(copy: Path, place: str) -> None:
    secret = copy.parent / "secret.onnx"
    shutil.copy(copy / "student.fp32.onnx", secret)
    about = manifest.read(copy)
    name = "../secret.onnx"
    files = {**about.files, name: manifest.entry(secret)}
    model = about.models["student"]
    evil = dataclasses.replace(about, files=files)
    if place == "onnx":
        shapes = {**model.onnx, "tile": {**model.onnx["tile"], "fp32": name}}
        evil = dataclasses.replace(
            about, models={"student": dataclasses.replace(model, onnx=shapes)}
        )
    elif place == "golden":
        case = dataclasses.replace(about.golden[0], input=name)
        evil = dataclasses.replace(about, golden=(case, *about.golden[1:]))
    (copy / manifest.FILE).write_text(evil.dumps(), encoding="utf-8")
    code, said = verified(copy)
    assert code == 1
    assert "'../secret.onnx', which is no file of this bundle" in " ".join(said.split())


def with_external_data(path: Path, location: str) -> None:
    """The file with its largest weight kept in another file."""
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("form", ["fp32", "int8.trt", "int8.ort"])
def test_weights_outside_the_bundle_are_refused_by_name(copy: Path, form: str) -> None:
    name = f"student.{form}.onnx"
    (copy.parent / "weights.bin").write_bytes(bytes(1 << 20))
    with_external_data(copy / name, "../weights.bin")
    sealed(copy)  # every hash is right
    code, said = verified(copy)
    assert code == 1
    assert f"CHANGED  {name}: keeps weights in another file ('../weights.bin')" in said
    # ... and no runtime was given the file.
    assert f"LOST     {name} on ONNX Runtime: {name} keeps weights in another file" in said


def test_a_folder_that_is_a_link_is_named(copy: Path) -> None:
    (copy / "golden").rename(copy.parent / "elsewhere")
    (copy / "golden").symlink_to(copy.parent / "elsewhere", target_is_directory=True)
    code, said = verified(copy)
    assert code == 1
    assert "CHANGED  golden/student-tile-0.npy: a link" in said


@pytest.mark.parametrize("form", ["int8.ort", "int8.trt", "int8.trt-fp16"])
def test_decibels_lost_in_int8_are_found_with_right_hashes(copy: Path, form: str) -> None:
    """A scale four times too small clips; the thresholds are what was measured at export."""
    name = f"student.{form}.onnx"
    model = onnx.load(copy / name)
    scale = next(t for t in model.graph.initializer if t.name == "body0_act.scale")
    value = numpy_helper.to_array(scale)
    scale.CopyFrom(numpy_helper.from_array((value / 4).astype(value.dtype), scale.name))
    (copy / name).write_bytes(model.SerializeToString())
    sealed(copy)
    code, said = verified(copy)
    assert code == 3, said
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("LOST")] == [
        f"LOST     {name} on ONNX Runtime"
    ]


# ---------------------------------------------------------------- the reader of protobuf


def model_with(tensor: TensorProto, *, nested: bool) -> bytes:
    """An ONNX model that holds `tensor` as a weight, or in a branch of an If."""
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    if not nested:
        node = helper.make_node("Identity", ["w"], ["y"])
        graph = helper.make_graph([node], "g", [condition], [output], [tensor])
    else:
        body = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "b", [],
                                 [output])  # fmt: skip
        node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
        graph = helper.make_graph([node], "g", [condition], [output])
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


@pytest.mark.parametrize("nested", [False, True])
def test_external_references_are_found_wherever_a_tensor_can_be(nested: bool) -> None:
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")
    assert external_references(model_with(tensor, nested=nested)) == []
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    found = external_references(model_with(tensor, nested=nested))
    assert found == [""] * (2 if nested else 1)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value="/etc/passwd")
    assert set(external_references(model_with(tensor, nested=nested))) == {"/etc/passwd"}


def test_a_damaged_file_is_an_error_and_never_a_crash(made: Path) -> None:
    data = (made / "student.fp32.onnx").read_bytes()
    assert external_references(data) == []
    cuts = [n for n in range(1, 400, 7)] + [len(data) - 1]
    refused = 0
    for n in cuts:
        try:
            external_references(data[:n])
        except BadModel:
            refused += 1
    # A file that ends between two fields of the outermost message is a whole message.
    assert refused >= len(cuts) - 4
    for junk in (b"\xff" * 40, b"\x0b\x00", b"\x3a\xff\xff\xff\xff\x0f"):
        with pytest.raises(BadModel):
            external_references(junk)


@pytest.mark.parametrize(
    "changes", [{"psnr_db": float("nan")}, {"psnr_db": "80"}, {"more": 1}, {"psnr_db": None}]
)
def test_thresholds_that_nothing_can_miss_are_refused(copy: Path, changes: dict[str, Any]) -> None:
    about = manifest.read(copy)
    name = "student.int8.ort.onnx"
    entry = about.files[name]
    assert entry.limits is not None
    changed = dataclasses.replace(entry, limits=entry.limits | changes)
    about = dataclasses.replace(about, files=about.files | {name: changed})
    (copy / manifest.FILE).write_text(about.dumps(), encoding="utf-8")
    code, said = verified(copy)
    assert code == 1 and "has thresholds that nothing can be checked by" in said


def test_a_newer_format_is_refused_and_an_older_one_is_read(copy: Path) -> None:
    path = copy / manifest.FILE
    data = json.loads(path.read_text(encoding="utf-8"))
    for version, message in ((manifest.FORMAT + 1, "this reads up to"), (1, "")):
        data.pop("manifest_sha256", None)
        older = {**data, "format": version}
        if version == 1:  # as they were before int8
            del older["int8"]
            older["files"] = {n: {k: e[k] for k in ("sha256", "bytes")}
                              for n, e in data["files"].items()}  # fmt: skip
        seal = manifest.hashlib.sha256(manifest._canonical(older).encode()).hexdigest()
        path.write_text(manifest._canonical({**older, "manifest_sha256": seal}), encoding="utf-8")
        code, said = verified(copy)
        assert code == (1 if message else 0), said
        assert message in said
