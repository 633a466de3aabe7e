"""The compress verb as a user runs it: whole runs, budgets, bad input."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from compressing import RECIPE, compress_arguments, events_of, invoke, refusal, report_of
from networks import random_weights
from typer.testing import CliRunner

from edgesr import checkpoint, image
from edgesr.checkpoint import Checkpoint
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.models.student import student
from edgesr.models.table import untrained_weights
from edgesr.pruning.latency import LatencyTable
from edgesr.resize import downscale_bicubic
from edgesr.runtime.ort import OrtRuntime
from edgesr.training import pretrained
from edgesr.training.start import fresh_student


def test_a_run_leaves_a_student_within_budget_and_a_report(world: Path, whole: Path) -> None:
    result = checkpoint.load(whole / "student.safetensors")
    teacher = checkpoint.load(world / "teacher.safetensors")
    limit = counts.macs_per_pixel(teacher.graph) // 5
    assert counts.macs_per_pixel(result.graph) <= limit
    report = report_of(whole)
    assert [leg["leg"] for leg in report["legs"]] == ["0-distill", "1-prune-1of2", "1-prune-2of2"]
    macs = [leg["macs_per_pixel"] for leg in report["legs"]]
    assert macs == sorted(macs, reverse=True)
    assert macs[0] > macs[1] > macs[2]
    assert report["student"]["macs_per_pixel"] == counts.macs_per_pixel(result.graph)
    assert report["held_out"] == ["coffee.png"]  # the third of five, in order of name
    assert "Budget: macs=20% of the teacher." in (whole / "report.md").read_text()
    assert "student / teacher" in (whole / "report.md").read_text()
    assert (whole / "report.html").read_text().startswith("<!doctype html>")
    x = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
    assert np.isfinite(OrtRuntime(to_onnx(result.graph, result.weights)).run(x)).all()


def test_training_brings_the_student_nearer_to_an_unseen_photograph(
    world: Path, whole: Path
) -> None:
    hr = image.read_rgb8(world / "photos" / "coffee.png")
    lr = downscale_bicubic(hr, 4).transpose(2, 0, 1)[None].astype(np.float32) / 255

    def gap(net: Checkpoint) -> float:
        y = OrtRuntime(to_onnx(net.graph, net.weights)).run(lr)[0].transpose(1, 2, 0)
        return float(np.abs(y - hr.astype(np.float32) / 255).mean())

    trained = checkpoint.load(whole / "checkpoints" / "leg-0.safetensors")
    begun = fresh_student(trained.graph, rep=True, seed=0)  # as the run began
    # Little, after 25 steps of which half the weight is on a teacher that knows nothing.
    assert gap(trained) < 0.97 * gap(Checkpoint(trained.graph, begun.weights()))
    steps = events_of(whole, "step")
    assert {e["leg"] for e in steps} == {0, 1, 2}
    assert all(np.isfinite(e["loss"]) and 0 <= e["waiting"] <= 1 for e in steps)
    assert len(events_of(whole, "measured")) == 3


def test_without_torch_the_pip_line_is_given_and_the_exit_code_is_4(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from edgesr.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "compress", "--data", ".", "--out", "run"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr == "edgesr: compress needs torch: pip install 'edgesr[train]'\n"
    assert not list(tmp_path.iterdir())


def test_options_that_would_do_nothing_are_refused(
    world: Path, whole: Path, in_process: CliRunner
) -> None:
    def refused(*arguments: object) -> tuple[int, str]:
        done = invoke(in_process, "compress", *arguments)
        return done.exit_code, " ".join(done.stderr.split())

    code, text = refused("--resume", whole, "--budget", "macs=9%", "--threads", 2)
    assert code == 2
    assert "--budget, --threads" in text
    code, text = refused("tiny.toml", "--preset", "smoke")
    assert code == 2
    plain = world / "plain.toml"
    plain.write_text(RECIPE.split('[[stages]]\nkind = "prune"')[0].replace("budget", "#"))
    asked = (plain, "--teacher", "teacher.safetensors", "--data", "photos", "--out", "never")
    for option in (("--budget", "macs=9%"), ("--max-drop", 0.1)):
        code, text = refused(*asked, *option)
        assert code == 1
        assert "no prune stage" in text
    code, text = refused("every.toml", *asked[1:], "--budget", "macs=9%")
    assert code == 1
    assert 'no prune stage with method = "channels"' in text
    typo = world / "typo.toml"
    typo.write_text(RECIPE.replace("macs=20%", "speed=9"))
    code, text = refused(typo, *asked[1:])
    assert code == 1
    assert "budget 'speed=9'" in text
    code, text = refused(*asked[:-1], world / "tiny.toml" / "run")
    assert code == 1
    assert "tiny.toml is a file" in text
    assert not (world / "never").exists()


def test_bad_input_is_one_line_exit_1_and_nothing_written(
    world: Path, whole: Path, in_process: CliRunner
) -> None:
    evil = world / "evil.pth"
    evil.write_bytes(pickle.dumps(_Evil(str(world / "executed"))))
    (world / "unknown.toml").write_text(RECIPE + "\nmomentum = 0.9\n")
    foreign = world / "foreign.pth"
    torch.save({"encoder.weight": torch.zeros(3)}, foreign)
    graph = student(8, 1)
    random = Checkpoint(graph, untrained_weights(graph, 0), {"untrained": True}, {})
    checkpoint.save(world / "random.safetensors", random)
    out = world / "never"
    teacher = ("--teacher", world / "teacher.safetensors")
    photos = ("--data", world / "photos")
    tiny = world / "tiny.toml"
    cases = [
        ((world / "unknown.toml", *teacher, *photos), "unknown key 'momentum'"),
        ((world / "none.toml", *teacher, *photos), "No such file"),
        ((tiny, *teacher, "--data", world / "nowhere"), "nowhere"),
        ((tiny, "--teacher", evil, *photos), "evil.pth"),
        ((tiny, "--teacher", foreign, *photos), "foreign.pth"),
        ((tiny, "--teacher", world / "random.safetensors", *photos), "untrained"),
        ((tiny, *teacher, *photos, "--budget", "speed=9"), "budget 'speed=9'"),
        (("--preset", "smokey", *teacher, *photos), "no preset 'smokey'"),
    ]
    for arguments, message in cases:
        assert message in refusal(invoke(in_process, "compress", *arguments, "--out", out))
        assert not out.exists()
    assert not (world / "executed").exists()
    again = invoke(in_process, *compress_arguments(world, whole))
    assert "--resume" in refusal(again)


class _Evil:
    """A pickle that would make a file when loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


