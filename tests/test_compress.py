"""The compress verb as a user runs it: whole runs, kills, resumes, gates, bad input."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from networks import random_weights
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.cli.main import app
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.legs import last_within_drop, learning_rate, legs_of, scale_steps
from edgesr.training.recipe import Recipe, Stage

RECIPE = """
name = "tiny"
ema = 0.9
budget = "macs=20%"
widths = [4, 8, 12, 16]
checkpoint_every = 7

[student]
width = 16
depth = 3

[data]
patch = 12
batch = 2
holdout = 3

[[stages]]
kind = "distill"
steps = 25
lr = 2e-3
warmup = 5
loss = { pixel = 1.0, teacher = 0.5, feature = 0.1 }

[[stages]]
kind = "prune"
rounds = 2
steps = 24
lr = 1e-3
loss = { pixel = 1.0, teacher = 0.5 }
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, photograph) -> Path:
    root = tmp_path_factory.mktemp("world")
    (root / "photos").mkdir()
    for name in ("coffee", "rocket", "chelsea", "astronaut", "motorcycle_left"):
        crop = photograph(name)[100:196, 100:204]
        cv2.imwrite(str(root / "photos" / f"{name}.png"), crop[:, :, ::-1])
    graph = srresnet(blocks=1, width=8, tail_kernel=3)
    checkpoint.save(root / "teacher.safetensors", Checkpoint(graph, random_weights(graph), {}, {}))
    (root / "tiny.toml").write_text(RECIPE)
    return root


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgesr", *map(str, arguments)]


def _environment(world: Path) -> dict[str, str]:
    return {**os.environ, "EDGESR_CACHE": str(world / "cache")}


def _run(world: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(*arguments), capture_output=True, text=True, timeout=300, cwd=world,
        env=_environment(world), check=False,
    )  # fmt: skip


