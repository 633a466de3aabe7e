"""Colours of films: H.273's matrices and ranges by hand, tags, 10 bit, HDR."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from films import enlarge, scale_size
from numpy.typing import NDArray

from edgesr.errors import BadImage
from edgesr.film import FilmOptions, upscale_film
from edgesr.film.colour import Colours, colours_of, to_rgb, to_yuv

# Kr and Kb of ITU-T H.273, table 4.
LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
FLAT = [(90, 100, 170), (150, 160, 110), (60, 140, 120), (200, 120, 135), (120, 90, 90)]


def rgb_by_hand(yuv: tuple[int, int, int], matrix: int, full: bool) -> NDArray[Any]:
    y, u, v = yuv
    kr, kb = LUMA[matrix]
    luma, chroma, low = (255, 255, 0) if full else (219, 224, 16)
    e, pb, pr = (y - low) / luma, (u - 128) / chroma, (v - 128) / chroma
    red, blue = e + 2 * (1 - kr) * pr, e + 2 * (1 - kb) * pb
    green = (e - kr * red - kb * blue) / (1 - kr - kb)
    return np.array([red, green, blue]) * 255


def planes(frame: Any) -> list[NDArray[np.uint8]]:
    return [
        np.frombuffer(bytes(p), np.uint8).reshape(-1, p.line_size)[: p.height, : p.width]
        for p in frame.planes
    ]


def flat(yuv: tuple[int, int, int], matrix: int, full: bool, rows: int = 48) -> Any:
    data = np.empty((rows * 3 // 2, 64), np.uint8)
    data[:rows], data[rows : rows + rows // 4], data[rows + rows // 4 :] = yuv
    frame = av.VideoFrame.from_ndarray(data, "yuv420p")
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", LUMA)
def test_flat_colours_are_those_of_the_standard_and_come_back(matrix: int, full: bool) -> None:
    for yuv in FLAT:
        frame = flat(yuv, matrix, full)
        colours = colours_of(frame, "h264")
        assert (colours.matrix, colours.full) == (matrix, full)
        rgb = to_rgb(frame, colours)
        assert np.abs(rgb - rgb_by_hand(yuv, matrix, full)).max() <= 1
        for plane, value in zip(planes(to_yuv(rgb, colours)), yuv, strict=True):
            assert np.abs(plane.astype(int) - value).max() <= 1


@pytest.mark.parametrize(("codec", "shift"), [("h264", 0), ("mjpeg", -1)])
def test_chroma_is_read_where_it_lies(codec: str, shift: int) -> None:
    """A ramp of 2 levels a luma pixel; MJPEG's samples lie half a pixel further right."""
    data = np.full((72, 64), 126, np.uint8)
    data[48:60] = np.tile(np.arange(32) * 4 + 64, (24, 1)).reshape(12, 64)
    data[60:] = 128
    frame = av.VideoFrame.from_ndarray(data, "yuv420p")
    frame.colorspace, frame.color_range = 1, 2
    colours = colours_of(frame, codec)
    blue = to_rgb(frame, colours)[24, 8:56, 2].astype(float)
    want = 126 + 1.8556 * (64 + 2 * np.arange(64) + shift - 128)[8:56]
    assert np.abs(blue - want).max() <= 1
    if shift == 0:
        back = planes(to_yuv(to_rgb(frame, colours), colours))[1]
        assert np.abs(back[:, 2:-2].astype(int) - planes(frame)[1][:, 2:-2]).max() <= 1


def test_no_column_or_row_is_added_at_the_borders() -> None:
    rng = np.random.default_rng(0)
    rgb = np.repeat(np.repeat(rng.integers(60, 190, (6, 8, 3), np.uint8), 8, 0), 8, 1)
    colours = Colours()
    back = to_rgb(to_yuv(rgb, colours), colours)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        difference = np.abs(back[edge].astype(int) - rgb[edge])
        assert np.median(difference) <= 2


