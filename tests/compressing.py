"""A tiny world to compress in: photographs, a teacher, a recipe, and one whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from networks import random_weights
from typer.testing import CliRunner

from edgesr import checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.models.srresnet import srresnet

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


@pytest.fixture
def in_process(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """Commands in this process, where a test can break them at a chosen place."""
    import torch

    threads = torch.get_num_threads()
    monkeypatch.setenv("EDGESR_CACHE", str(world / "cache"))
    monkeypatch.chdir(world)
    yield CliRunner()
    torch.set_num_threads(threads)
