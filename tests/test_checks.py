"""What makes a run invalid, what asks for a look, and what could not be checked."""

from __future__ import annotations

from typing import Any

import pytest
from bench_records import record, with_power

from edgesr.report import complete, to_html, to_markdown
from edgesr.report.verdict import verdict


def watched(**columns: dict[str, list[float | None]]) -> dict[str, Any]:
    """The record with a look each second over its forty; a column's last value stays.

    Student and teacher take turns of two seconds from second 10 to 30.
    """
    made = record()
    times = [float(t) for t in range(41)]
    made["watch"] = {
        "interval_s": 1.0, "trips_c": {"cpu-thermal": 99.0}, "at_s": times,
        "cpu_ms": [0.4] * len(times),
        **{name: {key: [*v, *[v[-1]] * (len(times) - len(v))] for key, v in by_name.items()}
           for name, by_name in columns.items()},
    }  # fmt: skip
    for model in made["models"]:
        model["runtime"] = "onnxruntime-cpu"
    return made


def found(made: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [check for check in complete(made)["checks"] if check["name"] == name]


def validity(made: dict[str, Any]) -> dict[str, Any]:
    report = complete(made)
    # Valid exactly if no check says that it is not, and said the same everywhere.
    assert report["validity"]["valid"] is not any(c.get("invalid") for c in report["checks"])
    assert verdict(report)[1] in to_markdown(report) and "</html>" in to_html(report)
    return dict(report["validity"])


def test_a_record_that_was_not_watched_is_valid_and_says_so() -> None:
    got = validity(record())
    assert got["valid"] and got["reasons"] == []
    assert got["not_checked"] == [
        "clocks, temperatures and throttling: this record was made without watching them"
    ]
    assert "| not checked |" in to_markdown(complete(record()))


def test_a_machine_that_tells_nothing_is_valid_and_says_what_was_not_checked() -> None:
    got = validity(watched())
    assert got["valid"] and got["not_checked"][0].startswith("clocks, temperatures, throttling:")


def test_a_steady_machine() -> None:
    made = watched(
        cpu_clock_mhz={"policy0": [2000.0]}, cpu_limit_mhz={"policy0": [2000.0]},
        temperatures_c={"cpu-thermal": [60.0], "gpu-thermal": [None, 70.0]},
        cooling={"cpufreq-cpu0": [0.0]},
    )  # fmt: skip
    assert validity(made)["valid"] and validity(made)["not_checked"] == [
        "over-current: only with a meter"
    ]
    assert [c["ok"] for c in complete(made)["checks"] if c["name"] != "samples"] == [True] * 11
    assert "nothing says" in found(made, "throttling")[0]["text"]


@pytest.mark.parametrize(
    ("key", "before", "after", "words"),
    [
        ("power_mode", "15W", "MAXN_SUPER", "power_mode: 15W → MAXN_SUPER"),
        ("governor", "schedutil", "performance", "governor: schedutil → performance"),
        ("gpu_governor", {"gpu": "a"}, {"gpu": "b"}, "gpu_governor: gpu a → gpu b"),
        ("clock_limits_khz", "1 to 3", "1 to 2", "clock_limits_khz: 1 to 3 → 1 to 2"),
        ("cores_usable", 6, 4, "cores_usable: 6 → 4"),
    ],
)
def test_a_setting_that_changed_makes_it_invalid(
    key: str, before: Any, after: Any, words: str
) -> None:
    made = record()
    made["conditions"]["before"][key], made["conditions"]["after"][key] = before, after
    got = validity(made)
    assert not got["valid"] and words in got["reasons"][0]
    assert complete(made)["models"][0]["figures"]["latency_p50_ms"]["value"] == 1000.0, "kept"


def test_what_was_told_only_once_has_not_changed() -> None:
    made = record()
    made["conditions"]["before"]["power_mode"] = "15W"
    assert validity(made)["valid"]


def test_load_and_spread_only_ask_for_a_look() -> None:
    made = record()
    made["conditions"]["before"]["load_average_1min"] = 7.0
    made["models"][0]["raw"]["warm_up"]["stable"] = False
    assert validity(made)["valid"]
    assert [c["ok"] for c in found(made, "other load")] == [False]


def test_a_clock_counts_only_while_the_model_runs() -> None:
    """Idle it is low; in the turns of both it is 2000 MHz all the time."""
    clock = [2000.0 if 10 <= t <= 30 else 800.0 for t in range(41)]
    checks = found(watched(cpu_clock_mhz={"policy0": clock}), "clocks")
    assert [c["ok"] for c in checks] == [True, True]
    assert checks[0]["text"].startswith("clock of the fastest core +0.0%")


def test_a_clock_that_fell_asks_for_a_look_and_if_pinned_makes_it_invalid() -> None:
    clock = [2000.0] * 20 + [1500.0]
    made = watched(cpu_clock_mhz={"policy0": clock, "policy4": [400.0]})
    checks = found(made, "clocks")
    assert [c["ok"] for c in checks] == [False, False] and "-25.0%" in checks[0]["text"]
    assert "--lock-clocks" in checks[0]["text"] and validity(made)["valid"]
    assert "Look: big: clock of the fastest core -25.0%" in to_markdown(complete(made))
    made["conditions"]["before"]["clocks_pinned"] = True
    got = validity(made)
    assert len(got["reasons"]) == 2 and got["reasons"][0].startswith("big: clock of the fastest")
    assert "although it was pinned" in got["reasons"][0]


def test_the_gpu_counts_for_what_ran_on_it() -> None:
    made = watched(
        cpu_clock_mhz={"policy0": [2000.0]}, gpu_clock_mhz={"gpu": [600.0] * 20 + [300.0]}
    )
    assert all(c["ok"] for c in found(made, "clocks"))
    made["models"][1]["runtime"] = "tensorrt-10.3.0"
    assert [c["ok"] for c in found(made, "clocks")] == [True, False]
    assert "clock of the GPU -50.0%" in found(made, "clocks")[1]["text"]


def test_too_few_looks_tell_nothing_of_a_clock() -> None:
    made = watched(cpu_clock_mhz={"policy0": [None] * 28 + [2000.0]})
    assert found(made, "clocks") == []
    assert validity(made)["not_checked"][:2] == [
        "clocks: fewer than 6 looks in each network's turns",
        "temperatures, throttling: this machine does not tell them",
    ]


@pytest.mark.parametrize(
    ("highest", "ok", "valid"), [(93.0, True, True), (95.0, False, True), (99.0, False, False)]
)
def test_temperatures_against_the_trip(highest: float, ok: bool, valid: bool) -> None:
    made = watched(temperatures_c={"cpu-thermal": [50.0, highest, 60.0]})
    (check,) = found(made, "temperatures")
    assert check["ok"] is ok and validity(made)["valid"] is valid
    assert f"cpu-thermal reached {highest:.0f} °C; from 99 °C on it is slowed" in check["text"]


def test_without_a_trip_the_hottest_is_told() -> None:
    made = watched(temperatures_c={"soc": [41.0, 44.0, 43.0]})
    assert found(made, "temperatures")[0]["text"] == "at most 44 °C (soc); no limit is told"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"cooling": {"cpufreq-cpu0": [0.0, 2.0, 0.0]}}, "cpufreq-cpu0 was slowed for heat"),
        ({"cooling": {"cpufreq-cpu0": [1.0, 1.0]}}, "from the start (state 1)"),
        ({"cpu_limit_mhz": {"policy0": [2000.0, 1500.0, 2000.0]}},
         "the limit of policy0 fell from 2000 to 1500 MHz"),
        ({"gpu_limit_mhz": {"17000000.gpu": [918.0, 612.0]}}, "17000000.gpu fell from 918 to 612"),
        ({"raspberry": {"throttled": [0.0, 5.0, 0.0]}},
         "the board reports under-voltage, throttled"),
        ({"card_slowed": {"gpu-0": [0.0, 64.0]}}, "gpu-0 reports hardware thermal slowdown"),
    ],
)  # fmt: skip
def test_a_machine_that_slowed_itself_makes_it_invalid(columns: dict[str, Any], words: str) -> None:
    got = validity(watched(**columns))
    assert not got["valid"] and words in got["reasons"][0]


