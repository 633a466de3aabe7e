"""The state of a machine, on trees of boards; looks at it during a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import machines
import pytest

from edgesr.bench.cards import cards
from edgesr.bench.conditions import conditions
from edgesr.bench.jetpack import jetpack, l4t_version
from edgesr.bench.places import Places
from edgesr.bench.watch import Watcher


def test_orin_nano(tmp_path: Path) -> None:
    got = conditions(machines.orin_nano(tmp_path))
    assert got["board"].startswith("NVIDIA Jetson Orin Nano")
    assert (got["module"], got["jetpack"]) == ("p3767-0005", "6.2")
    assert got["l4t"].startswith("# R36 (release), REVISION: 4.3")
    assert (got["power_mode"], got["power_mode_id"]) == ("25W", "1")
    assert got["cpu"] == "ARMv8 Processor rev 1 (v8l)"
    assert got["governor"] == "schedutil"
    assert got["clock_limits_khz"] == "729600 to 1344000"
    assert got["cpu_clock_mhz"] == {"policy0": 729.6, "policy4": 1344.0}
    assert got["gpu_governor"] == {"17000000.gpu": "nvhost_podgov"}, "the video unit is no GPU"
    assert got["gpu_clock_mhz"] == {"17000000.gpu": 306.0}
    assert got["gpu_clock_limits_mhz"] == {"17000000.gpu": "306 to 918"}
    assert got["clocks_pinned"] is False and "emc_clock_mhz" not in got
    assert got["temperatures_c"] == {"cpu-thermal": 48.5, "tj-thermal": 49.5}
    assert got["cooling"] == {"cpufreq-cpu0": 0, "gpu-throttle-alert": 0}
    assert got["fan"] == {"pwmfan": "88 of 255", "pwm_tach": "2410 rpm"}
    assert got["memory_bytes"] == 7802896 * 1024 and got["nvmap_bytes"] == 51200 * 1024
    assert got["versions"]["CUDA"] == "12.6.11"
    if "tensorrt" not in got["versions"]:
        assert got["versions"]["TensorRT"].count(".") == 2
    assert "throttled" not in got


def test_agx_orin_read_by_root_tells_its_memory_clock(tmp_path: Path) -> None:
    got = conditions(machines.agx_orin(tmp_path))
    assert (got["module"], got["jetpack"], got["power_mode"]) == ("p3701-0005", "5.1.2", "MAXN")
    assert got["emc_clock_mhz"] == 3199.0
    assert got["gpu_clock_limits_mhz"] == {"17000000.ga10b": "306 to 1300.5"}


def test_thor_has_two_gpu_clocks(tmp_path: Path) -> None:
    got = conditions(machines.thor(tmp_path))
    assert (got["module"], got["jetpack"]) == ("p3834-0008", "7.1")
    assert got["gpu_clock_mhz"] == {"gpu-gpc-0": 1575.0, "gpu-nvd-0": 1692.0}
    assert got["emc_clock_mhz"] == 4266.0


def test_old_xavier(tmp_path: Path) -> None:
    got = conditions(machines.xavier_nx(tmp_path))
    assert (got["module"], got["jetpack"]) == ("p3668-0000", "4.6.1")
    assert (got["power_mode"], got["power_mode_id"]) == ("MODE_15W_6CORE", "2")
    assert got["versions"]["CUDA"] == "10.2.300"
    assert got["temperatures_c"] == {"AO-therm": 39.0, "PMIC-Die 1": 50.0, "PMIC-Die 2": 100.0}


def test_raspberry_pi(tmp_path: Path) -> None:
    got = conditions(machines.pi5(tmp_path))
    assert got["throttled"] == "0x50000" and got["cpu_clock_mhz"] == {"policy0": 2400.0}
    assert not {"module", "jetpack", "power_mode", "gpu_clock_mhz", "cooling"} & got.keys()


def test_a_virtual_machine_tells_little_and_that_is_left_out(tmp_path: Path) -> None:
    got = conditions(machines.virtual(tmp_path))
    assert got["memory_bytes"] == 24684288 * 1024 and got["versions"]["python"]
    assert not {"board", "governor", "clocks_pinned", "temperatures_c", "fan"} & got.keys()


def test_the_environment_names_another_sys(tmp_path: Path, monkeypatch: Any) -> None:
    machines.orin_nano(tmp_path)
    monkeypatch.setenv("EDGESR_SYSFS_ROOT", str(tmp_path / "sys"))
    got = conditions()
    assert got["power_mode"] == "25W" and got["gpu_clock_mhz"] == {"17000000.gpu": 306.0}
    assert "module" not in got, "/proc is this machine's"


def test_clocks_of_older_kernels_lie_below_each_core(tmp_path: Path) -> None:
    for core, governor in enumerate(("schedutil", "performance")):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_"
        machines.write(tmp_path, {f"{folder}governor": governor, f"{folder}cur_freq": "1510400"})
    got = conditions(tmp_path)
    assert got["governor"] == "schedutil, performance"
    assert got["cpu_clock_mhz"] == {"cpu0": 1510.4, "cpu1": 1510.4}


@pytest.mark.parametrize(
    ("line", "l4t", "name"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1", "36.4.3", "6.2"),
        ("# R36 (release), REVISION: 4.7, GCID: 1", "36.4.7", "6.1 to 6.2.2"),
        ("# R35 (release), REVISION: 6.2, GCID: 1", "35.6.2", "5.1.4 to 5.1.6"),
        ("# R32 (release), REVISION: 6.1, GCID: 1", "32.6.1", "4.6"),
        ("# R39 (release), REVISION: 2.0, GCID: 1", "39.2.0", "7.2"),
        ("# R99 (release), REVISION: 1.0, GCID: 1", "99.1.0", ""),
        ("", "", ""),
    ],
)
def test_jetpack_of_an_l4t(line: str, l4t: str, name: str) -> None:
    assert l4t_version(line) == l4t and jetpack(l4t) == name


def test_a_look_keeps_what_is_told_and_none_for_what_is_not(tmp_path: Path) -> None:
    places = Places.below(machines.orin_nano(tmp_path))
    now = iter(range(10, 99))
    with Watcher(lambda: float(next(now)), places=places, interval_s=3600) as watch:
        machines.write(tmp_path, machines.zone(0, "cpu-thermal", 80))
        (tmp_path / machines.CPU / "policy4/scaling_cur_freq").unlink()
        machines.write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "3"})
    got = watch.to_json(9.0)
    assert got["at_s"] == [1.0, 2.0] and len(got["cpu_ms"]) == 2
    assert got["cpu_clock_mhz"] == {"policy0": [729.6, 729.6], "policy4": [1344.0, None]}
    assert got["cpu_limit_mhz"]["policy0"] == [1344.0, 1344.0]
    assert got["gpu_clock_mhz"] == {"17000000.gpu": [306.0, 306.0]}
    assert got["temperatures_c"]["cpu-thermal"] == [48.5, 80.0]
    assert got["cooling"] == {"cpufreq-cpu0": [0.0, 3.0], "gpu-throttle-alert": [0.0, 0.0]}
    assert got["trips_c"] == {"cpu-thermal": 99.0, "tj-thermal": 104.5}


def test_it_looks_by_itself_while_the_block_runs(tmp_path: Path) -> None:
    places = Places.below(machines.pi5(tmp_path))
    with Watcher(places=places, interval_s=0.01) as watch:
        end = time.perf_counter() + 10
        while len(watch.at_s) < 4 and time.perf_counter() < end:
            time.sleep(0.01)
    assert len(watch.at_s) >= 5, "one at the start, some between, one at the end"
    assert watch.values["raspberry"]["throttled"][0] == 0x50000
    assert sorted(watch.at_s) == watch.at_s


def test_a_machine_that_tells_nothing_is_not_looked_at(tmp_path: Path) -> None:
    with Watcher(places=Places.below(machines.virtual(tmp_path))) as watch:
        pass
    assert watch.to_json(0)["at_s"] == [] and watch.values == {}


class NvmlError(Exception):
    """Of the stand-in for NVIDIA's binding."""


