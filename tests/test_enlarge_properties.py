"""Whatever the size, layout, depth, tile and way of reading: the same pixels, of the right kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesr.enlarge import Enlarger, Settings
from edgesr.resize import upscale_bicubic
from edgesr.rows import BufferedRows
from tests.enlarging import student

SIZES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 700), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 700)),
)


@st.composite
def pictures(draw: st.DrawFn) -> NDArray:
    """Noise, flat or soft; alpha with holes."""
    height, width = draw(SIZES)
    channels, dtype = draw(st.integers(1, 4)), draw(st.sampled_from([np.uint8, np.uint16]))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    top = np.iinfo(dtype).max
    low = draw(st.sampled_from([0, top // 2, top]))
    pixels = rng.integers(low, top, (height, width, channels), dtype, endpoint=True)
    if channels in (2, 4):
        pixels[..., -1] *= rng.random((height, width)) > draw(st.sampled_from([0.0, 0.5, 0.97, 1]))
    return pixels


def in_strips(pixels: NDArray, height: int) -> BufferedRows:
    def strips() -> Iterator[NDArray]:
        for row in range(0, len(pixels), height):
            yield pixels[row : row + height]

    rows, width, channels = pixels.shape
    return BufferedRows(strips(), height=rows, width=width, channels=channels, dtype=pixels.dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(pixels=pictures(), tile=st.integers(9, 60), strip=st.integers(1, 50))
def test_four_times(pixels: NDArray, tile: int, strip: int) -> None:
    height, width, channels = pixels.shape
    whole = Enlarger(student(), Settings(tile=1000)).picture(pixels)
    assert whole.shape == (4 * height, 4 * width, channels)
    assert whole.dtype == pixels.dtype
    if channels in (2, 4):
        np.testing.assert_array_equal(whole[..., -1], upscale_bicubic(pixels[..., -1], 4))
    tiled = Enlarger(student(), Settings(tile=tile))
    streamed = np.concatenate(list(tiled.strips(in_strips(pixels, strip))))
    np.testing.assert_array_equal(streamed, whole)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(pixels=pictures(), tile=st.integers(9, 60), data=st.data())
def test_other_sizes(pixels: NDArray, tile: int, data: st.DataObject) -> None:
    pixels = pixels[:60, :60]
    height, width, channels = pixels.shape
    most = 5 if pixels.shape[0] * pixels.shape[1] < 200 else 4
    size = (data.draw(st.integers(1, most * height)), data.draw(st.integers(1, most * width)))
    whole = Enlarger(student(), Settings(tile=1000)).picture(pixels, size)
    assert whole.shape == (*size, channels)
    assert whole.dtype == pixels.dtype
    tiled = Enlarger(student(), Settings(tile=tile))
    streamed = np.concatenate(list(tiled.strips(in_strips(pixels, 7), size)))
    np.testing.assert_array_equal(streamed, whole)
    flat = pixels[..., -1]
    if channels in (2, 4) and flat.min() == flat.max():
        assert (whole[..., -1] == flat.min()).all()
