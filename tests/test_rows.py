"""Rows from arrays and from strips."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgesr.errors import BadImage
from edgesr.rows import ArrayRows, BufferedRows

U8 = np.dtype(np.uint8)


def counted(height: int, width: int = 5, channels: int = 3) -> NDArray[np.uint8]:
    numbers = np.arange(height * width * channels) % 251
    return numbers.astype(np.uint8).reshape(height, width, channels)


def cut(pixels: NDArray[np.uint8], heights: list[int]) -> Iterator[NDArray[np.uint8]]:
    row = 0
    for height in heights:
        yield pixels[row : row + height]
        row += height
    if row < len(pixels):
        yield pixels[row:]


def test_an_array_gives_views() -> None:
    pixels = counted(7)
    rows = ArrayRows(pixels)
    assert (rows.height, rows.width, rows.channels, rows.dtype) == (7, 5, 3, U8)
    assert np.shares_memory(rows.take(2, 6), pixels)
    np.testing.assert_array_equal(rows.take(2, 6), pixels[2:6])
    assert ArrayRows(pixels[..., 0]).take(0, 7).shape == (7, 5, 1)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((3, 3, 5), np.uint8), np.zeros((3, 0, 3), np.uint8), np.zeros((3, 3), np.float32),
     np.zeros(3, np.uint8)],
    ids=lambda a: f"{a.shape}{a.dtype}",
)  # fmt: skip
def test_other_arrays_are_refused(pixels: NDArray) -> None:
    with pytest.raises(BadImage, match=r"has 8 or 16 bit|1 to 4 channels|no pixels"):
        ArrayRows(pixels)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data(), height=st.integers(1, 40))
def test_strips_give_the_rows_of_the_array(data: st.DataObject, height: int) -> None:
    pixels = counted(height)
    heights = data.draw(st.lists(st.integers(1, 9), max_size=10))
    rows = BufferedRows(cut(pixels, heights), height=height, width=5, channels=3, dtype=U8)
    start = 0
    for _ in range(8):
        start = data.draw(st.integers(start, height - 1))
        stop = data.draw(st.integers(start + 1, height))
        np.testing.assert_array_equal(rows.take(start, stop), pixels[start:stop])


def test_only_rows_that_are_due_are_kept_and_asked_for() -> None:
    pixels, given_out = counted(100), []

    def strips() -> Iterator[NDArray[np.uint8]]:
        for row in range(0, 100, 10):
            given_out.append(row)
            yield pixels[row : row + 10].copy()

    rows = BufferedRows(strips(), height=100, width=5, channels=3, dtype=U8)
    rows.take(0, 25)
    assert given_out == [0, 10, 20]
    rows.take(55, 57)
    assert given_out == [0, 10, 20, 30, 40, 50]
    assert sum(len(strip) for strip in rows._kept) == 10


@pytest.mark.parametrize(
    ("strip", "message"),
    [(np.zeros((2, 4, 3), np.uint8), "5 pixels and 3 channels were due"),
     (np.zeros((2, 5, 1), np.uint8), "5 pixels and 3 channels were due"),
     (np.zeros((2, 5, 3), np.uint16), "strip of uint16 came where uint8 was due"),
     (np.zeros((2, 5, 3), np.uint8), "ends after 2 of its 9 rows")],
)  # fmt: skip
def test_wrong_strips_are_refused(strip: NDArray, message: str) -> None:
    rows = BufferedRows([strip], height=9, width=5, channels=3, dtype=U8)
    with pytest.raises(BadImage, match=message):
        rows.take(0, 9)
