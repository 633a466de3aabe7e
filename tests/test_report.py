"""Reports: statistics by hand, replay to the byte, pages that need nothing else."""

from __future__ import annotations

import copy
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_records import quality, record, with_power
from rich.console import Console

from edgesr.errors import BadConfig
from edgesr.report import (
    complete,
    dumps,
    markdown_table,
    read,
    to_html,
    to_markdown,
    to_table,
    write,
)
from edgesr.report.figures import bootstrap, figure, percentile
from edgesr.report.rows import amount, digits
from edgesr.report.svg import axis


def test_percentiles_need_their_samples() -> None:
    values = [float(k) for k in range(1, 21)]
    assert percentile(values, 50, "ms") == {
        "value": 10.5, "unit": "ms", "kind": "measured", "samples": 20}  # fmt: skip
    assert percentile(values, 90, "ms")["value"] == pytest.approx(18.1)  # 1 + 0.9 · 19
    short = percentile(values, 95, "ms")
    assert short["value"] is None and short["note"] == "p95 needs 40 samples, there are 20"
    assert percentile([1.0] * 4, 50, "ms")["value"] is None
    assert percentile([1.0] * 5, 50, "ms")["value"] == 1.0
    assert percentile([1.0] * 199, 99, "ms")["value"] is None
    assert percentile([1.0] * 200, 99, "ms")["value"] == 1.0


def test_bootstrap_agrees_with_all_3125_draws_of_five() -> None:
    times = [1.0, 2.0, 4.0, 8.0, 16.0]
    exact = [np.mean(draw) for draw in itertools.product(times, repeat=5)]
    interval = bootstrap(5, lambda picks: float(np.mean([times[k] for k in picks])))
    assert interval == pytest.approx(tuple(np.percentile(exact, [2.5, 97.5])), abs=0.4)
    assert bootstrap(4, lambda picks: 7.0) == (7.0, 7.0)
    assert bootstrap(2, lambda picks: 7.0) is None


def test_figures_keep_counts_exact_and_round_the_rest() -> None:
    assert figure(127_766_937_600, "MAC", "counted")["value"] == 127_766_937_600
    assert figure(1 / 3, "ms", "measured")["value"] == 0.333333
    assert "note" not in figure(1, "1", "counted")


def test_figures_of_the_record() -> None:
    report = complete(record())
    big, small = (m["figures"] for m in report["models"])
    assert big["latency_p50_ms"]["value"] == 1000.0 and big["latency_p90_ms"]["value"] is None
    assert small["latency_p95_ms"]["value"] == 100.0 and small["latency_p99_ms"]["value"] is None
    assert small["cpu_median_ms"]["value"] == 200.0
    assert small["throughput_fps"]["value"] == 10.0
    assert small["throughput_mps"]["value"] == pytest.approx(10 * 1280 * 720 / 1e6)
    assert small["memory_model_mb"]["value"] == 40.0 and small["memory_process_mb"]["value"] == 90.0
    (comparison,) = report["comparisons"]
    assert comparison["figures"]["speedup"] == {
        "value": 10.0, "unit": "1", "kind": "measured", "ci95": [10.0, 10.0],
        "samples": 5}  # fmt: skip
    assert all(f["kind"] in {"measured", "counted"} and "unit" in f
               for m in report["models"] for f in m["figures"].values())  # fmt: skip


def test_speedup_interval_comes_from_repetitions_and_admits_no_difference() -> None:
    made = record()
    small = made["models"][1]["raw"]["samples"]
    small["wall_ms"] = [float(900 + 100 * r) for r in small["repetition"]]  # 900 to 1300
    speedup = complete(made)["comparisons"][0]["figures"]["speedup"]
    assert speedup["value"] == pytest.approx(1000 / 1100, abs=1e-6)
    assert speedup["ci95"][0] < speedup["value"] < speedup["ci95"][1]
    assert speedup["ci95"][1] <= 1000 / 900 + 1e-3 and "holds 1" in speedup["note"]


