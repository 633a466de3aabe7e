"""Known joules: every board's sysfs tree under waveforms whose integral is done by hand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgesr.power.energy import energy, idle_problem, net_j
from edgesr.power.find import find_meter
from edgesr.power.meter import NoMeter, Trace
from tests.boards import AGX_ORIN, BOARDS, DECOY_W, ORIN_NANO, THOR, Board, Fixed, Load, tree

RAMP, STEPS = (1.0, 21.0), (22.0, 42.0)


def ramp_then_steps(t: float) -> float:
    """Watts; the time inside a window is u.

    Ramp: 2 + 0.4 u over 20 s, so 2·20 + 0.2·20² = 120 J. Steps: 3 W until u = 5, 12 W until 9,
    then 6 W, so 15 + 48 + 66 = 129 J.
    """
    if t < 21.5:
        return 2 + 0.4 * max(0.0, t - RAMP[0])
    u = t - STEPS[0]
    return 3.0 if u < 5 else 12.0 if u < 9 else 6.0


def square(t: float) -> float:
    """3 W and 9 W in turn with a period of 20 ms, the sampling interval: 6 W in the mean."""
    return 9.0 if (t / 0.020) % 1.0 >= 0.5 else 3.0


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.name)
def test_ramp_and_steps_within_1_percent(tmp_path: Path, board: Board) -> None:
    with tree(tmp_path) as files:
        board.build(files)
        meter = find_meter(tmp_path)
        assert not isinstance(meter, NoMeter)
        assert set(meter.rails) == board.rails and meter.total == board.total
        load = Load(ramp_then_steps, lambda watts: board.apply(files, watts))
        trace = load.run(meter, 43.0, random.Random(1))
    for window, joules in ((RAMP, 120.0), (STEPS, 129.0)):
        got = energy(trace, window)
        assert got.total_j == pytest.approx(joules, rel=0.01)
        assert got.problems == () and got.duration_s == pytest.approx(20.0)
        shares = {rail: k + 1 for k, rail in enumerate(board.total)}
        for rail, part in got.rails_j.items():
            want = joules * shares.get(rail, 0) / sum(shares.values())
            want = want or 20 * (board.vin if rail == "VIN" else DECOY_W)
            assert part == pytest.approx(want, rel=0.015), rail


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.name)
def test_a_square_wave_in_step_with_the_sampling(tmp_path: Path, board: Board) -> None:
    """60 s at 6 W in the mean are 360 J; the same meter polled at a fixed rate sees one phase."""
    with tree(tmp_path) as files:
        board.build(files)
        meter = find_meter(tmp_path)
        assert not isinstance(meter, NoMeter)

        def run(seconds: float, rng: random.Random) -> Trace:
            load = Load(square, lambda watts: board.apply(files, watts))
            return load.run(meter, seconds, rng)

        drawn = energy(run(62.0, random.Random(2)), (1.0, 61.0))
        fixed = energy(run(22.0, Fixed()), (1.0, 21.0))
    assert drawn.total_j == pytest.approx(360.0, rel=0.05) and drawn.problems == ()
    assert fixed.mean_w is not None and abs(fixed.mean_w / 6.0 - 1) > 0.10


def test_idle_loaded_idle_and_net(tmp_path: Path) -> None:
    """4 W at rest, 5 W loaded, 20 s of work at 11 W, 5 W again: net 20·(11 − 5) = 120 J."""

    def watts(t: float) -> float:
        return 4.0 if t < 12 else 11.0 if 24 <= t < 44 else 5.0

    with tree(tmp_path) as files:
        AGX_ORIN.build(files)
        meter = find_meter(tmp_path)
        assert not isinstance(meter, NoMeter)
        load = Load(watts, lambda power: AGX_ORIN.apply(files, power))
        trace = load.run(meter, 57.0, random.Random(3))
    idle = energy(trace, (1.0, 11.0)).mean_w
    loaded = [energy(trace, (13.0, 23.0)).mean_w, energy(trace, (45.0, 55.0)).mean_w]
    work = energy(trace, (24.0, 44.0))
    assert idle == pytest.approx(4.0, rel=0.01) and loaded == pytest.approx([5.0, 5.0], rel=0.01)
    before, after = (w for w in loaded if w is not None)
    assert idle_problem([before, after]) == ""
    assert work.total_j == pytest.approx(220.0, rel=0.01)
    assert work.total_j is not None
    assert net_j(work.total_j, (before + after) / 2, work.duration_s) == pytest.approx(
        120, rel=0.01
    )


def test_thor_shows_its_input_and_does_not_add_it(tmp_path: Path) -> None:
    with tree(tmp_path) as files:
        THOR.build(files, watts=12.0)
        meter = find_meter(tmp_path)
        assert not isinstance(meter, NoMeter)
        values = meter.read()
        assert meter.name == "INA3221 + INA238" and "VIN" not in meter.total
        assert sum(values[rail] for rail in meter.total) == pytest.approx(12.0, rel=0.01)
        assert values["VIN"] == pytest.approx(23.0)
        assert "INA238" in meter.scope and "shown, not added" in meter.scope
        whole = find_meter(tmp_path, ["VIN"])  # what a profile of the whole board says
        assert not isinstance(whole, NoMeter) and whole.total == ("VIN",)
        (tmp_path / "class/hwmon/hwmon9/power1_input").write_text("")
        alone = find_meter(tmp_path)
    assert not isinstance(alone, NoMeter) and alone.rails == THOR.total


def test_a_rail_that_vanishes_names_its_file_and_the_readings_stay(tmp_path: Path) -> None:
    lost = tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr2_input"
    with tree(tmp_path) as files:
        ORIN_NANO.build(files)
        meter = find_meter(tmp_path)
        assert not isinstance(meter, NoMeter)

        def watts(t: float) -> float:
            if t > 15 and lost.exists():
                lost.unlink()
            return 5.0

        load = Load(watts, lambda power: ORIN_NANO.apply(files, power))
        trace = load.run(meter, 30.0, random.Random(4))
    got = energy(trace, (1.0, 21.0))
    assert 740 <= len(trace.samples) <= 752 and str(lost) in trace.stopped
    assert str(lost) in got.problems[0] and "No such file" in got.problems[0]
    assert got.coverage == pytest.approx(0.70, abs=0.01)
