"""Many pictures: order, resuming, failures, memory; mostly as one types it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr.enlarge import Enlarger
from edgesr.errors import BadModel, Impossible, WriteFailed
from edgesr.image import Picture, read, write
from edgesr.upscaling import picture
from edgesr.upscaling.batch import sources_of, upscale_files
from edgesr.upscaling.flow import Room, Stopped, Workers
from edgesr.upscaling.inputs import Source, find
from edgesr.upscaling.options import Options
from edgesr.upscaling.outputs import Outputs
from edgesr.upscaling.plans import Plan, Planner
from edgesr.upscaling.results import Done, Failed, Skipped
from tests.upscale_world import Nearest, all_below, events, pictures, repeat, run, write_nearest


@pytest.fixture(scope="module")
def nearest_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nearest(tmp_path_factory.mktemp("model"))


def test_a_folder_keeps_its_structure(tmp_path: Path, nearest_onnx: Path) -> None:
    made = pictures(tmp_path / "in", "p10.png", "p2.png", "sub/deep/q.png")
    (tmp_path / "in" / "notes.txt").write_text("")
    code, out, err = run(tmp_path / "in", "-o", tmp_path / "out", "-m", nearest_onnx)
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        str(tmp_path / "out" / name) for name in ("p2_x4.png", "p10_x4.png", "sub/deep/q_x4.png")
    ]
    for name, pixels in made.items():
        got = read(tmp_path / "out" / name.replace(".png", "_x4.png")).pixels
        np.testing.assert_array_equal(got, repeat(pixels))
    assert err.startswith("edgesr: 3 done; ")
    assert err.endswith("s; 1 other file is no picture or film\n")


def test_an_output_folder_inside_the_input(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, "a.png", "out/old.png")
    code, out, _ = run(tmp_path, "-o", tmp_path / "out", "-m", nearest_onnx, "--json")
    assert code == 0
    assert [e["input"] for e in events(out)[:-1]] == [str(tmp_path / "a.png")]
    assert all_below(tmp_path) == {"a.png", "out/old.png", "out/a_x4.png"}


def test_resume_skips_what_is_done(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    args = (tmp_path, "-m", nearest_onnx, "--json")
    assert run(tmp_path / "a.png", tmp_path / "b.png", *args[1:])[0] == 0
    (tmp_path / "b_x4.png").unlink()
    before = (tmp_path / "a_x4.png").stat().st_mtime_ns
    code, out, err = run(*args, "--resume")
    assert code == 0
    *each, summary = events(out)
    # a_x4.png is there, and being an output of this very run it is no input of it.
    assert [(e["event"], Path(e["input"]).name, e.get("reason")) for e in each] == [
        ("skipped", "a.png", "done already"),
        ("skipped", "a_x4.png", f"it is the output of {tmp_path / 'a.png'}"),
        ("done", "b.png", None),
        ("done", "c.png", None),
    ]
    assert summary["done"] == summary["skipped"] == 2
    assert "edgesr: 2 done, 2 skipped; " in err
    assert (tmp_path / "a_x4.png").stat().st_mtime_ns == before
    assert all_below(tmp_path) == {f"{n}{x}.png" for n in "abc" for x in ("", "_x4")}
    code, out, err = run(*args)  # without --resume what is there is an error, as of one picture
    assert code == 1
    assert err.count("exists already; -y overwrites it") == 3


def test_resume_does_not_keep_what_is_old_or_cut(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    args = (tmp_path / "a.png", tmp_path / "b.png", "-m", nearest_onnx, "--resume")
    assert run(*args)[0] == 0
    late = time.time() + 100
    os.utime(tmp_path / "a.png", (late, late))
    cut = tmp_path / "b_x4.png"
    cut.write_bytes(cut.read_bytes()[:-8])
    code, _, err = run(*args)
    assert code == 1
    assert "a_x4.png exists already and is older than its source; -y makes it again" in err
    assert "b_x4.png exists already and is not whole; -y makes it again" in err
    assert run(*args, "-y")[0] == 0
    assert read(cut).pixels.shape == (24, 24, 3)


def test_failures_are_summed_up(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, *(f"{n}.png" for n in range(10)))
    (tmp_path / "4.5.png").write_text("no")
    code, out, err = run(tmp_path, "-o", tmp_path / "out", "-m", nearest_onnx)
    assert code == 1
    assert len(out.splitlines()) == 10
    bad = f"{tmp_path / '4.5.png'}: not a picture that EdgeSR reads"
    *_, summary, listed = err.splitlines()
    assert err.startswith(f"edgesr: {bad}")
    assert summary.startswith("edgesr: 10 done, 1 failed; ")
    assert listed.startswith(f"  failed: {bad}")


def test_nothing_found_is_one_line(tmp_path: Path, nearest_onnx: Path) -> None:
    (tmp_path / "in").mkdir()
    for argument in (tmp_path / "in", tmp_path / "*.png"):
        code, out, err = run(argument, "-m", nearest_onnx)
        assert (code, out, err.count("\n")) == (1, "", 1)
    code, _, err = run(tmp_path / "in", tmp_path / "*.png", "-m", nearest_onnx)
    assert code == 1
    assert "edgesr: 0 done, 2 failed; " in err


def test_sizes_in_names(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", side=8)
    args = (tmp_path / "?.png", "-m", nearest_onnx, "--json")
    for options, name, size in (
        (("-s", 2), "x2", 16),
        (("--scale", 1.5), "x1.5", 12),
        (("-s", 8), "x8", 64),
        (("--width", 20), "20x20", 20),
        (("--height", 10), "10x10", 10),
    ):
        code, out, err = run(*args, *options)
        assert code == 0, err
        assert [(Path(e["output"]).name, e["width"]) for e in events(out)[:-1]] == [
            (f"{n}_{name}.png", size) for n in "ab"
        ]
    assert read(tmp_path / "a_20x20.png").pixels.shape == (20, 20, 3)
    code, out, _ = run(*args, "--width", 20, "--height", 9)
    assert [e["height"] for e in events(out)[:-1]] == [9, 9]


def test_several_pictures_are_finished_at_once(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(6)]
    pictures(tmp_path, *names)
    together = threading.Barrier(2, timeout=30)
    seen: list[str] = []

    def meet(work: picture.Work, before: Picture) -> None:
        seen.append(threading.current_thread().name)
        together.wait()  # passes only when two pictures are being finished at once

    sources = sources_of([tmp_path / n for n in names])
    outcomes = list(upscale_files(sources, Options(), Nearest(), on_pair=meet))
    assert [Path(o.source).name for o in outcomes] == names
    assert all(isinstance(o, Done) for o in outcomes)
    assert len(set(seen)) >= 2
    assert all(name.startswith("edgesr-write") for name in seen)


def test_a_bug_in_a_thread_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, "a.png", "b.png")
    sources = sources_of([tmp_path / "a.png", tmp_path / "b.png"])
    for step in ("read", "write"):
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(picture, step, lambda *_: 1 / 0)
            list(upscale_files(sources, Options(), Nearest()))
    assert all_below(tmp_path) == {"a.png", "b.png"}


def test_leaving_early_leaves_nothing_half_done(tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(40)]
    pictures(tmp_path / "in", *names)
    before = threading.active_count()
    outcomes = upscale_files(
        find([str(tmp_path / "in")]).sources, Options(out=tmp_path / "out", many=True), Nearest()
    )
    first = next(outcomes)
    outcomes.close()
    assert isinstance(first, Done)
    for name in all_below(tmp_path / "out"):
        assert read(tmp_path / "out" / name).pixels.shape == (24, 24, 3)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_broken_network_fails_each_picture(tmp_path: Path) -> None:
    class Broken(Nearest):
        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().run(batch) * np.float32(np.nan)

    pictures(tmp_path, "a.png", "b.png")
    sources = sources_of([tmp_path / "a.png", tmp_path / "b.png"])
    outcomes = list(upscale_files(sources, Options(), Broken()))
    assert [type(o) for o in outcomes] == [Failed, Failed]
    assert all(isinstance(o.error, BadModel) for o in outcomes if isinstance(o, Failed))


def test_a_folder_that_takes_no_files_is_found_out_before_the_work(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "file").write_text("")
    options = Options(out=tmp_path / "file" / "out", many=True)
    net = Nearest()
    Enlarger(net).cost(128, 128, 3, 8)
    seen = len(net.seen)
    sources = sources_of([tmp_path / "a.png", tmp_path / "b.png"])
    outcomes = list(upscale_files(sources, options, net))
    assert [type(o) for o in outcomes] == [Failed, Failed]
    assert all(isinstance(o.error, WriteFailed) for o in outcomes if isinstance(o, Failed))
    assert len(net.seen) == seen


def test_room_is_for_so_many_bytes_and_pictures() -> None:
    room = Room(100, 3)
    room.enter(500, 0)  # alone, whatever it takes
    entered: list[str] = []

    def enter(name: str, held: int, working: int, alone: bool = False) -> threading.Thread:
        def go() -> None:
            try:
                room.enter(held, working, alone=alone)
                entered.append(name)
            except Stopped:
                entered.append(f"{name} stopped")

        thread = threading.Thread(target=go)
        thread.start()
        thread.join(0.05)
        return thread

    waiting = enter("first", 30, 20)
    assert entered == []
    room.leave(500, 0)
    waiting.join(10)
    enter("second", 30, 40)  # 60 held, and 40 for the network: just so
    assert entered == ["first", "second"]
    third = enter("third", 1, 0)
    assert len(entered) == 2
    room.leave(30, 40)
    third.join(10)
    assert entered[2:] == ["third"]
    alone = enter("alone", 0, 0, alone=True)
    assert len(entered) == 3
    room.stop()
    alone.join(10)
    assert entered[3:] == ["alone stopped"]


def test_what_is_being_written_is_finished(tmp_path: Path) -> None:
    workers = Workers[str]("test", 2)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        with workers.whole():
            begun.set()
            go_on.wait(10)
            (tmp_path / "slow").write_text("whole")
        return "slow"

    def late() -> str:
        begun.wait(10)
        go_on.wait(10)
        time.sleep(0.1)
        with workers.whole():
            (tmp_path / "late").write_text("")
        return "late"

    written = workers.submit(slow)
    workers.submit(late)
    begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    workers.stop()
    assert written.result(10) == "slow"
    time.sleep(0.2)
    assert all_below(tmp_path) == {"slow"}


def test_what_does_not_fit_is_streamed_or_refused(tmp_path: Path) -> None:
    enlarger = Enlarger(Nearest())

    def plan_in(room: int, source: Path, options: Options | None = None) -> Plan:
        plan = Planner(options or Options(), enlarger, Outputs(), room).plan(Source(source))
        assert not isinstance(plan, Skipped)
        return plan

    write(tmp_path / "in.png", Picture(np.full((1200, 1200, 3), 90, np.uint8)))
    whole = plan_in(1 << 40, tmp_path / "in.png")
    assert not whole.streamed
    # Source, result and the file made of it, at the least.
    assert whole.held_bytes > 1200 * 1200 * 3 * (1 + 2 * 16)
    streamed = plan_in(whole.need_bytes - 1, tmp_path / "in.png")
    assert streamed.streamed and streamed.need_bytes < whole.need_bytes
    with pytest.raises(Impossible, match=r"4800x4800 pixels take \d+ MB .*raise --max-memory"):
        plan_in(streamed.need_bytes - 1, tmp_path / "in.png")
    for suffix in ("jpg", "webp"):
        options = Options(fmt=suffix)
        need = plan_in(1 << 40, tmp_path / "in.png", options).need_bytes
        with pytest.raises(Impossible, match=r"cannot be streamed: .*is not written row by row"):
            plan_in(need - 1, tmp_path / "in.png", options)
    write(tmp_path / "in.bmp", Picture(np.zeros((1200, 1200, 3), np.uint8)))
    with pytest.raises(Impossible, match="BMP is not read row by row"):
        plan_in(whole.need_bytes // 2, tmp_path / "in.bmp")


# What only a process of its own shows.
