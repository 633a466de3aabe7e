"""PSNR and SSIM: by hand, and against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr.errors import BadImage
from edgesr.metrics import luma, psnr_rgb, psnr_y, ssim_rgb, ssim_y


@pytest.fixture(scope="module")
def pair(photograph) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    a = photograph("chelsea")[40:140, 100:260]
    noise = np.random.default_rng(3).normal(0, 6, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


def test_psnr_of_two_pixels_by_hand() -> None:
    a = np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8)
    b = np.array([[[12, 20, 30], [40, 50, 63]]], np.uint8)
    # squared errors 4 and 9 over six values
    assert psnr_rgb(a, b, border=0) == pytest.approx(10 * math.log10(255**2 / (13 / 6)))
    # luma errors 65.481 · 2 / 255 and 24.966 · 3 / 255
    mse = ((65.481 * 2 / 255) ** 2 + (24.966 * 3 / 255) ** 2) / 2
    assert psnr_y(a, b, border=0) == pytest.approx(10 * math.log10(255**2 / mse))


def test_luma_of_known_colours() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(luma(colours)[0], [16, 235, 16 + 65.481, 16 + 24.966])


def test_equal_pictures(pair) -> None:
    a, _ = pair
    assert psnr_y(a, a) == psnr_rgb(a, a) == math.inf
    assert ssim_y(a, a) == pytest.approx(1.0)
    assert ssim_rgb(a, a) == pytest.approx(1.0)


def test_only_the_border_differs(pair) -> None:
    a = pair[0]
    b = a.copy()
    b[:4], b[-4:], b[:, :4], b[:, -4:] = 0, 0, 0, 0
    assert psnr_rgb(a, b) == math.inf
    b[4, 4] ^= 1
    assert psnr_rgb(a, b) < math.inf


def test_against_scikit_image(pair) -> None:
    measure = pytest.importorskip("skimage.metrics")
    colour = pytest.importorskip("skimage.color")
    a, b = (x[4:-4, 4:-4] for x in pair)
    assert psnr_rgb(*pair) == pytest.approx(
        measure.peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9
    )
    ya, yb = (colour.rgb2ycbcr(x)[..., 0] for x in (a, b))
    assert psnr_y(*pair) == pytest.approx(
        measure.peak_signal_noise_ratio(ya, yb, data_range=255), abs=1e-3
    )
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    # scikit-image averages over the same windows: all that lie inside
    theirs = measure.structural_similarity(ya, yb, data_range=255, **options)
    assert ssim_y(*pair) == pytest.approx(theirs, abs=1e-5)
    theirs = measure.structural_similarity(a, b, data_range=255, channel_axis=2, **options)
    assert ssim_rgb(*pair) == pytest.approx(theirs, abs=1e-7)


def test_ssim_of_one_window_by_hand() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (2, 11, 11, 1), dtype=np.uint8)
    a, b = np.repeat(grey, 3, axis=3)
    g = np.array([math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)])
    w = np.outer(g, g) / g.sum() ** 2
    x, y = (grey[i, ..., 0].astype(float) for i in (0, 1))
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
    cov = (w * (x - mx) * (y - my)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim_rgb(a, b, border=0) == pytest.approx(expected)


def test_what_cannot_be_measured() -> None:
    a = np.zeros((30, 30, 3), np.uint8)
    with pytest.raises(BadImage, match="different size: 30x30 and 20x30"):
        psnr_y(a, a[:, :20])
    with pytest.raises(BadImage, match="too small to measure; at least 9x9"):
        psnr_y(a[:8, :8], a[:8, :8])
    with pytest.raises(BadImage, match="at least 19x19"):
        ssim_y(a[:18], a[:18])
    with pytest.raises(BadImage, match="8-bit RGB"):
        psnr_y(a[..., 0], a[..., 0])
    with pytest.raises(BadImage, match="8-bit RGB"):
        psnr_y(a.astype(np.float32), a)