def test_a_missed_budget_keeps_the_best_and_exits_3(world: Path, in_process: CliRunner) -> None:
    out = world / "missed"
    tight = ("--budget", "params=100", "--max-minutes", "0.1", "--json")
    done = invoke(in_process, *compress_arguments(world, out, *tight))
    assert "over the budget" in refusal(done, 3)
    assert json.loads(done.stdout) == report_of(out)
    assert (out / "student.safetensors").is_file()
    assert report_of(out)["missed"]
    assert "Budget: params=100." in (out / "report.md").read_text()


def test_the_generator_itself_is_pruned_when_it_is_the_student(
    world: Path, in_process: CliRunner
) -> None:
    out = world / "itself"
    teacher = world / "teacher.safetensors"
    asked = ("--student", teacher, "--budget", "macs=60%")
    done = invoke(in_process, *compress_arguments(world, out, *asked))
    assert done.exit_code == 0, done.stderr
    before, after = (checkpoint.load(p).graph for p in (teacher, out / "student.safetensors"))
    assert counts.macs_per_pixel(after) <= 0.6 * counts.macs_per_pixel(before)
    assert [type(x) for x in after.layers] == [type(x) for x in before.layers]
    widths = [(a.out, b.out) for a, b in zip(after.convs(), before.convs(), strict=True)]
    assert widths[-1] == (3, 3)
    # Up-convolutions give up whole groups of r² = 4 filters.
    assert all(a <= b for a, b in widths)
    assert all(x.out % 4 == 0 for x in after.convs() if x.name.startswith("up"))
    lineage = checkpoint.load(out / "student.safetensors").lineage
    assert lineage["start"] == lineage["parent"]


