"""Runs that are killed, interrupted or short of disk go on to bit-identical weights."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compressing import command, compress_arguments, environment, run
from typer.testing import CliRunner

from edgesr.cli.main import app


@pytest.mark.parametrize("kill_in_leg", [0, 2])
def test_kill_9_then_resume_is_bit_identical(world: Path, whole: Path, kill_in_leg: int) -> None:
    out = world / f"killed-{kill_in_leg}"
    process = subprocess.Popen(
        command(*compress_arguments(world, out)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=world,
        env=environment(world),
    )
    _wait_for_checkpoint(out, kill_in_leg, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "student.safetensors").exists()
    resumed = run(world, "compress", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming at leg" in resumed.stderr
    expected, got = (f / "student.safetensors" for f in (whole, out))
    assert expected.read_bytes() == got.read_bytes()
    assert (whole / "report.json").read_bytes() == (out / "report.json").read_bytes()


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
        [sys.executable, "-c", small_files, *map(str, compress_arguments(world, out))],
        capture_output=True, text=True, cwd=world, env=environment(world), check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("edgesr: cannot write checkpoint ")
    assert "--resume" in done.stderr.splitlines()[-1]
    assert not list(out.rglob("*.pt")) and not list(out.rglob(".*"))
    resumed = run(world, "compress", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    expected, got = (f / "student.safetensors" for f in (whole, out))
    assert expected.read_bytes() == got.read_bytes()


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
