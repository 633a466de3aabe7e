"""Interrupted films: kill -9, Ctrl-C, changed sources, and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import enlarge, make_film, read, scale_size

from edgesr.errors import BadConfig, BadModel, WouldOverwrite, WriteFailed
from edgesr.film import FilmOptions, upscale_film
from edgesr.film import source as film_source
from edgesr.film.source import Film, Start, probe

OPTIONS = {"segment_s": 0.25}
# What a child process does: one film, each frame slowly enough to be interrupted.
CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from films import enlarge, scale_size
from edgesr.film import FilmOptions, upscale_film
def slow(pixels):
    time.sleep(0.02)
    return enlarge(pixels)
try:
    upscale_film(Path({source!r}), Path({output!r}), slow, scale_size, FilmOptions(segment_s=0.25))
except KeyboardInterrupt as e:
    print(e)
    sys.exit(130)
"""


def start(source: Path, output: Path) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent), source=str(source), output=str(output))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def parts_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.parts")


def wait_for_segments(output: Path, count: int, child: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while len(list(parts_of(output).glob("0*.json"))) < count:
        assert time.monotonic() < limit and child.poll() is None
        time.sleep(0.005)


def same_film(one: Path, two: Path) -> None:
    first, second = read(one), read(two)
    assert first.packets == second.packets
    assert first.packet_times == second.packet_times
    assert first.times == second.times
    assert first.seconds == second.seconds


def counting(counts: list[int]) -> Any:
    def count(pixels: Any) -> Any:
        counts.append(1)
        return enlarge(pixels)

    return count


def interrupted_after(frames: int) -> Any:
    left = [frames]

    def stop(pixels: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise BadModel("stop here")
        return enlarge(pixels)

    return stop


def leave_parts(source: Path, output: Path, frames: int = 30, **changes: Any) -> None:
    options = FilmOptions(**{**OPTIONS, **changes})
    with pytest.raises(BadModel):
        upscale_film(source, output, interrupted_after(frames), scale_size, options)
    assert parts_of(output).is_dir() and not output.exists()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_kill_and_resume_is_the_same_film(tmp_path: Path, suffix: str) -> None:
    source = make_film(tmp_path / f"in{suffix}", frames=75, chapters=True)
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    upscale_film(source, whole, enlarge, scale_size, FilmOptions(**OPTIONS))
    child = start(source, output)
    wait_for_segments(output, 3, child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not output.exists()
    made: list[int] = []
    result = upscale_film(
        source, output, counting(made), scale_size, FilmOptions(resume=True, **OPTIONS)
    )
    assert 20 <= result.resumed < 75
    assert len(made) == 75 - result.resumed and result.frames == 75
    same_film(whole, output)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        p.name for p in (source, whole, output)
    )


def test_ctrl_c_leaves_whole_segments_and_says_how_to_go_on(tmp_path: Path) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=75), tmp_path / "out.mp4"
    child = start(source, output)
    wait_for_segments(output, 2, child)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "segments of it are kept; the same command with --resume goes on" in said
    left = {p.suffix for p in parts_of(output).iterdir() if p.name.startswith("0")}
    assert left == {".json", ".nut"} and not output.exists()
    with pytest.raises(WouldOverwrite, match="--resume goes on with them, -y starts again"):
        upscale_film(source, output, enlarge, scale_size, FilmOptions(**OPTIONS))
    made: list[int] = []
    upscale_film(source, output, counting(made), scale_size, FilmOptions(yes=True, **OPTIONS))
    assert len(made) == 75


def test_a_kill_while_joining_makes_no_frame_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=20), tmp_path / "out.mp4"

    def full_disk(*_: Any) -> None:
        raise WriteFailed("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("edgesr.film.whole.join", full_disk)
        with pytest.raises(WriteFailed):
            upscale_film(source, output, enlarge, scale_size, FilmOptions(**OPTIONS))
    made: list[int] = []
    result = upscale_film(
        source, output, counting(made), scale_size, FilmOptions(resume=True, **OPTIONS)
    )
    assert made == [] and result.resumed == 20
    assert len(read(output).times) == 20


def test_nothing_to_resume_is_a_fresh_start(tmp_path: Path) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=10), tmp_path / "out.mp4"
    result = upscale_film(source, output, enlarge, scale_size, FilmOptions(resume=True, **OPTIONS))
    assert (result.resumed, result.frames) == (0, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crf": 30}, "crf 17, now it is 30"),
        ({"codec": "libx265"}, "codec libx264, now it is libx265"),
        ({"segment_s": 1.0}, "segments of 0.25 s, now it is of 1 s"),
        ({"enlarger": "balanced x4"}, "model tiny x4, now it is balanced x4"),
    ],
)
def test_other_options_do_not_resume(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=40), tmp_path / "out.mp4"
    leave_parts(source, output, enlarger="tiny x4")
    before = sorted(p.name for p in parts_of(output).iterdir())
    options = FilmOptions(**{**OPTIONS, "enlarger": "tiny x4", "resume": True, **changes})
    with pytest.raises(BadConfig, match=f"cannot go on with .*{words}.*starts again"):
        upscale_film(source, output, enlarge, scale_size, options)
    assert sorted(p.name for p in parts_of(output).iterdir()) == before