@pytest.mark.parametrize(
    "name", ["nv12", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "p010le", "yuva420p"]
)
def test_other_layouts_give_the_same_colours(name: str) -> None:
    frame = flat((120, 90, 170), 1, False)
    want = to_rgb(frame, colours_of(frame, "h264"))
    other = frame.reformat(format=name, src_color_range=1, dst_color_range=1)
    other.colorspace, other.color_range = 1, 1
    got = to_rgb(other, colours_of(other, "h264"))
    assert np.abs(got.astype(int) - want).max() <= 1


@pytest.mark.parametrize(("rows", "matrix"), [(180, 6), (480, 6), (576, 5), (720, 1), (1080, 1)])
def test_what_a_film_leaves_open_is_guessed_as_players_do(rows: int, matrix: int) -> None:
    colours = colours_of(av.VideoFrame(64, rows, "yuv420p"), "h264")
    assert (colours.matrix, colours.full) == (matrix, False)
    assert colours.primaries == matrix


def film_of(path: Path, yuv: tuple[int, int, int], **tags: int) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height = 64, 48
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(5):
            frame = flat(yuv, tags.get("colorspace", 2), tags.get("color_range") == 2)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 6])
def test_a_flat_film_keeps_its_colour_and_its_tags(tmp_path: Path, matrix: int, full: bool) -> None:
    tags = {"colorspace": matrix, "color_range": 2 if full else 1}
    tags |= {"color_primaries": matrix, "color_trc": matrix}
    source = film_of(tmp_path / "in.mp4", (120, 90, 180), **tags)
    seen = []

    def watch(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        seen.append(pixels[20, 20])
        return enlarge(pixels)

    upscale_film(source, tmp_path / "out.mp4", watch, scale_size, FilmOptions(crf=4))
    assert np.abs(seen[2] - rgb_by_hand((120, 90, 180), matrix, full)).max() <= 2
    with av.open(str(tmp_path / "out.mp4")) as film:
        frame = next(film.decode(video=0))
    for plane, value in zip(planes(frame), (120, 90, 180), strict=True):
        assert np.abs(plane.astype(int) - value).max() <= 2
    assert (frame.colorspace, frame.color_range) == (matrix, 2 if full else 1)
    assert (frame.color_primaries, frame.color_trc) == (matrix, matrix)


def test_an_untagged_small_film_says_its_matrix_when_it_has_grown(tmp_path: Path) -> None:
    source = film_of(tmp_path / "in.mp4", (120, 90, 180))
    upscale_film(
        source,
        tmp_path / "out.mp4",
        lambda pixels: np.repeat(np.repeat(pixels, 16, 0), 16, 1),
        lambda h, w: (16 * h, 16 * w),
    )
    with av.open(str(tmp_path / "out.mp4")) as film:
        frame = next(film.decode(video=0))
    assert frame.height == 768 and frame.colorspace == 6  # a player would guess BT.709 now


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_with_the_reason(tmp_path: Path, transfer: int, name: str) -> None:
    source = film_of(tmp_path / "in.mp4", (120, 128, 128), color_trc=transfer, colorspace=9)
    with pytest.raises(BadImage, match=rf"the film is HDR \({name}\).*convert it to SDR first"):
        upscale_film(source, tmp_path / "out.mp4", enlarge, scale_size)


def test_rare_matrices_are_refused() -> None:
    frame = flat((120, 128, 128), 8, False)
    with pytest.raises(BadImage, match=r"matrix 8 of H\.273"):
        colours_of(frame, "h264")


def test_ten_bit_sdr_becomes_eight_bit_and_says_so(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        frame = flat((120, 90, 180), 1, False).reformat(format="yuv420p10le")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    result = upscale_film(tmp_path / "in.mkv", tmp_path / "out.mkv", enlarge, scale_size)
    assert result.notes == ("the film has 10 bit a channel; the result has 8",)
    with av.open(str(tmp_path / "out.mkv")) as film:
        assert next(film.decode(video=0)).format.name == "yuv420p"
