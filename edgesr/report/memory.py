"""Figures of memory: each names what it counts, and none stands in for another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgesr.report.figures import Figure, figure

HEADERS = (
    "model", "network's own", "after loading", "process, RSS", "process, PSS", "runtime", "GPU",
    "lowest available",
)  # fmt: skip
_COLUMNS = (
    "memory_model_mb", "memory_loaded_mb", "memory_process_mb", "memory_pss_mb",
    "memory_runtime_mb", "memory_gpu_mb", "memory_available_lowest_mb",
)  # fmt: skip
_SIZES = {
    "memory_model_mb": ("peak_bytes", "before_bytes", "high water of a fresh process that loaded "
                        "and ran it, less what the process held before loading"),
    "memory_loaded_mb": ("loaded_bytes", "before_bytes", "resident after loading, less before"),
    "memory_process_mb": ("peak_bytes", None, "high water (VmHWM) of the whole process"),
}  # fmt: skip
_SEEN = {
    "memory_pss_mb": ("pss_bytes", "highest proportional set size of that process that was seen: "
                      "pages shared with others are counted in part"),
    "memory_available_lowest_mb": ("available_lowest_bytes", "lowest MemAvailable of the machine "
                                   "while it loaded and ran, other programs included"),
}  # fmt: skip


def memory_figures(memory: dict[str, Any]) -> dict[str, Figure]:
    """The figures of `raw.memory`; records from before it was watched have the first three."""
    missing = memory.get("missing")
    found = {}
    for name, (what, less, note) in _SIZES.items():
        size = None if missing else memory[what] - (memory[less] if less else 0)
        found[name] = _mb(size, missing or note)
    if missing or not ({"runtime", "runtime_missing"} & memory.keys()):
        return found
    for name, (what, note) in _SEEN.items():
        size = memory.get(what)
        found[name] = _mb(size, note if size is not None else "this system does not tell it")
    found["memory_available_drop_mb"] = _available_drop(memory)
    found["memory_runtime_mb"] = _runtime(memory)
    found["memory_gpu_mb"] = _gpu(memory)
    return found


def memory_rows(report: dict[str, Any]) -> list[list[str]]:
    """MB of each model under `HEADERS`; nothing for records from before it was watched."""
    models = [m for m in report["models"] if "memory_pss_mb" in m["figures"]]
    return [[m["name"], *(_cell(m["figures"][name]["value"]) for name in _COLUMNS)] for m in models]


def memory_notes(report: dict[str, Any]) -> Iterable[str]:
    """What the table's columns are, and why one is empty."""
    models = [m for m in report["models"] if "memory_pss_mb" in m["figures"]]
    if not models:
        return
    yield (
        "MB, each model alone in a fresh process. RSS: its high water; PSS: its pages, shared ones "
        "in part, highest seen; lowest available: MemAvailable of the whole machine meanwhile."
    )
    for name, what in (("memory_runtime_mb", "runtime"), ("memory_gpu_mb", "GPU")):
        whys = dict.fromkeys(
            m["figures"][name]["note"] for m in models if m["figures"][name]["value"] is None
        )
        for why in whys:
            yield f"{what}: not measured: {why}."


def _cell(megabytes: float | None) -> str:
    return "–" if megabytes is None else f"{megabytes:.0f}"


def _mb(size: int | None, note: str) -> Figure:
    if size is None:
        return figure(None, "MB", "measured", note=note)
    return figure(size / 1e6, "MB", "measured", samples=1, note=note)


def _available_drop(memory: dict[str, Any]) -> Figure:
    before, lowest = (memory.get(f"available_{when}_bytes") for when in ("before", "lowest"))
    if before is None or lowest is None:
        return _mb(None, "this system does not tell it")
    return _mb(before - lowest, "MemAvailable before loading less its lowest, other programs too")


def _runtime(memory: dict[str, Any]) -> Figure:
    told = memory.get("runtime")
    if told is None:
        return _mb(None, memory["runtime_missing"])
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in told.items())
    return _mb(sum(told.values()), f"as the runtime says: {parts}")


def _gpu(memory: dict[str, Any]) -> Figure:
    if "gpu_process_bytes" in memory:
        return _mb(memory["gpu_process_bytes"], "highest that NVML says of the process")
    if "nvmap_highest_bytes" in memory:
        rise = memory["nvmap_highest_bytes"] - memory["nvmap_before_bytes"]
        return _mb(rise, "highest NvMapMemUsed less that before loading, other programs too")
    return _mb(None, "no GPU that tells the process's memory")
