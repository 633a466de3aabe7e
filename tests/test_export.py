"""`export` and `verify`: a small bundle made once, then read, replayed and tampered with."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.bundle import golden, manifest, photographs, reference
from edgesr.bundle.gates import LIMITS, difference, failures
from edgesr.checkpoint import Checkpoint
from edgesr.cli.main import app
from edgesr.errors import BadConfig, BadImage, EdgeSRError, GateNotMet, WouldOverwrite
from edgesr.export import Bundle, export_bundle
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Graph,
    Multiply,
    Nearest,
    PixelShuffle,
    Weights,
)
from edgesr.models.student import student
from edgesr.remote import deploy as deployment
from edgesr.runtime.ort import OrtRuntime

TILE = 64


def tiny(width: int = 8, depth: int = 2, seed: int = 0, gain: float = 0.05) -> Checkpoint:
    """A student that shows the picture: nearest neighbour plus a little of its convolutions."""
    graph = student(width, depth, name=f"tiny{width}")
    rng = np.random.default_rng(seed)
    weights: Weights = {
        name: (gain * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in graph.weight_shapes().items()
    }
    weights["anchor.weight"] = np.zeros_like(weights["anchor.weight"])
    for channel in range(3):
        weights["anchor.weight"][channel * 16 : channel * 16 + 16, channel] = 1.0
    return Checkpoint(graph, weights, {"made_for": "a test"}, {})


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("networks")
    for name, width in (("student", 8), ("teacher", 16)):
        checkpoint.save(folder / f"{name}.safetensors", tiny(width))
    return {n: folder / f"{n}.safetensors" for n in ("student", "teacher")}


@pytest.fixture(scope="module")
def made(networks: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("skimage")
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    return export_bundle(
        networks["student"], teacher=networks["teacher"], target="jetson-orin", out=out, tile=TILE
    )


@pytest.fixture
def copy(made: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(made.path, tmp_path / "copy")
    return tmp_path / "copy"


def test_bundle_has_what_the_design_lists(made: Bundle) -> None:
    names = {p.relative_to(made.path).as_posix() for p in made.path.rglob("*") if p.is_file()}
    assert {
        "manifest.json", "student.fp32.onnx", "student.fp16.onnx", "student.dynamic.fp32.onnx",
        "teacher.fp32.onnx", "teacher.fp16.onnx", "build.py", "run.py", "device.json",
        "README.md", "edgesr/tiling.py",
    } <= names  # fmt: skip
    assert names - {"manifest.json"} == set(made.manifest.files)
    assert json.loads((made.path / "device.json").read_text())["name"] == "jetson-orin"
    assert made.manifest.precision == "fp16"
    assert made.manifest.tensorrt == {"oldest": "8.4.1", "newest": "11.4.1"}
    assert made.manifest.gates_passed


def test_onnx_files_pass_the_checker_and_have_the_shapes_they_promise(made: Bundle) -> None:
    import onnx

    for name in made.manifest.files:
        if not name.endswith(".onnx"):
            continue
        model = onnx.load(made.path / name)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == 13
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        assert shape == ([0, 3, 0, 0] if "dynamic" in name else [1, 3, TILE, TILE])
        stored = {t.data_type for t in model.graph.initializer}
        half = onnx.TensorProto.FLOAT16
        assert (half in stored) == ("fp16" in name)


def test_the_same_export_gives_the_same_bytes(
    made: Bundle, networks: dict[str, Path], tmp_path: Path
) -> None:
    again = export_bundle(
        networks["student"], teacher=networks["teacher"], target="jetson-orin",
        out=tmp_path / "again", tile=TILE,
    )  # fmt: skip
    onnx_files = [n for n in made.manifest.files if n.endswith(".onnx")]
    assert len(onnx_files) == 5
    for name in onnx_files:
        assert (again.path / name).read_bytes() == (made.path / name).read_bytes(), name
    first, second = ((b.path / manifest.FILE).read_bytes() for b in (made, again))
    assert first == second


def test_golden_outputs_are_what_numpy_makes_of_the_graph(made: Bundle) -> None:
    case = next(g for g in made.manifest.golden if g.shape == "dynamic")
    tile = np.load(made.path / case.input)
    assert tile.dtype == np.uint8
    network = tiny(8)
    exact = reference.evaluate(network.graph, network.weights, tile.transpose(2, 0, 1) / 255)
    stored = np.load(made.path / case.output)
    np.testing.assert_allclose(stored, exact.transpose(1, 2, 0), atol=1e-5)


def test_numpy_reference_agrees_with_onnx_on_every_kind_of_layer() -> None:
    """Not the same code twice: ONNX Runtime's kernels against one matrix product per tap."""
    pytest.importorskip("onnx")
    graph = Graph("every", (
        Affine("norm", (INPUT,), gain=(2.0, 1.0, 0.5), shift=(-0.4, 0.1, 0.0)),
        Conv("a", ("norm",), 6, 5), Activation("lr", ("a",), "leaky_relu", slope=0.1),
        Conv("b", ("lr",), 6, 3, bias=False), Activation("pr", ("b",), "prelu", shared=False),
        Add("sum", ("pr", "lr")), Activation("si", ("sum",), "silu"),
        Activation("sg", ("sum",), "sigmoid"), Multiply("mul", ("si", "sg")),
        Concat("cat", ("mul", "a")), Activation("th", ("cat",), "tanh"),
        Conv("c", ("th",), 12, 1), Activation("cl", ("c",), "clip", high=0.5),
        Activation("re", ("cl",), "relu"), PixelShuffle("ps", ("re",), 2),
        Nearest("up", ("ps",), 2), Conv("d", ("up",), 3, 3),
    ))  # fmt: skip
    rng = np.random.default_rng(3)
    weights = {
        name: (0.3 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in graph.weight_shapes().items()
    }
    image = rng.random((3, 9, 13), np.float32)
    runtime = OrtRuntime(to_onnx(graph, weights))
    found = runtime.run(image[None])[0]
    np.testing.assert_allclose(found, reference.evaluate(graph, weights, image), atol=2e-5)


def test_fp16_overflow_is_seen_though_onnx_runtime_computes_in_fp32() -> None:
    network = tiny()
    weights = dict(network.weights, **{"body0.weight": network.weights["body0.weight"] * 1e6})
    image = np.full((3, 8, 8), 0.5)
    exact = reference.evaluate(network.graph, weights, image)
    half = reference.evaluate(network.graph, weights, image, half=True)
    assert failures(difference(exact, half), LIMITS["fp16"]) == ["NaN or infinite values"]


def test_difference_by_hand() -> None:
    """Two values: 0 → 0, and 100/255 → 102/255; mean square error 2·(1/255)²."""
    lost = difference(np.array([0.0, 100 / 255]), np.array([0.0, 102 / 255]))
    assert lost.psnr_db == pytest.approx(10 * np.log10(255**2 / 2))
    assert lost.differing_share == 0.5
    assert lost.beyond_one_share == 0.5
    assert lost.mean_shift_levels == pytest.approx(1.0)
    black = difference(np.array([0.5]), np.array([0.0]))
    assert failures(black, LIMITS["fp16"]) == ["the output is black"]


def test_a_missed_gate_keeps_the_bundle_and_marks_it(
    networks: dict[str, Path], tmp_path: Path
) -> None:
    network = tiny()
    weights = dict(network.weights)
    weights["head.weight"] = weights["head.weight"] * 2e5  # fits fp16, its outputs do not
    weights["tail.weight"] = weights["tail.weight"] * 1e-6
    bad = tmp_path / "bad.safetensors"
    checkpoint.save(bad, dataclasses.replace(network, weights=weights))
    out = tmp_path / "bundle"
    with pytest.raises(GateNotMet, match="fp16") as e:
        export_bundle(bad, teacher=None, target="cpu", out=out, tile=TILE)
    assert e.value.exit_code == 3
    assert str(out) in str(e.value)
    assert not manifest.read(out).gates_passed
    full = export_bundle(
        bad, teacher=None, target="cpu", out=tmp_path / "full", tile=TILE, precision="fp32"
    )
    assert full.manifest.gates_passed
    assert not (full.path / "student.fp16.onnx").exists()


def test_verify_passes_an_untouched_bundle(made: Bundle) -> None:
    run = CliRunner().invoke(app, ["verify", str(made.path), "--json"])
    assert run.exit_code == 0, run.output
    report = json.loads(run.stdout)
    assert report["passed"]
    assert len(report["hops"]) == 5


@pytest.mark.parametrize("name", ["student.fp16.onnx", "run.py", "golden/student-tile-0.npy"])
def test_verify_names_the_file_with_one_changed_bit(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    run = CliRunner().invoke(app, ["verify", str(copy)])
    assert run.exit_code == 1
    assert f"CHANGED  {name}" in run.stdout


def test_verify_names_missing_and_truncated_files(copy: Path) -> None:
    (copy / "golden/student-tile-1.npy").unlink()
    data = (copy / "student.fp32.onnx").read_bytes()
    (copy / "student.fp32.onnx").write_bytes(data[: len(data) // 2])
    run = CliRunner().invoke(app, ["verify", str(copy)])
    assert run.exit_code == 1
    assert "CHANGED  golden/student-tile-1.npy" in run.stdout
    assert "CHANGED  student.fp32.onnx" in run.stdout
    assert "LOST     student.fp32.onnx" in run.stdout


def test_any_changed_byte_of_the_manifest_is_found(copy: Path) -> None:
    text = (copy / manifest.FILE).read_text(encoding="utf-8")
    for changed in (text.replace("jetson-orin", "jetson-0rin", 1), text + " ", text[:-20]):
        (copy / manifest.FILE).write_text(changed, encoding="utf-8")
        assert CliRunner().invoke(app, ["verify", str(copy)]).exit_code == 1


def test_a_manifest_that_points_outside_is_refused(copy: Path) -> None:
    about = manifest.read(copy)
    files = {**about.files, "../../etc/passwd": next(iter(about.files.values()))}
    evil = dataclasses.replace(about, files=files)
    (copy / manifest.FILE).write_text(evil.dumps(), encoding="utf-8")
    with pytest.raises(BadConfig, match="etc/passwd"):
        manifest.read(copy)


def _reseal(folder: Path) -> None:
    about = dataclasses.replace(manifest.read(folder), files=manifest.entries(folder))
    (folder / manifest.FILE).write_text(about.dumps(), encoding="utf-8")


def test_lost_decibels_are_found_and_the_hop_is_named(copy: Path) -> None:
    """A network that was worsened, with hashes made right again: only the golden tiles see it."""
    network = tiny()
    weights = dict(network.weights)
    weights["tail.weight"] = weights["tail.weight"] * 1.5
    worse = to_onnx(network.graph, weights, precision="fp16", shape=(TILE, TILE))
    (copy / "student.fp16.onnx").write_bytes(worse)
    _reseal(copy)
    run = CliRunner().invoke(app, ["verify", str(copy)])
    assert run.exit_code == 3, run.output
    lost = [line for line in run.stdout.splitlines() if line.startswith("LOST")]
    assert len(lost) == 1
    assert "student.fp16.onnx" in lost[0]


def test_export_refuses_what_it_cannot_do(networks: dict[str, Path], tmp_path: Path) -> None:
    source, out = str(networks["student"]), str(tmp_path / "bundle")

    def refused(*arguments: str) -> str:
        run = CliRunner().invoke(app, ["export", source, "-o", out, *arguments])
        assert run.exit_code == 1, run.output
        assert not Path(out).exists()
        return run.stderr

    assert "--calib DIR" in refused("--target", "cpu", "--precision", "int8")
    assert "edgesr compress" in refused("--target", "cpu", "--sparsity", "2:4")
    assert "known: cpu" in refused("--target", "toaster")
    mistyped = refused("--target", "cpu", "--teacher", "srgann")
    assert "Did you mean srgan?" in mistyped and mistyped.count("\n") == 1
    # SRGAN's generator looks 40 pixels far.
    far = refused("--target", "cpu", "--tile", "64")
    assert "no exact middle" in far and "--tile 192" in far and "--no-teacher" in far
    assert "no pictures" in refused("--target", "cpu", "--golden", str(tmp_path))
    assert "has no int8" in refused("--target", "cpu", "--no-teacher", "--max-drop", "0.1")
    assert "is no host" in refused("--target", "cpu", "--no-teacher", "--host", "two words")
    assert CliRunner().invoke(app, ["export", source, "-o", out]).exit_code == 2


def test_only_bundles_are_replaced_and_only_when_asked(
    made: Bundle, networks: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"seed": 1}')  # a run folder has one, too
    common = {"teacher": None, "target": "cpu", "tile": TILE}
    with pytest.raises(WouldOverwrite, match="no bundle"):
        export_bundle(networks["student"], out=folder, yes=True, **common)
    with pytest.raises(WouldOverwrite, match="-y"):
        export_bundle(networks["student"], out=made.path, **common)
    assert (folder / "manifest.json").read_text() == '{"seed": 1}'
    first = export_bundle(networks["student"], out=tmp_path / "b", precision="fp32", **common)
    second = export_bundle(
        networks["student"], out=tmp_path / "b", precision="fp32", yes=True, **common
    )
    assert first.manifest == second.manifest


def test_golden_tiles_come_from_the_given_photographs(
    networks: dict[str, Path], tmp_path: Path, photograph: object
) -> None:
    from PIL import Image

    picture = photograph("rocket")  # type: ignore[operator]
    Image.fromarray(picture).save(tmp_path / "rocket.png")
    out = tmp_path / "bundle"
    made = export_bundle(
        networks["student"], teacher=None, target="cpu", out=out, tile=TILE, photos=tmp_path
    )
    case = made.manifest.golden[0]
    tile = np.load(out / case.input)
    top, left = (picture.shape[0] - TILE) // 2, (picture.shape[1] - TILE) // 2
    np.testing.assert_array_equal(tile, picture[top : top + TILE, left : left + TILE])


def test_without_scikit_image_the_bundled_photograph_gives_golden_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)  # importing it raises ImportError
    pictures = photographs.load(None)
    assert [p.shape for p in pictures] == [(300, 451, 3)]
    tiles = photographs.crops(pictures, 256, 256, 3)  # the largest tile of our devices
    assert len({t.tobytes() for t in tiles}) == 3


def test_crops_want_photographs_that_are_large_enough() -> None:
    with pytest.raises(BadImage, match="100×200"):
        photographs.crops([np.zeros((50, 50, 3), np.uint8)], 200, 100, 1)


def test_golden_window_is_cut_from_the_whole_output(made: Bundle) -> None:
    case = next(g for g in made.manifest.golden if g.shape == "tile")
    runtime = OrtRuntime(made.path / "student.fp32.onnx")
    whole = golden.run_tile(runtime, np.load(made.path / case.input))
    top, left, height, width = case.window
    np.testing.assert_allclose(
        whole[top : top + height, left : left + width], np.load(made.path / case.output), atol=1e-5
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_export_to_a_board_ends_with_what_was_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def lost(bundle: Path, host: str, **options: Any) -> deployment.Report:
        assert (bundle / "manifest.json").is_file() and host == "user@board"
        hop = {"name": "student.tile.engine", "difference": None, "failures": ["black"]}
        return deployment.Report(
            host, "edgesr/b", {"machine": "aarch64", "python": "3.10"}, 1, 0, {}, None,
            {"hops": [hop]}, None, 3, {},
        )  # fmt: skip

    monkeypatch.setattr(deployment, "check", lambda bundle, host: None)  # needs ssh
    monkeypatch.setattr(deployment, "deploy", lost)
    done = CliRunner().invoke(
        app,
        ["export", "balanced", "--target", "cpu", "--no-teacher", "-o", str(tmp_path / "b"),
         "--precision", "fp32", "--host", "user@board", *(["--json"] if as_json else [])],
    )  # fmt: skip
    assert done.exit_code == 3, done.output
    if as_json:
        facts = json.loads(done.stdout)
        assert facts["gates_passed"] and facts["deployment"]["exit_code"] == 3
    else:
        assert "LOST     student.tile.engine: black" in done.stdout


def test_a_board_that_is_not_there_leaves_the_bundle_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(bundle: Path, host: str, **options: Any) -> deployment.Report:
        raise EdgeSRError(f"{host} is not reachable: no route")

    monkeypatch.setattr(deployment, "check", lambda bundle, host: None)  # needs ssh
    monkeypatch.setattr(deployment, "deploy", gone)
    words = ["export", "balanced", "--target", "cpu", "--no-teacher", "-o", str(tmp_path / "b"),
             "--precision", "fp32", "--host", "user@board"]  # fmt: skip
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 1 and "same command with -y" in first.stderr
    assert "edgesr: user@board is not reachable: no route" in first.stderr
    kept = (tmp_path / "b" / "manifest.json").read_bytes()
    assert CliRunner().invoke(app, [*words, "-y"]).exit_code == 1
    assert (tmp_path / "b" / "manifest.json").read_bytes() == kept  # so nothing is sent twice
