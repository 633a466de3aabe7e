"""The state of the machine, read before and after a run; nothing is ever changed.

Runs on boards too (`bench --host`): Python 3.8 and the standard library.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from edgesr.bench import heat, jetpack
from edgesr.bench.cards import Card, cards
from edgesr.bench.clocks import Domain, cpu_domains, emc_mhz, gpu_domains, pinned
from edgesr.bench.places import Places
from edgesr.machine import memory_bytes, processor, text

_PACKAGES = ("edgesr", "numpy", "onnxruntime", "opencv-python-headless")
_TENSORRT = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx")
_MANY = 8  # clocks beyond so many are told as a span


def conditions(
    root: Path | None = None, *, find_cards: Callable[[], list[Card]] = cards
) -> dict[str, Any]:
    """What is known of this machine; what it does not tell is left out.

    `root` is a recorded tree with proc, sys, etc and usr; None: this machine, its /sys
    wherever EDGESR_SYSFS_ROOT says. Sizes are bytes, temperatures °C, clocks kHz or MHz as
    their names say.
    """
    places = Places.here() if root is None else Places.below(root)
    there = [] if places.recorded else find_cards()
    cpu, gpu = cpu_domains(places.sys), gpu_domains(places.sys)
    found = {
        **_board(places),
        "cpu": processor(places.root) or platform.processor(),
        "gpu": ", ".join(filter(None, (card.model() for card in there))),
        "cores": os.cpu_count(),
        "cores_usable": _usable_cores(),
        **_cpu_clocks(cpu),
        **_gpu_clocks(gpu, there),
        "emc_clock_mhz": emc_mhz(places.sys),
        "clocks_pinned": pinned([*cpu, *gpu]),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "memory_bytes": memory_bytes(places.root, "MemTotal"),
        "memory_available_bytes": memory_bytes(places.root, "MemAvailable"),
        "nvmap_bytes": memory_bytes(places.root, "NvMapMemUsed"),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        **_heat(places, there),
        "versions": _versions(places),
    }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def _board(places: Places) -> dict[str, Any]:
    release = text(places.root / "etc/nv_tegra_release")
    mode, number = jetpack.power_mode(places)
    return {
        "board": text(places.root / "proc/device-tree/model"),
        "module": jetpack.module(places.root),
        "l4t": release,
        "jetpack": jetpack.jetpack(jetpack.l4t_version(release)),
        "power_mode": mode,
        "power_mode_id": number,
    }


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpu_clocks(domains: list[Domain]) -> dict[str, Any]:
    least, most = _each(d.least for d in domains), _each(d.most for d in domains)
    return {
        "governor": _each(d.governor for d in domains),
        "clock_limits_khz": f"{least} to {most}" if least and most else "",
        "cpu_clock_mhz": _clocks(domains),
    }


def _each(paths: Iterable[Path]) -> str:
    """The settings in order; one word when they agree."""
    return ", ".join(dict.fromkeys(filter(None, (text(path) for path in paths))))


def _clocks(domains: list[Domain]) -> dict[str, float]:
    told = {d.name: d.mhz(d.now) for d in domains}
    known = {name: round(mhz, 3) for name, mhz in told.items() if mhz is not None}
    if len(known) > _MANY:
        return {"lowest": min(known.values()), "highest": max(known.values())}
    return known


def _gpu_clocks(domains: list[Domain], there: list[Card]) -> dict[str, Any]:
    limits = {d.name: (d.mhz(d.least), d.mhz(d.most)) for d in domains}
    told = {card.name: card.clock_mhz() for card in there}
    return {
        "gpu_governor": {d.name: text(d.governor) for d in domains if text(d.governor)},
        "gpu_clock_mhz": {
            **_clocks(domains),
            **{name: mhz for name, mhz in told.items() if mhz is not None},
        },
        "gpu_clock_limits_mhz": {
            name: f"{least:g} to {most:g}"
            for name, (least, most) in limits.items()
            if least is not None and most is not None
        },
    }


def _heat(places: Places, there: list[Card]) -> dict[str, Any]:
    told = {zone.name: zone.temperature_c() for zone in heat.zones(places.sys)}
    told.update({card.name: card.temperature_c() for card in there})
    states = {brake.name: brake.state() for brake in heat.brakes(places.sys)}
    return {
        "temperatures_c": {name: c for name, c in told.items() if c is not None},
        "fan": heat.fans(places.sys),
        "cooling": {name: int(state) for name, state in states.items() if state is not None},
        "thermal_throttle_count": heat.slowed_count(places.sys),
        "throttled": heat.raspberry_throttled(places),
    }


def _versions(places: Places) -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "CUDA": jetpack.cuda(places.root),
        "TensorRT": next(filter(None, map(_installed, _TENSORRT)), "")
        or jetpack.tensorrt(places.root),
        "NVIDIA driver": jetpack.driver(places.sys),
        **{package: _installed(package) for package in _PACKAGES},
    }
    return {name: version for name, version in found.items() if version}


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