def test_energy_by_hand() -> None:
    """10 W · 1 s = 10 J a teacher's call; 6 W · 0.1 s = 0.6 J a student's; idle 4 W off: 6, 0.2."""
    report = complete(with_power())
    big, small = (m["figures"] for m in report["models"])
    assert big["energy_j_per_frame"]["value"] == pytest.approx(10.0, rel=0.01)
    assert small["energy_j_per_frame"]["value"] == pytest.approx(0.6, rel=0.01)
    assert big["energy_net_j_per_frame"]["value"] == pytest.approx(6.0, rel=0.02)
    assert small["energy_net_j_per_frame"]["value"] == pytest.approx(0.2, rel=0.03)
    assert small["energy_j_per_mp"]["value"] == pytest.approx(0.6 / 0.9216, rel=0.01)
    assert big["power_mean_w"]["value"] == pytest.approx(10.0, rel=0.01)
    assert report["energy"]["loaded_idle_before_w"]["value"] == pytest.approx(4.0)
    assert report["energy"]["total"] == "IN" and report["energy"]["problems"] == []
    assert "ci95" in big["energy_j_per_frame"]
    assert "by fake, IN: module" in to_markdown(report)


def test_energy_that_must_not_be_used() -> None:
    drifted = complete(with_power(idle_after=5.0))
    assert any(c["name"] == "energy" and not c["ok"] for c in drifted["checks"])
    assert "idle power moved by 25%" in to_markdown(drifted)
    unknown = complete(with_power(total=()))
    figures = unknown["models"][0]["figures"]
    assert figures["energy_j_per_frame"]["value"] is None
    assert "not known" in figures["energy_j_per_frame"]["note"]
    holes = with_power()
    trace = holes["power"]["trace"]
    keep = [k for k, t in enumerate(trace["before_s"]) if not 12.0 < t < 14.0]
    for column in (trace, trace["values"]):
        for key, values in column.items():
            if isinstance(values, list) and len(values) == 2000:
                column[key] = [values[k] for k in keep]
    big, small = (m["figures"]["energy_j_per_frame"] for m in complete(holes)["models"])
    assert small["value"] is None and "readings cover 80% of the time" in small["note"]
    assert big["value"] is not None


def test_idle_power_is_not_made_up_after_the_readings_ended() -> None:
    made = with_power()
    made["power"]["loaded_idle"][1] = [35.0, 55.0]  # the last reading is at 40 s
    report = complete(made)
    energy = report["energy"]
    assert energy["loaded_idle_before_w"]["value"] == pytest.approx(4.0)
    assert energy["loaded_idle_after_w"]["value"] is None and energy["loaded_idle_after_w"]["note"]
    assert energy["problems"] == ["idle power could not be measured"]
    net = report["models"][0]["figures"]["energy_net_j_per_frame"]
    assert net["value"] == pytest.approx(6.0, rel=0.02)  # by the idle window that was measured


def test_no_meter_is_null_with_reason_and_fix() -> None:
    report = complete(record())
    assert report["energy"] is None
    assert report["models"][0]["figures"]["energy_j_per_frame"] == {
        "value": None, "unit": "J/frame", "kind": "measured",
        "note": "no power sensor here"}  # fmt: skip
    text = to_markdown(report)
    assert (
        "J/frame: not measured: no power sensor here. To measure it: run it on the board." in text
    )


def test_quality_mean_infinite_psnr_and_baseline() -> None:
    made = record()
    made["models"][0]["raw"]["quality"] = quality(28.0)
    made["models"][1]["raw"]["quality"] = quality(None)
    made["baseline"] = {"name": "bicubic", "quality": quality(26.0)}
    report = complete(made)
    big, small = (m["figures"]["psnr_y_db"] for m in report["models"])
    assert big["value"] == 29.0 and big["samples"] == 2
    assert small["value"] is None and "infinite" in small["note"]
    assert "| bicubic | – | – | – | – | – | – | 28.00 | 0.8000 |" in to_markdown(report)
    assert report["comparisons"][0]["figures"]["psnr_y_gain_db"]["value"] is None


