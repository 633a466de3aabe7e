"""The state of the machine, read before and after a run; nothing is ever changed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from edgesr.machine import memory_bytes, processor, text

_PACKAGES = ("edgesr", "numpy", "onnxruntime", "opencv-python-headless")


def conditions(root: Path = Path("/")) -> dict[str, Any]:
    """What is known of this machine; what it does not tell is left out.

    `root` is where /proc, /sys and /etc are read from. Sizes are bytes, temperatures °C.
    """
    found = {
        "board": text(root / "proc/device-tree/model"),
        "l4t": text(root / "etc/nv_tegra_release"),
        "power_mode": _power_mode(),
        "cpu": processor(root) or platform.processor(),
        "cores": os.cpu_count(),
        "cores_usable": _usable_cores(),
        "governor": _cpufreq(root, "scaling_governor"),
        "clock_limits_khz": _clock_limits(root),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "memory_bytes": memory_bytes(root, "MemTotal"),
        "memory_available_bytes": memory_bytes(root, "MemAvailable"),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "temperatures_c": _temperatures(root),
        "versions": _versions(),
    }
    return {name: value for name, value in found.items() if value not in (None, "", {})}


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _cpufreq(root: Path, name: str) -> str:
    """The setting of every core; one word when they agree."""
    paths = sorted((root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}"))
    return ", ".join(dict.fromkeys(text(p) for p in paths))


def _clock_limits(root: Path) -> str:
    low, high = (_cpufreq(root, f"scaling_{end}_freq") for end in ("min", "max"))
    return f"{low} to {high}" if low and high else ""


def _temperatures(root: Path) -> dict[str, float]:
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind, reading = text(zone / "type"), text(zone / "temp")
        # A switched-off sensor answers with an error or with -256 °C.
        if kind and reading.lstrip("-").isdigit() and int(reading) > -200_000:
            found[kind] = int(reading) / 1000
    return found


def _power_mode() -> str:
    if shutil.which("nvpmodel") is None:
        return ""
    try:
        asked = subprocess.run(
            ["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    for line in asked.stdout.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "NV Power Mode":
            return value.strip()
    return ""


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
