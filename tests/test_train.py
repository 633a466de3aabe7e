"""`edgesr train`: a generator without a teacher, for PSNR and then against a discriminator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from compressing import RECIPE, assert_same, events_of, invoke, refusal, report_of
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.graph.counts import parameters
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.training import engine, precision
from edgesr.training.start import fresh_student
from edgesr.training.state import load_state

SRGAN = """
name = "small"
reparameterize = false
ema = 0.9
checkpoint_every = 4

[student]
family = "srgan"
width = 8
depth = 1

[data]
patch = 8
batch = 2
holdout = 3

[[stages]]
kind = "finetune"
steps = 10
lr = 1e-3
warmup = 1

[[stages]]
kind = "gan"
steps = 10
lr = 1e-4
loss = { pixel = 1.0, adversarial = 0.01 }
"""


def arguments(world: Path, out: Path, text: str = SRGAN) -> tuple[object, ...]:
    recipe = world / f"{out.name}.toml"
    recipe.write_text(text)
    return ("train", recipe, "--data", world / "photos", "--out", out, "--threads", 1)


@contextmanager
def interrupted_at_save(monkeypatch: pytest.MonkeyPatch, last: int) -> Iterator[None]:
    """Ctrl-C comes after that many checkpoints."""
    saves = 0
    real = engine.save_state

    def save_then_stop(state: object, folder: Path) -> Path:
        nonlocal saves
        saves += 1
        path = real(state, folder)
        if saves == last:
            raise KeyboardInterrupt
        return path

    with monkeypatch.context() as patch:
        patch.setattr(engine, "save_state", save_then_stop)
        yield


def test_a_psnr_phase_and_a_gan_phase_without_a_teacher_resume_bit_identically(
    world: Path, in_process: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = world / "srgan", world / "srgan-broken"
    done = invoke(in_process, *arguments(world, straight))
    assert done.exit_code == 0, done.stderr
    report = report_of(straight)
    assert report["teacher"] is None
    assert [leg["kind"] for leg in report["legs"]] == ["finetune", "gan"]
    graph = checkpoint.load(straight / "student.safetensors").graph
    assert [c.name for c in graph.convs()] == [
        "head", "b0_conv1", "b0_conv2", "body", "up0", "up1", "tail"]  # fmt: skip
    steps = {e["leg"]: e for e in events_of(straight, "step")}
    assert "discriminator" not in steps[0]
    assert steps[1]["loss"] == pytest.approx(steps[1]["pixel"] + steps[1]["adversarial"], rel=1e-5)
    # It has not learnt to tell the two apart: log 2, and its share of the student's loss.
    assert steps[1]["discriminator"] == pytest.approx(math.log(2), abs=0.2)
    assert steps[1]["adversarial"] == pytest.approx(0.01 * math.log(2), abs=0.002)
    assert report["curves"]["loss"]["discriminator"][0][0] == 10

    with interrupted_at_save(monkeypatch, 6):  # 4, 8, 10, measured; 4, 8
        stopped = invoke(in_process, *arguments(world, broken, SRGAN))
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1].endswith(f"edgesr train --resume {broken} goes on")
    state = load_state(broken / "checkpoints")
    assert state is not None and (state.leg, state.step) == (1, 8)
    assert set(state.adversary) == {"net", "optimizer"}
    resumed = invoke(in_process, "train", "--resume", broken)
    assert resumed.exit_code == 0, resumed.stderr
    assert_same(straight, broken)
    ends = [load_state(run / "checkpoints") for run in (straight, broken)]
    nets = [end.adversary["net"] for end in ends if end is not None]
    assert len(nets) == 2 and nets[0].keys() == nets[1].keys()
    assert all(np.array_equal(nets[0][k], nets[1][k]) for k in nets[0])


def test_muon_in_bfloat16_resumes_bit_identically_in_either_phase(
    world: Path, in_process: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Slow where the CPU does not multiply bfloat16 itself, and the same.
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    text = SRGAN.replace('name = "small"', 'name = "small"\noptimizer = "muon"\nprecision = "bf16"')
    text = text.replace('family = "srgan"\nwidth = 8', "width = 8").replace(
        "reparameterize = false", "reparameterize = true"
    )
    straight, broken = world / "muon", world / "muon-broken"
    done = invoke(in_process, *arguments(world, straight, text))
    assert done.exit_code == 0, done.stderr
    with interrupted_at_save(monkeypatch, 2):  # 4, 8
        assert invoke(in_process, *arguments(world, broken, text)).exit_code == 130
    state = load_state(broken / "checkpoints")
    assert state is not None and (state.leg, state.step) == (0, 8)
    assert [group["step"] for group in state.optimizer["param_groups"]] == [8, 8]
    kept = [set(of_one) for of_one in state.optimizer["state"].values()]
    assert {"momentum"} in kept and {"mean", "square"} in kept
    with interrupted_at_save(monkeypatch, 4):  # 10, measured; 4, 8
        assert invoke(in_process, "train", "--resume", broken).exit_code == 130
    resumed = invoke(in_process, "train", "--resume", broken)
    assert resumed.exit_code == 0, resumed.stderr
    assert [e["leg"] for e in events_of(broken, "resumed")] == [0, 1]
    assert_same(straight, broken)
    # It was bfloat16: in float32 the same recipe ends elsewhere.
    exact = world / "muon-exact"
    again = invoke(in_process, *arguments(world, exact, text.replace('"bf16"', '"fp32"')))
    assert again.exit_code == 0, again.stderr
    ends = [checkpoint.load(run / "student.safetensors").weights for run in (straight, exact)]
    assert any(not np.array_equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_a_trained_generator_goes_on(world: Path, in_process: CliRunner) -> None:
    out = world / "goes-on"
    text = SRGAN.split('[[stages]]\nkind = "gan"')[0]
    teacher = world / "teacher.safetensors"
    done = invoke(in_process, *arguments(world, out, text), "--network", teacher)
    assert done.exit_code == 0, done.stderr
    assert [leg["leg"] for leg in report_of(out)["legs"]] == ["start", "0-finetune"]
    before, after = checkpoint.load(teacher), checkpoint.load(out / "student.safetensors")
    assert after.graph.layers == before.graph.layers
    assert after.lineage["parent"] == "" and after.lineage["start"]
    # Ten steps at 1e-3: changed, but still that network.
    gap = [np.abs(after.weights[k] - before.weights[k]).max() for k in before.weights]
    assert 0 < max(gap) <= 10 * 1e-3 * 1.1


def test_a_generator_starts_as_a_plain_student(world: Path, in_process: CliRunner) -> None:
    out, small = world / "embedded", world / "plain.safetensors"
    graph = student(4, 1)
    weights = fresh_student(graph, rep=True, seed=0).weights()
    checkpoint.save(small, Checkpoint(graph, weights, {}, {}))
    text = SRGAN.split('[[stages]]\nkind = "gan"')[0].replace("lr = 1e-3", "lr = 1e-5")
    text = text.replace("width = 8", "width = 12")
    done = invoke(in_process, *arguments(world, out, text), "--network", small)
    assert done.exit_code == 0, done.stderr
    start, after = report_of(out)["legs"]
    made = checkpoint.load(out / "student.safetensors").graph
    assert made.layers == srresnet(1, 12).layers
    assert start["params"] == parameters(srresnet(1, 12))
    # The student's start is about nearest-neighbour upsampling; a generator's is noise.
    assert start["psnr_y"] > 18 and after["psnr_y"] == pytest.approx(start["psnr_y"], abs=0.5)
    large = invoke(in_process, *arguments(world, world / "no", text), "--network", "balanced")
    assert "does not fit into a generator of 1 blocks of 12 channels" in refusal(large)


def test_a_student_is_deepened_where_the_recipe_says_so(world: Path, in_process: CliRunner) -> None:
    out, small = world / "deepened", world / "shallow.safetensors"
    graph = student(8, 1)
    weights = fresh_student(graph, rep=True, seed=0).weights()
    checkpoint.save(small, Checkpoint(graph, weights, {}, {}))
    text = SRGAN.split('[[stages]]\nkind = "gan"')[0].replace("lr = 1e-3", "lr = 1e-5")
    text = text.replace('family = "srgan"', "grow = true").replace("depth = 1", "depth = 3")
    alone = invoke(in_process, *arguments(world, world / "no", text))
    assert "grow = true needs a student" in refusal(alone)
    assert "decode photographs" not in alone.stderr  # nor does a teacher enlarge them first
    sparse = {k: np.where(np.abs(w) < 0.01, 0, w).astype(np.float32) for k, w in weights.items()}
    checkpoint.save(world / "pruned.safetensors", Checkpoint(graph, sparse, {}, {}))
    for recipe in (text, SRGAN):
        pruned = invoke(in_process, *arguments(world, world / "no", recipe), "--network",
                        world / "pruned.safetensors")  # fmt: skip
        assert "is pruned, and growing would fill its zeros" in refusal(pruned)
    done = invoke(in_process, *arguments(world, out, text), "--network", small)
    assert done.exit_code == 0, done.stderr
    start, after = report_of(out)["legs"]
    assert checkpoint.load(out / "student.safetensors").graph.layers == student(8, 3).layers
    assert after["psnr_y"] == pytest.approx(start["psnr_y"], abs=0.2)


def test_recipes_that_need_a_teacher_are_refused(world: Path, in_process: CliRunner) -> None:
    budget = RECIPE.replace("teacher = 0.5", "frequency = 0.5").replace(", feature = 0.1", "")
    family = SRGAN.replace('family = "srgan"', 'family = "teacher"\nbudget = "params=50%"')
    for text, message in (
        (RECIPE, "follows a teacher and there is none here; use edgesr compress"),
        (budget, "has a budget, a share of a teacher, and there is none here"),
        (family, "follows a teacher and there is none here"),
    ):
        out = world / "teacherless"
        assert message in refusal(invoke(in_process, *arguments(world, out, text)))
        assert not out.exists()