@pytest.mark.parametrize("make", [record, with_power])
def test_replay_gives_the_same_bytes(tmp_path: Path, make: Any) -> None:
    report = complete(make())
    write(tmp_path / "r.json", dumps(report))
    again = read(tmp_path / "r.json")
    assert again == report and dumps(again) == dumps(report)
    assert to_markdown(again) == to_markdown(report) and to_html(again) == to_html(report)


def test_replay_recomputes_instead_of_trusting(tmp_path: Path) -> None:
    report = complete(record())
    forged = copy.deepcopy(report)
    forged["models"][1]["figures"]["latency_p50_ms"]["value"] = 0.001
    forged["comparisons"] = []
    (tmp_path / "r.json").write_text(json.dumps(forged))
    assert read(tmp_path / "r.json") == report


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "no report of schema"),
        ('{"schema": "edgesr.bench/9"}', "it says 'edgesr.bench/9'"),
        ('{"schema": "edgesr.bench/1", "models": []}', "damaged"),
        ('{"schema": "edgesr.bench/1", "models": [{}]}', "damaged"),
    ],
)
def test_replay_of_something_else(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BadConfig, match=message):
        read(tmp_path / "r.json")
    with pytest.raises(BadConfig, match="cannot read"):
        read(tmp_path / "absent.json")


def test_replay_of_a_report_whose_calls_took_no_time(tmp_path: Path) -> None:
    made = record()
    made["models"][0]["raw"]["samples"]["wall_ms"] = [0.0] * 10
    (tmp_path / "r.json").write_text(json.dumps(made))
    with pytest.raises(BadConfig, match="damaged"):
        read(tmp_path / "r.json")


def test_markdown_table_makes_cells_harmless() -> None:
    assert markdown_table(["a", "b"], [["x|y", 1], ["two\nlines", 2.5]]) == (
        "| a | b |\n| :-- | --: |\n| x\\|y | 1 |\n| two lines | 2.5 |\n"
    )


def test_checks_speak_up() -> None:
    made = record()
    made["conditions"]["before"].update(governor="schedutil", load_average_1min=1.9)
    made["conditions"]["after"].update(governor="performance")
    walls = made["models"][1]["raw"]["samples"]["wall_ms"]
    walls[-40:] = [120.0] * 40
    made["models"][0]["raw"]["warm_up"].update(stable=False, cov=None)
    text = to_markdown(complete(made))
    assert "governor: schedutil → performance" in text
    assert "load average 1.90 on 2 cores" in text
    assert "small +20%" in text and "had not settled after the warm-up: big" in text


def test_axes_have_round_ticks_inside() -> None:
    a = axis("ms", [12.0, 5300.0], log=True)
    assert a.ticks() == [10.0, 100.0, 1000.0]
    assert axis("ms", [12.0, 300.0], log=True).ticks() == [10.0, 20.0, 50.0, 100.0, 200.0]
    assert axis("ms", [30.0, 30.4], log=True).ticks() == [25.0, 30.0, 35.0]
    assert axis("s", [0.0, 24.0]).ticks() == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]
    assert a.place(a.low) == 0.0 and a.place(a.high) == 1.0
    assert len(axis("dB", [28.4, 28.4]).ticks()) >= 2


def test_texts_of_numbers() -> None:
    assert [amount(n) for n in (16_900, 1_545_238, 127_766_937_600, 999, 999_999, None)] == [
        "16.9 k", "1.55 M", "128 G", "999", "1.00 M", "–"]  # fmt: skip
    assert [digits(x) for x in (2244.3, 99.96, 19.44, 0.012345, 0.0)] == [
        "2244", "100", "19.4", "0.0123", "0"]  # fmt: skip


def test_terminal_table_shows_every_model() -> None:
    out = io.StringIO()
    Console(width=110, file=out).print(to_table(complete(record())))
    text = out.getvalue()
    assert "big (teacher)" in text and "small (student)" in text and "10.0×" in text
