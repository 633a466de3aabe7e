"""The bundled models are what their cards say, and better than bicubic by what we promise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr import checkpoint, metrics, resize, resources
from edgesr.evaluate import evaluate
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.graph.reach import halo
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles

BOX = resources.zoo()
NAMES = sorted(p.stem for p in BOX.glob("*.json"))
# Issue of the first student: at least this much above bicubic, in dB on Y.
PROMISED_DB = {"balanced": 0.9}
UNSEEN = ("astronaut", "chelsea", "coffee", "rocket")


def test_the_default_model_is_in_the_box() -> None:
    assert "balanced" in NAMES
    assert set(NAMES) == set(PROMISED_DB)


@pytest.mark.parametrize("name", NAMES)
def test_card_weights_and_onnx_agree(name: str) -> None:
    card = json.loads((BOX / f"{name}.json").read_text(encoding="utf-8"))
    trained = checkpoint.load(BOX / f"{name}.safetensors")
    onnx_file = BOX / f"{name}.fp32.onnx"
    assert to_onnx(trained.graph, trained.weights) == onnx_file.read_bytes()
    assert card["params"] == counts.parameters(trained.graph)
    assert card["macs_320x180"] == counts.macs(trained.graph, 180, 320)
    assert card["halo"] == halo(trained.graph)
    assert card["trained_on"], "a card names and credits what the model was trained on"
    for suffix, digest in card["sha256"].items():
        assert hashlib.sha256((BOX / f"{name}.{suffix}").read_bytes()).hexdigest() == digest
    assert onnx_file.stat().st_size <= 1.5e6


@pytest.mark.parametrize("dataset", ["Set5", "Set14", "B100"])
@pytest.mark.parametrize("name", NAMES)
def test_quality_is_as_stated_and_above_bicubic(name: str, dataset: str, eval_dir: Path) -> None:
    card = json.loads((BOX / f"{name}.json").read_text(encoding="utf-8"))["quality"][dataset]
    measured = evaluate(eval_dir / dataset, OrtRuntime(BOX / f"{name}.fp32.onnx")).mean
    assert measured.psnr_y == pytest.approx(card["psnr_y"], abs=0.005)
    assert measured.ssim_y == pytest.approx(card["ssim_y"], abs=0.0005)
    bicubic = evaluate(eval_dir / dataset, None).mean
    assert bicubic.psnr_y == pytest.approx(card["bicubic_psnr_y"], abs=0.002)
    assert measured.psnr_y - bicubic.psnr_y >= PROMISED_DB[name]


@pytest.mark.parametrize("name", NAMES)
def test_unseen_photographs_gain_what_is_promised(
    name: str, photograph: Callable[[str], NDArray[np.uint8]]
) -> None:
    runtime = OrtRuntime(BOX / f"{name}.fp32.onnx")
    gains = []
    for picture in UNSEEN:
        hr = photograph(picture)
        hr = np.ascontiguousarray(hr[: hr.shape[0] // 4 * 4, : hr.shape[1] // 4 * 4])
        lr = resize.downscale_bicubic(hr, 4)
        ours = metrics.psnr_y(upscale_tiles(lr, runtime), hr)
        gains.append(ours - metrics.psnr_y(resize.upscale_bicubic(lr, 4), hr))
    assert min(gains) > 0
    assert np.mean(gains) >= PROMISED_DB[name]
