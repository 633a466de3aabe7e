"""`edgesr bench` on real small networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bench_world import World, tools
from typer.testing import CliRunner

from edgesr.bench.config import BenchConfig
from edgesr.bench.frames import cover, load_frames
from edgesr.bench.run import bench
from edgesr.cli.main import app
from edgesr.errors import Impossible, WriteFailed
from edgesr.report import dumps, read, to_html, to_markdown

RUNNER = CliRunner()


@pytest.mark.parametrize("form", ["json", "html", "md"])
def test_any_form_can_go_to_stdout(form: str, tmp_path: Path) -> None:
    report = bench(BenchConfig(duration_s=5), tools=tools(World(srgan=1.0, balanced=0.1)))
    (tmp_path / "r.json").write_text(dumps(report))
    done = RUNNER.invoke(app, ["bench", "--replay", str(tmp_path / "r.json"), f"--{form}", "-"])
    expected = {"json": dumps, "html": to_html, "md": to_markdown}[form](report)
    assert done.exit_code == 0 and done.stdout == expected
    both = ["--json", "-", "--md", "-"]
    assert RUNNER.invoke(app, ["bench", "--replay", str(tmp_path / "r.json"), *both]).exit_code == 2


def test_a_file_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "r.json"
    done = RUNNER.invoke(app, ["bench", "tiny", "--teacher", "fast", "--json", str(target)])
    assert done.exit_code == 1 and "a file, not a folder" in done.stderr
    assert "bench:" not in done.stderr


def test_a_disk_that_fills_up_costs_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = bench(BenchConfig(duration_s=5), tools=tools(World(srgan=1.0, balanced=0.1)))
    (tmp_path / "r.json").write_text(dumps(report))

    def full(path: Path, text: str) -> None:
        raise WriteFailed(f"cannot write {path}: No space left on device")

    monkeypatch.setattr("edgesr.report.write", full)
    options = ["--csv", str(tmp_path / "r.csv"), "--md", "-"]
    done = RUNNER.invoke(app, ["bench", "--replay", str(tmp_path / "r.json"), *options])
    assert done.exit_code == 1 and "No space left on device" in done.stderr
    assert done.stdout == to_markdown(report)


def test_command_on_real_networks(wide_and_narrow: tuple[Path, Path], tmp_path: Path) -> None:
    wide, narrow = wide_and_narrow
    originals = tmp_path / "originals"
    originals.mkdir()
    picture = cover(load_frames(160, 120).pictures[0], 80, 60)
    cv2.imwrite(str(originals / "x.png"), picture)
    out = {form: tmp_path / f"out.{form}" for form in ("json", "html", "md")}
    arguments = ["bench", str(narrow), "--teacher", str(wide), "--size", "64x36", "--duration", "1",
                 "--power", "--quality", str(originals), "--threads", "1"]  # fmt: skip
    arguments += [part for form, path in out.items() for part in (f"--{form}", str(path))]
    done = RUNNER.invoke(app, arguments, env={"EDGESR_SYSFS_ROOT": str(tmp_path)})
    assert done.exit_code == 0, done.output
    report = read(out["json"])
    assert dumps(report) == out["json"].read_text()
    assert to_markdown(report) == out["md"].read_text()
    assert to_html(report) == out["html"].read_text()
    assert "wide (teacher)" in done.stdout and "narrow (student)" in done.stdout
    assert "bench: timing" in done.stderr and "bench: timing" not in done.stdout
    assert "J/frame: not measured: no power sensor here" in done.stdout
    assert report["comparisons"][0]["figures"]["speedup"]["value"] > 2
    assert report["settings"]["threads"] == 1
    assert report["settings"]["overhead_us"] > 0
    for kind in ("whole", "file"):
        assert all(len(m["raw"][kind]["wall_ms"]) >= 5 for m in report["models"])
    psnr = [m["figures"]["psnr_y_db"]["value"] for m in report["models"]]
    assert all(isinstance(x, float) for x in psnr) and report["baseline"]["figures"]

    refused = RUNNER.invoke(app, [*arguments])
    assert refused.exit_code == 1 and "-y overwrites" in refused.stderr
    again = tmp_path / "again.html"
    replay = ["bench", "--replay", str(out["json"]), "--html", str(again), "--json", "-"]
    replayed = RUNNER.invoke(app, replay)
    assert replayed.exit_code == 0 and again.read_bytes() == out["html"].read_bytes()
    assert json.loads(replayed.stdout) == report


def test_a_damaged_picture_is_found_before_anything_is_timed(
    wide_and_narrow: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(folder / "a.png"), picture)
    whole = (folder / "a.png").read_bytes()
    (folder / "zzz.png").write_bytes(whole[: len(whole) // 2])
    wide, narrow = map(str, wide_and_narrow)
    done = RUNNER.invoke(app, ["bench", narrow, "--teacher", wide, "--quality", str(folder)])
    assert done.exit_code == 1
    assert "zzz.png" in done.stderr
    assert "bench: timing" not in done.stderr


def test_command_refuses_in_one_line(wide_and_narrow: tuple[Path, Path], tmp_path: Path) -> None:
    wide, narrow = map(str, wide_and_narrow)
    cases = [
        (["--size", "big"], 2, "320x180"),
        (["--size", "0x8"], 2, "each side"),
        (["--duration", "0"], 2, "1 to 86400 s"),
        (["--duration", "inf"], 2, "1 to 86400 s"),
        (["--quality", str(tmp_path / "absent")], 1, "no such folder"),
        (["--require-power"], 4, "no power sensor"),
        (["--replay", str(tmp_path / "absent.json")], 2, "--replay measures nothing"),
    ]
    for extra, code, message in cases:
        got = RUNNER.invoke(
            app,
            ["bench", narrow, "--teacher", wide, *extra],
            env={"EDGESR_SYSFS_ROOT": str(tmp_path)},
        )
        assert got.exit_code == code, (extra, got.output)
        assert message in " ".join(got.stderr.replace("│", " ").split()), extra
    got = RUNNER.invoke(app, ["bench", str(tmp_path / "no.onnx"), "--teacher", wide])
    assert got.exit_code == 1
    assert got.stderr == f"edgesr: {tmp_path / 'no.onnx'}: no such file\n"
    got = RUNNER.invoke(app, ["bench", "balanecd", "--teacher", wide])
    assert got.exit_code == 1 and got.stderr.count("\n") == 1 and "Did you mean" in got.stderr


def test_the_command_loads_no_runtime_before_it_runs() -> None:
    code = (
        "import sys, edgesr.cli.bench; "
        "sys.exit(any(m in sys.modules for m in ('onnxruntime', 'torch', 'cv2', 'numpy', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("runtime", "code", "says"),
    [("nonsense", 1, "no runtime 'nonsense'; known: auto, ort,"), ("tensorrt", 4, "tensorrt")],
)
def test_a_runtime_that_is_not_there_is_one_line(runtime: str, code: int, says: str) -> None:
    done = RUNNER.invoke(
        app, ["bench", "tiny", "--teacher", "fast", "--runtime", runtime, "--duration", "1"]
    )
    assert done.exit_code == code and says in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "seconds", "throughput"),
    [
        ([], 60, False),
        (["--quick"], 20, False),
        (["--publish"], 600, True),
        (["--publish", "--no-throughput"], 600, False),
        (["--duration", "7", "--throughput"], 7, True),
    ],
)
def test_how_long_it_runs(
    options: list[str], seconds: float, throughput: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[BenchConfig] = []

    def stop(config: BenchConfig, **_: Any) -> None:
        asked.append(config)
        raise Impossible("enough")

    monkeypatch.setattr("edgesr.bench.run.bench", stop)
    assert RUNNER.invoke(app, ["bench", *options, "--fps", "30"]).exit_code == 4
    assert (asked[0].duration_s, asked[0].throughput, asked[0].fps) == (seconds, throughput, 30)


def test_only_one_duration() -> None:
    for both in (["--quick", "--publish"], ["--quick", "--duration", "9"]):
        done = RUNNER.invoke(app, ["bench", *both])
        assert done.exit_code == 2 and "only one of them" in done.stderr
