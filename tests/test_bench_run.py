"""bench from beginning to end, in a world whose clock only calls move."""

from __future__ import annotations

import dataclasses
import html
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bench_world import Nearest, World, tools
from rich.console import Console

from edgesr.bench.config import BenchConfig
from edgesr.bench.run import Tools, bench
from edgesr.bench.subjects import UNTRAINED, Subject
from edgesr.errors import BadConfig, BadImage, BadModel, Impossible, MissingExtra
from edgesr.report import to_html, to_markdown, to_table

SMALL = {"width": 12, "height": 8}  # the fake runs on real arrays


def test_slow_teacher_makes_exactly_five_calls_and_the_student_many() -> None:
    world = World(srgan=3.0, balanced=1 / 32)
    report = bench(BenchConfig(duration_s=20.0, **SMALL), tools=tools(world))
    big, small = report["models"]
    assert big["figures"]["latency_p50_ms"]["samples"] == 5
    assert big["figures"]["latency_p90_ms"]["value"] is None
    assert small["figures"]["latency_p50_ms"]["samples"] == 5 * 64  # twice a second in each
    assert small["figures"]["latency_p99_ms"]["value"] == pytest.approx(31.25)
    assert report["comparisons"][0]["figures"]["speedup"]["value"] == pytest.approx(96.0)
    assert report["energy"] is None and "add --power" in to_markdown(report)
    assert report["models"][0]["figures"]["memory_model_mb"]["value"] == 3.0
    runs = "".join(c[0] for c in world.calls)
    assert runs.endswith(("b" * 32 + "s" + "b" * 32) * 5)


def test_without_the_packages_that_make_the_default_teacher_students_run_alone() -> None:
    usual = tools(World(balanced=0.1))

    def find(name: str, role: str, **rest: Any) -> Subject:
        if name == "srgan":
            raise MissingExtra("onnx", "export", "writing ONNX files")
        return usual.find(name, role, **rest)

    some = dataclasses.replace(usual, find=find)
    report = bench(BenchConfig(duration_s=5), tools=some)
    assert [m["role"] for m in report["models"]] == ["student"] and report["comparisons"] == []
    note = (
        "No teacher to compare with: writing ONNX files needs onnx: pip install 'edgesr[export]'."
    )
    assert note in to_markdown(report) and note in html.unescape(to_html(report))
    with pytest.raises(MissingExtra):
        bench(BenchConfig(duration_s=5, teacher="srgan"), tools=some)


def test_the_table_fits_80_columns_and_cuts_no_figure() -> None:
    name = "a-student-with-quite-a-long-name"
    report = bench(
        BenchConfig(duration_s=5, models=(name,)), tools=tools(World(**{"srgan": 83.82, name: 0.1}))
    )
    console = Console(width=80, file=io.StringIO())
    console.print(to_table(report))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "83820" in text and "838×" in text


def test_power_without_a_meter_is_null_and_only_fails_when_required() -> None:
    world = World(srgan=1.0, balanced=0.1)
    report = bench(BenchConfig(duration_s=5, power=True, **SMALL), tools=tools(world))
    assert report["energy"] is None
    note = report["models"][0]["figures"]["energy_j_per_frame"]["note"]
    assert note == "no sensor" and "buy a board" in to_markdown(report)
    world.calls.clear()
    with pytest.raises(Impossible, match=r"no sensor; buy a board"):
        bench(BenchConfig(require_power=True), tools=tools(world))
    assert world.calls == []


