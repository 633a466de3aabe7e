"""Names and paths: what each leads to, what is refused, and what `edgesr models` prints."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from quantised import exact
from typer.testing import CliRunner

from edgesr import checkpoint, resources
from edgesr.bundle import manifest
from edgesr.bundle.gates import LIMITS
from edgesr.checkpoint import Checkpoint
from edgesr.cli.models import group
from edgesr.errors import BadConfig, BadModel, UnknownName
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.models import find
from edgesr.models.srvgg import srvgg
from edgesr.models.student import student
from edgesr.models.table import untrained_weights
from edgesr.runtime.ort import OrtRuntime


def small(width: int = 8, name: str = "small") -> Checkpoint:
    graph = student(width, 2, name=name)
    return Checkpoint(graph, untrained_weights(graph, 0), {"parent": "x"}, {})


def bundle_in(folder: Path, model: Checkpoint) -> Path:
    """A bundle of one network, whose golden tile is only named: nothing replays it here."""
    folder.mkdir()
    (folder / "tile.npy").write_bytes(b"never read here")
    (folder / "any.onnx").write_bytes(to_onnx(model.graph, model.weights))
    described = manifest.Model(
        name="s", scale=4, halo=4, parameters=1, macs_per_pixel=1, tile=(64, 64),
        onnx={"dynamic": {"fp32": "any.onnx"}}, lineage={},
    )  # fmt: skip
    written = manifest.Manifest(
        edgesr="0", target="cpu", precision="auto", sparsity={}, tensorrt=None,
        models={"student": described},
        golden=(manifest.Golden("student", "dynamic", "tile.npy", "tile.npy", (0, 0, 4, 4)),),
        limits={"fp32": dataclasses.asdict(LIMITS["fp32"])}, gates=(), gates_passed=True,
        files={n: manifest.entry(folder / n) for n in ("any.onnx", "tile.npy")},
    )  # fmt: skip
    (folder / manifest.FILE).write_text(written.dumps(), encoding="utf-8")
    return folder


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of two models: `balanced` with all its files, `tiny` as ONNX and a card."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(resources, "zoo", lambda: folder)
    model = small(16, "balanced")
    checkpoint.save(folder / "balanced.safetensors", model)
    (folder / "balanced.fp32.onnx").write_bytes(to_onnx(model.graph, model.weights))
    (folder / "balanced.int8.ort.onnx").write_bytes(b"never read here")
    card = {"about": "the middle one", "quality": {"Set5": {"psnr_y": 31.5}, "damaged": 3}}
    (folder / "balanced.json").write_text(json.dumps(card))
    (folder / "tiny.fp32.onnx").write_bytes(b"never read here")
    numbers = {"params": 10, "macs_320x180": 20, "halo": 3, "scale": 4}
    (folder / "tiny.json").write_text(json.dumps(numbers))
    return folder


def test_bundled_names(zoo: Path) -> None:
    found = find.load_network("balanced")
    assert found.graph == student(16, 2, name="balanced")
    assert find.onnx_of("balanced") == zoo / "balanced.fp32.onnx"
    assert find.onnx_of("tiny") == zoo / "tiny.fp32.onnx"
    with pytest.raises(BadModel, match="ONNX only"):
        find.load_network("tiny")


def test_a_bundled_model_without_onnx_is_written(zoo: Path) -> None:
    (zoo / "balanced.fp32.onnx").unlink()
    written = find.onnx_of("balanced")
    assert isinstance(written, bytes)
    assert OrtRuntime(written).scale == 4


def test_a_bundled_model_takes_the_place_of_a_teacher(zoo: Path) -> None:
    checkpoint.save(zoo / "srgan.safetensors", small())
    assert find.load_network("srgan").lineage == {"parent": "x"}
    assert "srgan" not in [t.name for t in find.describe_teachers()]


def test_srgan_until_it_is_trained(zoo: Path) -> None:
    first, second = find.load_network("srgan"), find.load_network("srgan")
    assert first.lineage["untrained"] is True
    assert all(np.array_equal(first.weights[n], second.weights[n]) for n in first.weights)
    assert [t.params for t in find.describe_teachers() if t.name == "srgan"] == [1_545_238]


def test_unknown_names_say_the_known_ones(zoo: Path) -> None:
    for open_it in (find.load_network, find.onnx_of):
        with pytest.raises(UnknownName, match="Did you mean balanced") as caught:
            open_it("balancd")
        assert "srgan" in str(caught.value) and ".safetensors" in str(caught.value)
        with pytest.raises(UnknownName, match="no model ''"):
            open_it("")


def test_files(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    path = tmp_path / "mine.safetensors"
    checkpoint.save(path, model)
    for where in (str(path), path):
        assert find.load_network(where).graph == model.graph
    monkeypatch.chdir(tmp_path)
    assert find.load_network("mine.safetensors").graph == model.graph
    (tmp_path / "mine.onnx").write_bytes(b"not looked into")
    assert find.onnx_of(tmp_path / "mine.onnx") == tmp_path / "mine.onnx"
    assert find.onnx_of("mine.onnx") == Path("mine.onnx")
    with pytest.raises(BadModel, match="no weights to go on from"):
        find.load_network("mine.onnx")


def test_what_is_written_computes_the_same(zoo: Path, tmp_path: Path) -> None:
    model = small()
    checkpoint.save(tmp_path / "m.safetensors", model)
    written = find.onnx_of(tmp_path / "m.safetensors")
    assert written == to_onnx(model.graph, model.weights)


def test_foreign_files(zoo: Path, tmp_path: Path) -> None:
    graph = srvgg(1, 4)
    weights = untrained_weights(graph, 0)
    theirs = {"conv0": "body.0", "act0": "body.1", "conv1": "body.2", "act1": "body.3",
              "tail": "body.4"}  # fmt: skip
    state = {}
    for name, value in weights.items():
        layer, kind = name.split(".")
        key = f"{theirs[layer]}.{'weight' if kind == 'slope' else kind}"
        state[key] = torch.from_numpy(value)
    for name in ("x.pth", "x.PT", "x.pth.tar"):
        torch.save(state, tmp_path / name)
        assert find.load_network(str(tmp_path / name)).graph == graph
    assert isinstance(find.onnx_of(tmp_path / "x.pth"), bytes)


def test_what_is_not_there_or_no_model(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name, match in {
        "no.safetensors": "no such file",
        "no.pth": "no such file",
        "no/thing": "no such file",
        "notes.txt": "not a model",
        "empty": "neither a run folder",
    }.items():
        for open_it in (find.load_network, find.onnx_of):
            with pytest.raises(BadModel, match=match):
                open_it(str(tmp_path / name))
    with pytest.raises(BadModel, match="no such file"):
        find.onnx_of("no.onnx")


def test_run_folders(zoo: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text("")
    (run / "manifest.json").write_text("{}")
    for open_it in (find.load_network, find.onnx_of):
        with pytest.raises(BadModel, match="--resume"):
            open_it(run)
    checkpoint.save(run / "student.safetensors", small())
    assert find.load_network(run).graph == small().graph
    assert isinstance(find.onnx_of(run), bytes)


def test_bundles(zoo: Path, tmp_path: Path) -> None:
    bundle = bundle_in(tmp_path / "bundle", small())
    assert find.onnx_of(str(bundle)) == bundle / "any.onnx"
    with pytest.raises(BadModel, match="no weights to go on from"):
        find.load_network(bundle)
    (bundle / "any.onnx").unlink()
    with pytest.raises(BadModel, match="export it again"):
        find.onnx_of(bundle)
    text = (bundle / manifest.FILE).read_text()
    (bundle / manifest.FILE).write_text(text.replace("any.onnx", "../evil"))
    with pytest.raises(BadConfig):
        find.onnx_of(bundle)


def test_describe(zoo: Path) -> None:
    tiny, balanced = find.describe()
    assert (tiny.name, tiny.params, tiny.macs_320x180, tiny.halo) == ("tiny", 10, 20, 3)
    assert tiny.files == {
        "onnx_fp32": str(zoo / "tiny.fp32.onnx"), "onnx_int8": None, "safetensors": None,
        "safetensors_int8": None,
    }  # fmt: skip
    assert balanced.default and not tiny.default
    assert balanced.about == "the middle one"
    # By hand: 3×3 convolutions 3→16, 16→16 twice, 16→48, and the 1×1 anchor 3→48.
    macs = (3 * 16 + 2 * 16 * 16 + 16 * 48) * 9 + 3 * 48
    assert balanced.macs_320x180 == macs * 320 * 180
    assert balanced.params == macs + 3 * 16 + 2 * 48
    assert balanced.halo == 4
    assert all(balanced.files[kind] for kind in ("onnx_fp32", "onnx_int8", "safetensors"))


def test_damaged_bundled_models(zoo: Path) -> None:
    (zoo / "tiny.json").write_text("{")
    with pytest.raises(BadModel, match=r"tiny\.json"):
        find.describe()
    (zoo / "tiny.json").unlink()
    with pytest.raises(BadModel, match="'tiny'"):
        find.describe()


def test_the_command(zoo: Path) -> None:
    app = typer.Typer()
    app.add_typer(group, name="models")
    result = CliRunner().invoke(app, ["models", "--json"])
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert [m["name"] for m in listed] == ["tiny", "balanced"]
    assert {"name", "files", "params", "macs_320x180", "halo", "default"} <= listed[0].keys()
    assert listed[1]["psnr_y"] == {"Set5": 31.5} and listed[0]["psnr_y"] == {}
    table = CliRunner().invoke(app, ["models"], env={"COLUMNS": "80"})
    for text in ("balanced (default)", "srgan", "1,545 k", "128 G", "untrained", "31.50",
                 "fp32 int8"):  # fmt: skip
        assert text in table.stdout
    figures = [line for line in table.stdout.splitlines() if " px " in line]
    assert len(figures) >= 4 and max(map(len, figures)) <= 80


def test_the_int8_file_of_a_bundled_model(zoo: Path) -> None:
    assert find.onnx_of("balanced:int8") == zoo / "balanced.int8.ort.onnx"
    find.check("balanced:int8")
    with pytest.raises(BadModel, match="ONNX only"):
        find.load_network("balanced:int8")
    for open_it in (find.load_network, find.onnx_of, find.check):
        for name in ("tiny:int8", "srgan:int8"):
            with pytest.raises(
                BadModel, match=rf"'{name[:-5]}' has no int8 file .balanced:int8 has"
            ):
                open_it(name)
        with pytest.raises(UnknownName, match=r"balanced:int8.*Did you mean balanced:int8"):
            open_it("balancd:int8")
        with pytest.raises(UnknownName):
            open_it("balanced:int4")


def test_int8_weights_and_scales(zoo: Path) -> None:
    model = small(8, "balanced")
    weights, quant = exact(model.graph, ("head", "tail"))
    saved = Checkpoint(model.graph, weights, {}, {}, quant)
    checkpoint.save(zoo / "balanced.int8.safetensors", saved)
    assert [m.name for m in find.describe()] == ["tiny", "balanced"]
    assert find.load_network("balanced:int8").quant == quant
    assert find.load_network("balanced").quant is None
    (zoo / "balanced.int8.ort.onnx").unlink()
    made = find.onnx_of("balanced:int8")
    assert made == to_onnx_int8(model.graph, weights, quant, form="ort")
    checkpoint.save(zoo / "balanced.int8.safetensors", model)
    with pytest.raises(BadModel, match="no int8 scales"):
        find.onnx_of("balanced:int8")


def test_listing_and_a_shipped_model_load_no_heavy_package() -> None:
    code = """
import sys
from edgesr.models import find
find.describe(), find.describe_teachers()
bundled = find.describe()
if bundled:
    find.onnx_of(bundled[0].name)
heavy = {"torch", "onnx", "onnxruntime", "safetensors", "cv2", "scipy"} & sys.modules.keys()
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
