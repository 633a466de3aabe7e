"""One run with every kind of pruning and int8: what its files hold is what its report says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compressing import events_of, report_of

from edgesr import checkpoint, image, metrics
from edgesr.checkpoint import Checkpoint
from edgesr.resize import downscale_bicubic
from edgesr.runtime.ort import OrtRuntime
from edgesr.sparsity import ZEROS_SENTENCE, violations

LEGS = ["0-distill", "1-prune-1of2", "1-prune-2of2", "2-prune-1of2", "2-prune-2of2", "3-quantize"]


def leg(run: Path, index: int) -> Checkpoint:
    return checkpoint.load(run / "checkpoints" / f"leg-{index}.safetensors")


def zeros(ckpt: Checkpoint) -> dict[str, np.ndarray]:
    return {name: w == 0 for name, w in ckpt.weights.items() if w.ndim == 4}


def flat(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([parts[name].ravel() for name in sorted(parts)])


def test_magnitude_pruning_takes_the_smallest_and_they_stay_away(every: Path) -> None:
    report = report_of(every)
    assert [x["leg"] for x in report["legs"]] == LEGS
    before = np.abs(flat({n: w for n, w in leg(every, 0).weights.items() if w.ndim == 4}))
    total = before.size
    # Zhu & Gupta's cubic schedule from 1 to 0.7: half-way 0.7 + 0.3 / 8.
    for index, keep in ((1, 0.7 + 0.3 * 0.5**3), (2, 0.7)):
        gone = flat(zeros(leg(every, index)))
        assert gone.sum() == total - round(keep * total)
        others = report["legs"][index]["params"] - total
        assert report["legs"][index]["nonzeros"] <= round(keep * total) + others
        assert report["legs"][index]["nonzeros"] >= round(keep * total)
    gone = flat(zeros(leg(every, 1)))
    assert before[gone].max() <= before[~gone].min()
    assert (flat(zeros(leg(every, 2))) >= gone).all()
    params = [x["params"] for x in report["legs"]]
    assert len(set(params)) == 1 and len({x["bytes_dense"] for x in report["legs"]}) == 1
    coded = [x["bytes_coded"] for x in report["legs"]]
    assert coded[0] > coded[1] > coded[2] > coded[4]
    assert ZEROS_SENTENCE in report["notes"]


def test_two_of_four_holds_and_the_zeros_are_those_of_the_last_pruning(every: Path) -> None:
    for index in (4, 5):
        made = leg(every, index)
        widths = {c.name: made.graph.channels[c.inputs[0]] for c in made.graph.convs()}
        in_fours = [name for name, into in widths.items() if into % 4 == 0]
        assert "tail" in in_fours and "head" not in in_fours
        assert all(violations(made.weights[f"{name}.weight"]) == 0 for name in in_fours)
    final, pruned = checkpoint.load(every / "student.safetensors"), leg(every, 4)
    for name, dead in zeros(pruned).items():
        np.testing.assert_array_equal(final.weights[name] == 0, dead)
    half_way = leg(every, 3)
    done = [n for n, w in half_way.weights.items() if w.shape[1:2] and w.ndim == 4
            and w.shape[1] % 4 == 0 and violations(w) == 0]  # fmt: skip
    said = events_of(every, "pruned")[2]
    assert sorted(done) == sorted(f"{name}.weight" for name in said["layers"])
    assert said["kept"] >= said["kept_without_search"]


def test_the_int8_files_give_the_reported_quality(world: Path, every: Path) -> None:
    report, final = report_of(every), checkpoint.load(every / "student.safetensors")
    assert final.quant is not None and final.quant.bits == 8
    last = report["legs"][-1]
    hr = image.read_rgb8(world / "damaged" / "chelsea.png")
    assert report["held_out"] == ["chelsea.png"]
    lr = downscale_bicubic(hr, 4)
    x = lr.transpose(2, 0, 1)[None].astype(np.float32) / 255
    for form in ("ort", "trt"):
        y = OrtRuntime(every / f"student.int8.{form}.onnx").run(x)[0].transpose(1, 2, 0)
        levels = np.rint(np.clip(y, 0, 1) * 255).astype(np.uint8)
        psnr = metrics.psnr_y(levels, hr[: levels.shape[0], : levels.shape[1]])
        assert last[f"psnr_y_int8_{form}"] == pytest.approx(psnr, abs=0.01)
        if form == "ort":
            rgb = metrics.psnr_rgb(levels, hr[: levels.shape[0], : levels.shape[1]])
            assert last["psnr_rgb"] == pytest.approx(rgb, abs=0.01)
        size = (every / f"student.int8.{form}.onnx").stat().st_size
        assert last[f"bytes_int8_{form}"] == size
        assert f" {size / 1024:,.1f} |" in (every / "report.md").read_text().split("## Int8")[1]
    assert last["psnr_y"] == last["psnr_y_int8_ort"] == report["student"]["psnr_y"]
    assert {"psnr_y_fp32", "psnr_y_ptq_trt", "psnr_y_ptq_ort"} <= last.keys()
    assert abs(last["psnr_y_fp32"] - last["psnr_y_int8_ort"]) < 0.5


def test_damaged_pictures_are_counted_and_named_on_the_terminal_and_in_the_report(
    every: Path,
) -> None:
    said = (every / "terminal.txt").read_text()
    assert "5 photographs to train on, 2 held out" in said
    line = next(line for line in said.splitlines() if "left out" in line)
    assert line.startswith("2 left out, since they cannot be read: ")
    note = next(n for n in report_of(every)["notes"] if "left out" in n)
    assert note.startswith("2 pictures were left out")
    for text in (line, note, (every / "report.md").read_text()):
        assert "broken.jpg" in text and "notes.png" in text


def test_validations_are_in_the_log_and_on_the_curve(every: Path) -> None:
    seen = events_of(every, "validated")
    steps = [12, 30, 30, 8, 8, 30]
    assert [(e["leg"], e["step"]) for e in seen] == [
        (index, step - 1) for index, n in enumerate(steps) for step in range(6, n + 1, 6)
    ]
    firsts = np.cumsum([0, *steps])
    curve = report_of(every)["curves"]["psnr_y"]
    assert [p[0] for p in curve] == [firsts[e["leg"]] + e["step"] for e in seen]
    np.testing.assert_allclose([p[1] for p in curve], [e["psnr_y"] for e in seen], rtol=1e-5)


def test_the_curve_of_a_quantised_leg_ends_in_its_dot(every: Path) -> None:
    """Both are of int8: the last validation is at the leg's end, and on its one picture."""
    last, report = events_of(every, "validated")[-1], report_of(every)
    assert (last["leg"], last["step"] + 1) == (5, report["legs"][5]["steps"])
    assert last["psnr_y"] == report["legs"][5]["psnr_y"] != report["legs"][5]["psnr_y_fp32"]


def test_rgb_is_measured_of_all(every: Path) -> None:
    report = report_of(every)
    nets = [report["bicubic"], report["teacher"], report["student"], *report["legs"]]
    # The error of all channels is not that of their weighed sum.
    assert all(net["psnr_rgb"] != net["psnr_y"] and net["psnr_rgb"] > 5 for net in nets)
    assert "## Quality (measured)" in (every / "report.md").read_text()
