"""bench: the timing loop on a fake clock, and the command on real small networks."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from edgesr.bench.conditions import conditions
from edgesr.bench.config import BenchConfig, parse_size
from edgesr.bench.frames import Frames, cover, load_frames
from edgesr.bench.memory import measure, status_bytes
from edgesr.bench.run import Tools, bench
from edgesr.bench.subjects import UNTRAINED, Subject, labels
from edgesr.bench.timing import Lane, run_turn, turns, warm_up
from edgesr.cli.main import app
from edgesr.errors import BadConfig, BadImage, BadModel, Impossible, MissingExtra
from edgesr.power.meter import Meter, NoMeter, Sample, Trace
from edgesr.report import dumps, read, to_html, to_markdown, to_table

RUNNER = CliRunner()


class World:
    """A clock that only calls and sleeping move, and how long each network takes."""

    def __init__(self, **call_s: float) -> None:
        self.now, self.call_s = 100.0, call_s
        self.calls: list[str] = []
        self.jitter = random.Random(0)

    def clock(self) -> float:
        return self.now

    def cpu_clock(self) -> float:
        return 1.5 * self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Nearest:
    """Repeats each pixel 4 × 4 times, taking the world's time for it."""

    scale, halo = 4, 0
    tile_shapes: tuple[tuple[int, int], ...] = ()

    def __init__(self, name: str, world: World, noise: float = 0.0) -> None:
        self.name, self.world, self.noise, self.closed = name, world, noise, False

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.world.calls.append(self.name)
        self.world.now += self.world.call_s[self.name] * (
            1 + self.noise * self.world.jitter.uniform(-1, 1)
        )
        return batch.repeat(4, axis=2).repeat(4, axis=3)

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.closed = True


def lane(name: str, world: World, noise: float = 0.0) -> Lane:
    batches = [np.full((1, 3, 2, 3), k / 4, np.float32) for k in range(3)]
    return Lane(name, Nearest(name, world, noise), batches)


def tools(world: World, meter: Meter | NoMeter | None = None) -> Tools:
    def find(name: str, role: str, *, scratch: Path, **size: Any) -> Subject:
        counts = {"parameters": 10, "macs": 20 * size["width"] * size["height"]}
        return Subject(name, role, scratch / name, "0" * 64, counts,
                       lambda: Nearest(name, world), untrained=name == "raw")  # fmt: skip

    def pictures(width: int, height: int) -> Frames:
        return Frames((np.zeros((height, width, 3), np.uint8),) * 2, ("a", "b"), "photographs")

    @contextmanager
    def sampler(meter: Meter) -> Iterator[Trace]:
        """5 W all the time, read every 20 ms."""
        trace = Trace("fake", "W", ("IN",), ("IN",), "module", 0.02)
        start = world.now
        yield trace
        for k in range(int((world.now - start) / 0.02) + 2):
            t = start + 0.02 * k
            trace.samples.append(Sample(t, t, {"IN": 5.0}))

    return Tools(
        find=find,
        frames=pictures,
        memory=lambda *_: {
            "before_bytes": 1,
            "loaded_bytes": 2,
            "peak_bytes": 3_000_001,
            "runs": 2,
        },
        meter=lambda: meter or NoMeter("no sensor", "buy a board"),
        sampler=sampler,
        conditions=lambda: {"cpu": "fake", "cores_usable": 2, "load_average_1min": 0.0},
        clock=world.clock,
        cpu_clock=world.cpu_clock,
        sleep=world.sleep,
    )