def test_power_of_constant_5_watts() -> None:
    class Steady:
        name, quantity, rails, total, scope = "fake", "W", ("IN",), ("IN",), "module"

        def read(self) -> dict[str, float]:
            return {"IN": 5.0}

        def conditions(self) -> dict[str, str]:
            return {}

    world = World(srgan=1.0, balanced=0.1)
    config = BenchConfig(duration_s=40.0, power=True, **SMALL)
    report = bench(config, tools=tools(world, Steady()))  # type: ignore[arg-type]
    big, small = (m["figures"] for m in report["models"])
    assert big["energy_j_per_frame"]["value"] == pytest.approx(5.0, rel=1e-3)
    assert small["energy_j_per_frame"]["value"] == pytest.approx(0.5, rel=1e-3)
    assert small["energy_net_j_per_frame"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert report["energy"]["idle_w"]["value"] == pytest.approx(5.0)
    idle, (before, after) = report["power"]["idle"], report["power"]["loaded_idle"]
    assert [round(end - start, 3) for start, end in (idle, before, after)] == [10.0, 10.0, 10.0]
    first_call = min(report["models"][0]["raw"]["samples"]["start_s"])
    assert before[1] <= first_call and after[0] >= 40.0


def test_20_seconds_suffice_for_the_energy_of_two_networks() -> None:
    """Neither time of a call divides a turn of 2 s; each network needs 10 s in all."""

    class Steady:
        name, quantity, rails, total, scope = "fake", "W", ("IN",), ("IN",), "module"

    world = World(srgan=1.3, balanced=0.07)
    report = bench(BenchConfig(duration_s=20, power=True, **SMALL), tools=tools(world, Steady()))  # type: ignore[arg-type]
    big, small = (m["figures"]["energy_j_per_frame"] for m in report["models"])
    assert big["value"] == pytest.approx(5.0 * 1.3, rel=1e-3), big
    assert small["value"] == pytest.approx(5.0 * 0.07, rel=1e-3), small


def test_quality_goes_through_the_given_function(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8, 3), np.uint8))
    seen = []

    def score(
        folder: Path, runtime: Any, scale: int, *, on_progress: Any, **_: Any
    ) -> dict[str, Any]:
        on_progress(1, 1)
        seen.append((folder, runtime.name if runtime else None, scale))
        row = {"name": "x", "psnr_y": 30.0, "ssim_y": 0.9, "psnr_rgb": 28.0, "ssim_rgb": 0.8}
        return {"convention": "Y", "pictures": [row]}

    world = World(raw=1.0, balanced=0.1)
    config = BenchConfig(teacher="raw", duration_s=2, quality=tmp_path)
    report = bench(config, score=score, tools=tools(world))
    # Bicubic first: it reads every picture before anything is timed.
    assert seen == [(tmp_path, None, 4), (tmp_path, "balanced", 4)]
    assert report["models"][0]["figures"]["psnr_y_db"]["note"] == UNTRAINED
    assert report["models"][1]["figures"]["psnr_y_db"]["value"] == 30.0
    assert report["baseline"]["figures"]["psnr_y_db"]["value"] == 30.0
    with pytest.raises(BadImage, match="no such folder"):
        bench(BenchConfig(quality=tmp_path / "absent"), score=score, tools=tools(world))


def test_a_model_of_one_fixed_size() -> None:
    world = World(srgan=1.0, balanced=0.1)
    plain = tools(world)
    fixed = Nearest("srgan", world)
    fixed.tile_shapes = ((128, 256),)

    def find(name: str, role: str, **rest: Any) -> Subject:
        return Subject(name, role, Path(name), "", {"missing": "x"}, lambda: fixed)

    with pytest.raises(BadModel, match="256x128"):
        bench(BenchConfig(), tools=Tools(**{**vars(plain), "find": find}))
    assert fixed.closed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher": "a", "models": ("a",)}, "named twice"),
        ({"width": 0}, "each side"),
        ({"duration_s": 0.5}, "1 to 86400 s"),
        ({"duration_s": float("nan")}, "1 to 86400 s"),
        ({"duration_s": float("inf")}, "1 to 86400 s"),
        ({"threads": 0}, "at least 1"),
        ({"repetitions": 0}, "repetition"),
    ],
)
def test_config_refuses(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        BenchConfig(**wrong)
