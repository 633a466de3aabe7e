"""bench: the order of turns and the timing loop, on a fake clock."""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

import pytest
from bench_world import World, lane

from edgesr.bench.interleave import Plan, interleave
from edgesr.bench.order import Turn, mirrored
from edgesr.bench.overhead import overhead_us
from edgesr.bench.timing import Lane, run_paced_turn, run_turn, warm_up
from edgesr.report.compare import speedup
from edgesr.report.times import pacing_figures, repetition_windows, turn_windows

DRIFT = 0.2  # over the run


def test_every_repetition_is_a_mirror() -> None:
    two = mirrored(2, 2, centre=1)
    assert [(t.repetition, t.number, t.lane, t.shares) for t in two] == [
        (0, 0, 0, 1), (0, 1, 1, 2), (0, 2, 0, 1),
        (1, 3, 0, 1), (1, 4, 1, 2), (1, 5, 0, 1)]  # fmt: skip
    for lanes in range(1, 6):
        for centre in range(lanes):
            row = [(t.lane, t.shares) for t in mirrored(lanes, 1, centre)]
            assert row == row[::-1]
            shares = [sum(n for who, n in row if who == k) for k in range(lanes)]
            assert shares == [2] * lanes  # the same time for all


def ratios(world: World, order: list[Turn], run_s: float) -> list[float]:
    """How many times slower the first lane is than each other, while all slow down by 20 %."""
    world.drift = DRIFT / run_s
    lanes = [lane(name, world) for name in world.call_s]
    share_s = run_s / sum(turn.shares for turn in order)
    for turn in order:
        run_turn(lanes[turn.lane], turn, share_s * turn.shares, clocks=world.clocks())
    slower = world.drift * (world.now - world.begin)
    assert slower == pytest.approx(DRIFT, rel=0.25)
    first, *others = (x.samples.to_json(0.0) for x in lanes)
    return [speedup(first, other)["value"] for other in others]


@pytest.mark.parametrize("repetitions", [5, 6])
def test_a_linear_drift_of_20_percent_biases_aabb_and_not_abba(repetitions: int) -> None:
    same = {"a": 0.01, "b": 0.01}
    one_after_the_other = [Turn(r, r, k, 2) for k in (0, 1) for r in range(repetitions)]
    (got,) = ratios(World(**same), one_after_the_other, 60.0)
    # The middles of both halves: a quarter and three quarters of the run.
    assert got == pytest.approx(1.05 / 1.15, rel=0.01)
    assert abs(got - 1) > 0.05
    for centre in (0, 1):
        (got,) = ratios(World(**same), mirrored(2, repetitions, centre), 60.0)
        assert abs(got - 1) < 0.001


@pytest.mark.parametrize("repetitions", [5, 6])
def test_a_drift_cancels_for_a_slow_teacher_and_for_three(repetitions: int) -> None:
    got = ratios(World(a=3.0, b=1 / 32), mirrored(2, repetitions, 0), 60.0)
    assert got == pytest.approx([96], rel=0.01)
    for centre in (0, 1, 2):
        world = World(a=0.1, b=0.01, c=0.02)
        got = ratios(world, mirrored(3, repetitions, centre), 60.0)
        assert got == pytest.approx([10, 5], rel=0.002)


def test_warm_up_ends_when_ten_calls_are_steady() -> None:
    world = World(x=0.05)
    got = warm_up(lane("x", world), 60.0, world.clock)
    assert got.stable and got.calls == 10 and got.cov == pytest.approx(0.0, abs=1e-9)
    fast = World(x=0.001)
    got = warm_up(lane("x", fast), 60.0, fast.clock)
    assert got.stable and got.calls == pytest.approx(200, abs=1)  # at least 0.2 s


def test_warm_up_is_bounded_and_says_that_it_did_not_settle() -> None:
    noisy = World(x=0.1)
    got = warm_up(lane("x", noisy, noise=0.5), 3.0, noisy.clock)
    assert not got.stable and got.seconds <= 3.2 and got.cov is not None and got.cov > 0.025
    slow = World(x=5.0)
    got = warm_up(lane("x", slow), 3.0, slow.clock)
    assert (got.calls, got.seconds, got.stable, got.cov) == (2, 10.0, False, None)


TURN = Turn(repetition=7, number=3, lane=0, shares=1)