def test_turns_are_abba() -> None:
    world = World()
    a, b = lane("a", world), lane("b", world)
    assert [(r, x.name) for r, x in turns([a, b], 3)] == [
        (0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]  # fmt: skip


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


def test_a_turn_keeps_every_call_and_does_not_overrun() -> None:
    world = World(x=0.3)
    x = lane("x", world)
    run_turn(x, 7, 1.0, clock=world.clock, cpu_clock=world.cpu_clock)
    s = x.samples
    assert s.wall_ms == pytest.approx([300.0] * 3) and s.cpu_ms == pytest.approx([450.0] * 3)
    assert s.start_s == pytest.approx([100.0, 100.3, 100.6])
    assert s.repetition == [7, 7, 7] and s.frame == [0, 1, 2]
    run_turn(x, 8, 0.1, clock=world.clock, cpu_clock=world.cpu_clock)
    assert len(s.wall_ms) == 4 and s.frame[-1] == 0  # one call at least, the next input


def test_a_turn_that_must_be_full_ends_with_the_call_that_overruns() -> None:
    world = World(x=0.3)
    x = lane("x", world)
    run_turn(x, 0, 1.0, fill=True, clock=world.clock, cpu_clock=world.cpu_clock)
    assert len(x.samples.wall_ms) == 4


def test_slow_teacher_makes_exactly_five_calls_and_the_student_many() -> None:
    world = World(srgan=3.0, balanced=1 / 32)
    report = bench(BenchConfig(duration_s=20.0), tools=tools(world))
    big, small = report["models"]
    assert big["figures"]["latency_p50_ms"]["samples"] == 5
    assert big["figures"]["latency_p90_ms"]["value"] is None
    assert small["figures"]["latency_p50_ms"]["samples"] == 5 * 64  # 2 s a turn
    assert small["figures"]["latency_p99_ms"]["value"] == pytest.approx(31.25)
    assert report["comparisons"][0]["figures"]["speedup"]["value"] == pytest.approx(96.0)
    assert report["energy"] is None and "add --power" in to_markdown(report)
    assert report["models"][0]["figures"]["memory_model_mb"]["value"] == 3.0
    runs = "".join(c[0] for c in world.calls)
    assert runs.endswith("s" + "b" * 128 + "ss" + "b" * 128 + "s" + "s" + "b" * 64)


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


@pytest.mark.parametrize("form", ["json", "html", "md"])
def test_any_form_can_go_to_stdout(form: str, tmp_path: Path) -> None:
    report = bench(BenchConfig(duration_s=5), tools=tools(World(srgan=1.0, balanced=0.1)))
    (tmp_path / "r.json").write_text(dumps(report))
    done = RUNNER.invoke(app, ["bench", "--replay", str(tmp_path / "r.json"), f"--{form}", "-"])
    expected = {"json": dumps, "html": to_html, "md": to_markdown}[form](report)
    assert done.exit_code == 0 and done.stdout == expected
    both = ["--json", "-", "--md", "-"]
    assert RUNNER.invoke(app, ["bench", "--replay", str(tmp_path / "r.json"), *both]).exit_code == 2


def test_power_without_a_meter_is_null_and_only_fails_when_required() -> None:
    world = World(srgan=1.0, balanced=0.1)
    report = bench(BenchConfig(duration_s=5, power=True), tools=tools(world))
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
    config = BenchConfig(duration_s=40.0, power=True)
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
    report = bench(BenchConfig(power=True), tools=tools(world, Steady()))  # type: ignore[arg-type]
    big, small = (m["figures"]["energy_j_per_frame"] for m in report["models"])
    assert big["value"] == pytest.approx(5.0 * 1.3, rel=1e-3), big
    assert small["value"] == pytest.approx(5.0 * 0.07, rel=1e-3), small


def test_quality_goes_through_the_given_function(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8, 3), np.uint8))
    seen = []

    def score(folder: Path, runtime: Any, scale: int, on_progress: Any) -> dict[str, Any]:
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


def test_sizes_and_labels() -> None:
    assert parse_size("320x180") == (320, 180) == parse_size("320X180")
    for text in ("320", "x", "320x", "-3x4", "a x b"):
        with pytest.raises(BadConfig, match="320x180"):
            parse_size(text)
    assert labels(["srgan", "balanced"]) == ["srgan", "balanced"]
    assert labels(["srgan", "/x/runs/a/student.safetensors"]) == ["srgan", "a/student"]
    assert labels(["/x/a/m.onnx", "/x/b/m.onnx"]) == ["a/m", "b/m"]


def test_the_frame_is_the_bundled_photograph_at_the_asked_for_size() -> None:
    got = load_frames(64, 48)
    assert got.names == ("chelsea",) and got.source == "the bundled photograph"
    (batch,) = got.batches()
    assert batch.shape == (1, 3, 48, 64) and batch.dtype == np.float32 and batch.flags.c_contiguous
    assert 0.0 <= batch.min() < batch.max() <= 1.0


