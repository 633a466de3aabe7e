"""The compress verb as a user runs it: whole runs, budgets, bad input."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
from compressing import RECIPE, compress_arguments, run
from networks import random_weights
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.cli.main import app
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.models.student import student
from edgesr.runtime.ort import OrtRuntime


def test_a_run_leaves_a_student_within_budget_and_a_report(world: Path, whole: Path) -> None:
    result = checkpoint.load(whole / "student.safetensors")
    teacher = checkpoint.load(world / "teacher.safetensors")
    limit = counts.macs_per_pixel(teacher.graph) // 5
    assert counts.macs_per_pixel(result.graph) <= limit
    report = json.loads((whole / "report.json").read_text())
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


def test_training_lowers_the_loss(whole: Path) -> None:
    events = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    measured = [e["psnr_y"] for e in events if e["event"] == "measured"]
    assert len(measured) == 3
    steps = [e for e in events if e["event"] == "step" and e["leg"] == 0]
    assert steps[-1]["pixel"] < steps[0]["pixel"]


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
        done = in_process.invoke(app, ["compress", *map(str, arguments)])
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
    import torch

    torch.save({"encoder.weight": torch.zeros(3)}, foreign)
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
        ((tiny, "--teacher", "srgan", *photos), "untrained"),
        ((tiny, *teacher, *photos, "--budget", "speed=9"), "budget 'speed=9'"),
        (("--preset", "smokey", *teacher, *photos), "no preset 'smokey'"),
    ]
    for arguments, message in cases:
        done = in_process.invoke(app, ["compress", *map(str, arguments), "--out", str(out)])
        assert done.exit_code == 1, (arguments, done.stderr)
        assert isinstance(done.exception, SystemExit)  # a traceback would be another one
        last = done.stderr.splitlines()[-1]
        assert last.startswith("edgesr: ") and message in last
        assert done.stderr.count("edgesr: ") == 1
        assert not out.exists()
    assert not (world / "executed").exists()
    again = in_process.invoke(app, [*map(str, compress_arguments(world, whole))])
    assert again.exit_code == 1
    assert "--resume" in again.stderr


class _Evil:
    """A pickle that would make a file when loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.path, "w"))


def test_a_missed_budget_keeps_the_best_and_exits_3(world: Path) -> None:
    out = world / "missed"
    tight = ("--budget", "params=100", "--max-minutes", "0.1", "--json")
    done = run(world, *compress_arguments(world, out, *tight))
    assert done.returncode == 3, done.stderr
    assert "over the budget" in done.stderr
    assert json.loads(done.stdout) == json.loads((out / "report.json").read_text())
    assert (out / "student.safetensors").is_file()
    assert json.loads((out / "report.json").read_text())["missed"]
    assert "Budget: params=100." in (out / "report.md").read_text()


def test_the_generator_itself_is_pruned_when_it_is_the_student(world: Path) -> None:
    out = world / "itself"
    teacher = world / "teacher.safetensors"
    done = run(world, *compress_arguments(world, out, "--student", teacher, "--budget", "macs=60%"))
    assert done.returncode == 0, done.stderr
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


def test_a_student_of_another_scale_is_refused(world: Path) -> None:
    graph = student(8, 2, scale=2)
    path = world / "x2.safetensors"
    checkpoint.save(path, Checkpoint(graph, random_weights(graph), {}, {}))
    done = run(world, *compress_arguments(world, world / "x2", "--student", path))
    assert done.returncode == 1
    assert "student is x2, the recipe asks for x4" in done.stderr
