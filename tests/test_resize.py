"""MATLAB's bicubic: against the published LR pictures, by hand, and its baseline PSNR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgesr.errors import BadImage
from edgesr.metrics import psnr_y
from edgesr.resize import downscale_bicubic, upscale_bicubic

SETS = {"Set5": 5, "Set14": 14, "B100": 100}


def pictures(eval_dir: Path, name: str) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    pairs = [
        (np.asarray(Image.open(p)), np.asarray(Image.open(eval_dir / name / "LRx4" / p.name)))
        for p in sorted((eval_dir / name / "HR").glob("*.png"))
    ]
    assert len(pairs) == SETS[name]
    return pairs


@pytest.mark.parametrize("name", SETS)
def test_downscaling_is_bit_identical_to_the_sets(eval_dir: Path, name: str) -> None:
    for hr, lr in pictures(eval_dir, name):
        np.testing.assert_array_equal(downscale_bicubic(hr, 4), lr)


@pytest.mark.parametrize(
    ("name", "published"), [("Set5", 28.43), ("Set14", 26.09), ("B100", 25.96)]
)
def test_bicubic_baseline(eval_dir: Path, name: str, published: float) -> None:
    scores = []
    for hr, lr in pictures(eval_dir, name):
        up = upscale_bicubic(lr, 4)
        if hr.ndim == 2:
            hr, up = (np.repeat(x[..., None], 3, axis=2) for x in (hr, up))
        scores.append(psnr_y(hr, up))
    assert np.mean(scores) == pytest.approx(published, abs=0.02)


def test_bicubic_baseline_with_grey_as_one_channel(eval_dir: Path) -> None:
    """The published form for Set14: bridge is grey and counts as it is, 0 to 255."""
    scores = []
    for hr, lr in pictures(eval_dir, "Set14"):
        up = upscale_bicubic(lr, 4)
        if hr.ndim == 3:
            scores.append(psnr_y(hr, up))
            continue
        error = hr[4:-4, 4:-4].astype(float) - up[4:-4, 4:-4]
        scores.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert np.mean(scores) == pytest.approx(25.99, abs=0.005)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def one_row(row: list[int], n_out: int, scale: float) -> list[int]:
    """imresize of one row, tap by tap as its documentation says, in plain Python."""
    n, stretch = len(row), min(scale, 1.0)
    out = []
    for i in range(n_out):
        centre = (i + 0.5) / scale - 0.5
        total = weight = 0.0
        for j in range(int(centre - 2 / stretch) - 2, int(centre + 2 / stretch) + 3):
            w = cubic((j - centre) * stretch)
            k = j % (2 * n)
            total += w * row[min(k, 2 * n - 1 - k)]
            weight += w
        out.append(min(max(int(np.floor(total / weight + 0.5)), 0), 255))
    return out


@settings(max_examples=40, deadline=None)
@given(row=st.lists(st.integers(0, 255), min_size=1, max_size=60), factor=st.sampled_from([2, 4]))
def test_one_row_by_hand(row: list[int], factor: int) -> None:
    image = np.array([row], np.uint8)
    small = downscale_bicubic(image, factor)
    assert small[0].tolist() == one_row(row, -(-len(row) // factor), 1 / factor)
    large = upscale_bicubic(image, factor)
    expected = one_row(row, len(row) * factor, float(factor))
    assert large.tolist() == [expected] * factor


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_flat_stays_flat(factor: int, dtype: type) -> None:
    top = np.iinfo(dtype).max
    for value in (0, 1, 77, top):
        flat = np.full((13, 7, 3), value, dtype)
        assert (downscale_bicubic(flat, factor) == value).all()
        assert (upscale_bicubic(flat, factor) == value).all()
        assert downscale_bicubic(flat, factor).dtype == dtype


def test_factor_1_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 29, 3), dtype=np.uint8)
    np.testing.assert_array_equal(downscale_bicubic(image, 1), image)
    np.testing.assert_array_equal(upscale_bicubic(image, 1), image)


def test_shapes_and_layouts() -> None:
    image = np.random.default_rng(0).integers(0, 256, (101, 53, 3), dtype=np.uint8)
    small = downscale_bicubic(image, 4)
    assert small.shape == (26, 14, 3)
    assert small.flags.c_contiguous
    np.testing.assert_array_equal(downscale_bicubic(image[..., 1], 4), small[..., 1])
    np.testing.assert_array_equal(downscale_bicubic(image[:, ::-1][:, :52], 4).shape, (26, 13, 3))
    assert upscale_bicubic(image[:1, :1], 4).shape == (4, 4, 3)
    large = upscale_bicubic(image, 4)
    np.testing.assert_array_equal(upscale_bicubic(image[..., 2], 4), large[..., 2])


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.float32), np.zeros(4, np.uint8), np.zeros((0, 3, 3), np.uint8)],
    ids=["float", "1-d", "empty"],
)
def test_other_arrays_are_refused(image: NDArray) -> None:
    for resize in (downscale_bicubic, upscale_bicubic):
        with pytest.raises(BadImage):
            resize(image, 4)


@pytest.mark.parametrize("factor", [0, -4, 65])
def test_other_factors_are_refused(factor: int) -> None:
    with pytest.raises(BadImage, match="factor"):
        downscale_bicubic(np.zeros((4, 4), np.uint8), factor)