def test_a_student_of_another_scale_is_refused(world: Path, in_process: CliRunner) -> None:
    graph = student(8, 2, scale=2)
    path = world / "x2.safetensors"
    checkpoint.save(path, Checkpoint(graph, random_weights(graph), {}, {}))
    done = invoke(in_process, *compress_arguments(world, world / "x2", "--student", path))
    assert "student is x2, the recipe asks for x4" in refusal(done)


PRUNE_FIRST = (
    RECIPE.split("[[stages]]")[0]
    + """
[[stages]]
kind = "prune"
steps = 8
loss = { pixel = 1.0 }
"""
)


def test_a_trained_student_is_measured_then_pruned_to_milliseconds(
    world: Path, whole: Path, in_process: CliRunner
) -> None:
    (world / "first.toml").write_text(PRUNE_FIRST)
    teacher, out = world / "teacher.safetensors", world / "ms"
    trained = whole / "checkpoints" / "leg-0.safetensors"
    asked = ("compress", world / "first.toml", "--teacher", teacher, "--data", world / "photos",
             "--out", out, "--threads", 1)  # fmt: skip
    assert "name the trained network to start from with --student" in refusal(
        invoke(in_process, *asked)
    )
    assert not out.exists()

    graph = checkpoint.load(trained).graph
    now = LatencyTable(world / "cache" / "latency", threads=1).cost(graph)
    limit = 0.8 * now
    done = invoke(in_process, *asked, "--student", trained, "--budget", f"ms={limit:.4f}")
    assert done.exit_code == 0, done.stderr
    assert f"{now:.1f} ms → " in done.stderr
    report = report_of(out)
    start, end = report["legs"]
    assert (start["leg"], start["kind"], start["steps"]) == ("start", "start", 0)
    # The network and the photographs of that leg: the same figures.
    for key in ("psnr_y", "ssim_y", "params", "macs_per_pixel", "bytes_coded"):
        assert start[key] == report_of(whole)["legs"][0][key]
    assert end["leg"] == "0-prune-1of1" and end["params"] < start["params"]
    smaller = checkpoint.load(out / "student.safetensors").graph
    table = LatencyTable(world / "cache" / "latency", threads=1)
    assert table.cost(smaller) <= limit
    assert table.cost(graph) == pytest.approx(now)  # measured once, then kept


@pytest.mark.parametrize(
    ("stage", "code", "message"),
    [
        ('kind = "quantize"\nhigh = ["haed"]', 1, "no convolution 'haed'. Did you mean head?"),
        ('kind = "gan"\nloss = { perceptual = 1.0, adversarial = 0.1 }', 4, "edgesr[perceptual]"),
        ('kind = "finetune"\nloss = { affinity = 1.0, hints = 8 }', 1, "hints"),
    ],
)
def test_what_a_later_stage_lacks_is_said_before_the_first_step(
    world: Path, in_process: CliRunner, monkeypatch: pytest.MonkeyPatch, stage: str, code: int,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    pretrained.packaged_weights.cache_clear()
    path = world / "later.toml"
    path.write_text(RECIPE + f"\n[[stages]]\nsteps = 5\n{stage}\n")
    out = world / "never"
    asked = ("compress", path, *compress_arguments(world, out)[2:])
    assert message in refusal(invoke(in_process, *asked), code)
    assert not out.exists()
