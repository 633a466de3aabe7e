"""Memory of a network in a process of its own, each size by its name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench_records import record

from edgesr.bench.cards import Card
from edgesr.bench.memory import measure, status_bytes
from edgesr.bench.memory_watch import MemoryWatch, runtime_memory
from edgesr.report import complete, to_html, to_markdown
from edgesr.report.memory import HEADERS, memory_notes, memory_rows

MIB = 1 << 20


def test_status_sizes() -> None:
    text = "Name:\tpython\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n"
    assert status_bytes("VmHWM", text) == 2048 * 1024
    with pytest.raises(KeyError):
        status_bytes("VmSwap", text)


def test_memory_of_a_network_in_its_own_process(wide_and_narrow: tuple[Path, Path]) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc here")
    wide, narrow = wide_and_narrow
    big = measure(wide, 320, 180, 1)
    assert big["before_bytes"] < big["loaded_bytes"] <= big["peak_bytes"]
    small = measure(narrow, 32, 18, 1)
    # Input, two tensors of 48 channels and the output, at 57600 and 576 pixels, in float32.
    least = 4 * (57_600 - 576) * (3 + 2 * 48 + 48)
    own_big, own_small = (m["peak_bytes"] - m["before_bytes"] for m in (big, small))
    assert own_big - own_small > least / 2
    assert big["runtime_missing"] == "onnxruntime-cpu does not tell what it holds"
    assert big["looks"] >= 2 and "gpu_process_bytes" not in big
    if "pss_bytes" in big:  # kernels since 4.14
        assert big["before_bytes"] / 4 < big["pss_bytes"] <= big["peak_bytes"]
    assert 0 < big["available_lowest_bytes"] <= big["available_before_bytes"]
    broken = measure(wide.with_name("absent.onnx"), 32, 18, 1)
    assert "no such file" in broken["missing"]


def meminfo(root: Path, available: int, nvmap: int | None, pss: int) -> None:
    """Sizes in MiB."""
    lines = [f"MemTotal: {8000 * 1024} kB", f"MemAvailable: {available * 1024} kB"]
    lines += [] if nvmap is None else [f"NvMapMemUsed: {nvmap * 1024} kB"]
    (root / "proc/7").mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text("\n".join(lines) + "\n")
    (root / "proc/7/smaps_rollup").write_text(
        f"0-1 ---p [rollup]\nRss: 9 kB\nPss: {pss * 1024} kB\n"
    )


def test_highest_and_lowest_are_kept(tmp_path: Path) -> None:
    meminfo(tmp_path, 6000, 100, 50)
    watch = MemoryWatch(tmp_path, pid=7, find_cards=list, interval_s=3600)
    with watch as seen:
        meminfo(tmp_path, 5000, 700, 90)
        watch.look()
        meminfo(tmp_path, 5900, 300, 60)
    assert seen.looks == 3
    assert seen.found == {
        "available_before_bytes": 6000 * MIB, "available_lowest_bytes": 5000 * MIB,
        "nvmap_before_bytes": 100 * MIB, "nvmap_highest_bytes": 700 * MIB,
        "pss_bytes": 90 * MIB,
    }  # fmt: skip


def test_a_card_is_asked_for_the_process(tmp_path: Path) -> None:
    sizes = iter((None, 300 * MIB, 200 * MIB))

    def running(handle: Any) -> list[Any]:
        return [SimpleNamespace(pid=7, usedGpuMemory=next(sizes))]

    lib = SimpleNamespace(nvmlDeviceGetComputeRunningProcesses=running, NVMLError=OSError)
    watch = MemoryWatch(tmp_path, pid=7, find_cards=lambda: [Card("gpu-0", lib, None)],
                        interval_s=3600)  # fmt: skip
    with watch as seen:
        watch.look()
    assert seen.found == {"gpu_process_bytes": 300 * MIB}, "no /proc below this root"


def made(**memory: Any) -> dict[str, Any]:
    """The record of which the teacher's memory was watched."""
    found = record()
    found["models"][0]["raw"]["memory"].update(memory)
    return found


def figures(**memory: Any) -> dict[str, Any]:
    return dict(complete(made(**memory))["models"][0]["figures"])


def test_figures_of_a_watched_process_on_the_cpu() -> None:
    got = figures(pss_bytes=70_000_000, available_before_bytes=9_000_000_000,
                  available_lowest_bytes=8_600_000_000,
                  **runtime_memory("onnxruntime-cpu", {}))  # fmt: skip
    values = {name: f["value"] for name, f in got.items() if name.startswith("memory_")}
    assert values == {
        "memory_model_mb": 40.0, "memory_loaded_mb": 10.0, "memory_process_mb": 90.0,
        "memory_pss_mb": 70.0, "memory_available_lowest_mb": 8600.0,
        "memory_available_drop_mb": 400.0, "memory_runtime_mb": None, "memory_gpu_mb": None,
    }  # fmt: skip
    assert got["memory_runtime_mb"]["note"] == "onnxruntime-cpu does not tell what it holds"
    assert "no GPU" in got["memory_gpu_mb"]["note"]


def test_figures_of_an_engine_on_a_jetson() -> None:
    told = {"plan_bytes": 3_000_000, "engine_bytes": 20_000_000, "buffer_bytes": 1_500_000}
    got = figures(nvmap_before_bytes=100_000_000, nvmap_highest_bytes=450_000_000,
                  **runtime_memory("tensorrt-10.3.0", told))  # fmt: skip
    assert got["memory_runtime_mb"]["value"] == 24.5
    assert "engine_bytes 20.0 MB" in got["memory_runtime_mb"]["note"]
    assert got["memory_gpu_mb"]["value"] == 350.0
    assert "NvMapMemUsed" in got["memory_gpu_mb"]["note"]
    assert got["memory_pss_mb"]["value"] is None and got["memory_pss_mb"]["note"]


def test_a_card_goes_before_the_common_memory() -> None:
    got = figures(gpu_process_bytes=310_000_000, nvmap_before_bytes=0, nvmap_highest_bytes=9,
                  runtime_missing="")  # fmt: skip
    assert got["memory_gpu_mb"]["value"] == 310.0 and "NVML" in got["memory_gpu_mb"]["note"]


def test_records_from_before_it_was_watched_have_the_three_figures_they_had() -> None:
    report = complete(record())
    names = [n for n in report["models"][0]["figures"] if n.startswith("memory_")]
    assert names == ["memory_model_mb", "memory_loaded_mb", "memory_process_mb"]
    assert memory_rows(report) == [] and list(memory_notes(report)) == []
    assert "Memory in MB" not in to_markdown(report) + to_html(report)


def test_the_table_has_the_watched_and_says_why_one_is_empty() -> None:
    report = complete(made(pss_bytes=70_000_000, **runtime_memory("onnxruntime-cpu", {})))
    assert memory_rows(report) == [["big", "40", "10", "90", "70", "–", "–", "–"]]
    assert len(HEADERS) == 8
    text = to_markdown(report)
    assert "## Memory in MB" in text and "runtime: not measured: onnxruntime-cpu does not" in text
    assert "<h2>Memory in MB</h2>" in to_html(report)