def test_a_powerclamp_that_is_off_is_not_at_work() -> None:
    assert validity(watched(cooling={"intel_powerclamp": [-1.0]}))["valid"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("0x0", "0x40000", "throttled"),  # since the start of the machine: in this run
        ("0x50000", "0x50000", ""),  # long ago
        ("0x50000", "0x50001", "under-voltage"),
        ("0x0", "0x0", ""),
    ],
)
def test_bits_of_a_raspberry_pi(before: str, after: str, words: str) -> None:
    made = watched()
    made["conditions"]["before"]["throttled"] = before
    made["conditions"]["after"]["throttled"] = after
    got = validity(made)
    assert got["reasons"] == ([f"the board reports {words}"] if words else [])


def test_a_processor_that_counts_its_slowing() -> None:
    made = watched()
    for when, count in (("before", 3), ("after", 5)):
        made["conditions"][when]["thermal_throttle_count"] = count
    assert validity(made)["reasons"] == ["the processor's count of slowing for heat rose by 2"]


def test_over_current_and_a_meter_that_stopped() -> None:
    made = with_power()
    assert validity(made)["valid"] and found(made, "over-current") == []
    trace = made["power"]["trace"]
    trace["conditions_after"] = {"IN/crit": "5000", "IN/crit_alarm": "0", "IN/highest": "4800"}
    assert [c["ok"] for c in found(made, "over-current")] == [True]
    trace["conditions_after"]["IN/crit_alarm"] = "1"
    got = validity(made)
    assert len(got["reasons"]) == 1 and "over-current alarm on IN during" in got["reasons"][0]
    trace["conditions_after"]["IN/crit_alarm"] = "0"
    trace["stopped"] = "the power sensor does not answer: /sys/x/curr1_input"
    assert validity(made)["reasons"] == [trace["stopped"]]


def test_validity_is_made_anew_from_the_record() -> None:
    made = watched(cooling={"cpufreq-cpu0": [0.0, 2.0]})
    made["validity"] = {"valid": True, "reasons": [], "not_checked": []}
    once = complete(made)
    assert not once["validity"]["valid"] and complete(once) == once
