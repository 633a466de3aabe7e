"""Which module, L4T and JetPack a Jetson has, its power mode, and versions on its disk.

Nothing is imported and no package manager asked: each is a file or a short command.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgesr.bench.places import Places
from edgesr.machine import text

# Part numbers of modules, not of carrier boards, by what stands before the dash.
_MODULES = ("p3448", "p3310", "p3489", "p3636", "p3668", "p2888", "p3767", "p3701", "p3834")
# By L4T; NVIDIA's JetPack archive names the exact ones, the spans are those of its families.
_JETPACKS = {
    "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4",
    "32.7.5": "4.6.5", "32.7.6": "4.6.6", "32.7": "4.6.1 to 4.6.6", "32.6": "4.6",
    "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1", "35.4": "5.1.2", "35.5": "5.1.3",
    "35.6": "5.1.4 to 5.1.6", "36.2": "6.0", "36.3": "6.0", "36.4.0": "6.1", "36.4.3": "6.2",
    "36.4.4": "6.2.1", "36.4": "6.1 to 6.2.2", "36.5": "6.2.2", "38.2": "7.0", "38.4": "7.1",
    "39.2": "7.2",
}  # fmt: skip


def module(root: Path) -> str:
    """The module's part number, such as p3767-0005; empty off a Jetson."""
    told = f"{text(root / 'proc/device-tree/compatible')} {_old_name(root)}"
    parts = re.findall(r"p\d{4}-\d{4}", told)
    return next((part for part in parts if part.startswith(_MODULES)), "")


def _old_name(root: Path) -> str:
    return text(root / "proc/device-tree/nvidia,dtsfilename")


def l4t_version(told: str) -> str:
    """`36.4.3` from the first line of /etc/nv_tegra_release."""
    found = re.search(r"R(\d+)\D.*?REVISION:\s*([\d.]+)", told)
    return f"{found[1]}.{found[2].rstrip('.')}" if found else ""


def jetpack(l4t: str) -> str:
    """The JetPack that brought this L4T, or the span it lies in; empty where unknown."""
    parts = l4t.split(".")
    spans = (".".join(parts[:n]) for n in (3, 2))
    return next((_JETPACKS[span] for span in spans if span in _JETPACKS), "")


def power_mode(places: Places) -> tuple[str, str]:
    """Name and number of nvpmodel's mode; empty where there is none or it does not tell."""
    name = number = ""
    for line in places.said("nvpmodel", "-q").splitlines():
        key, colon, value = line.partition(":")
        if key.strip() == "NV Power Mode":
            name = value.strip()
        elif not colon and line.strip().isdigit():
            number = line.strip()
    return name, number


def cuda(root: Path) -> str:
    """The version of the CUDA toolkit in /usr/local/cuda; empty without one."""
    folder = root / "usr/local/cuda"
    try:
        return str(json.loads(text(folder / "version.json"))["cuda"]["version"])
    except (ValueError, KeyError, TypeError):
        return text(folder / "version.txt").rpartition(" ")[2]  # CUDA Version 10.2.300


def tensorrt(root: Path) -> str:
    """The version in the name of TensorRT's library in the system's folder; empty without."""
    paths = (root / "usr/lib").glob("*-linux-gnu/libnvinfer.so.*")
    versions = (path.name[len("libnvinfer.so.") :] for path in paths)
    return max(versions, key=lambda v: (v.count("."), v), default="")


def driver(sys: Path) -> str:
    """The version of NVIDIA's kernel module of desktop cards; empty without one."""
    return text(sys / "module/nvidia/version")