def test_a_changed_source_does_not_resume(tmp_path: Path) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=40), tmp_path / "out.mp4"
    leave_parts(source, output)
    stat = source.stat()
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(BadConfig, match="the source has changed since"):
        upscale_film(source, output, enlarge, scale_size, FilmOptions(resume=True, **OPTIONS))


def test_a_torn_segment_is_made_again(tmp_path: Path) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=40), tmp_path / "out.mp4"
    upscale_film(source, tmp_path / "whole.mp4", enlarge, scale_size, FilmOptions(**OPTIONS))
    leave_parts(source, output, frames=36)
    torn = parts_of(output) / "00001.nut"
    torn.write_bytes(torn.read_bytes()[:-10])
    result = upscale_film(source, output, enlarge, scale_size, FilmOptions(resume=True, **OPTIONS))
    assert result.resumed == 8  # the first quarter of a second
    same_film(tmp_path / "whole.mp4", output)


def test_two_runs_do_not_write_one_film(tmp_path: Path) -> None:
    source, output = make_film(tmp_path / "in.mp4", frames=40), tmp_path / "out.mp4"
    inside, go_on = threading.Event(), threading.Event()

    def held(pixels: Any) -> Any:
        inside.set()
        assert go_on.wait(30)
        return enlarge(pixels)

    first = threading.Thread(
        target=upscale_film, args=(source, output, held, scale_size, FilmOptions(**OPTIONS))
    )
    first.start()
    try:
        assert inside.wait(30)
        with pytest.raises(WriteFailed, match="another process is writing"):
            upscale_film(source, output, enlarge, scale_size, FilmOptions(**OPTIONS))
    finally:
        go_on.set()
        first.join()
    assert len(read(output).times) == 40


@pytest.mark.parametrize("wanted", [241, 252, 265])
def test_going_on_by_seeking_gives_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int
) -> None:
    """With open groups of pictures, where what follows a key frame may need what is before it."""
    source = make_film(tmp_path / "in.mp4", frames=280, options={"x264-params": "open-gop=1"})
    facts = probe(source)
    everything = list(Film(source, facts).pictures())
    decoded: list[Any] = []
    decode = film_source._decoded

    def counted(*given: Any) -> Any:
        for frame in decode(*given):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(film_source, "_decoded", counted)
    later = list(Film(source, facts).pictures(Start(everything[wanted].pts, wanted)))
    assert len(decoded) < 120  # it did seek
    assert [p.pts for p in later] == [p.pts for p in everything[wanted:]]
    for one, two in zip(later, everything[wanted:], strict=True):
        assert np.array_equal(one.pixels, two.pixels)


def test_a_time_that_seeking_misses_is_found_by_counting(tmp_path: Path) -> None:
    source = make_film(tmp_path / "in.mp4", frames=30)
    film = Film(source, probe(source))
    later = list(film.pictures(Start(pts=20 * 1001 + 3, frames=20)))
    assert [p.pts for p in later] == [n * 1001 for n in range(20, 30)]


MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from films import enlarge, scale_size
from edgesr.film import FilmOptions, upscale_film
upscale_film(Path({source!r}), Path({output!r}), enlarge, scale_size, FilmOptions(segment_s=1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    """Six times the frames; unbounded frames of 144 kB would add 40 MB."""
    peaks = []
    for frames in (60, 360):
        source = make_film(
            tmp_path / f"{frames}.mp4", frames=frames, options={"preset": "ultrafast"}
        )
        code = MEMORY.format(
            tests=str(Path(__file__).parent),
            source=str(source),
            output=str(tmp_path / f"out{frames}.mp4"),
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[1],
        )
        peaks.append(int(done.stdout) // 1024)
    assert peaks[1] - peaks[0] < 20, f"peaks in MB: {peaks}"
