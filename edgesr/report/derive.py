"""The figures of one model, from its samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from edgesr.power.energy import MIN_COVERAGE, Energy, energy, idle_problem, net_j
from edgesr.power.meter import Trace, formula
from edgesr.report.figures import SAMPLES_FOR, Figure, bootstrap, figure, percentile
from edgesr.report.memory import memory_figures
from edgesr.report.times import (
    pacing_figures,
    repetition_windows,
    throughput_figures,
    whole_figures,
)

_QUALITY = {
    "psnr_y_db": ("psnr_y", "dB"),
    "ssim_y": ("ssim_y", "1"),
    "psnr_rgb_db": ("psnr_rgb", "dB"),
    "ssim_rgb": ("ssim_rgb", "1"),
    "lpips": ("lpips", "1"),
}
_LATER = {"lpips"}  # measures that older records do not have
_EQUAL = "a picture came out equal to its original: its PSNR is infinite"
_NOT_FINITE = {"lpips": "a picture has a side under 32 pixels, too small for LPIPS"}
_ENERGY = {
    "energy_j_per_frame": "J/frame",
    "energy_net_j_per_frame": "J/frame",
    "energy_j_per_mp": "J/output MP",
    "energy_frames_per_j": "frame/J",
    "energy_mp_per_j": "output MP/J",
    "power_mean_w": "W",
}


def model_figures(model: dict[str, Any], report: dict[str, Any]) -> dict[str, Figure]:
    """Every figure of `model`, an entry of `report["models"]`."""
    raw, settings = model["raw"], report["settings"]
    megapixels = settings["width"] * settings["height"] * model["scale"] ** 2 / 1e6
    return {
        **_counted(raw["counts"]),
        **_file(model),
        **_latency(raw["samples"], megapixels),
        **pacing_figures(raw["samples"], settings.get("fps")),
        **whole_figures(raw),
        **throughput_figures(raw.get("throughput", ()), megapixels),
        **memory_figures(raw["memory"]),
        **quality_figures(raw["quality"]),
        **_energy(model, report, megapixels),
    }


def repetitions(samples: dict[str, Any]) -> list[list[float]]:
    """Wall milliseconds of the calls, by repetition."""
    found: dict[int, list[float]] = {}
    for repetition, wall_ms in zip(samples["repetition"], samples["wall_ms"], strict=True):
        found.setdefault(repetition, []).append(wall_ms)
    return [found[k] for k in sorted(found)]


def _counted(counts: dict[str, Any]) -> dict[str, Figure]:
    note = counts.get("missing", "")
    return {
        "parameters": figure(counts.get("parameters"), "1", "counted", note=note),
        "macs": figure(counts.get("macs"), "MAC", "counted", note=note),
    }


def _file(model: dict[str, Any]) -> dict[str, Figure]:
    """Size of the file that was run; records from before it was kept have no such figure."""
    if "file_bytes" not in model:
        return {}
    return {"file_mb": figure(model["file_bytes"] / 1e6, "MB", "counted")}


def _latency(samples: dict[str, Any], megapixels: float) -> dict[str, Figure]:
    wall, cpu = samples["wall_ms"], samples["cpu_ms"]
    n = len(wall)
    third = max(1, n // 3)
    per_second = 1000 * n / sum(wall)
    figures = {f"latency_p{q}_ms": percentile(wall, q, "ms") for q in SAMPLES_FOR}
    plain = {
        "latency_min_ms": (min(wall), "ms"),
        "latency_max_ms": (max(wall), "ms"),
        "latency_mean_ms": (statistics.fmean(wall), "ms"),
        "latency_cov": (float(np.std(wall) / np.mean(wall)), "1"),
        "cpu_median_ms": (statistics.median(cpu), "ms"),
        "latency_first_third_ms": (statistics.median(wall[:third]), "ms"),
        "latency_last_third_ms": (statistics.median(wall[-third:]), "ms"),
        "throughput_fps": (per_second, "frame/s"),
        "throughput_mps": (per_second * megapixels, "output MP/s"),
    }
    for name, (value, unit) in plain.items():
        figures[name] = figure(value, unit, "measured", samples=n)
    return figures


def quality_figures(quality: dict[str, Any]) -> dict[str, Figure]:
    """Mean PSNR, SSIM and LPIPS over the pictures, or why there are none.

    A record from before LPIPS was measured has no figure of that name.
    """
    figures = {}
    pictures = quality.get("pictures", [])
    for name, (key, unit) in _QUALITY.items():
        why = quality.get("missing") or quality.get(f"{key}_missing")
        if why:
            figures[name] = figure(None, unit, "measured", note=why)
            continue
        values = [picture[key] for picture in pictures if key in picture]
        if key in _LATER and not values:
            continue
        if None in values:  # what JSON cannot hold, or a measure that a picture cannot have
            figures[name] = figure(
                None, unit, "measured", samples=len(values), note=_NOT_FINITE.get(key, _EQUAL)
            )
            continue
        figures[name] = figure(statistics.fmean(values), unit, "measured", samples=len(values))
    return figures


def energy_summary(report: dict[str, Any]) -> dict[str, Any] | None:
    """What the meter was and how much the machine took at rest; None when not measured."""
    power = report["power"]
    if "missing" in power:
        return None
    trace = Trace.from_json(power["trace"])
    idle = _loaded_idle_w(trace, power)
    known = [w for w in idle if w is not None]
    summary: dict[str, Any] = {
        "meter": trace.meter,
        "rails": list(trace.rails),
        "total": formula(trace.total),
        "scope": trace.scope,
        "samples": len(trace.samples),
        "nominal_s": trace.nominal_s,
        "idle_w": _watts(_idle_w(trace, power["idle"])),
        "loaded_idle_before_w": _watts(idle[0]),
        "loaded_idle_after_w": _watts(idle[-1]),
    }
    drift = idle_problem(known) if len(known) == len(idle) else "idle power could not be measured"
    summary["problems"] = [drift] if drift else []
    return summary


def model_energy(model: dict[str, Any], report: dict[str, Any]) -> tuple[Energy, list[Energy]]:
    """The energy of all of a model's repetitions together, and of each."""
    trace = Trace.from_json(report["power"]["trace"])
    parts = repetition_windows(model["raw"]["samples"], report["settings"].get("fps"))
    return energy(trace, *chain(*parts)), [energy(trace, *part) for part in parts]


