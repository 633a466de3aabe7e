"""progress: plain lines by the clock, a bar on a terminal, silence when asked."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from edgesr.progress import duration, progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_are_rate_limited_and_carry_the_figures() -> None:
    out, clock = io.StringIO(), Clock()
    with progress(10, "distil", stream=out, clock=clock, every_s=4.0) as bar:
        for _ in range(10):
            clock.now += 2.0
            bar.note("loss 0.5")
            bar.advance()
    lines = out.getvalue().splitlines()
    assert lines[0] == "distil: start, 10 steps"
    assert lines[1] == "distil: 1/10 (10 %), 4 s, 36 s left, loss 0.5"  # 4 s a step so far
    assert lines[-1] == "distil: done, 10/10 (100 %), 20 s, loss 0.5"
    assert len(lines) == 2 + 5  # one every 4 s of 20 s


def test_unknown_total_and_an_interrupted_job() -> None:
    out, clock = io.StringIO(), Clock()
    with (
        pytest.raises(KeyboardInterrupt),
        progress(None, "warm-up", stream=out, clock=clock) as bar,
    ):
        bar.advance(3)
        raise KeyboardInterrupt
    assert out.getvalue().splitlines() == ["warm-up: start", "warm-up: stopped, 3, 0 s"]


def test_quiet_writes_nothing() -> None:
    out = io.StringIO()
    with progress(2, "x", stream=out, quiet=True) as bar:
        bar.advance(2)
        bar.note("n")
    assert out.getvalue() == "" and bar.done == 2


def test_a_terminal_gets_a_bar_and_nested_bars_share_it() -> None:
    out = Terminal()
    with progress(2, "outer", stream=out) as outer:
        with progress(3, "inner", stream=out) as inner:
            inner.advance(3)
        outer.advance(2)
        outer.note("fine [not markup]")
    assert "outer" in out.getvalue() and "2/2" in out.getvalue()
    assert "fine [not markup]" in out.getvalue()


def test_durations() -> None:
    assert [duration(s) for s in (7.6, 65, 7810)] == ["8 s", "1 min 05 s", "2 h 10 min"]


def test_import_loads_no_rich() -> None:
    code = "import sys, edgesr.progress; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_steps_of_an_earlier_run_count_as_done_but_not_for_the_speed() -> None:
    stream, now = io.StringIO(), [0.0]
    with progress(100, "train", begun=60, stream=stream, clock=lambda: now[0], every_s=4) as bar:
        now[0] = 10.0
        bar.advance(10)
    # 10 steps took 10 s and 30 are left; the 60 before cost this run nothing.
    assert "train: 70/100 (70 %), 10 s, 30 s left" in stream.getvalue()
