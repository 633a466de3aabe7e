"""Meters beside the boards' INA3221: NVML, RAPL, INA2xx, the Pi's PMIC; alarms; busy sensors."""

from __future__ import annotations

import errno
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.power.realtime import compare, run
from edgesr.errors import Impossible
from edgesr.power import pmic, rapl
from edgesr.power.alarms import alarms
from edgesr.power.energy import MIN_COVERAGE, energy
from edgesr.power.find import find_meter
from edgesr.power.meter import Busy, Meter, NoMeter, Quantity, Sample, Trace
from edgesr.power.rails import distinct
from edgesr.power.sampler import new_trace, nominal_s, sample
from edgesr.power.together import Counted
from tests.boards import ORIN_NANO, Load, Tree, tree

# Two of the chip's twelve pairs as the firmware prints them, and one in other words.
PI5 = """     3V7_WL_SW_A current(0)=0.10000000A
      VDD_CORE_A current(7)=2.50000000A
     3V7_WL_SW_V volt(8)=3.70000000V
      VDD_CORE_V volt(15)=0.80000000V
         EXT5V_V volt(24)=5.10000000V
          BATT_V volt(25)=0.00000000V
"""


class NvmlError(Exception):
    pass


class FakeNvml:
    """NVIDIA's binding for one card: joules and watts, either of them perhaps not supported."""

    NVMLError = NvmlError
    NVML_FI_DEV_POWER_INSTANT = 186

    def __init__(self, *, counts: bool = True, instant: bool = True, power: bool = True) -> None:
        self.counts, self.instant, self.power = counts, instant, power
        self.joules, self.watts, self.started = 5000.0, 60.0, True

    def nvmlInit(self) -> None:
        if not self.started:
            raise NvmlError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:
        return int(self._supported(self.counts, self.joules) * 1e3)

    def nvmlDeviceGetFieldValues(self, card: int, fields: list[int]) -> list[Any]:
        assert fields == [186]
        value = SimpleNamespace(uiVal=int(self.watts * 1e3))
        return [SimpleNamespace(nvmlReturn=0 if self.instant else 3, value=value)]

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:
        return int(self._supported(self.power, self.watts) * 1e3)

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.1"

    def nvmlDeviceGetName(self, card: int) -> str:
        return "RTX"

    def nvmlDeviceGetEnforcedPowerLimit(self, card: int) -> int:
        raise NvmlError("Not Supported")

    @staticmethod
    def _supported(there: bool, value: float) -> float:
        if not there:
            raise NvmlError("Not Supported")
        return value


def with_card(files: Tree) -> None:
    files.put("module/nvidia/version", "580.1")


def package(files: Tree, joules: float) -> None:
    """A RAPL package whose counter wraps at 100 J."""
    files.put("class/powercap/intel-rapl:0/name", "package-0")
    files.put("class/powercap/intel-rapl:0/energy_uj", round(joules * 1e6) % 100_000_000)
    files.put("class/powercap/intel-rapl:0/max_energy_range_uj", 100_000_000)


def found(root: Path, **more: Any) -> Meter:
    meter = find_meter(root, **more)
    assert not isinstance(meter, NoMeter), meter
    return meter


def absent(root: Path, **more: Any) -> NoMeter:
    meter = find_meter(root, **more)
    assert isinstance(meter, NoMeter)
    assert "\n" not in meter.reason + meter.fix and meter.fix
    return meter


