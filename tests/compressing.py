"""A tiny world to compress in: photographs, a teacher, recipes, and two whole runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from networks import random_weights
from typer.testing import CliRunner, Result

from edgesr import checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.cli.main import app
from edgesr.models.srresnet import srresnet
from edgesr.report.run import without_timing

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

# Every kind of leg but channels and the adversary, which have runs of their own.
EVERY = """
name = "every"
ema = 0.9
checkpoint_every = 5
validate_every = 6

[student]
width = 16
depth = 2

[data]
patch = 12
batch = 2
holdout = 3
cache_teacher = true

[[stages]]
kind = "distill"
steps = 12
lr = 2e-3
loss = { norm = "charbonnier", pixel = 1.0, teacher = 0.5, frequency = 0.01, affinity = 0.1 }

[[stages]]
kind = "prune"
method = "magnitude"
keep = 0.7
rounds = 2
steps = 60
lr = 1e-3

[[stages]]
kind = "prune"
method = "2:4"
rounds = 2
steps = 16
lr = 1e-3

[[stages]]
kind = "quantize"
steps = 30
lr = 1e-4
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, photograph) -> Path:
    """A folder with photographs, a small teacher and a tiny recipe."""
    root = tmp_path_factory.mktemp("world")
    (root / "photos").mkdir()
    for name in ("coffee", "rocket", "chelsea", "astronaut", "motorcycle_left"):
        crop = photograph(name)[100:196, 100:204]
        cv2.imwrite(str(root / "photos" / f"{name}.png"), crop[:, :, ::-1])
    graph = srresnet(blocks=1, width=8, tail_kernel=3)
    checkpoint.save(root / "teacher.safetensors", Checkpoint(graph, random_weights(graph), {}, {}))
    (root / "tiny.toml").write_text(RECIPE)
    (root / "every.toml").write_text(EVERY)
    shutil.copytree(root / "photos", root / "damaged")
    # By name the second and the sixth of seven: one to train on, one that is held out.
    jpeg = cv2.imencode(".jpg", cv2.imread(str(root / "photos" / "rocket.png")))[1].tobytes()
    (root / "damaged" / "broken.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (root / "damaged" / "notes.png").write_text("not a picture")
    return root


def command(*arguments: object) -> list[str]:
    """The words of an `edgesr` command."""
    return [sys.executable, "-m", "edgesr", *map(str, arguments)]


def environment(world: Path) -> dict[str, str]:
    """This one's, with a cache of its own."""
    return {**os.environ, "EDGESR_CACHE": str(world / "cache")}


def run(world: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `edgesr` in a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=300, cwd=world,
        env=environment(world), check=False,
    )  # fmt: skip


def compress_arguments(world: Path, out: Path, *more: object) -> tuple[object, ...]:
    """A compress run of the tiny recipe."""
    return ("compress", world / "tiny.toml", "--teacher", world / "teacher.safetensors",
            "--data", world / "photos", "--out", out, "--threads", 1, *more)  # fmt: skip


@pytest.fixture(scope="session")
def whole(world: Path) -> Path:
    """The run folder of an uninterrupted run."""
    out = world / "whole"
    done = run(world, *compress_arguments(world, out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def every(world: Path) -> Path:
    """The run folder of an uninterrupted run of `EVERY`, with damaged files in its folder."""
    out = world / "every"
    done = run(world, *every_arguments(world, out))
    assert done.returncode == 0, done.stderr
    (out / "terminal.txt").write_text(done.stderr)
    return out


def every_arguments(world: Path, out: Path) -> tuple[object, ...]:
    """A compress run of `EVERY`."""
    return ("compress", world / "every.toml", "--teacher", world / "teacher.safetensors",
            "--data", world / "damaged", "--out", out, "--threads", 1)  # fmt: skip


def report_of(out: Path) -> dict[str, Any]:
    """The report of a finished run."""
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def events_of(out: Path, kind: str = "") -> list[dict[str, Any]]:
    """The events of a run's log, of one kind or all. Fails for a line that is not whole JSON."""
    text = (out / "log.jsonl").read_text() if (out / "log.jsonl").exists() else ""
    assert text == "" or text.endswith("\n")
    events = [json.loads(line) for line in text.splitlines()]
    return [e for e in events if kind in ("", e["event"])]


def assert_same(expected: Path, got: Path) -> None:
    """Two runs ended alike: the student to the bit, the report in all but times."""
    students = [(f / "student.safetensors").read_bytes() for f in (expected, got)]
    assert students[0] == students[1]
    assert without_timing(report_of(expected)) == without_timing(report_of(got))


def kill_9_in_leg(world: Path, out: Path, leg: int, step: int, *arguments: object) -> None:
    """Run `edgesr`, and kill it -9 when a checkpoint of that leg, `step` or later, is on disk."""
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=world,
        env=environment(world),
    )  # fmt: skip
    try:
        _wait_for_checkpoint(out, leg, step, process)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (out / "student.safetensors").exists()


def _wait_for_checkpoint(out: Path, leg: int, step: int, process: subprocess.Popen[bytes]) -> None:
    import torch

    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail("the run ended before it could be killed")
        events_of(out)  # the log can be read while the run goes on
        try:
            state = torch.load(out / "checkpoints" / "last.pt", weights_only=True)
        except FileNotFoundError:
            state = None
        if state and state["leg"] == leg and state["step"] >= step:
            return
        assert not state or state["leg"] <= leg, "the leg was over before it could be killed"
        time.sleep(0.002)
    pytest.fail("no checkpoint in time")


def invoke(runner: CliRunner, *arguments: object) -> Result:
    """An `edgesr` command in this process."""
    return runner.invoke(app, [str(a) for a in arguments])


def refusal(done: Result, code: int = 1) -> str:
    """The one line that a command ended with; fails for another exit code, or a traceback."""
    assert done.exit_code == code, done.stderr
    assert isinstance(done.exception, SystemExit), done.exception
    last = done.stderr.splitlines()[-1]
    assert last.startswith("edgesr: ") and done.stderr.count("edgesr: ") == 1
    return last


@pytest.fixture
def in_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """Commands in this process, where a test can break them at a chosen place."""
    import torch

    threads = torch.get_num_threads()
    monkeypatch.setenv("EDGESR_CACHE", str(world / "cache"))
    monkeypatch.chdir(world)
    yield CliRunner()
    torch.set_num_threads(threads)
