"""Memory: what is predicted, what is kept to, and what happens when there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr.enlarge import Enlarger, Settings, parse_bytes
from edgesr.enlarge.footprint import Footprint, free_bytes
from edgesr.enlarge.memory import Job, choose_tile
from edgesr.errors import BadConfig, BadModel, Impossible
from edgesr.rows import ArrayRows
from edgesr.tiling import AUTO_PIXELS
from tests.enlarging import Nearest, Short, student

COST = Path(__file__).parents[1] / "benchmarks/upscale/cost.py"
MB = 1024**2


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (90, 110, 3), np.uint8)


@pytest.mark.parametrize(
    "error",
    [Impossible("90x110 pixels do not fit"), MemoryError(), RuntimeError("std::bad_alloc"),
     RuntimeError("CUDA error 2: out of memory"), None],
)  # fmt: skip
def test_a_window_that_does_not_fit_is_cut(error: Exception | None, noise: NDArray) -> None:
    whole = Enlarger(student()).picture(noise)
    net = Short(student(), 45 * 45, error)
    got = Enlarger(net).picture(noise)
    np.testing.assert_array_equal(got, whole)
    tiles = net.windows[net.windows.index((90, 110)) :]  # before: windows to see what they take
    failed = [h * w for h, w in tiles if h * w > net.most]
    assert sorted(failed, reverse=True) == failed  # none is tried that is as large as one before


def test_without_memory_for_the_smallest_tile(noise: NDArray) -> None:
    net = Short(student(), 9 * 9)
    with pytest.raises(Impossible, match=r"even for a window of \d+x\d+ pixels"):
        Enlarger(net).picture(noise)


@pytest.mark.parametrize("error", [BadModel("the model fails"), ValueError("wrong shape")])
def test_other_errors_go_on_at_once(error: Exception, noise: NDArray) -> None:
    net = Short(student(), 45 * 45, error)
    with pytest.raises(type(error), match=str(error)):
        Enlarger(net).picture(noise)


def job(height: int = 3000, width: int = 4000, *, channels: int = 3, bits: int = 8,
        scale: float = 4) -> Job:  # fmt: skip
    size = (int(height * scale), int(width * scale))
    return Job(height, width, channels, bits // 8, size, 4, 18, 0, 1300, False)


@pytest.mark.parametrize("room", [100, 150, 200, 300, 1000])
@pytest.mark.parametrize("kind", [{}, {"channels": 4, "bits": 16}, {"scale": 2}, {"width": 20_000}])
def test_tiles_keep_to_the_room(kind: dict[str, int], room: int) -> None:
    asked = job(**kind)
    try:
        tile = choose_tile(asked, room * MB)
    except Impossible:
        assert asked.working_bytes((16, 16)) > room * MB
        return
    assert asked.working_bytes(tile) <= room * MB
    assert (tile[0] + 36) * (tile[1] + 36) <= AUTO_PIXELS


def test_more_room_means_no_more_work() -> None:
    work = []
    for room in (120, 160, 240, 400, 2000):
        height, width = choose_tile(job(), room * MB)
        work.append((height + 36) * (width + 36) / (height * width))
    assert work == sorted(work, reverse=True)
    assert choose_tile(job(), None) == choose_tile(job(), 10_000 * MB)


def test_too_little_says_what_is_needed(noise: NDArray) -> None:
    enlarger = Enlarger(student(), Settings(max_bytes=10 * MB))
    with pytest.raises(Impossible, match=r"takes \d+ MB of memory .* 0 MB are left; raise"):
        enlarger.picture(noise)
    with pytest.raises(Impossible, match="raise --max-memory"):
        enlarger.cost(90, 110, 3, 8)


def test_the_limit_changes_no_pixel() -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (330, 340, 3), np.uint8)
    free = Enlarger(student())
    tight = Enlarger(student())
    least = free.cost(330, 340, 3, 8).working_bytes // 2
    tight.settings = Settings(max_bytes=tight._in_use + least)
    assert tight.cost(330, 340, 3, 8).tile[0] < free.cost(330, 340, 3, 8).tile[0]
    np.testing.assert_array_equal(tight.picture(pixels), free.picture(pixels))


def test_a_picture_that_fits_in_strips_only() -> None:
    tall = np.zeros((3000, 200, 3), np.uint8)
    enlarger = Enlarger(student())
    enlarger.settings = Settings(max_bytes=enlarger._in_use + 40 * MB)
    assert enlarger.cost(3000, 200, 3, 8).working_bytes < 40 * MB
    with pytest.raises(Impossible, match="and 40 MB are left"):
        enlarger.picture(tall)  # 29 MB of result beside it
    assert next(enlarger.strips(ArrayRows(tall))).shape[1:] == (800, 3)


def test_cost_of_whole_pictures() -> None:
    cost = Enlarger(student()).cost(100, 50, 4, 16, (200, 100))
    assert cost.source_bytes == 100 * 50 * 4 * 2
    assert cost.result_bytes == 200 * 100 * 4 * 2
    assert cost.tile == (100, 50)


@pytest.mark.parametrize(
    "case",
    [{"model": "tiny", "height": 300, "width": 300, "channels": 3, "bits": 8, "tile": 64},
     {"model": "tiny", "height": 200, "width": 300, "channels": 4, "bits": 16, "scale": 2},
     {"model": "fast", "height": 64, "width": 6_000, "channels": 3, "bits": 8, "limit_mb": 256}],
    ids=["tile", "alpha", "limit"],
)  # fmt: skip
def test_a_process_takes_no_more_than_predicted(case: dict[str, object]) -> None:
    if not Path("/proc/self/clear_refs").is_file():
        pytest.skip("this system has no /proc/self/clear_refs to measure with")
    done = subprocess.run(
        [sys.executable, str(COST), "--one", json.dumps(case)],
        capture_output=True, text=True, check=True, timeout=120, cwd=COST.parents[2],
        env={"PYTHONPATH": str(COST.parents[2]), "PATH": ""},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["taken_bytes"] <= found["predicted_bytes"]
    assert found["peak_bytes"] <= case.get("limit_mb", 1000) * MB  # type: ignore[operator]


def test_a_footprint_is_growth_over_the_largest_window() -> None:
    sizes = iter([0, 9_000, 9_000, 20_000])  # before and after each window that is looked at
    footprint = Footprint(lambda: next(sizes))
    net = Nearest()
    for side in (10, 10, 5, 20):
        footprint.watch(net.run, np.zeros((1, 3, side, side), np.float32))
    assert (footprint.grown_bytes, footprint.largest) == (20_000, 400)
    assert footprint.pixel_bytes(net, 400) == 1000  # 50 cannot be
    footprint.grown_bytes = 800_000
    assert footprint.pixel_bytes(net, 400) == 2000


def test_unknown_growth_is_taken_for_the_worst() -> None:
    assert Footprint(lambda: None).pixel_bytes(Nearest(), 10_000) == 40_000


def test_free_memory_is_the_least_that_the_system_tells(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 5000 kB\n")
    assert free_bytes(tmp_path) == 5000 * 1024
    groups = tmp_path / "sys/fs/cgroup"
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text("max\n")
    (groups / "memory.current").write_text("1000000\n")
    assert free_bytes(tmp_path) == 5000 * 1024
    (groups / "memory.max").write_text("3000000\n")
    assert free_bytes(tmp_path) == 2_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * MB), ("1.5G", 1536 * MB), ("800000k", 800_000 * 1024), ("77", 77),
     (" 2 gib ", 2048 * MB), ("1mb", MB)],
)  # fmt: skip
def test_amounts(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1G", "0", "1.2.3M", "5 apples", "1e9", "0.1"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(BadConfig, match="write it as 512M"):
        parse_bytes(text)