def _compress(world: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("compress", world / "tiny.toml", "--teacher", world / "teacher.safetensors",
            "--data", world / "photos", "--out", out, "--threads", 1, *more)  # fmt: skip


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    """The run folder of an uninterrupted run."""
    out = world / "whole"
    done = _run(world, *_compress(world, out))
    assert done.returncode == 0, done.stderr
    return out


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


@pytest.mark.parametrize("kill_in_leg", [0, 2])
def test_kill_9_then_resume_is_bit_identical(world: Path, whole: Path, kill_in_leg: int) -> None:
    out = world / f"killed-{kill_in_leg}"
    process = subprocess.Popen(
        _command(*_compress(world, out)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=world, env=_environment(world),
    )  # fmt: skip
    _wait_for_checkpoint(out, kill_in_leg, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "student.safetensors").exists()
    resumed = _run(world, "compress", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at leg" in resumed.stderr
    expected, got = (f / "student.safetensors" for f in (whole, out))
    assert expected.read_bytes() == got.read_bytes()
    assert (whole / "report.json").read_bytes() == (out / "report.json").read_bytes()


@pytest.fixture
def in_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """Commands in this process, where a test can break them at a chosen place."""
    import torch

    threads = torch.get_num_threads()
    monkeypatch.setenv("EDGESR_CACHE", str(world / "cache"))
    monkeypatch.chdir(world)
    yield CliRunner()
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("broken", "call"),
    [("quality", 2), ("prune_to", 1), ("prune_to", 2), ("_finish", 1)],
    ids=["measuring", "before pruning", "between rounds", "before the report"],
)
def test_interrupted_between_steps_then_resumed_elsewhere_is_bit_identical(
    world: Path, whole: Path, tmp_path: Path, in_process: CliRunner,
    monkeypatch: pytest.MonkeyPatch, broken: str, call: int,
) -> None:  # fmt: skip
    from edgesr import compress as verb

    out = tmp_path / "run"
    real, calls = getattr(verb, broken), 0

    def interrupt(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(verb, broken, interrupt)
        arguments = ["compress", "tiny.toml", "--teacher", "teacher.safetensors", "--data",
                     "photos", "--out", str(out), "--threads", "1"]  # fmt: skip
        stopped = in_process.invoke(app, arguments)
    assert stopped.exit_code == 130, stopped.stderr
    last = stopped.stderr.splitlines()[-1]
    assert last == f"edgesr: interrupted; edgesr compress --resume {out} goes on"
    assert not (out / "student.safetensors").exists()
    monkeypatch.chdir(tmp_path)  # teacher and data were given by relative paths
    resumed = in_process.invoke(app, ["compress", "--resume", str(out)])
    assert resumed.exit_code == 0, resumed.stderr
    for name in ("student.safetensors", "report.json"):
        assert (whole / name).read_bytes() == (out / name).read_bytes()


def test_a_full_disk_at_a_checkpoint_is_one_line_and_can_be_resumed(
    world: Path, whole: Path
) -> None:
    out = world / "full"
    small_files = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from edgesr.cli.main import main\n"
        "main()\n"
    )
    # The cache is there already, from `whole`: the checkpoint is the first large file.
    done = subprocess.run(
        [sys.executable, "-c", small_files, *map(str, _compress(world, out))],
        capture_output=True, text=True, cwd=world, env=_environment(world), check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("edgesr: cannot write checkpoint ")
    assert "--resume" in done.stderr.splitlines()[-1]
    assert not list(out.rglob("*.pt")) and not list(out.rglob(".*"))
    resumed = _run(world, "compress", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    expected, got = (f / "student.safetensors" for f in (whole, out))
    assert expected.read_bytes() == got.read_bytes()


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


def test_a_recipe_that_no_longer_fits_the_checkpoint_is_refused(
    world: Path, whole: Path, tmp_path: Path, in_process: CliRunner
) -> None:
    for change in (
        ("rounds = 2", "rounds = 3"),
        ("reparameterize = true", "reparameterize = false"),
    ):
        run = tmp_path / change[0].split()[0]
        shutil.copytree(whole, run)
        (run / "student.safetensors").unlink()
        recipe = (run / "recipe.toml").read_text()
        assert change[0] in recipe
        (run / "recipe.toml").write_text(recipe.replace(*change))
        done = in_process.invoke(app, ["compress", "--resume", str(run)])
        assert done.exit_code == 1
        assert "recipe.toml does not fit its checkpoint" in done.stderr.splitlines()[-1]


def _wait_for_checkpoint(out: Path, leg: int, process: subprocess.Popen[bytes]) -> None:
    """Until a checkpoint of that leg, short of its end, is on disk."""
    import torch

    for _ in range(20_000):
        if process.poll() is not None:
            pytest.fail("the run ended before it could be killed")
        try:
            state = torch.load(out / "checkpoints" / "last.pt", weights_only=True)
        except FileNotFoundError:
            state = None
        if state and state["leg"] == leg and state["step"] >= 7:
            return
        time.sleep(0.002)
    pytest.fail("no checkpoint in time")


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
    again = in_process.invoke(app, [*map(str, _compress(world, whole))])
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
    done = _run(world, *_compress(world, out, "--budget", "params=100", "--max-minutes", "0.1",
                                 "--json"))  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "over the budget" in done.stderr
    assert json.loads(done.stdout) == json.loads((out / "report.json").read_text())
    assert (out / "student.safetensors").is_file()
    assert json.loads((out / "report.json").read_text())["missed"]
    assert "Budget: params=100." in (out / "report.md").read_text()


def test_the_gate_on_quality_goes_back_to_the_last_student_that_passes() -> None:
    recipe = Recipe("r", (Stage("distill", 10), Stage("prune", 9, rounds=3)), budget="macs=50%")
    legs = legs_of(recipe)
    psnr = [30.0, 29.95, 29.9, 29.5]
    assert last_within_drop(legs, psnr, 0.11) == (2, "1-prune-3of3 loses 0.50 dB against the "
                                                  "unpruned student, more than the 0.11 dB "
                                                  "allowed")  # fmt: skip
    assert last_within_drop(legs, psnr, 0.01)[0] == 0
    assert last_within_drop(legs, psnr, 0.51) == (3, "")
    assert last_within_drop(legs, psnr, None) == (3, "")
    assert last_within_drop(legs, [30.0, 30.1, 29.0, 30.2], 0.0) == (3, "")


def test_resume_refuses_changed_pictures_and_other_folders(
    world: Path, whole: Path, tmp_path: Path, in_process: CliRunner
) -> None:
    out, photos = tmp_path / "run", tmp_path / "photos"
    shutil.copytree(whole, out)
    shutil.copytree(world / "photos", photos)
    manifest = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(manifest.replace(str(world / "photos"), str(photos)))
    (photos / "coffee.png").write_bytes((photos / "rocket.png").read_bytes())
    for folder, message in ((out, "data has changed"), (photos, "is not a run folder")):
        done = in_process.invoke(app, ["compress", "--resume", str(folder)])
        assert done.exit_code == 1
        assert message in done.stderr.splitlines()[-1]
    (photos / "manifest.json").write_text('{"target": "cpu"}')  # a bundle has one too
    done = in_process.invoke(app, ["compress", "--resume", str(photos)])
    assert done.exit_code == 1
    assert "not that of a compression run" in done.stderr


def test_legs_split_the_steps_and_schedules_start_warm_and_end_low() -> None:
    prune = Stage("prune", 10, rounds=3, lr=1.0, lr_end=0.1, warmup=0)
    recipe = Recipe("r", (Stage("distill", 100, lr=1.0, lr_end=0.0, warmup=10), prune),
                    budget="macs=50%")  # fmt: skip
    legs = legs_of(recipe)
    assert [leg.steps for leg in legs] == [100, 3, 3, 4]
    assert [leg.shrink for leg in legs] == [None, 1 / 3, 2 / 3, 1.0]
    rates = [learning_rate(legs[0], s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)  # half-way along the cosine
    assert rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert [s.steps for s in scale_steps(recipe, 0.5).stages] == [50, 10]  # never more
    long = Recipe("r", (Stage("distill", 100), Stage("prune", 90, rounds=3)), budget="macs=5%")
    assert [s.steps for s in scale_steps(long, 0.04).stages] == [10, 30]  # 10 a round


def test_a_run_that_diverged_stops_and_says_so(tmp_path: Path, photograph, monkeypatch) -> None:
    import torch

    from edgesr.errors import BadConfig
    from edgesr.training import data
    from edgesr.training.start import fresh_student
    from edgesr.training.trainer import MAX_SKIPPED, Trainer, TrainSpec

    monkeypatch.setenv("EDGESR_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), photograph("coffee")[:64, :64])
    pack = data.open_pack([tmp_path / "a.png"], 4)
    batches = data.Batches(pack, patch=8, batch=1, seed=0, teacher=False)
    net = fresh_student(student(4, 1), rep=False, seed=0)
    leg = legs_of(Recipe("r", (Stage("distill", 1000),)))[0]
    trainer = Trainer(net, None, batches, leg, TrainSpec(0.5, 1.0, 0, 100))
    with torch.no_grad():
        net.layers["head"].weight.fill_(float("inf"))
    events: list[dict[str, object]] = []
    with pytest.raises(BadConfig, match="diverged: the loss is not finite in 50 steps"):
        trainer.run(events.append, lambda: pytest.fail("must not keep a broken network"))
    assert len(events) == MAX_SKIPPED
    assert all(e["skipped"] for e in events)


def test_the_moving_average_follows_the_formula(tmp_path: Path, photograph, monkeypatch) -> None:
    import torch

    from edgesr.training import data
    from edgesr.training.start import fresh_student
    from edgesr.training.trainer import Trainer, TrainSpec

    monkeypatch.setenv("EDGESR_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), photograph("coffee")[:64, :64])
    pack = data.open_pack([tmp_path / "a.png"], 4)
    batches = data.Batches(pack, patch=8, batch=1, seed=0, teacher=False)
    net = fresh_student(student(4, 1), rep=False, seed=0)
    leg = legs_of(Recipe("r", (Stage("distill", 5),)))[0]
    trainer = Trainer(net, None, batches, leg, TrainSpec(0.5, 1.0, 0, 100))
    expected = net.layers["head"].weight.detach().clone()
    for step in range(5):
        trainer.one_step()
        trainer.step += 1
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net.layers["head"].weight.detach()
    assert torch.allclose(trainer.ema.layers["head"].weight, expected, atol=1e-7)
