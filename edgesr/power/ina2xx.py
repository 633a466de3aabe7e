"""INA226, INA238 and their kin: one shunt a chip, through their mainline hwmon drivers.

`power1_input` is in microwatts. Jetson Thor's INA238 sits at the board's input and is called
VIN; custom carriers have others. Kernel documentation: Documentation/hwmon/ina2xx.rst and
ina238.rst. World-readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesr.power.meter import NoMeter, Quantity, read_number, read_optional
from edgesr.power.rails import distinct, known_total

_CHIPS = ("ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina237", "ina238", "ina260")
_SETTINGS = ("shunt_resistor", "update_interval", "power1_max", "power1_max_alarm")


@dataclass(frozen=True)
class Chip:
    """One chip: what it is, the name of what it measures, and its hwmon folder."""

    kind: str
    rail: str
    folder: Path


class Ina2xx:
    """A `Meter` over such chips; `read` gives watts."""

    quantity: Quantity = "W"
    scope = "what passes the shunt of each chip; VIN is a whole board, its supply not included"

    def __init__(self, chips: Sequence[Chip]) -> None:
        self.name = " + ".join(dict.fromkeys(c.kind.upper() for c in chips))
        self.rails = tuple(distinct(c.rail for c in chips))
        self._chips = dict(zip(self.rails, chips, strict=True))
        self.total = known_total(self.rails)

    def read(self) -> dict[str, float]:
        """Watts of each rail now."""
        return {r: read_number(c.folder / "power1_input") / 1e6 for r, c in self._chips.items()}

    def conditions(self) -> dict[str, str]:
        """Shunt (µΩ), refresh (ms), limit (µW) and its alarm of each chip that tells them."""
        found = {}
        for rail, chip in self._chips.items():
            for name in _SETTINGS:
                found[f"{rail}/{name}"] = read_optional(chip.folder / name)
        return {name: text for name, text in found.items() if text}


def find(root: Path) -> Ina2xx | NoMeter:
    """The chips below the sysfs folder `root`, or that there is none."""
    chips = []
    for folder in sorted((root / "class/hwmon").glob("hwmon*")):
        kind = read_optional(folder / "name")
        if kind in _CHIPS and (folder / "power1_input").is_file():
            chips.append(Chip(kind, _rail(folder, kind), folder))
    if chips:
        return Ina2xx(chips)
    return NoMeter("no INA226 or INA238", "run on a board that has one")


def _rail(folder: Path, kind: str) -> str:
    """The label of the bus voltage or of the chip; without one, the chip and its address."""
    label = read_optional(folder / "in1_label") or read_optional(folder / "label")
    if label:
        return label
    device = folder / "device"
    return f"{kind} {device.resolve().name if device.exists() else folder.name}"
