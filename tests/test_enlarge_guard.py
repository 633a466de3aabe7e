"""The guards: broken tiles are caught, and nothing that a network rightly makes is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr.enlarge import Enlarger, Settings
from edgesr.enlarge.guard import fault
from edgesr.errors import BadModel
from tests.enlarging import Other, student

STUDENTS = ("tiny", "fast", "balanced", "gan", "quality", "tiny:int8", "balanced:int8")
N = 48


class Broken(Other):
    """Spoils the outputs of the calls in `calls` (all: None) with `spoil`."""

    def __init__(self, spoil: Callable[[NDArray], NDArray], calls: set[int] | None = None) -> None:
        super().__init__(student())
        self.spoil, self.calls = spoil, calls

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        out = np.array(super().run(batch))
        wrong = self.calls is None or len(self.windows) in self.calls
        return self.spoil(out) if wrong else out


def black(out: NDArray) -> NDArray:
    return out * 0


def half_black(out: NDArray) -> NDArray:
    out[:, :, out.shape[2] // 2 :] = 0
    return out


def shifted(out: NDArray) -> NDArray:
    out[:, 0] += 0.3
    return out


@pytest.fixture(scope="module")
def scene(photograph: Callable[[str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(photograph("astronaut")[0:100, 300:430])


@pytest.mark.parametrize("spoil", [black, half_black, shifted])
def test_a_wrong_picture_is_refused(
    scene: NDArray[np.uint8], spoil: Callable[[NDArray], NDArray]
) -> None:
    with pytest.raises(BadModel, match=r"nearest: the tile at x 0\.\.44, y 0\.\.50 is \d+ levels"):
        Enlarger(Broken(spoil), Settings(tile=50)).picture(scene)
    without = Enlarger(Broken(spoil), Settings(tile=50, check=False)).picture(scene)
    assert without.shape == (400, 520, 3)


def test_a_tile_that_fails_once_is_made_again(scene: NDArray[np.uint8]) -> None:
    whole = Enlarger(student()).picture(scene)
    net = Broken(black, set())
    enlarger = Enlarger(net, Settings(tile=50))
    enlarger.cost(100, 130, 3, 8)  # has run windows to see what they take
    net.calls = {len(net.windows) + 4}
    np.testing.assert_array_equal(enlarger.picture(scene), whole)
    assert (41, 30) in net.windows  # a quarter of the first tile of the second row, with its halo


def test_flat_where_the_picture_is_not() -> None:
    rng = np.random.default_rng(0)
    dark = rng.integers(4, 16, (40, 40, 3), np.uint8)  # too dark for black to be far off
    with pytest.raises(BadModel, match="of one colour where the picture is not"):
        Enlarger(Broken(black)).picture(dark)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_a_number_names_the_tile(bad: float, scene: NDArray[np.uint8]) -> None:
    def spoil(out: NDArray) -> NDArray:
        out[0, 1, 5, 6] = bad
        return out

    with pytest.raises(BadModel, match=r"gave NaN or infinity in the tile at x 0\.\.44, y 0\.\.50"):
        Enlarger(Broken(spoil), Settings(tile=50, check=False)).picture(scene)


def test_a_wrong_scale_is_refused(scene: NDArray[np.uint8]) -> None:
    with pytest.raises(BadModel, match="wrong scale"):
        Enlarger(Broken(lambda out: out[:, :, ::2, ::2])).picture(scene)


def of_grey(values: NDArray) -> NDArray[np.uint8]:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def of_colour(*rgb: int, size: tuple[int, int] = (N, N)) -> NDArray[np.uint8]:
    return np.full((*size, 3), rgb, np.uint8)


def text() -> NDArray[np.uint8]:
    page = of_colour(255, 255, 255)
    for row in range(10, N, 10):
        cv2.putText(page, "Text 01", (0, row), cv2.FONT_HERSHEY_PLAIN, 0.7, (0, 0, 0))
    return page


def extremes() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:N, :N]
    bits = rng.integers(0, 2, (N, N)) * 255
    found = {
        "black": of_colour(0, 0, 0), "white": of_colour(255, 255, 255),
        "green": of_colour(0, 255, 0), "blue": of_colour(0, 0, 255), "red": of_colour(255, 0, 0),
        "noise": rng.integers(0, 256, (N, N, 3), np.uint8), "bits": of_grey(bits),
        "coloured bits": rng.integers(0, 2, (N, N, 3)).astype(np.uint8) * 255,
        "gradient": of_grey(x * 5), "text": text(), "text on black": 255 - text(),
        "one pixel": of_grey((x == 20) & (y == 30)) * 255,
        "red and blue": np.where(((x + y) % 2)[..., None], (255, 0, 0), (0, 0, 255)),
        "every third": of_grey((x % 3 == 0) * 255),
    }  # fmt: skip
    for n in (1, 2, 3):
        found[f"checkerboard {n}"] = of_grey((x // n + y // n) % 2 * 255)
        found[f"lines {n}"] = of_grey(y // n % 2 * 255)
    for size in ((1, 1), (1, 50), (3, 200), (2, 2), (8, 8)):
        found[f"white {size}"] = of_colour(255, 255, 255, size=size)
        found[f"red {size}"] = of_colour(255, 0, 0, size=size)
        found[f"bits {size}"] = rng.integers(0, 2, (*size, 3)).astype(np.uint8) * 255
    return {name: pixels.astype(np.uint8) for name, pixels in found.items()}


@pytest.mark.parametrize("name", STUDENTS)
def test_no_false_alarm(name: str, scene: NDArray[np.uint8]) -> None:
    enlarger = Enlarger(student(name))
    for pixels in extremes().values():
        enlarger.picture(pixels)
        if name == "tiny":
            Enlarger(student(name), Settings(tile=5)).picture(pixels[:20, :20])
    enlarger.picture(scene)
    enlarger.picture(scene.astype(np.uint16) * 257)
    enlarger.picture(scene[..., :1])


def test_photographs_stay_far_below_the_bound(
    photograph: Callable[[str], NDArray[np.uint8]],
) -> None:
    for name in ("astronaut", "coffee", "rocket"):
        pixels = photograph(name)[100:260, 100:260]
        made = Enlarger(student(), Settings(check=False)).picture(pixels)
        assert fault(pixels, made) is None
        off = cv2.resize(made, (10, 10), interpolation=cv2.INTER_AREA).astype(float)
        off -= cv2.resize(pixels, (10, 10), interpolation=cv2.INTER_AREA)
        assert np.abs(off).max() < 5


@pytest.mark.parametrize("name", ["tiny", "fast", "balanced", "quality"])
def test_flat_areas_keep_their_colour(
    name: str, photograph: Callable[[str], NDArray[np.uint8]]
) -> None:
    """Where a photograph is flat, the mean is that of bicubic to half a level."""
    from edgesr.resize import upscale_bicubic

    pixels = np.ascontiguousarray(photograph("rocket")[20:140, 20:140])  # mostly sky
    made = Enlarger(student(name)).picture(pixels).astype(float)
    smooth = upscale_bicubic(pixels, 4).astype(float)
    flat = cv2.blur((pixels.astype(float) - cv2.blur(pixels, (9, 9))) ** 2, (9, 9)).max(axis=2) < 2
    flat = cv2.erode(flat.astype(np.uint8), np.ones((9, 9)))[8:-8, 8:-8] > 0
    assert flat.sum() > 2000
    seen = flat.repeat(4, axis=0).repeat(4, axis=1)
    off = (made - smooth)[32:-32, 32:-32][seen].mean(axis=0)
    assert np.abs(off).max() <= 0.5