def card_library(**answers: Any) -> Callable[[], Any]:
    """A stand-in for pynvml with one card; what is not in `answers` is not supported."""

    def ask(name: str) -> Callable[..., Any]:
        def asked(handle: str, *arguments: Any) -> Any:
            if name not in answers:
                raise NvmlError("Not Supported")
            return answers[name]

        return asked

    names = ("Name", "ClockInfo", "MaxClockInfo", "Temperature", "CurrentClocksEventReasons",
             "ComputeRunningProcesses")  # fmt: skip
    lib = SimpleNamespace(NVMLError=NvmlError, nvmlInit=lambda: None,
                          nvmlDeviceGetCount=lambda: 1,
                          nvmlDeviceGetHandleByIndex=lambda k: f"handle {k}",
                          **{f"nvmlDeviceGet{name}": ask(name) for name in names})  # fmt: skip
    return lambda: lib


def test_a_card_tells_its_clock_heat_and_why_it_is_slow() -> None:
    ours = SimpleNamespace(pid=7, usedGpuMemory=5 << 20)
    other = SimpleNamespace(pid=8, usedGpuMemory=9 << 20)
    # 0x24: power cap (a card's usual state under load) and software thermal slowdown.
    found = cards(card_library(Name=b"Some Card", ClockInfo=1500, Temperature=84,
                               CurrentClocksEventReasons=0x24,
                               ComputeRunningProcesses=[other, ours]))  # fmt: skip
    assert [card.name for card in found] == ["gpu-0"] and found[0].model() == "Some Card"
    assert (found[0].clock_mhz(), found[0].temperature_c()) == (1500.0, 84.0)
    assert found[0].slowed() == 0x20 and found[0].most_mhz() is None
    assert found[0].process_bytes(7) == 5 << 20 and found[0].process_bytes(9) is None
    got = conditions(find_cards=lambda: found)
    assert got["gpu"] == "Some Card" and got["gpu_clock_mhz"]["gpu-0"] == 1500.0
    assert got["temperatures_c"]["gpu-0"] == 84.0


def test_without_the_binding_there_are_no_cards() -> None:
    def absent() -> Any:
        raise ImportError

    assert cards(absent) == []