def _energy(model: dict[str, Any], report: dict[str, Any], megapixels: float) -> dict[str, Figure]:
    power = report["power"]
    if "missing" in power:
        why = power["missing"]["reason"]
        return {k: figure(None, unit, "measured", note=why) for k, unit in _ENERGY.items()}
    whole, parts = model_energy(model, report)
    if whole.total_j is None or whole.problems:
        why = "; ".join(whole.problems)
        return {k: figure(None, unit, "measured", note=why) for k, unit in _ENERGY.items()}
    calls = [len(r) for r in repetitions(model["raw"]["samples"])]
    joules = [part.total_j or 0.0 for part in parts]
    gross = whole.total_j / sum(calls)
    interval = bootstrap(len(calls), lambda picks: _share(joules, calls, picks))
    net = _net(whole, power)
    values = {
        "energy_j_per_frame": gross,
        "energy_net_j_per_frame": None if net is None else net / sum(calls),
        "energy_j_per_mp": gross / megapixels,
        "energy_frames_per_j": 1 / gross if gross else None,
        "energy_mp_per_j": megapixels / gross if gross else None,
        "power_mean_w": whole.mean_w,
    }
    note = "gross, with what the machine takes at rest"
    figures = {
        k: figure(values[k], unit, "measured", samples=whole.samples, note=note)
        for k, unit in _ENERGY.items()
    }
    figures["energy_net_j_per_frame"]["note"] = "gross less the loaded idle power over its time"
    if interval is not None:
        figures["energy_j_per_frame"]["ci95"] = [float(f"{x:.6g}") for x in interval]
    return figures


def _share(joules: list[float], calls: list[int], picks: list[int]) -> float:
    return sum(joules[k] for k in picks) / sum(calls[k] for k in picks)


def _net(whole: Energy, power: dict[str, Any]) -> float | None:
    trace = Trace.from_json(power["trace"])
    known = [w for w in _loaded_idle_w(trace, power) if w is not None]
    if not known or whole.total_j is None:
        return None
    return net_j(whole.total_j, statistics.fmean(known), whole.duration_s)


def _loaded_idle_w(trace: Trace, power: dict[str, Any]) -> list[float | None]:
    return [_idle_w(trace, window) for window in power["loaded_idle"]]


def _idle_w(trace: Trace, window: Sequence[float]) -> float | None:
    """Mean watts over an idle window; None where the readings do not cover it."""
    found = energy(trace, (window[0], window[1]))
    return found.mean_w if found.coverage >= MIN_COVERAGE else None


def _watts(watts: float | None) -> Figure:
    note = "" if watts is not None else "no total, or too few readings at rest"
    return figure(watts, "W", "measured", note=note)
