"""bench: what networks are called, and what they run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgesr.bench.config import parse_size
from edgesr.bench.frames import cover, load_frames
from edgesr.bench.subjects import labels
from edgesr.errors import BadConfig


def test_sizes_and_labels() -> None:
    assert parse_size("320x180") == (320, 180) == parse_size("320X180")
    for text in ("320", "x", "320x", "-3x4", "a x b"):
        with pytest.raises(BadConfig, match="320x180"):
            parse_size(text)
    assert labels(["srgan", "balanced"]) == ["srgan", "balanced"]
    assert labels(["srgan", "/x/runs/a/student.safetensors"]) == ["srgan", "a/student"]
    assert labels(["/x/a/m.onnx", "/x/b/m.onnx"]) == ["a/m", "b/m"]


def test_the_frame_is_the_bundled_photograph_at_the_asked_for_size() -> None:
    got = load_frames(64, 48)
    assert got.names == ("chelsea",) and got.source == "the bundled photograph"
    (batch,) = got.batches()
    assert batch.shape == (1, 3, 48, 64) and batch.dtype == np.float32 and batch.flags.c_contiguous
    assert 0.0 <= batch.min() < batch.max() <= 1.0


def test_the_bundled_photograph_is_chelsea(photograph: Callable[[str], Any]) -> None:
    original = photograph("chelsea")
    height, width = original.shape[:2]
    (shipped,) = load_frames(width, height).pictures
    error = shipped.astype(float) - original
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 35  # a JPEG of it, nothing else


def test_cover_keeps_the_shape_of_things() -> None:
    picture = np.zeros((100, 400, 3), np.uint8)
    picture[:, 150:250] = 255  # a white square in the middle
    half = cover(picture, 100, 50)  # halved, then the middle 100 of 200 columns
    assert half.shape == (50, 100, 3)
    assert (half[:, 25:75] == 255).all() and (half[:, :25] == 0).all()
    assert cover(picture, 800, 30).shape == (30, 800, 3)