def test_card_and_processor_are_one_trace_and_their_counters_add_up(tmp_path: Path) -> None:
    """60 W card that steps every 100 ms, 40 W package: 20 s are 2000 J, whatever wraps."""
    card = FakeNvml()
    with tree(tmp_path) as files:
        with_card(files)
        package(files, 0.0)
        meter = found(tmp_path, load_nvml=lambda: card)
        assert meter.name == "RAPL + NVML" and meter.quantity == "J"
        assert meter.rails == meter.total == ("package-0", "gpu-0")
        assert "graphics card" in meter.scope and "processor package" in meter.scope
        conditions = meter.conditions()
        assert conditions["NVML"] == "total energy counter" and conditions["gpu-0/name"] == "RTX"

        def apply(_: float) -> None:
            now = clock[0].now if clock else 0.0
            package(files, 40 * now)
            card.joules = 5000 + 60 * (now * 10 // 1 / 10)

        clock: list[Load] = []
        load = Load(lambda t: 0.0, apply)
        clock.append(load)
        trace = load.run(meter, 23.0, random.Random(1))
    got = energy(trace, (1.0, 21.0))
    assert got.rails_j["package-0"] == pytest.approx(800.0, rel=1e-4)
    assert got.rails_j["gpu-0"] == pytest.approx(1200.0, rel=0.006)  # one step of 6 J
    assert got.total_j == pytest.approx(2000.0, rel=0.005) and got.problems == ()
    shown = [w for t, rail, w in trace.watts() if rail == "gpu-0" and 1 < t < 21]
    assert 150 <= len(shown) <= 210 and max(shown) < 80  # not 0 W and 300 W in turn


def test_a_card_without_a_counter_gives_power_and_says_so(tmp_path: Path) -> None:
    with tree(tmp_path) as files:
        with_card(files)
        meter = found(tmp_path, load_nvml=lambda: FakeNvml(counts=False))
        assert meter.quantity == "W" and meter.read() == {"gpu-0": 60.0}
        assert meter.conditions()["NVML"].startswith("instant power x time")
        old = found(tmp_path, load_nvml=lambda: FakeNvml(counts=False, instant=False))
        assert old.conditions()["NVML"].startswith("power usage x time (mean of the last second")
        package(files, 0.0)
        both = found(tmp_path, load_nvml=lambda: FakeNvml(counts=False))
        assert both.quantity == "J" and both.total == ("package-0", "gpu-0")


def test_what_keeps_a_card_from_being_read(tmp_path: Path) -> None:
    def missing() -> Any:
        raise ImportError

    broken = FakeNvml(counts=False, instant=False, power=False)
    stopped = FakeNvml()
    stopped.started = False
    with tree(tmp_path) as files:
        with_card(files)
        assert absent(tmp_path, load_nvml=missing).fix == "pip install 'edgesr[nvml]'"
        assert "neither energy nor power" in absent(tmp_path, load_nvml=lambda: broken).reason
        assert "Driver Not Loaded" in absent(tmp_path, load_nvml=lambda: stopped).reason
        package(files, 0.0)
        meter = found(tmp_path, load_nvml=missing)
        assert meter.total == ("package-0",)
        assert "nvidia-ml-py" in meter.conditions()["not measured"]
        card = FakeNvml()
        (tmp_path / "class/powercap/intel-rapl:0/energy_uj").unlink()
        alone = found(tmp_path, load_nvml=lambda: card)
        assert alone.total == ("gpu-0",) and "RAPL" in alone.conditions()["not measured"]
        card.counts = False
        with pytest.raises(Impossible, match="does not answer: NVML, gpu-0: Not Supported"):
            alone.read()


def test_rapl_is_exact_across_its_wraps(tmp_path: Path) -> None:
    """0.7 J a reading against a counter of 100 J: 700.0 J after a thousand, to the microjoule."""
    with tree(tmp_path) as files:
        package(files, 99.9)
        meter = found(tmp_path)
        assert isinstance(meter, rapl.Rapl)
        for k in range(1, 1001):
            package(files, 99.9 + 0.7 * k)
            joules = meter.read()["package-0"]
    assert joules == pytest.approx(700.0, abs=2e-6)


def test_watts_become_joules_by_trapezoids() -> None:
    """A ramp of 1 W/s from 0 over 4 s: 8 J."""
    ticks = iter([0.0, 0.0, 1.0, 1.0, 2.5, 2.5, 4.0, 4.0])
    values = iter([0.0, 1.0, 2.5, 4.0])

    class Ramp:
        name, scope, rails, total = "ramp", "", ("A",), ("A",)
        quantity: Quantity = "W"

        def read(self) -> dict[str, float]:
            return {"A": next(values)}

        def conditions(self) -> dict[str, str]:
            return {}

    meter = Counted(Ramp(), lambda: next(ticks))
    assert [meter.read()["A"] for _ in range(3)] == pytest.approx([0.5, 3.125, 8.0])


def test_a_lone_ina226_has_a_name_but_no_total(tmp_path: Path) -> None:
    with tree(tmp_path) as files:
        files.put("class/hwmon/hwmon3/name", "ina226")
        files.put("class/hwmon/hwmon3/power1_input", 7_500_000)
        files.put("class/hwmon/hwmon3/shunt_resistor", 2000)
        meter = found(tmp_path)
        assert meter.read() == {"ina226 hwmon3": 7.5} and meter.total == ()
        assert meter.conditions() == {"ina226 hwmon3/shunt_resistor": "2000"}
        package(files, 0.0)
        assert found(tmp_path).total == ("package-0",)  # a known total goes first
        profile = found(tmp_path, total=["ina226 hwmon3"])
        assert profile.total == ("ina226 hwmon3",)
        files.put("class/hwmon/hwmon3/label", "VIN")
        assert found(tmp_path).total == ("VIN",)
    assert distinct(["VDD", "VDD", "GPU"]) == ["VDD", "VDD #2", "GPU"]


def test_raspberry_pi_5_adds_volts_times_amperes(tmp_path: Path) -> None:
    (tmp_path / "vcgencmd").mkdir()
    recorded = tmp_path / "vcgencmd/pmic_read_adc"
    recorded.write_text(PI5)
    meter = found(tmp_path)
    assert meter.read() == pytest.approx({"3V7_WL_SW": 0.37, "VDD_CORE": 2.0})
    assert meter.total == meter.rails and "losses" in meter.scope
    assert pmic.rails_w("VDD_CORE_A = 2.5\nVDD_CORE_V = 0.8\n") == {"VDD_CORE": 2.0}
    recorded.write_text(PI5.replace("VDD_CORE_V", "OTHER_V"))
    with pytest.raises(Impossible, match="no VDD_CORE"):
        meter.read()
    recorded.unlink()
    with pytest.raises(Impossible, match="pmic_read_adc"):
        meter.read()


def test_why_a_raspberry_pi_is_not_read(tmp_path: Path) -> None:
    def refused() -> str:
        raise Impossible("vcgencmd pmic_read_adc failed: VCHI initialization failed")

    volts_only = absent(tmp_path, ask_pmic=lambda: "EXT5V_V volt(24)=5.1V\n")
    assert "no currents" in volts_only.reason and "Raspberry Pi 5" in volts_only.fix
    assert "usermod -aG video" in absent(tmp_path, ask_pmic=refused).fix


def test_without_any_sensor_each_one_is_named(tmp_path: Path) -> None:
    got = absent(tmp_path)
    for word in ("no INA3221, no INA226 or INA238, ", "NVIDIA", "RAPL", "Raspberry Pi 5"):
        assert word in got.reason


def orin_with_limits(files: Tree, current: int = 1000) -> None:
    ORIN_NANO.build(files)
    folder = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    files.put(f"{folder}/curr1_max", 3000)
    files.put(f"{folder}/curr1_crit", 5000)
    files.put(f"{folder}/curr1_max_alarm", 0)
    files.put(f"{folder}/curr1_crit_alarm", 0)
    files.put(f"{folder}/curr1_input", current)


@pytest.mark.parametrize(
    ("flag", "milliamperes", "said"),
    [
        ("", 1000, ()),
        ("", 3500, ("over-current alarm on VDD_IN during the run (warning limit, 3000 mA; "
                    "highest reading 3500 mA)",)),
        ("crit", 1000, ("over-current alarm on VDD_IN during the run (critical limit, 5000 mA; "
                        "highest reading 1000 mA)",)),
    ],
)  # fmt: skip
def test_over_current_by_flag_or_by_reading(
    tmp_path: Path, flag: str, milliamperes: int, said: tuple[str, ...]
) -> None:
    with tree(tmp_path) as files:
        orin_with_limits(files)
        meter = found(tmp_path)
        trace = new_trace(meter)
        orin_with_limits(files, milliamperes)
        meter.read()
        orin_with_limits(files)
        if flag:
            files.put(f"bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_{flag}_alarm", 1)
        trace.conditions_after = meter.conditions()
    assert trace.conditions["VDD_IN/crit"] == "5000"
    assert alarms(trace) == said
    assert alarms(Trace.from_json(json.loads(json.dumps(trace.to_json())))) == said


class Moody:
    """A meter that is busy at the readings listed."""

    name, scope, rails, total = "moody", "", ("A",), ("A",)
    quantity: Quantity = "W"

    def __init__(self, busy: set[int]) -> None:
        self.busy, self.count = busy, 0

    def read(self) -> dict[str, float]:
        self.count += 1
        if self.count in self.busy:
            raise Busy("the power sensor does not answer: curr1_input")
        return {"A": 5.0}

    def conditions(self) -> dict[str, str]:
        return {}


def test_a_busy_sensor_is_asked_again_and_two_in_a_row_end_it() -> None:
    load = Load(lambda t: 0.0, lambda w: None)
    trace = load.run(Moody({2, 100, 300}), 12.0, random.Random(1))
    assert trace.lost == 2 and trace.stopped == "" and len(trace.samples) > 590
    assert energy(trace, (1.0, 11.0)).problems == ()
    ended = Load(lambda t: 0.0, lambda w: None).run(Moody({50, 51}), 12.0, random.Random(1))
    assert ended.lost == 2 and "curr1_input" in ended.stopped and len(ended.samples) == 46


def test_eagain_from_the_kernel_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tree(tmp_path) as files:
        ORIN_NANO.build(files)
    meter = found(tmp_path)
    fails = iter([errno.EAGAIN, errno.EIO])

    def again(path: Path) -> str:
        raise OSError(next(fails), "no")

    monkeypatch.setattr("edgesr.power.meter.read_text", again)
    with pytest.raises(Busy):
        meter.read()
    with pytest.raises(Impossible) as caught:
        meter.read()
    assert not isinstance(caught.value, Busy)


def test_records_from_before_still_load() -> None:
    trace = Trace("m", "W", ("A",), ("A",), "", 0.02, samples=[Sample(0.0, 0.1, {"A": 1.0})])
    plain = trace.to_json()
    del plain["lost"], plain["conditions_after"]
    assert Trace.from_json(plain) == trace


def test_slow_readings_take_at_most_a_fifth_of_the_interval() -> None:
    assert [nominal_s(s) for s in (0.001, 0.006, 0.012, 1.0)] == [0.02, 0.04, 0.06, 0.2]


def test_a_meter_that_stops_at_once_leaves_an_empty_trace() -> None:
    meter = Moody(set(range(4, 9)))
    trace = new_trace(meter)
    sample(meter, trace, lambda: False, sleep=lambda s: None)
    assert trace.samples == [] and trace.lost == 2 and trace.stopped


def test_joules_of_a_writer_that_adds_up_its_own_in_real_time() -> None:
    """Right, or, on a machine too busy to sample, said to be invalid.

    53 steps of 6 W, each known to 20 ms/√12, leave 1.2 % of the 24 J in 4 s; five of those are
    allowed here. The 60 s of benchmarks/power/ must agree within 3 %.
    """
    played, trace, start = run(4.0)
    got = energy(trace, (start, start + 4.0))
    off = compare(played, trace, start, start + 4.0)["error"]
    assert abs(off) <= 0.06 or got.coverage < MIN_COVERAGE or len(trace.samples) < 150, off