def test_the_bundled_photograph_is_chelsea(photograph: Callable[[str], Any]) -> None:
    original = photograph("chelsea")
    height, width = original.shape[:2]
    (shipped,) = load_frames(width, height).pictures
    error = shipped.astype(float) - original
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 35  # a JPEG of it, nothing else


def test_cover_keeps_the_shape_of_things() -> None:
    picture = np.zeros((100, 400, 3), np.uint8)
    picture[:, 150:250] = 255  # a white square in the middle
    half = cover(picture, 100, 50)  # halved, then the middle 100 of 200 columns
    assert half.shape == (50, 100, 3)
    assert (half[:, 25:75] == 255).all() and (half[:, :25] == 0).all()
    assert cover(picture, 800, 30).shape == (30, 800, 3)


def test_conditions_of_a_jetson(tmp_path: Path) -> None:
    """Orin Nano 8 GB developer kit, JetPack 6 (L4T 36.4): what its files say."""
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Kit Super\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "proc/cpuinfo": "processor : 0\nmodel name : ARMv8 Processor rev 1 (v8l)\n",
        "proc/meminfo": "MemTotal:  7802896 kB\nMemAvailable:  6000000 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "729600\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48500\n",
        "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    got = conditions(tmp_path)
    assert got["board"] == "NVIDIA Jetson Orin Nano Engineering Reference Kit Super"
    assert got["l4t"].startswith("# R36 (release), REVISION: 4.3")
    assert got["cpu"] == "ARMv8 Processor rev 1 (v8l)"
    assert got["governor"] == "schedutil, performance"
    assert got["clock_limits_khz"] == "729600 to 1510400"
    assert got["memory_bytes"] == 7802896 * 1024
    assert got["temperatures_c"] == {"cpu-thermal": 48.5}
    bare = conditions(tmp_path / "absent")
    assert "board" not in bare and "governor" not in bare and bare["versions"]["python"]


def test_status_sizes() -> None:
    text = "Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"
    assert status_bytes("VmHWM", text) == 2048 * 1024
    with pytest.raises(KeyError):
        status_bytes("VmSwap", text)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ONNX files of a wide and a narrow network of seeded random weights."""
    pytest.importorskip("onnx")
    from edgesr.graph.onnx import to_onnx
    from edgesr.models.student import student

    folder, rng = tmp_path_factory.mktemp("networks"), np.random.default_rng(0)
    paths = []
    for name, width, depth in (("wide", 48, 6), ("narrow", 16, 2)):
        graph = student(width, depth, name=name)
        weights = {
            key: rng.standard_normal(shape).astype(np.float32) * np.float32(0.05)
            for key, shape in graph.weight_shapes().items()
        }
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(to_onnx(graph, weights))
    return paths[0], paths[1]


def test_memory_of_a_network_in_its_own_process(networks: tuple[Path, Path]) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc here")
    wide, narrow = networks
    big = measure(wide, 320, 180, 1)
    assert big["before_bytes"] < big["loaded_bytes"] <= big["peak_bytes"]
    small = measure(narrow, 32, 18, 1)
    # Input, two tensors of 48 channels and the output, at 57600 and 576 pixels, in float32.
    least = 4 * (57_600 - 576) * (3 + 2 * 48 + 48)
    assert (
        big["peak_bytes"] - big["before_bytes"] - small["peak_bytes"] + (small["before_bytes"])
        > least / 2
    )
    broken = measure(wide.with_name("absent.onnx"), 32, 18, 1)
    assert "no such file" in broken["missing"]


def test_command_on_real_networks(networks: tuple[Path, Path], tmp_path: Path) -> None:
    wide, narrow = networks
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
    networks: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(folder / "a.png"), picture)
    whole = (folder / "a.png").read_bytes()
    (folder / "zzz.png").write_bytes(whole[: len(whole) // 2])
    wide, narrow = map(str, networks)
    done = RUNNER.invoke(app, ["bench", narrow, "--teacher", wide, "--quality", str(folder)])
    assert done.exit_code == 1
    assert "zzz.png" in done.stderr
    assert "bench: timing" not in done.stderr


def test_command_refuses_in_one_line(networks: tuple[Path, Path], tmp_path: Path) -> None:
    wide, narrow = map(str, networks)
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
