"""Runs that are killed, interrupted or short of disk go on to bit-identical weights."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from compressing import (
    assert_same,
    compress_arguments,
    events_of,
    every_arguments,
    invoke,
    kill_9_in_leg,
    refusal,
)
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.report.run import TIMED
from edgesr.training import engine, measure, reduce, session
from edgesr.training.state import load_state


def test_killed_while_distilling_and_while_healing_a_run_ends_bit_identical(
    world: Path, whole: Path, in_process: CliRunner
) -> None:
    out = world / "killed"
    kill_9_in_leg(world, out, 0, 7, *compress_arguments(world, out))
    kill_9_in_leg(world, out, 2, 7, "compress", "--resume", out)
    resumed = invoke(in_process, "compress", "--resume", out)
    assert resumed.exit_code == 0, resumed.stderr
    assert "resuming at leg 3, step 7" in resumed.stderr
    assert_same(whole, out)
    assert [e["leg"] for e in events_of(out, "resumed")] == [0, 2]


def test_killed_with_masks_and_with_fake_quantisation_a_run_ends_bit_identical(
    world: Path, every: Path, in_process: CliRunner
) -> None:
    out = world / "every-killed"
    kill_9_in_leg(world, out, 1, 5, *every_arguments(world, out))
    kill_9_in_leg(world, out, 5, 5, "compress", "--resume", out)
    state = load_state(out / "checkpoints")
    assert state is not None and state.masked and '"bits": 8' in state.quant
    resumed = invoke(in_process, "compress", "--resume", out)
    assert resumed.exit_code == 0, resumed.stderr
    assert_same(every, out)
    for form in ("ort", "trt"):
        files = [run / f"student.int8.{form}.onnx" for run in (every, out)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_no_time_is_in_what_must_be_the_same(every: Path, whole: Path) -> None:
    def keys(tree: object) -> Iterator[str]:
        if isinstance(tree, dict):
            for key, value in tree.items():
                yield str(key)
                yield from keys(value)

    for run in (every, whole):
        kept = checkpoint.load(run / "student.safetensors")
        found = {*keys(kept.metrics), *keys(kept.lineage)}
        assert "psnr_y" in found
        assert not found & {*TIMED, "timing", "time"}


@contextmanager
def interrupted(patch: pytest.MonkeyPatch, module: object, name: str, call: int) -> Iterator[None]:
    """Ctrl-C comes instead of the `call`-th call of that function."""
    real: Callable[..., object] = getattr(module, name)
    calls = 0

    def interrupt(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with patch.context() as inner:
        inner.setattr(module, name, interrupt)
        yield
    assert calls == call


@pytest.mark.parametrize(
    ("module", "broken", "call"),
    [(measure, "quality", 2), (reduce, "prune_to", 1), (reduce, "prune_to", 2),
     (session, "finish", 1)],
    ids=["measuring", "before pruning", "between rounds", "before the report"],
)  # fmt: skip
def test_interrupted_between_steps_then_resumed_elsewhere_is_bit_identical(
    world: Path, whole: Path, tmp_path: Path, in_process: CliRunner,
    monkeypatch: pytest.MonkeyPatch, module: object, broken: str, call: int,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    with interrupted(monkeypatch, module, broken, call):
        stopped = invoke(in_process, "compress", "tiny.toml", "--teacher", "teacher.safetensors",
                         "--data", "photos", "--out", out, "--threads", 1)  # fmt: skip
    assert stopped.exit_code == 130, stopped.stderr
    last = stopped.stderr.splitlines()[-1]
    assert last == f"edgesr: interrupted; edgesr compress --resume {out} goes on"
    assert not (out / "student.safetensors").exists()
    monkeypatch.chdir(tmp_path)  # teacher and data were given by relative paths
    resumed = invoke(in_process, "compress", "--resume", out)
    assert resumed.exit_code == 0, resumed.stderr
    assert_same(whole, out)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full after so many bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_at_a_checkpoint_leaves_the_one_before_and_can_be_resumed(
    world: Path, whole: Path, in_process: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = world / "full"
    # The cache is there already, from `whole`: the checkpoint is the first large file.
    with files_of_at_most(100_000):
        done = invoke(in_process, *compress_arguments(world, out))
    assert refusal(done).startswith("edgesr: cannot write checkpoint ")
    assert "--resume" in refusal(done)
    assert not list(out.rglob("*.pt")) and not list(out.rglob(".*"))

    with interrupted(monkeypatch, engine, "save_state", 3):
        assert invoke(in_process, "compress", "--resume", out).exit_code == 130
    last = out / "checkpoints" / "last.pt"
    before = last.read_bytes()
    with files_of_at_most(100_000):
        done = invoke(in_process, "compress", "--resume", out)
    assert refusal(done).startswith("edgesr: cannot write checkpoint ")
    assert last.read_bytes() == before and len(before) > 100_000
    assert not list(out.rglob(".*"))
    state = load_state(out / "checkpoints")
    assert state is not None and (state.leg, state.step) == (0, 14)
    assert all(torch.isfinite(value).all() for value in state.net.values())

    resumed = invoke(in_process, "compress", "--resume", out)
    assert resumed.exit_code == 0, resumed.stderr
    assert "resuming at leg 1, step 14" in resumed.stderr
    assert_same(whole, out)


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
        done = invoke(in_process, "compress", "--resume", run)
        assert "recipe.toml does not fit its checkpoint" in refusal(done)


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
        assert message in refusal(invoke(in_process, "compress", "--resume", folder))
    (photos / "manifest.json").write_text('{"target": "cpu"}')  # a bundle has one too
    done = invoke(in_process, "compress", "--resume", photos)
    assert "not that of a compression run" in refusal(done)


def test_two_processes_in_one_run_folder_are_refused(
    world: Path, whole: Path, tmp_path: Path, in_process: CliRunner
) -> None:
    from edgesr.cli.main import app
    from edgesr.training.run import RunFolder

    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = (run / "log.jsonl").read_bytes()
    with RunFolder(run).alone():
        done = in_process.invoke(app, ["compress", "--resume", str(run)])
    assert done.exit_code == 1
    assert f"another process trains in {run}" in done.stderr.splitlines()[-1]
    assert (run / "student.safetensors").read_bytes() == (
        whole / "student.safetensors"
    ).read_bytes()
    assert before == (run / "log.jsonl").read_bytes()
