"""Degraded low resolution: reproducible, in place, and each of its parts as its parameters say."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgesr import metrics
from edgesr.errors import BadImage
from edgesr.resize import downscale_bicubic
from edgesr.training.degrade import (
    KINDS,
    WEB,
    Degradation,
    Degrader,
    Round,
    degrade,
    degrader,
    gaussian,
)

SCALE = 4
Picture = NDArray[np.uint8]
NOTHING = Round(
    chance=1.0, blur_chance=0.0, blur=(0.1, 0.2), stretched=0.0, size_chance=0.0, size=(1.0, 2.0),
    noise_chance=0.0, noise=(1.0, 2.0), poisson=0.0, grey=0.0, jpeg_chance=0.0, quality=(90, 95),
)  # fmt: skip
PLAIN = Degradation(
    NOTHING, NOTHING, clean=0.0, clean_jpeg_chance=0.0, clean_quality=(90, 95),
    shrunk_last=0.0, coarse_colour=0.0,
)  # fmt: skip


@pytest.fixture
def picture(photograph: Callable[[str], Picture]) -> Picture:
    return np.ascontiguousarray(photograph("coffee")[100:292, 200:424])


def only(scale: int, hr: Picture, seed: int = 0, **changes: object) -> Picture:
    """`hr` after a first round that does nothing but `changes`."""
    spec = replace(PLAIN, first=replace(NOTHING, **changes))  # type: ignore[arg-type]
    return degrade(hr, scale, spec, np.random.default_rng(seed))


def flat(level: int, side: int = 200) -> Picture:
    return np.full((side, side, 3), level, np.uint8)


def test_name_and_seed_decide_and_nothing_else(picture: Picture) -> None:
    web = Degrader("web", 3)
    first = web(picture, SCALE, "a.jpg")
    np.random.seed(1)
    web(picture, SCALE, "b.jpg")
    np.testing.assert_array_equal(Degrader("web", 3)(picture, SCALE, "a.jpg"), first)
    assert (web(picture, SCALE, "b.jpg") != first).any()
    assert (Degrader("web", 4)(picture, SCALE, "a.jpg") != first).any()


def test_the_key_says_what_the_pictures_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Degrader("web", 1).key
    assert Degrader("web", 2).key != before
    monkeypatch.setitem(KINDS, "web", replace(WEB, clean=0.2))
    assert Degrader("web", 1).key != before
    assert degrader("none", 0) is None
    assert degrader("web", 1) == Degrader("web", 1)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_size_is_exact_and_the_photograph_untouched(picture: Picture, scale: int) -> None:
    hr = picture[: 63 * scale, : 40 * scale].copy()
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    before = hr.copy()
    for seed in range(12):
        lr = Degrader("web", seed)(hr, scale, "x")
        assert (lr.shape, lr.dtype) == ((height, width, 3), np.uint8)
    np.testing.assert_array_equal(hr, before)


def shift_px(lr: Picture, reference: Picture) -> tuple[float, float]:
    """How far `lr` lies to the right and below, in its pixels.

    Least squares of the blurred pictures' first Taylor terms (Lucas and Kanade, 1981); contrast,
    brightness and blur of `lr` have unknowns of their own.
    """
    still, moved = (cv2.GaussianBlur(metrics.luma(x), (0, 0), 1.5) for x in (reference, lr))
    down, right = np.gradient(still)
    terms = (-right, -down, still, np.ones_like(still), cv2.Laplacian(still, cv2.CV_64F))
    inside = (slice(4, -4), slice(4, -4))
    matrix = np.stack([t[inside].ravel() for t in terms], axis=1)
    found = np.linalg.lstsq(matrix, moved[inside].ravel(), rcond=None)[0]
    return float(found[0] / found[2]), float(found[1] / found[2])


def test_nothing_moves(photograph: Callable[[str], Picture]) -> None:
    hr = np.ascontiguousarray(photograph("motorcycle_left")[60:444, 150:534])
    reference = downscale_bicubic(hr, SCALE)
    shifts = [shift_px(Degrader("web", s)(hr, SCALE, "x"), reference) for s in range(20)]
    assert np.abs(np.median(shifts, axis=0)).max() < 0.01, shifts
    assert np.abs(shifts).max() < 0.1, shifts
    # One pixel of the photograph is 0.25 here, and is seen.
    rolled = shift_px(downscale_bicubic(np.roll(hr, (1, -1), (0, 1)), SCALE), reference)
    assert rolled == pytest.approx((-0.25, 0.25), abs=0.02)


def test_a_blob_in_the_middle_stays_there() -> None:
    side = 128
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    blob = 255 * np.exp(-(x**2 + (1.5 * y) ** 2) / (2 * 18**2))
    hr = np.rint(np.repeat(blob[..., None], 3, 2)).astype(np.uint8)
    bare = {"noise_chance": 0.0, "jpeg_chance": 0.0}
    first, second = replace(WEB.first, **bare), replace(WEB.second, chance=1.0, **bare)
    quiet = replace(WEB, first=first, second=second, clean_jpeg_chance=0.0)
    at = np.arange(side // SCALE)
    for seed in range(20):
        lr = degrade(hr, SCALE, quiet, np.random.default_rng(seed))[..., 1].astype(float)
        centre = (at * lr.sum(0)).sum() / lr.sum(), (at * lr.sum(1)).sum() / lr.sum()
        assert centre == pytest.approx((15.5, 15.5), abs=0.01), seed


def test_with_every_chance_at_0_it_is_antialiased_shrinking(picture: Picture) -> None:
    picture = picture // 2 + 64  # so that no filter's overshoot is clipped on the way
    found = {}
    for seed in range(12):
        lr = degrade(picture, SCALE, PLAIN, np.random.default_rng(seed))
        for name in ("BOX", "BILINEAR", "BICUBIC"):
            kind = Image.Resampling[name]
            size = picture.shape[1] // SCALE, picture.shape[0] // SCALE
            if np.abs(np.asarray(Image.fromarray(picture).resize(size, kind)) * 1.0 - lr).max() < 2:
                found[name] = lr
    assert set(found) == {"BOX", "BILINEAR", "BICUBIC"}
    average = picture.reshape(48, SCALE, 56, SCALE, 3).mean((1, 3))
    assert np.abs(found["BOX"] - average).max() <= 0.51


def test_the_kernel_is_the_gaussian_asked_for() -> None:
    along, across, turned = 3.0, 1.2, 0.6
    kernel = gaussian(along, across, turned).astype(np.float64)
    radius = kernel.shape[0] // 2
    assert kernel.shape[0] == kernel.shape[1] == 2 * radius + 1
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(kernel, kernel[::-1, ::-1])  # nothing moves
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    second = np.array([[(kernel * a * b).sum() for a in (x, y)] for b in (x, y)])
    axis = np.array([np.cos(turned), np.sin(turned)])
    want = along**2 * np.outer(axis, axis) + across**2 * (np.eye(2) - np.outer(axis, axis))
    # A Gaussian cut at 3 standard deviations has 0.973 of its variance along each axis.
    np.testing.assert_allclose(second, want, atol=0.03 * along**2)


def test_blur_is_measured_in_pixels_of_the_low_resolution() -> None:
    hr = flat(0, 128)
    hr[:, 64:] = 255
    lr = only(SCALE, hr, blur_chance=1.0, blur=(2.0, 2.0))
    edge = np.diff(lr[16, :, 0].astype(float))
    middle = (edge * np.arange(31)).sum() / edge.sum()
    spread = np.sqrt((edge * (np.arange(31) - middle) ** 2).sum() / edge.sum())
    # An edge's derivative is the kernel; shrinking adds the width of its own filter.
    assert spread == pytest.approx(2.0, abs=0.15)


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_gaussian_noise_has_its_level(grey: float) -> None:
    noisy = only(1, flat(128), noise_chance=1.0, noise=(8.0, 8.0), grey=grey).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=0.2)
    assert noisy.std() == pytest.approx(np.hypot(8, 12**-0.5), rel=0.02)  # rounding adds 1/12
    together = np.corrcoef(noisy[..., 0].ravel(), noisy[..., 2].ravel())[0, 1]
    assert together == pytest.approx(grey, abs=0.02)


def test_poisson_noise_grows_with_the_root_of_the_brightness() -> None:
    def spread(level: int, of: float) -> float:
        made = only(1, flat(level), noise_chance=1.0, noise=(of, of), poisson=1.0).astype(float)
        assert made.mean() == pytest.approx(level, abs=0.3)
        return float(np.sqrt(made.std() ** 2 - 1 / 12))

    assert spread(200, 10.0) == pytest.approx(10 * np.sqrt(200 / 255), rel=0.03)
    assert spread(50, 10.0) == pytest.approx(10 * np.sqrt(50 / 255), rel=0.03)
    assert (only(1, flat(0), noise_chance=1.0, noise=(10.0, 10.0), poisson=1.0) == 0).all()


@pytest.mark.parametrize(("coarse", "subsampling"), [(0.0, 0), (1.0, 2)])
def test_jpeg_is_jpeg(picture: Picture, coarse: float, subsampling: int) -> None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=60, subsampling=subsampling)
    first = replace(NOTHING, jpeg_chance=1.0, quality=(60, 60))
    spec = replace(PLAIN, first=first, coarse_colour=coarse)
    made = degrade(picture, 1, spec, np.random.default_rng(0))
    np.testing.assert_array_equal(made, np.asarray(Image.open(file)))


def test_it_is_mild_and_some_pictures_stay_nearly_clean(picture: Picture) -> None:
    reference = downscale_bicubic(picture, SCALE)
    made = [Degrader("web")(picture, SCALE, f"{i}.jpg") for i in range(100)]
    psnr = np.array([metrics.psnr_y(x, reference) for x in made])
    assert psnr.min() > 17  # everything can still be recognised
    assert 5 <= (psnr > 36).sum() <= 35
    assert 25 < np.median(psnr) < 35
    # Colours and brightness are those of the photograph.
    drift = [x.mean((0, 1)) - reference.mean((0, 1)) for x in made]
    assert np.abs(np.mean(drift, axis=0)).max() < 0.5


def test_black_and_white_are_no_trouble() -> None:
    hr = flat(0, 96)
    hr[:, 48:] = 255
    for seed in range(60):
        lr = Degrader("web", seed)(hr, SCALE, "x").astype(float)
        # JPEG rings and noise is cut off at the ends of the range; the halves stay what they are.
        assert lr[:, :8].mean() < 12 and lr[:, 16:].mean() > 243, seed


def test_what_it_cannot_take_is_refused_in_one_line() -> None:
    web = Degrader("web")
    with pytest.raises(BadImage, match="30x32 is no multiple of the scale 4"):
        web(np.zeros((32, 30, 3), np.uint8), SCALE, "x")
    for bad in (np.zeros((32, 32), np.uint8), np.zeros((32, 32, 3), np.uint16)):
        with pytest.raises(BadImage, match="HWC uint8 RGB"):
            web(bad, SCALE, "x")
