"""Temperatures, what happens at which, and whether the machine slows itself: sysfs.

Kernel: driver-api/thermal/sysfs-api. A cooling device whose `cur_state` is above 0 is at work:
the processor's, the GPU's and those called throttle mean lower clocks, a fan does not. Intel
counts its own slowing in thermal_throttle/*_count. A Raspberry Pi tells it in bits:
`vcgencmd get_throttled`, and since 2018 a file of its firmware's driver.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgesr.bench.places import Places
from edgesr.power.meter import read_optional

_SLOWS = re.compile(r"cpu|gpu|processor|devfreq|throttle|powerclamp", re.IGNORECASE)
_SLOWING_TRIPS = ("passive", "hot", "critical")
_OFF_C = -200.0  # a sensor of a part that is switched off says -256 °C, or fails


@dataclass(frozen=True)
class Zone:
    """One place that is measured."""

    name: str
    folder: Path

    def temperature_c(self) -> float | None:
        """°C now; None where the sensor is off."""
        told = read_optional(self.folder / "temp")
        known = told.lstrip("-").isdigit() and int(told) / 1e3 > _OFF_C
        return int(told) / 1e3 if known else None

    def trip_c(self) -> float | None:
        """°C from which the kernel slows or stops the machine; None where none is set."""
        found = []
        for kind in self.folder.glob("trip_point_*_type"):
            told = read_optional(kind.with_name(kind.name[: -len("type")] + "temp"))
            if read_optional(kind) in _SLOWING_TRIPS and told.isdigit() and int(told) > 0:
                found.append(int(told) / 1e3)
        return min(found, default=None)


@dataclass(frozen=True)
class Brake:
    """All cooling devices of one kind that lower clocks."""

    name: str
    folders: tuple[Path, ...]

    def state(self) -> float | None:
        """The strongest of their states: 0 is off; None where none tells."""
        told = (read_optional(folder / "cur_state") for folder in self.folders)
        return max((float(t) for t in told if t.lstrip("-").isdigit()), default=None)


def zones(sys: Path) -> list[Zone]:
    """Every thermal zone by its kind, numbered where a kind comes twice."""
    folders = sorted((sys / "class/thermal").glob("thermal_zone*"))
    named = [(read_optional(folder / "type"), folder) for folder in folders]
    kinds = [kind for kind, _ in named]
    return [
        Zone(kind if kinds.count(kind) == 1 else f"{kind} {folder.name[12:]}", folder)
        for kind, folder in named
        if kind
    ]


def brakes(sys: Path) -> list[Brake]:
    """The cooling devices that lower clocks, by kind."""
    found: dict[str, list[Path]] = {}
    for folder in sorted((sys / "class/thermal").glob("cooling_device*")):
        kind = read_optional(folder / "type")
        if _SLOWS.search(kind) and "fan" not in kind.lower():
            found.setdefault(kind, []).append(folder)
    return [Brake(kind, tuple(folders)) for kind, folders in found.items()]


def slowed_count(sys: Path) -> int | None:
    """How often an Intel processor slowed itself for heat since it was started."""
    each = (sys / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    told = [read_optional(path) for path in each]
    return sum(int(t) for t in told if t.isdigit()) if told else None


def raspberry_file(sys: Path) -> Path | None:
    """The file with the bits of a Raspberry Pi, where its kernel has it."""
    return next(iter(sorted((sys / "devices/platform").glob("*/*firmware/get_throttled"))), None)


def raspberry_bits(told: str) -> int | None:
    """The bits in `throttled=0x50000` or `50000`; None where there are none."""
    digits = told.strip().rpartition("=")[2]
    try:
        return int(digits, 16)
    except ValueError:
        return None


def raspberry_throttled(places: Places) -> str:
    """Those bits as `0x…`; empty on other machines."""
    file = raspberry_file(places.sys)
    told = places.said("vcgencmd", "get_throttled") or (read_optional(file) if file else "")
    bits = raspberry_bits(told)
    return "" if bits is None else f"{bits:#x}"


def fans(sys: Path) -> dict[str, str]:
    """Each fan's setting (0 to 255) and its turns a minute, as far as it tells them."""
    found: dict[str, str] = {}
    for folder in sorted((sys / "class/hwmon").glob("hwmon*")):
        for file, unit in (("pwm1", "of 255"), ("fan1_input", "rpm")):
            told = read_optional(folder / file)
            if told.isdigit():
                name = read_optional(folder / "name") or folder.name
                found[name] = ", ".join(filter(None, (found.get(name), f"{told} {unit}")))
    return found