def test_a_turn_keeps_every_call_and_does_not_overrun() -> None:
    world = World(x=0.3)
    x = lane("x", world)
    run_turn(x, TURN, 1.0, clocks=world.clocks())
    s = x.samples
    assert s.wall_ms == pytest.approx([300.0] * 3) and s.cpu_ms == pytest.approx([450.0] * 3)
    assert s.start_s == pytest.approx([100.0, 100.3, 100.6])
    assert s.repetition == [7, 7, 7] and s.turn == [3, 3, 3] and s.frame == [0, 1, 2]
    run_turn(x, TURN, 0.1, clocks=world.clocks())
    assert len(s.wall_ms) == 4 and s.frame[-1] == 0  # one call at least, the next input
    assert "due_s" not in s.to_json(0.0)


def test_a_turn_that_must_be_full_ends_with_the_call_that_overruns() -> None:
    world = World(x=0.3)
    x = lane("x", world)
    run_turn(x, TURN, 1.0, fill=True, clocks=world.clocks())
    assert len(x.samples.wall_ms) == 4


def test_a_runtime_that_sleeps_is_timed_within_1_percent() -> None:
    """On a fake clock exactly; on the real one against what the runtime itself measured."""
    world = World(x=0.02)
    x = lane("x", world)
    interleave([x], Plan(2.0, 5), world.clocks(), "test")
    assert statistics.median(x.samples.wall_ms) == pytest.approx(20.0, rel=1e-6)

    own: list[float] = []

    def sleep(_: Any) -> None:
        start = time.perf_counter()
        time.sleep(0.02)
        own.append(1000 * (time.perf_counter() - start))

    real = Lane("real", sleep, [None])
    for number in range(10):
        run_turn(real, Turn(0, number, 0, 1), 0.0)
    more = [got / told - 1 for got, told in zip(real.samples.wall_ms, own, strict=True)]
    assert 0 <= min(more) < 0.01  # the best of ten: one may be interrupted between the readings


def test_the_loop_costs_at_most_50_microseconds_a_call() -> None:
    assert 0 < min(overhead_us() for _ in range(5)) < 50


def test_paced_calls_start_on_the_grid() -> None:
    world = World(x=0.03)
    x = lane("x", world)
    run_paced_turn(x, TURN, 1.0, 10.0, clocks=world.clocks())
    s = x.samples
    assert s.start_s == pytest.approx([100 + k / 10 for k in range(10)])
    assert s.due_s == pytest.approx(s.start_s) and world.now == pytest.approx(101.0)
    columns = s.to_json(100.0)
    assert turn_windows(columns, 10.0) == [pytest.approx((0.0, 1.0))]
    got = {k: f["value"] for k, f in pacing_figures(columns, 10.0).items()}
    assert got == {"missed_deadlines": 0, "paced_fps": pytest.approx(10.0)}


def test_a_call_that_overruns_its_slot_loses_the_next_one() -> None:
    world = World(x=0.15)
    x = lane("x", world)
    run_paced_turn(x, TURN, 1.0, 10.0, clocks=world.clocks())
    assert x.samples.start_s == pytest.approx([100.0, 100.2, 100.4, 100.6, 100.8])
    assert world.now == pytest.approx(101.0)
    got = pacing_figures(x.samples.to_json(0.0), 10.0)
    assert got["missed_deadlines"]["value"] == 5 == got["missed_deadlines"]["samples"]
    assert got["paced_fps"]["value"] == pytest.approx(5.0)
    world = World(x=0.1)  # just in time
    x = lane("x", world)
    run_paced_turn(x, TURN, 1.0, 10.0, clocks=world.clocks())
    assert len(x.samples.wall_ms) == 10
    assert pacing_figures(x.samples.to_json(0.0), 10.0)["missed_deadlines"]["value"] == 0


def test_a_paced_turn_shorter_than_a_slot_has_one_call() -> None:
    world = World(x=0.3)
    x = lane("x", world)
    run_paced_turn(x, TURN, 0.2, 0.5, clocks=world.clocks())
    assert len(x.samples.wall_ms) == 1 and world.now == pytest.approx(102.0)


def test_windows_of_turns_and_of_records_from_before_them() -> None:
    columns = {
        "repetition": [0, 0, 0, 1],
        "turn": [0, 0, 2, 3],
        "start_s": [0.0, 1.0, 5.0, 8.0],
        "wall_ms": [1000.0, 900.0, 1000.0, 500.0],
    }
    assert repetition_windows(columns) == [[(0.0, 1.9), (5.0, 6.0)], [(8.0, 8.5)]]
    assert turn_windows(columns) == [(0.0, 1.9), (5.0, 6.0), (8.0, 8.5)]
    del columns["turn"]
    assert turn_windows(columns) == [(0.0, 6.0), (8.0, 8.5)]
    assert math.isclose(sum(b - a for a, b in turn_windows(columns)), 6.5)
