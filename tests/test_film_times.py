"""Films whose clocks do not start at zero, jump or are missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from films import RATE, enlarge, make_film, pictures, read, scale_size

from edgesr.errors import BadModel
from edgesr.film import FilmOptions, upscale_film
from edgesr.film.times import Clock

MILLI = Fraction(1, 1000)
BROADCAST: dict[str, Any] = {"codec": "mpeg2video", "sound": "mp2", "time_base": 1 / RATE}


def mended(times: list[int | None], strict: bool = True) -> tuple[list[int], Clock]:
    clock = Clock(MILLI, strict)
    return [clock.mend(t, 40) for t in times], clock


def test_times_that_rise_are_left_alone() -> None:
    times, clock = mended([-80, 0, 3, 90_000])
    assert times == [-80, 0, 3, 90_000] and clock.own


def test_slips_take_the_next_free_time() -> None:
    times, clock = mended([0, 40, 30, 40, 80])
    assert times == [0, 40, 41, 42, 80] and clock.slips == 2 and clock.jumps == 0
    assert mended([0, 0, 5], strict=False)[0] == [0, 0, 5]


def test_missing_times_go_on_where_the_last_ended() -> None:
    times, clock = mended([None, None, 100, None])
    assert times == [0, 40, 100, 140] and clock.slips == 3


def test_a_jump_back_moves_all_that_follows() -> None:
    times, clock = mended([5000, 5040, 0, 40, 90])
    assert times == [5000, 5040, 5080, 5120, 5170]
    assert clock.jumps == 1 and clock.slips == 0 and not clock.own


def test_a_broadcast_starts_at_zero_and_in_step(tmp_path: Path) -> None:
    """MPEG-TS has its clock start anywhere; the distance between sound and pictures counts."""
    source = make_film(tmp_path / "in.ts", times=range(900, 930), **BROADCAST)
    upscale_film(source, tmp_path / "out.mp4", enlarge, scale_size)
    old, new = read(source), read(tmp_path / "out.mp4")
    assert old.times[0] > 30 and min(new.times[0], new.packet_times["audio"][0]) == 0
    for kind in ("times", "audio"):
        before = old.times if kind == "times" else old.packet_times["audio"]
        after = new.times if kind == "times" else new.packet_times["audio"]
        shift = {b - a for b, a in zip(before, after, strict=True)}
        assert max(shift) - min(shift) < Fraction(1, 20_000)  # MP4 counts samples
        assert abs(float(max(shift)) - min(old.times[0], old.packet_times["audio"][0])) < 0.001
    assert new.packets["audio"] == old.packets["audio"]


def glued(tmp_path: Path) -> Path:
    """Two broadcasts in one file; the second one's clock starts again."""
    one = make_film(tmp_path / "one.ts", times=range(60, 120), **BROADCAST)
    two = make_film(tmp_path / "two.ts", times=range(0, 60), **BROADCAST)
    source = tmp_path / "in.ts"
    source.write_bytes(one.read_bytes() + two.read_bytes())
    return source


def test_films_glued_together_go_on_without_a_gap(tmp_path: Path) -> None:
    result = upscale_film(glued(tmp_path), tmp_path / "out.mp4", enlarge, scale_size)
    new = read(tmp_path / "out.mp4")
    steps = {later - earlier for earlier, later in zip(new.times, new.times[1:], strict=False)}
    assert max(steps) < 3 / RATE and len(new.times) == result.frames > 110
    assert any("jumps back of the film's clock: 1;" in note for note in result.notes)


def test_glued_films_resume_by_counting(tmp_path: Path) -> None:
    source, output = glued(tmp_path), tmp_path / "out.mp4"
    options = FilmOptions(segment_s=0.5)
    upscale_film(source, tmp_path / "whole.mp4", enlarge, scale_size, options)
    left = [90]

    def stop(pixels: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise BadModel("stop here")
        return enlarge(pixels)

    with pytest.raises(BadModel):
        upscale_film(source, output, stop, scale_size, options)
    again = FilmOptions(segment_s=0.5, resume=True)
    result = upscale_film(source, output, enlarge, scale_size, again)
    assert 60 < result.resumed < 90  # past where the clock jumps
    whole, out = read(tmp_path / "whole.mp4"), read(output)
    assert out.packets == whole.packets and out.times == whole.times


def test_avi_knows_only_decoding_times(tmp_path: Path) -> None:
    source = make_film(
        tmp_path / "in.avi", times=range(30), time_base=1 / RATE, codec="mpeg4", sound="mp2"
    )
    result = upscale_film(source, tmp_path / "out.mkv", enlarge, scale_size)
    assert result.frames == 30 and result.notes == ()
    new = read(tmp_path / "out.mkv")
    assert new.packets["audio"] == read(source).packets["audio"]
    assert len(pictures(tmp_path / "out.mkv")) == 30
    assert abs(float(new.times[-1] - new.times[0]) - 29 / float(RATE)) < 0.002
