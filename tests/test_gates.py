"""The gates: each hop is held against the one before it, the guilty one is named, int8 repaired."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from quantised import exact, exact_networks, in_whole_numbers, leaky, picture
from typer.testing import CliRunner, Result

from edgesr import checkpoint
from edgesr.bundle import hops, photographs, reference, scales
from edgesr.bundle.gates import LIMITS, Difference, Limits, difference, failures, tightened
from edgesr.bundle.judge import Judge
from edgesr.bundle.repair import repair
from edgesr.checkpoint import Checkpoint
from edgesr.cli.main import app
from edgesr.errors import BadImage
from edgesr.graph.onnx_int8 import FORMS
from edgesr.graph.quant import QuantSpec, high_convs, points
from edgesr.graph.spec import Graph
from edgesr.metrics import psnr_y
from edgesr.models.find import load_network
from edgesr.runtime.calibrate import post_training
from tests.test_export import TILE, tiny

NETWORKS = exact_networks()


# ---------------------------------------------------------------- int8 arithmetic in numpy


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("high", [("head", "tail"), ()], ids=str)
def test_int8_in_numpy_is_the_whole_number_network(name: str, high: tuple[str, ...]) -> None:
    """Not the same code: integer sums of products of codes in tests/quantised.py."""
    graph = NETWORKS[name]
    for seed in range(3):
        weights, quant = exact(graph, high, seed)
        x = picture(seed)
        want = in_whole_numbers(graph, weights, quant, x)[0]
        found = reference.evaluate(graph, weights, x[0], quant=quant)
        np.testing.assert_array_equal(found, want)
        plain = reference.evaluate(graph, weights, x[0])
        assert np.abs(found - plain).max() > 1e-3  # the rounding shows


def test_whole_biases_are_multiples_of_the_product_of_scales() -> None:
    """One convolution 1×1, by hand: bias 0.3 in units of 0.5 · 0.25 is 2 units, 0.25."""
    from edgesr.graph.spec import INPUT, Conv, PixelShuffle

    graph = Graph("one", (Conv("c", (INPUT,), 3, 1), PixelShuffle("out", ("c",), 1)))
    weights = {"c.weight": np.zeros((3, 3, 1, 1), np.float32), "c.bias": np.full(3, 0.3, "f")}
    weights["c.weight"][:, :, 0, 0] = np.eye(3) * 127 * 0.25
    quant = QuantSpec({INPUT: 0.5, "c": 0.25}, 8, ())
    zero = np.zeros((3, 2, 2))
    plain = reference.evaluate(
        graph, weights, zero, quant=QuantSpec({**quant.scales, "c": 2.0**-20})
    )
    whole = reference.evaluate(
        graph, weights, zero, quant=QuantSpec({**quant.scales, "c": 2.0**-9}), whole_biases=True
    )
    assert plain.max() == pytest.approx(127 * 2.0**-20)  # cut off at the largest code
    np.testing.assert_array_equal(whole, np.full((3, 2, 2), 127 * 2.0**-9))
    wide = QuantSpec({INPUT: 0.5, "c": 2.0**-7}, 8, ())
    np.testing.assert_array_equal(
        reference.evaluate(graph, weights, zero, quant=wide, whole_biases=True), 0.25
    )
    np.testing.assert_array_equal(
        reference.evaluate(graph, weights, zero, quant=wide),
        38 * 2.0**-7,  # 0.3 · 128 = 38.4
    )


# ---------------------------------------------------------------- thresholds


def test_thresholds_are_drawn_in_to_what_was_measured() -> None:
    floor, least = LIMITS["int8"], LIMITS["fp16"]
    measured = Difference(47.68, 0.5, 0.10, 0.01, True, False)
    drawn = tightened(measured, floor, least)
    assert drawn == Limits(46.6, 0.125, 0.25)
    assert failures(measured, drawn) == []
    assert failures(dataclasses.replace(measured, psnr_db=46.5), drawn) != []
    fine = Difference(75.0, 0.03, 0.0, 0.002, True, False)  # fp16 around it may cost 50 dB
    assert tightened(fine, floor, least) == least
    poor = Difference(30.0, 0.9, 0.8, 2.0, True, False)
    assert tightened(poor, floor, least) == floor
    blind = Difference(0.0, 1.0, 1.0, 255.0, False, False)
    assert tightened(blind, floor, least) == floor


def test_a_picture_that_turned_dark_fails_though_its_decibels_hold() -> None:
    bright = np.random.default_rng(0).random((40, 40, 3)) * 0.5 + 0.3
    found = difference(bright, bright - 0.6 / 255)
    assert found.psnr_db > LIMITS["int8"].psnr_db
    assert failures(found, LIMITS["int8"]) == ["mean shifted by 0.6 levels, at most 0.5"]


# ---------------------------------------------------------------- keeping layers out of int8


@pytest.mark.parametrize("graph", [*NETWORKS.values(), leaky(4)], ids=lambda g: g.name)
def test_any_layers_can_leave_int8_and_the_other_scales_stay(graph: Graph) -> None:
    _, quant = exact(graph, ())
    quant = QuantSpec({t: 2.0 ** -(i + 3) for i, t in enumerate(quant.scales)}, 8, ())
    names = [c.name for c in graph.convs()]
    rng = np.random.default_rng(0)
    for _ in range(20):
        high = [n for n in names if rng.random() < 0.5]
        less = quant.keeping(graph, reversed(high))
        assert less.high == tuple(n for n in names if n in high)
        assert tuple(less.scales) == points(graph, high).tensors
        assert all(quant.scales[t] == s for t, s in less.scales.items())
        less.check(graph)
    assert quant.keeping(graph, names).scales == {}


# ---------------------------------------------------------------- a wrong hop is named


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, photograph: Callable[[str], Any]) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("rocket", "motorcycle_left"):
        Image.fromarray(photograph(name)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def calibrated(photos: Path) -> Checkpoint:
    """A small student with scales that fit; its convolutions show in the picture."""
    network = tiny(gain=0.1)
    inputs = scales.calibration_pictures(photos, 4)
    quant = post_training(network.graph, network.weights, inputs)
    return Checkpoint(network.graph, network.weights, network.lineage, {}, quant)


@pytest.fixture(scope="module")
def balanced(photos: Path) -> Checkpoint:
    """The bundled student with scales calibrated on two photographs."""
    network = load_network("balanced")
    found = scales.find_scales(network, photos)
    assert found is not None and found.origin == "calibrated"
    return dataclasses.replace(network, quant=found.quant)


@pytest.mark.parametrize("form", ["trt", "ort"])
def test_a_writer_that_is_wrong_in_one_form_is_the_named_hop(
    balanced: Checkpoint, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """One scale that is 1.5 % off in one of the files: no decibel against fp32 would tell."""
    quant, written = balanced.quant, hops.to_onnx_int8
    assert quant is not None
    last = list(quant.scales)[-1]

    def wrong(graph: Any, weights: Any, spec: QuantSpec, *, form: str, **more: Any) -> bytes:
        off = QuantSpec({**spec.scales, last: float(np.float32(spec.scales[last] * 1.015))},
                        spec.bits, spec.high)  # fmt: skip
        return written(graph, weights, off if form == wrong_form else spec, form=form, **more)

    wrong_form = form
    pictures = photographs.load(None)
    right = hops._same_codes("student", balanced, quant, pictures)
    assert [g["failures"] for g in right] == [[], [], []]
    assert all(g["psnr_db"] > 100 for g in right)
    monkeypatch.setattr(hops, "to_onnx_int8", wrong)
    gates = hops._same_codes("student", balanced, quant, pictures)
    missed = [g["hop"] for g in gates if g["failures"]]
    assert missed and all(f"int8.{form}" in hop for hop in missed)
    assert difference_to_fp32(balanced) > LIMITS["int8"].psnr_db


def difference_to_fp32(network: Checkpoint) -> float:
    image = photographs.load(None)[0][:40, :40].transpose(2, 0, 1) / 255.0
    exact_output = reference.evaluate(network.graph, network.weights, image)
    int8 = reference.evaluate(network.graph, network.weights, image, quant=network.quant)
    return difference(exact_output, int8).psnr_db


# ---------------------------------------------------------------- int8 is judged and repaired


def planted(network: Checkpoint, tensor: str, factor: float, path: Path) -> Path:
    """The network with one wrong scale, as a checkpoint that looks trained."""
    quant = network.quant
    assert quant is not None
    wrong = {**quant.scales, tensor: float(np.float32(quant.scales[tensor] * factor))}
    bad = dataclasses.replace(network, quant=QuantSpec(wrong, quant.bits, quant.high))
    checkpoint.save(path, bad)
    return path


def exported(source: Path, out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        app,
        ["export", str(source), "--target", "cpu", "--no-teacher", "--tile", str(TILE),
         "--precision", "int8", "-o", str(out), "--json", *arguments],
    )  # fmt: skip


@pytest.mark.parametrize("factor", [1 / 40, 40.0], ids=["clips", "coarse"])
def test_a_planted_bad_scale_is_found_named_and_repaired(
    balanced: Checkpoint, tmp_path: Path, factor: float
) -> None:
    source = planted(balanced, "body5_act", factor, tmp_path / "bad.safetensors")
    run = exported(source, tmp_path / "bundle")
    assert run.exit_code == 0, run.output
    facts = json.loads(run.stdout)
    about = facts["int8"]
    # The tensor is made by body5 and read by body6: both must leave, and no other.
    assert {k["layer"] for k in about["repaired"]} == {"body5", "body6"}
    assert {row["layer"] for row in about["sensitivity"][:2]} == {"body5", "body6"}
    assert list(about["suspects"]) == ["body5_act"]
    assert set(about["high"]) == {"head", "anchor", "tail", "body5", "body6"}
    assert all(drop <= 0.1 for drop in about["drop_db"].values())
    words = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "`body5` was taken out of int8 at export" in words
    assert "Scale of `body5_act`: its codes end at" in words


def test_what_cannot_be_repaired_is_kept_marked_and_exit_3(
    calibrated: Checkpoint, tmp_path: Path
) -> None:
    """Every scale is wrong: the one convolution that must stay in int8 still clips."""
    quant = calibrated.quant
    assert quant is not None
    wrong = {t: float(np.float32(s / 30)) for t, s in quant.scales.items()}
    source, out = tmp_path / "bad.safetensors", tmp_path / "bundle"
    checkpoint.save(source, dataclasses.replace(
        calibrated, quant=QuantSpec(wrong, quant.bits, quant.high)))  # fmt: skip
    run = exported(source, out)
    assert run.exit_code == 3, run.output
    facts = json.loads(run.stdout)
    assert facts["gates_passed"] is False
    missed = [g for g in facts["gates"] if g["failures"]]
    assert all("int8" in g["hop"] for g in missed)
    said = " ".join(run.stderr.split())
    assert "int8" in said and f"kept in {out}" in said and "--max-drop" in said
    assert json.loads((out / "manifest.json").read_text())["gates_passed"] is False
    verify = CliRunner().invoke(app, ["verify", str(out)])
    assert "a gate was not met when this bundle was exported" in verify.stdout
    assert "taken out of int8" in (out / "README.md").read_text(encoding="utf-8")


def test_layers_leave_int8_by_sensitivity_until_the_drop_holds(
    balanced: Checkpoint, photos: Path
) -> None:
    """All of `balanced` in int8: the first, last and skip layers hurt most, as is well known."""
    inputs = scales.calibration_pictures(photos, 4)
    quant = post_training(balanced.graph, balanced.weights, inputs, high=())
    pictures = photographs.load(None)[:1]
    judge = Judge(balanced.graph, balanced.weights, pictures)
    before = judge.quality(quant, "ort").drop_db
    said: list[str] = []
    found = repair(judge, quant, before / 2, said.append)
    assert found.failures == {form: [] for form in FORMS}
    order = list(found.sensitivity.values())
    assert order == sorted(order) and len(order) == len(balanced.graph.convs())
    kept = [k.layer for k in found.kept]
    assert kept == list(found.sensitivity)[: len(kept)]
    assert kept[0] in high_convs(balanced.graph, ("head", "tail"))
    assert found.quality["ort"].drop_db <= before / 2
    assert any(f"'{kept[-1]}' to float16" in line and "holds" in line for line in said)
    assert repair(judge, quant, 9.0, said.append).kept == ()


def test_quality_is_measured_against_the_photograph_by_hand(calibrated: Checkpoint) -> None:
    from edgesr.resize import downscale_bicubic

    photo = photographs.load(None)[0]
    judge = Judge(calibrated.graph, calibrated.weights, [photo])
    quant = calibrated.quant
    assert quant is not None
    quality = judge.quality(quant, "trt")
    middle = photo[64:448, 64:448]  # 384 = 4 · 96 of 512
    small = downscale_bicubic(middle, 4).transpose(2, 0, 1) / 255.0
    for spec, want in ((None, quality.psnr_y_fp32), (quant, quality.psnr_y)):
        large = reference.evaluate(calibrated.graph, calibrated.weights, small, quant=spec)
        pixels = np.rint(large.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        assert psnr_y(middle, pixels) == pytest.approx(want, abs=2e-3)
    with pytest.raises(BadImage, match="to judge int8 by"):
        Judge(calibrated.graph, calibrated.weights, [photo[:60, :60]])
