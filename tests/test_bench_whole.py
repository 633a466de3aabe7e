"""bench: whole pictures, files, pacing and throughput, in a world whose clock only calls move."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_world import Nearest, World, tools
from numpy.typing import NDArray

from edgesr import image
from edgesr.bench.config import BenchConfig
from edgesr.bench.run import Tools, bench
from edgesr.bench.throughput import Limits, Network, windows
from edgesr.bench.whole import Upscale
from edgesr.errors import BadModel, Impossible
from edgesr.power.meter import Meter
from edgesr.report import to_html, to_markdown
from edgesr.report.time_rows import throughput_rows, time_notes, time_rows
from edgesr.report.times import throughput_figures
from edgesr.runtime.base import Runtime

SMALL = {"width": 12, "height": 8}  # the fake runs on real arrays


def upscaling(world: World, tools: Tools, *, fails: str = "") -> Tools:
    """`tools` that also time pictures (0.1 s around the network) and files (0.5 s)."""

    def picture(pixels: NDArray[Any], runtime: Runtime) -> NDArray[Any]:
        world.now += 0.1
        assert pixels.dtype == np.uint8 and pixels.ndim == 3
        if runtime.name == fails:
            raise BadModel(f"{fails} gave NaN")
        runtime.run(np.zeros((1, 3, 2, 2), np.float32))
        return pixels

    def file(source: Path, runtime: Runtime, out: Path) -> object:
        world.now += 0.4
        assert out.suffix == ".png" and out.parent == source.parent
        return picture(image.read(source).pixels, runtime)

    return dataclasses.replace(tools, upscale=Upscale(picture, file))


def test_whole_pictures_and_files_are_timed_apart_from_the_network() -> None:
    world = World(srgan=3.0, balanced=0.05)
    report = bench(BenchConfig(duration_s=20, **SMALL), tools=upscaling(world, tools(world)))
    big, small = report["models"]
    assert big["figures"]["whole_p50_ms"]["value"] == pytest.approx(3100)
    assert big["figures"]["file_p50_ms"]["value"] == pytest.approx(3500)
    assert small["figures"]["whole_p50_ms"]["value"] == pytest.approx(150)
    assert small["figures"]["file_max_ms"]["value"] == pytest.approx(550)
    for kind in ("whole", "file"):
        # Five calls whatever the budget, of which one for each repetition of the slowest.
        assert big["figures"][f"{kind}_p50_ms"]["samples"] == 5
        assert big["figures"][f"{kind}_p90_ms"]["value"] is None
        assert big["raw"][kind]["repetition"] == [0, 1, 2, 3, 4]
        assert len(small["raw"][kind]["wall_ms"]) >= 10
    assert time_rows(report)[1] == ["balanced", "50.0", "50.0", "150", "–", "550", "–"]
    assert "From the network's call to the file" in to_markdown(report)
    assert "From the network's call to the file" in to_html(report)
    assert report["settings"]["overhead_us"] == 0  # this clock stands still between calls


def test_a_network_that_fails_on_a_picture_does_not_end_the_run() -> None:
    world = World(srgan=1.0, balanced=0.05)
    some = upscaling(world, tools(world), fails="srgan")
    report = bench(BenchConfig(duration_s=10, **SMALL), tools=some)
    assert report["models"][0]["raw"]["whole"] == {"missing": "srgan gave NaN"}
    assert report["models"][0]["figures"]["whole_p50_ms"]["note"] == "srgan gave NaN"
    assert report["models"][1]["figures"]["file_p50_ms"]["value"] == pytest.approx(550)
    assert "File to file of srgan: not measured: srgan gave NaN." in list(time_notes(report))


def test_energy_at_a_frame_rate_holds_the_pauses() -> None:
    """5 W all the time and a frame each tenth of a second are 0.5 J, however fast the network."""

    class Steady(Meter):
        name, quantity, rails, total, scope = "fake", "W", ("IN",), ("IN",), "module"

    world = World(srgan=0.08, balanced=0.01)
    config = BenchConfig(duration_s=40, power=True, fps=10, **SMALL)
    report = bench(config, tools=tools(world, Steady()))  # type: ignore[abstract]
    for model in report["models"]:
        f = model["figures"]
        assert f["energy_j_per_frame"]["value"] == pytest.approx(0.5, rel=1e-3)
        assert f["energy_frames_per_j"]["value"] == pytest.approx(2.0, rel=1e-3)
        output_mp = 12 * 8 * 16 / 1e6
        assert f["energy_mp_per_j"]["value"] == pytest.approx(2 * output_mp, rel=1e-3)
        assert f["paced_fps"]["value"] == pytest.approx(10)
        assert f["missed_deadlines"]["value"] == 0 and f["missed_deadlines"]["samples"] == 200
    assert report["comparisons"][0]["figures"]["speedup"]["value"] == pytest.approx(8)
    (note,) = (n for n in time_notes(report) if n.startswith("Paced"))
    assert "balanced 10.0 frames/s, 0 of 200 calls" in note
    world = World(srgan=0.15, balanced=0.01)
    report = bench(config, tools=tools(world, Steady()))  # type: ignore[abstract]
    f = report["models"][0]["figures"]
    assert f["missed_deadlines"]["value"] == f["missed_deadlines"]["samples"] == 100
    assert f["paced_fps"]["value"] == pytest.approx(5)
    assert f["energy_j_per_frame"]["value"] == pytest.approx(1.0, rel=1e-3)


def network(
    runtime: Any, call_s: float = 0.1, again: Callable[[], Any] | None = None, **memory: int
) -> Network:
    frame = np.zeros((1, 3, 2, 2), np.float32)
    return Network("x", runtime, again or (lambda: runtime), frame, call_s, memory)


class Batches(Nearest):
    """Takes 0.1 s for a call and 0.05 s for each frame of it."""

    largest = 8

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(batch) > self.largest:
            raise BadModel("engines take one picture at a time")
        self.world.now += 0.1 + 0.05 * len(batch)
        return batch


def one_stream(runtime: Any, limits: Limits, **rest: Any) -> list[dict[str, Any]]:
    found = windows(network(runtime, 0.15, **rest), limits, runtime.world.clock, 100.0)
    return [w for w, _ in zip(found, range(4), strict=False)]


def test_throughput_by_batch() -> None:
    plenty = Limits(3.01, 60.0, lambda: None)
    found = one_stream(Batches("x", World()), plenty)
    assert [(w["batch"], w["streams"]) for w in found] == [(1, 1), (2, 1), (4, 1), (8, 1)]
    assert [len(w["wall_ms"]) for w in found] == [20, 15, 10, 6]  # 3 s of 0.15, 0.2, 0.3, 0.5
    figures = throughput_figures(found, 0.5)
    rates = [figures[f"throughput_b{b}_s1_fps"]["value"] for b in (1, 2, 4, 8)]
    assert rates == pytest.approx([b / (0.1 + 0.05 * b) for b in (1, 2, 4, 8)], rel=1e-4)
    assert figures["throughput_b8_s1_mps"]["value"] == pytest.approx(8 / 0.5 * 0.5)
    assert figures["throughput_b8_s1_sustained"]["value"] == pytest.approx(1)


def test_throughput_leaves_out_what_does_not_fit_and_says_why() -> None:
    fixed = Batches("x", World())
    fixed.largest = 1
    found = one_stream(fixed, Limits(1.0, 60.0, lambda: None))
    assert "wall_ms" in found[0]
    assert [w["missing"] for w in found[1:]] == ["batch 2: engines take one picture at a time"] * 3

    memory = {"before_bytes": 0, "loaded_bytes": 10**9, "peak_bytes": 3 * 10**9}
    found = one_stream(Batches("x", World()), Limits(1.0, 60.0, lambda: 10**10), **memory)
    assert ["missing" in w for w in found] == [False, False, False, True]
    assert found[3]["missing"] == (
        "batch 8 would need about 16.0 GB of memory, and 10.0 GB are available"
    )
    found = one_stream(Batches("x", World()), Limits(0.1, 1.3, lambda: None))
    # Three calls of 8 at the 0.075 s a frame that batch 4 took.
    assert ["missing" in w for w in found] == [False, False, False, True]
    assert found[3]["missing"].startswith("batch 8 would take about 1.8 s")
    figures = throughput_figures(found, 1.0)
    assert figures["throughput_b8_s1_fps"]["note"] == found[3]["missing"]
    assert figures["throughput_b1_s1_sustained"]["note"] == "needs 6 calls, there are 2"


class Together(Batches):
    """Its calls, but the first that is untimed, return only once another one has begun too."""

    def __init__(self, world: World, waits: threading.Barrier | None = None) -> None:
        super().__init__("x", world)
        self.waits, self.called = waits, False

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.waits is not None and self.called:
            self.waits.wait(timeout=30)
        self.called = self.waits is not None
        return super().run(batch)


def test_two_streams_run_at_the_same_time_in_sessions_of_their_own() -> None:
    world, begun = World(), threading.Barrier(2)
    opened: list[Together] = []

    def again() -> Together:
        opened.append(Together(world, begun))
        return opened[-1]

    first = Together(world)
    limits = Limits(0.0, 60.0, lambda: None)
    found = windows(network(first, again=again), limits, world.clock, 0)
    single = [next(found) for _ in range(4)]
    assert [w["stream"] for w in single] == [[0, 0]] * 4  # two calls, whatever the time
    first.waits = begun  # from now on for the other
    double = next(found)
    assert double["streams"] == 2 and sorted(double["stream"]) == [0, 0, 1, 1]
    assert len(opened) == 1 and not opened[0].closed
    found.close()
    assert opened[0].closed and not first.closed


def test_a_second_stream_that_does_not_open_is_said() -> None:
    def refuse() -> Any:
        raise Impossible("no memory for a second engine")

    runtime = Batches("x", World())
    found = list(
        windows(network(runtime, again=refuse), Limits(1, 60, lambda: None), runtime.world.clock, 0)
    )
    assert ["missing" in w for w in found] == [False] * 4 + [True] * 4
    assert found[7]["missing"] == "batch 1: no memory for a second engine"


def test_throughput_in_a_report() -> None:
    world = World(srgan=0.2, balanced=0.05)
    plain = tools(world)
    report = bench(BenchConfig(duration_s=16, throughput=True, **SMALL), tools=plain)
    rows = throughput_rows(report)
    assert [row[:2] for row in rows] == [["srgan", "1"], ["srgan", "2"],
                                         ["balanced", "1"], ["balanced", "2"]]  # fmt: skip
    # The fake takes the same time for any batch.
    assert rows[2][2:6] == ["20.0", "40.0", "80.0", "160"]
    assert "Frames a second at larger batches" in to_markdown(report)
    assert "Frames a second at larger batches" in to_html(report)
    assert throughput_rows(bench(BenchConfig(duration_s=16, **SMALL), tools=plain)) == []
