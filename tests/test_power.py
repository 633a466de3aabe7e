"""Power meters on recorded sysfs trees, and joules against hand formulas. No time passes."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path

import pytest

from edgesr.errors import BadConfig, Impossible
from edgesr.power import rapl
from edgesr.power.energy import energy, idle_problem, net_j
from edgesr.power.find import find_meter
from edgesr.power.ina3221 import Ina3221
from edgesr.power.meter import NoMeter, Sample, Trace
from edgesr.power.rails import known_total
from edgesr.power.sampler import Sampler, new_trace, sample
from tests.boards import ORIN_NANO, Load, tree

NANO = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")


def write(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def chip(root: Path, bus: str, hwmon: int, rails: list[tuple[str, int, int]]) -> Path:
    """One INA3221 as the mainline driver shows it; rails are (label, mV, mA)."""
    folder = root / f"bus/i2c/drivers/ina3221/{bus}/hwmon/hwmon{hwmon}"
    write(folder, {"name": "ina3221", "samples": 1, "update_interval": 1,
                   "in7_label": "sum of shunt voltages", "in7_input": 99})  # fmt: skip
    for k, (label, millivolts, milliamperes) in enumerate(rails, 1):
        write(folder, {f"in{k}_label": label, f"in{k}_input": millivolts,
                       f"curr{k}_input": milliamperes, f"in{k}_enable": 1})  # fmt: skip
    return folder


def orin_nano(root: Path) -> Path:
    """Orin Nano 8 GB developer kit, JetPack 6 (L4T 36): one chip at 0x40."""
    return chip(root, "1-0040", 1, [("VDD_IN", 5056, 1000), ("VDD_CPU_GPU_CV", 5056, 200),
                                    ("VDD_SOC", 5048, 300)])  # fmt: skip


def agx_orin(root: Path) -> None:
    """AGX Orin developer kit, JetPack 5 (L4T 35): chips at 0x40 and 0x41, two channels NC."""
    chip(root, "1-0040", 3, [("VDD_GPU_SOC", 19000, 200), ("VDD_CPU_CV", 19000, 100),
                             ("VIN_SYS_5V0", 5000, 800)])  # fmt: skip
    chip(root, "1-0041", 4, [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 500), ("NC", 0, 0)])


def package(
    root: Path, number: int, micro: int, name: str = "", top: int = 262_143_328_850
) -> Path:
    folder = root / f"class/powercap/intel-rapl:{number}"
    write(folder, {"name": name or f"package-{number}", "energy_uj": micro,
                   "max_energy_range_uj": top})  # fmt: skip
    return folder


def test_orin_nano_total_is_the_module_input(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221)
    assert meter.rails == NANO and meter.total == ("VDD_IN",)
    assert meter.read() == pytest.approx(
        {"VDD_IN": 5.056, "VDD_CPU_GPU_CV": 1.0112, "VDD_SOC": 1.5144}
    )
    assert meter.conditions() == {"hwmon1/samples": "1", "hwmon1/update_interval": "1"}


def test_agx_orin_total_leaves_out_the_rail_fed_by_another(tmp_path: Path) -> None:
    agx_orin(tmp_path)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221)
    assert set(meter.rails) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert meter.total == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    values = meter.read()
    assert sum(values[r] for r in meter.total) == pytest.approx(3.8 + 1.9 + 4.0)


def test_a_chip_that_only_class_hwmon_shows(tmp_path: Path) -> None:
    folder = tmp_path / "class/hwmon/hwmon5"
    write(folder, {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 400,
                   "in2_label": "VDD_SOC", "in2_input": 5000, "curr2_input": 0,
                   "in2_enable": 0})  # fmt: skip
    write(tmp_path / "class/hwmon/hwmon6", {"name": "ina238", "in1_label": "VIN"})
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221)
    assert meter.rails == ("VDD_IN",) and meter.read() == {"VDD_IN": 2.0}


def test_profile_formula_wins_and_must_fit(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    meter = find_meter(tmp_path, total=["VDD_CPU_GPU_CV", "VDD_SOC"])
    assert not isinstance(meter, NoMeter) and meter.total == ("VDD_CPU_GPU_CV", "VDD_SOC")
    with pytest.raises(BadConfig, match="this board has VDD_IN"):
        find_meter(tmp_path, total=["VIN"])


def test_unknown_rails_have_no_total(tmp_path: Path) -> None:
    chip(tmp_path, "7-0040", 2, [("12V_AUX", 12000, 100)])
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221) and meter.total == ()
    load = Load(lambda t: 1.0, lambda w: None)
    got = energy(load.run(meter, 11.0, random.Random(0)), (0.5, 10.5))
    assert got.total_j is None and got.rails_j["12V_AUX"] == pytest.approx(12.0)
    assert got.problems == ("which of the rails 12V_AUX add up to the total is not known",)


def test_totals_of_boards_with_and_without_an_input_rail() -> None:
    assert known_total(["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]) == ("VDD_IN",)
    assert known_total(["CPU", "GPU", "SOC", "CV", "VDDRQ", "SYS5V"]) == (
        "GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")  # fmt: skip


def test_nothing_there_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = find_meter(tmp_path)
    assert isinstance(got, NoMeter)
    assert "INA3221" in got.reason and "RAPL" in got.reason and "board" in got.fix
    (tmp_path / "bus/i2c/drivers/ina3221x/7-0040/iio:device0").mkdir(parents=True)
    monkeypatch.setenv("EDGESR_SYSFS_ROOT", str(tmp_path))
    got = find_meter()
    assert isinstance(got, NoMeter) and "JetPack 5" in got.fix


def test_a_sensor_that_does_not_answer_is_no_meter(tmp_path: Path) -> None:
    folder = orin_nano(tmp_path)
    (folder / "curr1_input").write_text("")
    got = find_meter(tmp_path)
    assert isinstance(got, NoMeter) and got.present
    assert "does not answer" in got.reason and "curr1_input" in got.reason
    assert "\n" not in got.reason + got.fix
    package(tmp_path, 0, 0)
    assert isinstance(find_meter(tmp_path), rapl.Rapl)
    (tmp_path / "class/powercap/intel-rapl:0/max_energy_range_uj").unlink()
    assert isinstance(find_meter(tmp_path), NoMeter)


def test_rapl_adds_packages_and_dram_never_cores(tmp_path: Path) -> None:
    package(tmp_path, 0, 1_000_000)
    package(tmp_path, 1, 5_000_000, name="psys")
    for k, part in enumerate(["core", "dram"]):
        write(tmp_path / f"class/powercap/intel-rapl:0:{k}",
              {"name": part, "energy_uj": 0, "max_energy_range_uj": 10**9})  # fmt: skip
    meter = find_meter(tmp_path)
    assert isinstance(meter, rapl.Rapl)
    assert meter.rails == ("package-0", "package-0/core", "package-0/dram", "psys")
    assert meter.total == ("package-0", "package-0/dram")


def test_rapl_counter_wraps_around(tmp_path: Path) -> None:
    folder = package(tmp_path, 0, 900_000, top=1_000_000)
    meter = find_meter(tmp_path)
    assert isinstance(meter, rapl.Rapl)
    read = []
    for micro in (950_000, 150_000, 160_000, 100_000):  # wraps twice
        (folder / "energy_uj").write_text(str(micro))
        read.append(meter.read()["package-0"])
    assert read == pytest.approx([0.05, 0.25, 0.26, 1.20])


def test_rapl_known_joules_within_1_percent(tmp_path: Path) -> None:
    """10 W; the counter starts at 30 J and wraps at 40 J."""
    package(tmp_path, 0, 30_000_000, top=40_000_000)
    meter = find_meter(tmp_path)
    assert isinstance(meter, rapl.Rapl)
    with tree(tmp_path) as files:

        def apply(joules: float) -> None:
            files.put("class/powercap/intel-rapl:0/energy_uj", round(joules * 1e6) % 40_000_000)

        load = Load(lambda t: 30.0 + 10.0 * t, apply)  # what the counter should show, not watts
        got = energy(load.run(meter, 13.0, random.Random(1)), (1.0, 12.0))
    assert got.total_j == pytest.approx(110.0, rel=1e-6) and got.problems == ()


def test_rapl_for_root_only_names_the_file_and_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = package(tmp_path, 0, 0)

    def denied(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(rapl, "read_text", denied)
    got = find_meter(tmp_path)
    assert isinstance(got, NoMeter)
    assert str(folder / "energy_uj") in got.reason and got.fix.startswith("sudo chmod a+r")


def pulses(t: float) -> float:
    """3 W, and 9 W in the last 0.4 s of each second: 5.4 J a second."""
    return 9.0 if t % 1.0 >= 0.6 else 3.0


@pytest.mark.parametrize("seed", range(3))
def test_known_joules_through_the_whole_chain(tmp_path: Path, seed: int) -> None:
    with tree(tmp_path) as files:
        ORIN_NANO.build(files)
        meter = find_meter(tmp_path)
        assert isinstance(meter, Ina3221)
        load = Load(pulses, lambda watts: ORIN_NANO.apply(files, watts))
        got = energy(load.run(meter, 22.0, random.Random(seed)), (1.0, 21.0))
    assert got.total_j == pytest.approx(20 * 5.4, rel=0.01)
    assert got.mean_w == pytest.approx(5.4, rel=0.01)
    assert got.coverage > 0.99 and got.problems == () and 990 <= got.samples <= 1010
    assert set(got.rails_j) == set(NANO)


def test_square_wave_locked_to_the_poll_rate(tmp_path: Path) -> None:
    """3/9 W with a period of 20 ms over 60 s: 360 J. A fixed poller sees one phase only."""

    def wave(t: float) -> float:
        return 9.0 if (t / 0.020) % 1.0 >= 0.5 else 3.0

    meter = find_meter(tmp_path) if orin_nano(tmp_path) else None
    assert isinstance(meter, Ina3221)
    values: dict[str, float] = {}
    meter.read = lambda: dict(values)  # type: ignore[method-assign]
    errors = []
    for seed in range(8):
        load = Load(wave, lambda w: values.update(dict.fromkeys(NANO, w)))
        got = energy(load.run(meter, 62.0, random.Random(seed)), (1.0, 61.0))
        errors.append(abs((got.total_j or 0.0) / 360 - 1))
    fixed = Trace("fixed", "W", NANO, ("VDD_IN",), "", 0.020)
    instants = [k * 0.02 + 0.001 for k in range(3100)]
    fixed.samples = [Sample(t, t, dict.fromkeys(NANO, wave(t))) for t in instants]
    assert max(errors) <= 0.05
    assert abs((energy(fixed, (1.0, 61.0)).total_j or 0.0) / 360 - 1) > 0.4


def ramp(times: list[float], nominal: float = 0.02) -> Trace:
    """Power equal to the time in seconds: the integral over (a, b) is (b² − a²)/2."""
    trace = Trace("ramp", "W", ("A", "B"), ("A",), "", nominal)
    trace.samples = [Sample(t - 0.001, t + 0.001, {"A": t, "B": 1.0}) for t in times]
    return trace


def test_edges_are_interpolated_and_gaps_counted() -> None:
    trace = ramp([k * 0.02 for k in range(1000)])
    got = energy(trace, (1.005, 11.017))
    assert got.total_j == pytest.approx((11.017**2 - 1.005**2) / 2, rel=1e-9)
    assert got.rails_j["B"] == pytest.approx(11.017 - 1.005) and got.coverage == pytest.approx(1.0)
    two = energy(trace, (1.0, 2.0), (3.0, 4.0))
    assert two.total_j == pytest.approx(1.5 + 3.5) and two.duration_s == pytest.approx(2.0)
    holes = ramp([k * 0.02 for k in range(1000) if not 300 <= k < 400])  # 2.02 s are missing
    got = energy(holes, (1.0, 11.0))
    assert got.coverage == pytest.approx(1 - 2.02 / 10)
    assert got.problems == ("readings cover 80% of the time, 95% needed",)
    outside = energy(trace, (15.0, 25.0))  # the trace ends at 19.98 s
    assert outside.coverage == pytest.approx(0.498)


def test_readings_that_come_late_still_cover_and_lost_ones_do_not() -> None:
    """Instants drawn in each 20 ms, up to 8 ms late; then with half of them lost in threes."""
    rng = random.Random(3)
    times = [0.02 * (k + rng.random()) + 0.008 * rng.random() ** 4 for k in range(700)]
    assert energy(ramp(times), (1.0, 12.0)).coverage > 0.99
    lost = [t for k, t in enumerate(times) if k % 6 < 3]
    assert energy(ramp(lost), (1.0, 12.0)).coverage < 0.6


def test_short_or_broken_measurements_are_invalid() -> None:
    few = energy(ramp([1.0, 1.02]), (1.0, 1.02))
    assert few.problems == ("2 readings, 200 needed", "0.0 s measured, 10 s needed: run it longer")
    none = energy(ramp([]), (0.0, 20.0))
    assert none.total_j is None and "fewer than two readings" in none.problems


def test_net_and_idle_drift() -> None:
    assert net_j(100.0, 4.0, 10.0) == pytest.approx(60.0)
    assert idle_problem([4.0, 4.1]) == ""
    assert idle_problem([4.0, 4.4]).startswith("idle power moved by 10%")


def test_slow_sensor_is_polled_less_often_and_a_dead_one_ends_the_trace(tmp_path: Path) -> None:
    folder = orin_nano(tmp_path)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221)
    ticks = iter([0.0, 0.018])
    assert new_trace(meter, lambda: next(ticks)).nominal_s == 0.040
    trace = new_trace(meter, lambda: 0.0)
    assert trace.nominal_s == 0.020
    (folder / "curr1_input").unlink()
    sample(meter, trace, lambda: False)
    assert "curr1_input" in trace.stopped and not trace.samples
    with pytest.raises(Impossible, match="does not answer"):
        meter.read()


def test_trace_yields_time_rail_watts() -> None:
    trace = ramp([1.0, 2.0])
    assert list(trace.watts()) == [
        (1.0, "A", 1.0),
        (1.0, "B", 1.0),
        (2.0, "A", 2.0),
        (2.0, "B", 1.0),
    ]
    counter = Trace("c", "J", ("P",), ("P",), "", 0.02)
    counter.samples = [Sample(0.0, 0.0, {"P": 5.0}), Sample(2.0, 2.0, {"P": 11.0})]
    assert list(counter.watts()) == [(1.0, "P", 3.0)]
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_sampler_thread_on_a_real_clock(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    meter = find_meter(tmp_path)
    assert isinstance(meter, Ina3221)
    with Sampler(meter) as trace:
        deadline = time.monotonic() + 20
        while len(trace.samples) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(trace.samples) >= 5 and trace.conditions_after == trace.conditions
    stamps = [s.time_s for s in trace.samples]
    assert stamps == sorted(stamps) and all(math.isfinite(t) for t in stamps)
    assert all(s.before_s <= s.after_s for s in trace.samples)
