"""Films in and out: what is kept, what is refused, in what words."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from films import (
    HEIGHT,
    QUARTER_TURN,
    RATE,
    TICK,
    WIDTH,
    add_cover,
    enlarge,
    make_film,
    picture,
    pictures,
    read,
    scale_size,
)

from edgesr.errors import (
    BadConfig,
    BadImage,
    BadModel,
    MissingExtra,
    UnknownName,
    WouldOverwrite,
)
from edgesr.film import FilmOptions, FilmResult, is_film, is_live, upscale_film

SHORT = FilmOptions(segment_s=0.5)
# Gaps of 1 to 9 thirtieths, then a slow part: decoding times of the encoder would overlap.
UNEVEN = [0, 1001, 2002, 3003, 12000, 13001, 14002, 15100, 16201, 40000, 70000, 100000, 100900]


def upscaled(source: Path, output: Path, **changes: Any) -> FilmResult:
    options = FilmOptions(**{"segment_s": 0.5, **changes})
    return upscale_film(source, output, enlarge, scale_size, options)


@pytest.mark.parametrize(
    ("suffix", "codec", "sound", "subtitles"),
    [
        (".mp4", "libx264", "aac", "mov_text"),
        (".mov", "libx264", "aac", None),
        (".mkv", "libx264", "aac", "subrip"),
        (".webm", "libvpx-vp9", "libopus", None),
    ],
)
def test_sound_subtitles_and_times_are_the_same(
    tmp_path: Path, suffix: str, codec: str, sound: str, subtitles: str | None
) -> None:
    source = make_film(
        tmp_path / f"in{suffix}", codec=codec, sound=sound, subtitles=subtitles, chapters=True
    )
    output = tmp_path / f"out{suffix}"
    result = upscaled(source, output)
    old, new = read(source), read(output)
    for kind in ("audio", "subtitle"):
        assert new.packets.get(kind) == old.packets.get(kind)
        assert new.packet_times.get(kind) == old.packet_times.get(kind)
    assert new.times == old.times and len(new.times) == 45
    assert new.seconds == old.seconds
    assert new.titles == old.titles and len(new.titles) == 2
    assert (new.first.height, new.first.width) == (4 * HEIGHT, 4 * WIDTH)
    assert (result.height, result.width, result.frames) == (4 * HEIGHT, 4 * WIDTH, 45)
    assert result.notes == ()
    assert [p.name for p in tmp_path.iterdir() if p not in (source, output)] == []


def test_the_pictures_are_the_enlarged_ones_in_order(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", sound=None, options={"crf": "5"})
    upscaled(source, tmp_path / "out.mp4", crf=5)
    small, large = pictures(source), pictures(tmp_path / "out.mp4")
    assert len(large) == 45
    for before, after in zip(small, large, strict=True):
        want = enlarge(np.dstack([before] * 3))[..., 0].astype(float)
        assert np.abs(after - want).mean() < 2  # a coded picture beside its neighbour: over 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_frame_times_are_kept(tmp_path: Path, suffix: str) -> None:
    source = make_film(tmp_path / f"in{suffix}", times=UNEVEN, sound=None)
    upscaled(source, tmp_path / f"out{suffix}", segment_s=0.4)
    old, new = read(source), read(tmp_path / f"out{suffix}")
    assert new.times == old.times
    if suffix == ".mp4":
        assert new.times == [t * TICK for t in UNEVEN]
        assert new.first.time_base == TICK
        assert new.seconds["video"] == pytest.approx((UNEVEN[-1] + 1001) / 30_000)


def test_a_film_that_starts_late_still_does(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", times=[15_000 + n * 1001 for n in range(20)])
    upscaled(source, tmp_path / "out.mp4")
    old, new = read(source), read(tmp_path / "out.mp4")
    assert new.times == old.times and new.times[0] == Fraction(1, 2)
    assert new.packet_times["audio"] == old.packet_times["audio"]


def test_turn_shape_of_pixels_and_tags_are_kept(tmp_path: Path) -> None:
    source = make_film(
        tmp_path / "in.mp4",
        frames=8,
        matrix=QUARTER_TURN,
        aspect=Fraction(4, 3),
        tags={"title": "Sous le ciel d’été"},
    )
    upscaled(source, tmp_path / "out.mp4")
    new = read(tmp_path / "out.mp4")
    assert new.first.rotation == read(source).first.rotation == -90
    assert new.aspect == Fraction(4, 3)
    assert new.tags["title"] == "Sous le ciel d’été"


def test_attachments_go_along(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", frames=8, attachment=b"\x00\x01font")
    upscaled(source, tmp_path / "out.mkv")
    assert read(tmp_path / "out.mkv").packets["attachment"] == [b"\x00\x01font"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_cover_picture_goes_along(tmp_path: Path, suffix: str) -> None:
    film = make_film(tmp_path / "film.mp4", frames=8)
    cover = add_cover(film, tmp_path / "in.mp4")
    result = upscaled(tmp_path / "in.mp4", tmp_path / f"out{suffix}")
    assert result.notes == ()
    with av.open(str(tmp_path / f"out{suffix}")) as out:
        covers = [s for s in out.streams.video if s.disposition & Disposition.attached_pic]
        assert [bytes(next(out.demux(s))) for s in covers] == [cover]
        assert len(out.streams.video) == 2
    assert upscaled(tmp_path / f"out{suffix}", tmp_path / "again.mp4").height == 16 * HEIGHT


def test_subtitles_that_the_container_does_not_take_are_told_of(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", frames=8, subtitles="subrip")
    result = upscaled(source, tmp_path / "out.mp4")
    assert len(result.notes) == 1
    assert "subtitle stream 2 (srt) was left out: .mp4 does not take it" in result.notes[0]


def test_sound_that_the_container_does_not_take_is_refused(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=8)
    with pytest.raises(BadImage, match=r"\.webm takes no aac sound.*write out\.mkv"):
        upscaled(source, tmp_path / "out.webm")
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_odd_sizes_lose_their_last_row_or_column(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=4, sound=None)

    def threes(pixels: Any) -> Any:
        return np.repeat(np.repeat(pixels, 3, 0), 3, 1)[: 3 * HEIGHT - 1, : 3 * WIDTH - 1]

    result = upscale_film(
        source, tmp_path / "out.mp4", threes, lambda h, w: (3 * h - 1, 3 * w - 1), SHORT
    )
    assert (result.height, result.width) == (3 * HEIGHT - 2, 3 * WIDTH - 2)
    first = read(tmp_path / "out.mp4").first
    assert (first.height, first.width) == (result.height, result.width)


def test_a_size_that_changes_on_the_way_is_fitted(tmp_path: Path) -> None:
    kind: dict[str, Any] = {"codec": "mpeg2video", "sound": None, "time_base": 1 / RATE}
    one = make_film(tmp_path / "one.ts", times=range(10), **kind)
    two = make_film(tmp_path / "two.ts", times=range(10, 20), size=(96, 128), **kind)
    source = tmp_path / "in.ts"
    source.write_bytes(one.read_bytes() + two.read_bytes())
    result = upscaled(source, tmp_path / "out.mp4")
    frames = pictures(tmp_path / "out.mp4")
    assert {f.shape for f in frames} == {(4 * HEIGHT, 4 * WIDTH)} and len(frames) > 15
    assert any("of another size" in note for note in result.notes)


def test_damaged_packets_are_left_out_and_counted(tmp_path: Path) -> None:
    source = make_film(
        tmp_path / "in.mkv", frames=60, sound=None, codec="mjpeg", options={"strict": "-1"}
    )
    data = bytearray(source.read_bytes())
    third = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"][2]
    data[third : third + 600] = bytes(600)
    source.write_bytes(data)
    result = upscaled(source, tmp_path / "out.mkv")
    assert 55 <= result.frames < 60
    assert any("damaged packets" in note for note in result.notes)
    assert len(read(tmp_path / "out.mkv").times) == result.frames


def test_a_film_cut_short_is_made_as_far_as_it_goes(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mkv", frames=60)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    result = upscaled(source, tmp_path / "out.mkv")
    assert 10 < result.frames < 60
    assert len(pictures(tmp_path / "out.mkv")) == result.frames


@pytest.mark.parametrize("content", [b"", b"no film at all" * 100])
def test_what_is_no_film_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(content)
    with pytest.raises(BadImage, match="cannot read the film") as e:
        upscaled(source, tmp_path / "out.mp4")
    assert "\n" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_missing_film_and_one_of_sound_only(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no such file"):
        upscaled(tmp_path / "absent.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(BadImage, match="no video in it"):
        upscaled(tmp_path / "sound.mp4", tmp_path / "out.mp4")


def test_options_that_cannot_be_are_refused_before_a_frame(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=4)
    with pytest.raises(UnknownName, match=r"no film format to write '\.avi'"):
        upscaled(source, tmp_path / "out.avi")
    with pytest.raises(UnknownName, match="no video encoder 'libx263'"):
        upscaled(source, tmp_path / "out.mp4", codec="libx263")
    with pytest.raises(BadConfig, match=r"libx264 takes 0 \(best\) to 51"):
        upscaled(source, tmp_path / "out.mp4", crf=60)
    with pytest.raises(BadConfig, match="not set by a crf"):
        upscaled(source, tmp_path / "out.mkv", codec="ffv1", crf=10)
    with pytest.raises(BadConfig, match="aac does not encode 8-bit 4:2:0 video"):
        upscaled(source, tmp_path / "out.mp4", codec="aac")
    silent = make_film(tmp_path / "silent.mp4", frames=4, sound=None)
    with pytest.raises(BadConfig, match="cannot make 256x192 film as webm"):
        upscaled(silent, tmp_path / "out.webm", codec="libx264")
    silent.unlink()
    with pytest.raises(BadConfig, match="segments of 0"):
        FilmOptions(segment_s=0)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx265", ".mp4"), ("libsvtav1", ".webm"), ("ffv1", ".mkv"), ("mpeg4", ".mp4")],
)
def test_other_encoders(tmp_path: Path, codec: str, suffix: str) -> None:
    source = make_film(tmp_path / "in.mkv", frames=20, sound=None)
    upscaled(source, tmp_path / f"out{suffix}", codec=codec)
    new = read(tmp_path / f"out{suffix}")
    assert new.times == read(source).times
    assert (new.first.height, new.first.width) == (4 * HEIGHT, 4 * WIDTH)


def test_an_output_that_is_there_stays(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=4)
    output = tmp_path / "out.mp4"
    output.write_bytes(b"mine")
    with pytest.raises(WouldOverwrite):
        upscaled(source, output)
    assert output.read_bytes() == b"mine"
    upscaled(source, output, yes=True)
    assert len(pictures(output)) == 4
    with pytest.raises(BadImage, match="is the source itself"):
        upscaled(source, source, yes=True)


def test_what_fails_in_the_network_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4")

    def broken(pixels: Any) -> Any:
        raise BadModel("gave NaN")

    with pytest.raises(BadModel, match="gave NaN"):
        upscale_film(source, tmp_path / "out.mp4", broken, scale_size, SHORT)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=12)
    seen: list[tuple[int, int | None, float]] = []
    upscale_film(
        source, tmp_path / "out.mp4", enlarge, scale_size, SHORT, lambda *now: seen.append(now)
    )
    assert [done for done, _, _ in seen] == list(range(1, 13))
    assert {total for _, total, _ in seen} == {12}
    assert all(fps > 0 for _, _, fps in seen)


def test_without_pyav_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'edgesr\[video\]'"):
        upscaled(tmp_path / "in.mp4", tmp_path / "out.mp4")


def test_which_names_are_films_and_which_are_live() -> None:
    assert is_film(Path("a/B.MP4")) and is_film(Path("x.webm")) and not is_film(Path("x.png"))
    live = (
        "/dev/video0",
        "rtsp://host/1",
        "http://host/x.mjpg",
        "v4l2src ! videoconvert ! appsink",
    )
    assert all(map(is_live, live))
    assert not any(map(is_live, ("film.mp4", "what!.png", "a ! b", "/dev/null")))


def test_the_test_pictures_differ() -> None:
    assert np.abs(picture(3).astype(int) - picture(4)).mean() > 1
