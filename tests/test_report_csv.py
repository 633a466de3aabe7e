"""CSV: every figure with its unit, every call, and replay to the byte in every form."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from bench_records import quality, record, with_power
from test_report_page import full_record
from typer.testing import CliRunner

from edgesr.cli.main import app
from edgesr.report import FORMS, complete, dumps, read, samples_to_csv, to_csv

RUNNER = CliRunner()
RECORDED = Path(__file__).parents[1] / "benchmarks" / "results" / "cpu-2026-11.json"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_figure_is_a_column_with_its_unit() -> None:
    report = complete(full_record())
    found = rows(to_csv(report))
    assert [(r["model"], r["role"]) for r in found] == [
        ("big", "teacher"), ("<small>", "student"), ("bicubic", "baseline"), ("broken", "failed"),
    ]  # fmt: skip
    for model, row in zip(report["models"], found, strict=False):
        for name, f in model["figures"].items():
            text = row[f"{name} [{f['unit']}]"]
            assert (float(text) if text else None) == f["value"], name
    assert found[1]["against teacher: speedup [1]"] == "10.0"
    assert found[1]["against teacher: speedup 95 % low [1]"] == "10.0"
    assert found[0]["energy_j_per_frame 95 % high [J/frame]"] != ""
    assert found[3]["reason"] == "no such file" and found[3]["parameters [1]"] == ""
    assert found[2]["psnr_y_db [dB]"] == "28.0" and found[0]["machine"] == "Test <CPU> | one"


def test_every_call_is_a_row_as_recorded() -> None:
    made = record()
    raw = made["models"][1]["raw"]
    raw["whole"] = {"repetition": [0, 0], "start_s": [50.0, 51.0], "wall_ms": [120.0, 121.0]}
    raw["throughput"] = [{"batch": 2, "streams": 1, "start_s": [60.0], "wall_ms": [199.0]},
                         {"batch": 8, "streams": 1, "missing": "no memory"}]  # fmt: skip
    found = rows(samples_to_csv(made))
    own = [r for r in found if r["kind"] == "samples"]
    for model in made["models"]:
        mine = [float(r["wall_ms"]) for r in own if r["model"] == model["name"]]
        assert mine == model["raw"]["samples"]["wall_ms"]
    assert [r["wall_ms"] for r in found if r["kind"] == "whole"] == ["120.0", "121.0"]
    (window,) = (r for r in found if r["kind"] == "throughput")
    assert (window["batch"], window["streams"], window["wall_ms"]) == ("2", "1", "199.0")


def bad_name() -> dict[str, Any]:
    made = record()
    made["models"][1]["name"] = 'a,"b"\nc'
    made["models"][1]["raw"]["quality"] = quality(None)
    return made


def test_names_with_commas_and_quotes_come_back() -> None:
    assert rows(to_csv(complete(bad_name())))[1]["model"] == 'a,"b"\nc'


@pytest.mark.parametrize("make", [record, with_power, full_record, bad_name])
def test_replay_gives_every_form_byte_for_byte(tmp_path: Path, make: Any) -> None:
    report = complete(make())
    path = tmp_path / "r.json"
    path.write_text(dumps(report), encoding="utf-8")
    again = read(path)
    for name, form in FORMS.items():
        assert form(again) == form(report), name


def test_the_recorded_run_still_replays(tmp_path: Path) -> None:
    """What was measured is untouched, and a second replay gives every form byte for byte."""
    report = read(RECORDED)
    path = tmp_path / "again.json"
    path.write_text(dumps(report), encoding="utf-8")
    again = read(path)
    for name, form in FORMS.items():
        assert form(again) == form(report), name
    old = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert [m["raw"] for m in report["models"]] == [m["raw"] for m in old["models"]]
    for before, now in zip(old["models"], report["models"], strict=True):
        for name in ("latency_p50_ms", "psnr_y_db", "memory_model_mb", "throughput_fps"):
            assert now["figures"][name]["value"] == before["figures"][name]["value"], name


@pytest.mark.parametrize(
    ("key", "value"),
    [("crops", [{}]), ("crops", [{"panels": 3}]), ("failed", [{}]), ("inputs", {}),
     ("created_utc", None), ("settings", {}), ("power", {}), ("baseline", {}),
     ("conditions", {"before": {}, "after": 3})],
)  # fmt: skip
def test_a_damaged_record_is_one_line(tmp_path: Path, key: str, value: Any) -> None:
    made = json.loads(dumps(complete(full_record())))
    made[key] = value
    path = tmp_path / "r.json"
    path.write_text(json.dumps(made), encoding="utf-8")
    done = RUNNER.invoke(app, ["bench", "--replay", str(path), "--html", str(tmp_path / "r.html")])
    if done.exit_code:
        assert done.exit_code == 1 and "is a damaged report" in done.stderr
        assert done.stderr.count("\n") == 1
