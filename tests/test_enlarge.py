"""Colours, alpha, sizes and turns: what comes out of `Enlarger`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr import metrics
from edgesr.enlarge import Enlarger, Settings, target_size
from edgesr.enlarge.alpha import fill_transparent
from edgesr.enlarge.ensemble import mean_of_turns
from edgesr.enlarge.shrink import shrink
from edgesr.enlarge.size import passes
from edgesr.errors import BadImage, Impossible
from edgesr.resize import downscale_bicubic, upscale_bicubic
from edgesr.rows import ArrayRows
from edgesr.tiling import as_batch, upscale_tiles
from tests.enlarging import Nearest, student

STUDENTS = ("tiny", "fast", "balanced", "gan", "quality")


def repeated(pixels: NDArray) -> NDArray:
    return pixels.repeat(4, axis=0).repeat(4, axis=1)


def shrunk(pixels: NDArray, size: tuple[int, int]) -> NDArray:
    return np.concatenate(list(shrink(ArrayRows(pixels), size)))


@pytest.fixture(scope="module")
def crop(photograph: Callable[[str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(photograph("astronaut")[80:181, 150:307])  # 101 × 157


@pytest.mark.parametrize("name", STUDENTS)
def test_tiled_is_untiled_in_every_student(name: str, crop: NDArray[np.uint8]) -> None:
    # As large as their time allows, and larger than any halo.
    pixels = crop if name == "tiny" else crop[:53, :61]
    whole = Enlarger(student(name), Settings(tile=1000)).picture(pixels)
    np.testing.assert_array_equal(whole, upscale_tiles(pixels, student(name), 1000))
    for tile in (17, 40):
        got = Enlarger(student(name), Settings(tile=tile)).picture(pixels)
        np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 1), (9, 13, 3), (1, 1, 3)])
def test_layout_and_type_are_kept(shape: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    got = Enlarger(Nearest(), Settings(tile=5)).picture(pixels)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, repeated(pixels))


@pytest.mark.parametrize("tile", [None, 7, 30])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_is_resized_bicubically(dtype: type, tile: int | None) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(1, np.iinfo(dtype).max, (33, 41, 2), dtype, endpoint=True)
    got = Enlarger(Nearest(), Settings(tile=tile)).picture(pixels)
    np.testing.assert_array_equal(got[..., 1], upscale_bicubic(pixels[..., 1], 4))
    np.testing.assert_array_equal(got[..., 0], repeated(pixels[..., 0]))


def disc(side: int = 60) -> NDArray[np.uint8]:
    """A green disc on transparent magenta."""
    y, x = np.mgrid[:side, :side] - side // 2
    inside = x * x + y * y < (side // 3) ** 2
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[...] = np.where(inside[..., None], (0, 200, 0, 255), (255, 0, 255, 0))
    return pixels


@pytest.mark.parametrize("size", [None, (90, 90), (60, 60), (120, 120)])
def test_hidden_colours_do_not_bleed(size: tuple[int, int] | None) -> None:
    got = Enlarger(student()).picture(disc(), size)
    seen = got[got[..., 3] > 0].astype(int)
    assert len(seen) > 1000
    assert np.abs(seen[:, :3] - (0, 200, 0)).max() <= 8  # green to the edge: no magenta, no black
    np.testing.assert_array_equal(got, Enlarger(student(), Settings(tile=19)).picture(disc(), size))


def test_what_is_far_from_the_visible_changes_nothing_visible() -> None:
    plain, loud = disc(), disc()
    loud[:5, :, :3] = np.random.default_rng(0).integers(0, 255, (5, 60, 3))
    made = [Enlarger(student()).picture(p) for p in (plain, loud)]
    visible = made[0][..., 3] > 0
    np.testing.assert_array_equal(made[0][visible], made[1][visible])


def test_filling_by_hand() -> None:
    colour = np.array([[[10], [99], [99], [99], [30]]], np.uint8)
    alpha = np.array([[255, 0, 0, 0, 85]], np.uint8)
    # radius 1 reaches one neighbour; in the middle radius 2 reaches both: (10·255 + 30·85) / 340
    assert fill_transparent(colour, alpha)[0, :, 0].tolist() == [10, 10, 15, 30, 30]
    assert fill_transparent(colour, alpha, 1)[0, :, 0].tolist() == [10, 10, 99, 30, 30]
    assert fill_transparent(colour, alpha * 0) is colour


@pytest.mark.parametrize(
    ("ask", "size"),
    [({}, (12, 20)), ({"scale": 1.5}, (5, 8)), ({"scale": 0.1}, (1, 1)), ({"scale": 16}, (48, 80)),
     ({"width_": 10}, (6, 10)), ({"height_": 7}, (7, 12)), ({"height_": 7, "width_": 9}, (7, 9)),
     ({"scale": 0.5}, (2, 3))],
)  # fmt: skip
def test_sizes_round_half_up(ask: dict[str, float], size: tuple[int, int]) -> None:
    assert target_size(3, 5, **ask) == size  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ask",
    [{"scale": 0}, {"scale": -1}, {"scale": 65}, {"scale": float("nan")}, {"width_": 0},
     {"height_": -3}, {"width_": 321}, {"scale": 2, "width_": 9}, {"width_": 1, "height_": 193}],
)  # fmt: skip
def test_nonsense_sizes_are_refused(ask: dict[str, float]) -> None:
    with pytest.raises(BadImage, match=r"\d|not both"):
        target_size(3, 5, **ask)  # type: ignore[arg-type]


def test_how_often_the_network_runs() -> None:
    assert [passes(10, 10, (n, n), 4) for n in (1, 40, 41, 160, 161, 640)] == [1, 1, 2, 2, 3, 3]
    with pytest.raises(BadImage, match="more than 64 times"):
        passes(10, 10, (641, 10), 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("factor", [2, 4])
def test_whole_ratios_are_those_of_resize(factor: int, dtype: type) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, np.iinfo(dtype).max, (72, 100, 3), dtype, endpoint=True)
    want = downscale_bicubic(pixels, factor)
    np.testing.assert_array_equal(shrunk(pixels, want.shape[:2]), want)
    np.testing.assert_array_equal(shrunk(pixels, (72, 100)), pixels)


def test_other_ratios_keep_a_ramp_and_the_mean() -> None:
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 64, axis=0)
    got = shrunk(ramp, (24, 90))[..., 0].astype(float)
    assert (got == got[0]).all()
    due = (np.arange(90) + 0.5) * 240 / 90 - 0.5  # the centre of each output pixel
    assert np.abs(got[0, 3:-3] - due[3:-3]).max() <= 0.51
    assert abs(got.mean() - ramp.mean()) < 0.1


def test_no_aliases() -> None:
    lines = np.zeros((40, 80, 1), np.uint8)
    lines[:, ::2] = 255
    got = shrunk(lines, (15, 30))[:, 3:-3].astype(int)
    assert np.abs(got - 128).max() <= 8  # plain bicubic sampling would give stripes of 0 and 255


def test_alpha_weights_colours_when_shrinking() -> None:
    pixels = np.zeros((8, 8, 2), np.uint8)
    pixels[:, :4] = (200, 255)  # beside it: black, but transparent
    got = shrunk(pixels, (3, 3))
    assert set(got[got[..., 1] > 0][:, 0].tolist()) == {200}
    assert (np.diff(got[..., 1].astype(int), axis=1) <= 0).all()


@pytest.mark.parametrize("size", [(22, 34), (11, 17), (33, 51), (37, 52), (44, 20)])
def test_smaller_sizes_come_from_the_fourfold(
    crop: NDArray[np.uint8], size: tuple[int, int]
) -> None:
    pixels = crop[:11, :17]
    enlarger = Enlarger(student())
    np.testing.assert_array_equal(
        enlarger.picture(pixels, size), shrunk(enlarger.picture(pixels), size)
    )


def test_sixteen_times_is_the_network_on_its_own_result(crop: NDArray[np.uint8]) -> None:
    pixels = crop[:20, :24]
    seen: list[tuple[int, int]] = []
    enlarger = Enlarger(student(), Settings(tile=30))
    got = enlarger.picture(pixels, (320, 384), lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(got, enlarger.picture(enlarger.picture(pixels)))
    assert seen == [(n, 13) for n in range(1, 14)]  # 1 tile, then 3 × 4
    eight = enlarger.picture(pixels, (160, 192))
    np.testing.assert_array_equal(eight, downscale_bicubic(got, 2))


def test_ensemble_by_hand(crop: NDArray[np.uint8]) -> None:
    batch, run = as_batch(crop[:21, :30]), student().run
    total = np.zeros((1, 3, 84, 120), np.float64)
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(batch, turns, (2, 3))
            turned = np.flip(turned, 3) if flip else turned
            out = run(np.ascontiguousarray(turned))
            out = np.flip(out, 3) if flip else out
            total += np.rot90(out, -turns, (2, 3))
    np.testing.assert_allclose(mean_of_turns(run, batch), total / 8, atol=1e-6)


def test_ensemble_is_exact_in_tiles_and_no_worse(
    photograph: Callable[[str], NDArray[np.uint8]],
) -> None:
    hr = np.ascontiguousarray(photograph("coffee")[40:296, 120:408])
    lr = downscale_bicubic(hr, 4)
    whole = Enlarger(student(), Settings(ensemble=True, tile=1000)).picture(lr)
    tiled = Enlarger(student(), Settings(ensemble=True, tile=25)).picture(lr)
    np.testing.assert_array_equal(tiled, whole)
    plain = Enlarger(student()).picture(lr)
    assert metrics.psnr_y(whole, hr) > metrics.psnr_y(plain, hr)


def test_fixed_windows(crop: NDArray[np.uint8]) -> None:
    net = Nearest(shapes=((48, 48),))
    np.testing.assert_array_equal(Enlarger(net).picture(crop), repeated(crop))
    assert set(net.windows) == {(48, 48)}
    with pytest.raises(BadImage, match="smaller than this model's windows"):
        Enlarger(net).picture(crop[:20])
    with pytest.raises(Impossible, match="no squares"):
        Enlarger(Nearest(shapes=((32, 48),)), Settings(ensemble=True))


def test_strips_come_one_after_the_other(crop: NDArray[np.uint8]) -> None:
    net = Nearest()
    strips = Enlarger(net, Settings(tile=25, check=False)).strips(ArrayRows(crop))
    assert next(strips).shape == (84, 628, 3)  # 101 rows in five strips of 21 and less
    before = len(net.windows)
    assert [len(strip) for strip in strips] == [84, 84, 84, 68]
    assert len(net.windows) == before + 4 * 7


def test_wrong_arguments_are_refused_at_once(crop: NDArray[np.uint8]) -> None:
    with pytest.raises(BadImage, match="at least 1 pixel"):
        Settings(tile=0)
    with pytest.raises(BadImage, match="more than 64 times"):
        Enlarger(Nearest()).strips(ArrayRows(crop), (10_000, 10))
    with pytest.raises(BadImage, match="8 or 16 bit"):
        Enlarger(Nearest()).picture(crop.astype(np.float32))
