"""int8 bundles: what is in them, where the scales come from, and what the files are worth."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from networks import random_weights
from onnx import numpy_helper
from PIL import Image
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.bundle import scales
from edgesr.checkpoint import Checkpoint
from edgesr.cli.main import app
from edgesr.errors import BadConfig, BadImage
from edgesr.evaluate import evaluate
from edgesr.export import Bundle, export_bundle
from edgesr.graph.quant import QuantSpec, fits_half
from edgesr.models import cards
from edgesr.models.find import load_network
from edgesr.models.student import student
from edgesr.pruning.two_four import prune_two_four
from edgesr.runtime.calibrate import post_training
from edgesr.runtime.ort import OrtRuntime
from tests.test_export import TILE, tiny

INT8 = {
    "student.int8.trt.onnx": ("tile", "trt"),
    "student.int8.trt-fp16.onnx": ("tile", "trt-fp16"),
    "student.int8.ort.onnx": ("tile", "ort"),
    "student.dynamic.int8.ort.onnx": ("dynamic", "ort"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[str], Any]) -> Path:
    """Photographs to calibrate on, none of which is a golden tile."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("rocket", "hubble_deep_field", "motorcycle_left"):
        Image.fromarray(photograph(name)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Bundle:
    """The bundled student, which was never trained for int8, calibrated on photographs."""
    out = tmp_path_factory.mktemp("balanced") / "bundle"
    return export_bundle("balanced", teacher=None, target="jetson-orin", out=out, tile=TILE,
                         precision="int8", calib=photos)  # fmt: skip


def quantised(photos: Path, **options: Any) -> Checkpoint:
    """A small student that carries its scales, as one that was trained for int8 does."""
    network = tiny(gain=0.1)
    inputs = scales.calibration_pictures(photos, 4)
    quant = post_training(network.graph, network.weights, inputs, **options)
    return Checkpoint(network.graph, network.weights, network.lineage, {}, quant)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    path = tmp_path_factory.mktemp("trained") / "student.safetensors"
    checkpoint.save(path, quantised(photos))
    return path


def constants(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


# ---------------------------------------------------------------- what is in it


def test_the_manifest_says_what_every_network_is(balanced: Bundle) -> None:
    data = json.loads((balanced.path / "manifest.json").read_text(encoding="utf-8"))
    assert data["precision"] == "int8"
    listed = {n: e for n, e in data["files"].items() if "role" in e}
    assert set(listed) == {p.name for p in balanced.path.glob("*.onnx")}
    for name, entry in listed.items():
        content = (balanced.path / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert (entry["role"], entry["bytes"]) == ("student", len(content))
        assert set(entry["limits"]) == {"psnr_db", "beyond_one_share", "mean_shift_levels"}
    for name, (shape, form) in INT8.items():
        entry = listed[name]
        assert (entry["shape"], entry["precision"], entry["form"]) == (shape, "int8", form)
        assert data["models"]["student"]["onnx"][shape][f"int8.{form}"] == name
    assert listed["student.fp16.onnx"]["form"] == "plain"
    assert data["int8"]["scales"] == "calibrated"
    assert data["int8"]["calibration_pictures"] == 3
    assert data["int8"]["high"] == ["head", "tail", "anchor"]
    assert data["int8"]["repaired"] == []
    words = (balanced.path / "README.md").read_text(encoding="utf-8")
    assert "the largest values on 3 pictures" in words
    assert "`student.int8.trt-fp16.onnx`, strongly typed" in words
    assert "$" not in words.replace("${", "")


def test_every_file_passes_the_checker_and_holds_all_its_weights(balanced: Bundle) -> None:
    for name, (shape, form) in INT8.items():
        model = onnx.load(balanced.path / name)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == (19 if form == "trt-fp16" else 13)
        sides = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        assert sides == ([1, 3, TILE, TILE] if shape == "tile" else [0, 3, 0, 0])
        for end in (*model.graph.input, *model.graph.output):
            assert end.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert all(t.data_location == onnx.TensorProto.DEFAULT for t in model.graph.initializer)
        shuffles = [n for n in model.graph.node if n.op_type == "DepthToSpace"]
        assert [a.s for n in shuffles for a in n.attribute if a.name == "mode"] == [b"CRD"]


def test_all_forms_have_the_same_scales(balanced: Bundle) -> None:
    files = {form: constants(balanced.path / n) for n, (s, form) in INT8.items() if s == "tile"}
    names = [n for n in files["trt"] if n.endswith(".scale")]
    inner = len(load_network("balanced").graph.convs()) - 3  # without head, tail and anchor
    assert len(names) == (inner + 1) + inner  # activations, weights
    for name in names:
        np.testing.assert_array_equal(files["trt"][name], files["ort"][name])
        assert files["trt-fp16"][name].dtype == np.float16
        np.testing.assert_allclose(files["trt-fp16"][name], files["trt"][name], rtol=2**-10)
    for form, values in files.items():
        zeros = {int(v) for n, z in values.items() if n.endswith("zero") for v in z.ravel()}
        assert form == "ort" or zeros == {0}
    for form in ("trt", "trt-fp16"):
        scale = files[form]["body3.weight.scale"].astype(np.float64)[:, None, None, None]
        codes = np.rint(files[form]["body3.weight"] / scale)
        np.testing.assert_array_equal(codes, files["ort"]["body3.weight.codes"])


@pytest.mark.parametrize("name", ["student.int8.ort.onnx", "student.dynamic.int8.ort.onnx"])
def test_onnxruntime_runs_every_int8_convolution_in_int8(
    balanced: Bundle, tmp_path: Path, name: str
) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(balanced.path / name), options, ["CPUExecutionProvider"])
    found = Counter(n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node)
    graph = load_network("balanced").graph
    assert found["QLinearConv"] == len(graph.convs()) - 3
    assert found["Conv"] + found["FusedConv"] == 3  # head, tail, anchor


def test_the_same_export_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    first, second = (
        export_bundle(trained, teacher=None, target="cpu", out=tmp_path / n, tile=TILE)
        for n in ("first", "second")
    )
    assert first.manifest.precision == "int8"  # auto: the scales are there
    assert set(INT8) <= set(first.manifest.files)
    for name in first.manifest.files:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name
    assert first.manifest == second.manifest


# ---------------------------------------------------------------- quality


def psnr_y_on_set5(model: Path | bytes, eval_dir: Path, *, optimize: bool = True) -> float:
    runtime = OrtRuntime(model, optimize=optimize)
    return evaluate(eval_dir / "Set5", runtime).mean.psnr_y


def test_post_training_int8_is_within_0_30_db_on_set5(balanced: Bundle, eval_dir: Path) -> None:
    """Calibrated on three photographs that have nothing to do with Set5."""
    fp32 = psnr_y_on_set5(balanced.path / "student.dynamic.fp32.onnx", eval_dir)
    int8 = psnr_y_on_set5(balanced.path / "student.dynamic.int8.ort.onnx", eval_dir)
    assert fp32 == pytest.approx(cards.read("balanced").quality["Set5"].psnr_y, abs=0.002)
    assert fp32 - 0.30 <= int8 < fp32


@pytest.mark.parametrize("name", ["tiny", "fast"])
def test_int8_that_was_trained_is_within_0_10_db_on_set5(
    name: str, tmp_path: Path, eval_dir: Path
) -> None:
    made = export_bundle(f"{name}:int8", teacher=None, target="cpu", out=tmp_path / "b")
    assert made.manifest.int8["scales"] == "trained" and not made.manifest.int8["repaired"]
    fp32 = psnr_y_on_set5(made.path / "student.dynamic.fp32.onnx", eval_dir)
    int8 = psnr_y_on_set5(made.path / "student.dynamic.int8.ort.onnx", eval_dir)
    assert fp32 - 0.10 <= int8
    # The bundle's file is the one that ships beside it.
    assert int8 == pytest.approx(cards.read(name).quality["Set5"].int8_psnr_y, abs=0.002)


def test_a_bundled_models_trained_scales_are_pointed_out(tmp_path: Path) -> None:
    said = refused("fast", tmp_path / "b", "--target", "jetson-orin", "--precision", "int8")
    assert "export fast:int8" in said


def test_the_gate_measures_what_evaluate_measures(balanced: Bundle, tmp_path: Path) -> None:
    """PSNR-Y of fp32 on the middle of the photographs, by the verb `evaluate` on files."""
    from edgesr.bundle import photographs
    from edgesr.bundle.judge import SIDE

    for i, picture in enumerate(photographs.load(None)):
        sides = [min(s // 4, SIDE) * 4 for s in picture.shape[:2]]
        top, left = (picture.shape[0] - sides[0]) // 2, (picture.shape[1] - sides[1]) // 2
        middle = picture[top : top + sides[0], left : left + sides[1]]
        Image.fromarray(middle).save(tmp_path / f"{i}.png")
    gate = next(g for g in balanced.manifest.gates if g["hop"].endswith("fp32 → int8.ort"))
    for name, key in (("student.dynamic.fp32.onnx", "psnr_y_fp32"),
                      ("student.dynamic.int8.ort.onnx", "psnr_y")):  # fmt: skip
        found = evaluate(tmp_path, OrtRuntime(balanced.path / name))
        assert found.mean.psnr_y == pytest.approx(gate[key], abs=0.002)
    assert gate["drop_db"] == gate["psnr_y_fp32"] - gate["psnr_y"]
    assert 0 < gate["drop_db"] < 0.3


# ---------------------------------------------------------------- where scales come from


def test_trained_scales_come_along_unchanged(trained: Path, photos: Path, tmp_path: Path) -> None:
    quant = checkpoint.load(trained).quant
    assert quant is not None
    run = CliRunner().invoke(
        app,
        ["export", str(trained), "--target", "jetson-orin", "--no-teacher", "--tile", str(TILE),
         "--calib", str(photos), "-o", str(tmp_path / "b"), "--json"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    facts = json.loads(run.stdout)
    assert (facts["precision"], facts["gates_passed"]) == ("int8", True)
    assert facts["int8"]["scales"] == "trained"
    assert facts["int8"]["repaired"] == []
    assert facts["int8"]["max_drop_db"] == 0.1  # 0.3 only where nobody trained for int8
    assert "trained with its int8 scales; --calib was not used" in " ".join(run.stderr.split())
    stored = constants(tmp_path / "b" / "student.int8.trt.onnx")
    for tensor, scale in quant.scales.items():
        assert float(stored[f"{tensor}.scale"]) == scale


def refused(source: Path, out: Path, *arguments: str) -> str:
    run = CliRunner().invoke(
        app, ["export", str(source), "--no-teacher", "-o", str(out), *arguments]
    )
    assert run.exit_code == 1, run.output
    assert not out.exists()
    return " ".join(run.stderr.split())


def test_int8_is_never_made_up(trained: Path, photos: Path, tmp_path: Path) -> None:
    plain, out = tmp_path / "plain.safetensors", tmp_path / "bundle"
    checkpoint.save(plain, tiny())
    orin = ("--target", "jetson-orin")
    said = refused(plain, out, *orin, "--precision", "int8")
    assert "--calib DIR" in said and 'kind = "quantize"' in said
    (tmp_path / "empty").mkdir()
    empty = refused(plain, out, *orin, "--precision", "int8", "--calib", str(tmp_path / "empty"))
    assert "no pictures there" in empty
    nano = refused(trained, out, "--target", "jetson-nano", "--precision", "int8")
    assert "jetson-nano has no int8" in nano and "fp16" in nano
    fp16 = refused(plain, out, *orin, "--precision", "fp16", "--calib", str(photos))
    assert "leave one out" in fp16
    assert "may be auto, fp32" in refused(plain, out, *orin, "--precision", "int4")


def test_auto_takes_int8_only_where_scales_are(trained: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.safetensors"
    checkpoint.save(plain, tiny())
    for source, target, want in ((plain, "jetson-orin", "fp16"), (trained, "jetson-nano", "fp16"),
                                 (plain, "cpu", "fp32")):  # fmt: skip
        out = tmp_path / f"{source.stem}-{target}"
        made = export_bundle(source, teacher=None, target=target, out=out, tile=TILE)
        assert made.manifest.precision == want
        assert made.manifest.int8 is None
        assert not list(out.glob("*int8*"))
        assert "int8" not in made.manifest.limits


def test_calibration_sees_small_versions_of_evenly_spread_pictures(tmp_path: Path) -> None:
    from edgesr.resize import downscale_bicubic

    rng = np.random.default_rng(0)
    made = [rng.integers(0, 256, (160, 200, 3), np.uint8) for _ in range(70)]
    for i, picture in enumerate(made):
        Image.fromarray(picture).save(tmp_path / f"{i:03}.png")
    found = scales.calibration_pictures(tmp_path, 4)
    assert len(found) == 32
    for i in (0, 1, 31):
        np.testing.assert_array_equal(found[i], downscale_bicubic(made[2 * i], 4))
    # A picture as small as a network's input is one.
    (as_is,) = scales.calibration_pictures(_one(tmp_path / "a", made[0][:80, :80]), 4)
    np.testing.assert_array_equal(as_is, made[0][:80, :80])
    with pytest.raises(BadImage, match="below 32"):
        scales.calibration_pictures(_one(tmp_path / "b", made[0][:20, :20]), 4)


def _one(folder: Path, picture: np.ndarray) -> Path:
    folder.mkdir()
    Image.fromarray(picture).save(folder / "one.png")
    return folder


@pytest.mark.parametrize(
    ("side", "starts"),
    [(150, [0]), (192, [0]), (300, [0, 108]), (384, [0, 192]), (1000, [154, 654])],
)
def test_large_pictures_give_one_piece_in_each_quarter(side: int, starts: list[int]) -> None:
    picture = np.broadcast_to(np.arange(side)[:, None, None] % 251, (side, 40, 3))
    found = scales.pieces(picture.astype(np.uint8))
    assert [int(p[0, 0, 0]) for p in found] == [s % 251 for s in starts]
    assert all(p.shape[0] == min(side, 192) for p in found)


def test_what_a_form_cannot_hold_is_known_before() -> None:
    graph = student(8, 2)
    weights = random_weights(graph)
    inputs = [np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)]
    quant = post_training(graph, weights, inputs)
    assert scales.unfit(graph, weights, quant) == {}
    small = QuantSpec({**quant.scales, "body0_act": 2.0**-20}, 8, quant.high)
    assert set(scales.unfit(graph, weights, small)) == {"body0", "body1"}
    assert not fits_half(2.0**-20) and not fits_half(1e6) and fits_half(2.0**-14)
    weights["body1.bias"][0] = 1e6
    assert scales.unfit(graph, weights, quant) == {"body1": "int32 does not hold its bias"}


# ---------------------------------------------------------------- 2:4


def fours_by_hand(weight: np.ndarray) -> int:
    """The most non-zeros in any four consecutive input channels, one tap and filter at a time."""
    o, i, h, w = weight.shape
    return max(
        sum(weight[a, c + d, y, x] != 0 for d in range(4))
        for a in range(o) for c in range(0, i, 4) for y in range(h) for x in range(w)
    )  # fmt: skip


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Bundle:
    """A 2:4 student in int8."""
    folder, dense = tmp_path_factory.mktemp("sparse"), tiny(16, 3)
    pruned = prune_two_four(dense.graph, dense.weights, seed=0, search=False)
    checkpoint.save(folder / "s.safetensors", Checkpoint(dense.graph, pruned.weights, {}, {}))
    return export_bundle(
        folder / "s.safetensors", teacher=None, target="jetson-orin", out=folder / "bundle",
        tile=TILE, precision="int8", calib=photos, sparsity="2:4",
    )  # fmt: skip


def test_the_2_4_pattern_survives_in_every_file(sparse: Bundle) -> None:
    about = sparse.manifest.sparsity
    assert (about["choice"], about["eligible"], about["in_pattern"]) == ("2:4", 4, 4)
    onnx_files = [n for n in sparse.manifest.files if n.endswith(".onnx")]
    assert len(onnx_files) == 7
    hops = [g["hop"] for g in sparse.manifest.gates]
    for name in onnx_files:
        found = constants(sparse.path / name)
        for key in ("body0.weight", "body1.weight", "body2.weight", "tail.weight"):
            # The codes where they are stored, else the weights.
            stored = found.get(f"{key}.codes", found.get(key))
            assert fours_by_hand(stored) == 2, (name, key)
            assert (stored.dtype == np.int8) == ("int8.ort" in name and key != "tail.weight")
        assert f"{name}: 2:4 in 4 of 4 eligible layers" in hops
    assert "2:4 (4 of 4 eligible" in (sparse.path / "README.md").read_text(encoding="utf-8")


def test_auto_finds_a_2_4_student(sparse: Bundle, tmp_path: Path) -> None:
    source = sparse.path.parent / "s.safetensors"
    for wanted, choice in (("auto", "2:4"), ("none", "none")):
        made = export_bundle(source, teacher=None, target="jetson-orin", out=tmp_path / wanted,
                             tile=TILE, precision="fp32", sparsity=wanted)  # fmt: skip
        assert made.manifest.sparsity["choice"] == choice


def test_polygraphy_agrees_about_the_pattern(sparse: Bundle) -> None:
    pytest.importorskip("polygraphy", reason="polygraphy is not installed")
    call = "import sys; from polygraphy.tools import main; main()"
    # It looks through QuantizeLinear, but not at weights that are stored as int8.
    for name in ("student.fp16.onnx", "student.int8.trt.onnx", "student.int8.trt-fp16.onnx"):
        done = subprocess.run(
            [sys.executable, "-c", call, "inspect", "sparsity", str(sparse.path / name)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert said.count("Found sparse tensor") == 4
        assert "non-sparse" not in said


def test_2_4_is_refused_for_a_dense_student_and_pointless_on_a_cpu(tmp_path: Path) -> None:
    dense = tiny(16, 3)
    checkpoint.save(tmp_path / "dense.safetensors", dense)
    said = refused(
        tmp_path / "dense.safetensors", tmp_path / "b", "--target", "jetson-orin",
        "--sparsity", "2:4",
    )  # fmt: skip
    assert "4 of 4 eligible layers are not 2:4" in said
    assert "edgesr compress" in said and 'method = "2:4"' in said
    pruned = prune_two_four(dense.graph, dense.weights, seed=0, search=False).weights
    half = {**pruned, "tail.weight": dense.weights["tail.weight"]}
    checkpoint.save(tmp_path / "half.safetensors", Checkpoint(dense.graph, half, {}, {}))
    said = refused(tmp_path / "half.safetensors", tmp_path / "b", "--target", "jetson-orin",
                   "--sparsity", "2:4")  # fmt: skip
    assert "1 of 4 eligible layers are not 2:4 (tail)" in said
    checkpoint.save(tmp_path / "s.safetensors", Checkpoint(dense.graph, pruned, {}, {}))
    made = export_bundle(tmp_path / "s.safetensors", teacher=None, target="cpu", tile=TILE,
                         out=tmp_path / "cpu", precision="fp32")  # fmt: skip
    assert made.manifest.sparsity["choice"] == "none"
    assert "no sparse tensor cores" in made.manifest.sparsity["why"]
    with pytest.raises(BadConfig, match=r"may be auto, none, 2:4"):
        export_bundle(tmp_path / "s.safetensors", target="cpu", out=tmp_path / "x", sparsity="1:2")
