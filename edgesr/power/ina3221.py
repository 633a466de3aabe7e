"""The INA3221 of the Jetson boards, through the mainline hwmon driver (L4T 34 and newer).

Three channels a chip: `in{k}_label` (rail), `in{k}_input` (mV), `curr{k}_input` (mA),
`curr{k}_max` and `curr{k}_crit` (limits in mA) with an `_alarm` each. Kernel documentation:
Documentation/hwmon/ina3221.rst. World-readable; no root, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesr.power.meter import NoMeter, Quantity, read_number, read_optional
from edgesr.power.rails import distinct, is_wired, known_total

MODULE = "the module with its DRAM; not the carrier board, its supply, a fan or a disk"


@dataclass(frozen=True)
class Channel:
    """One wired channel of a chip."""

    rail: str
    folder: Path
    index: int

    def file(self, name: str) -> Path:
        """The channel's file of that name, `{}` being its number: `curr{}_input`."""
        return self.folder / name.format(self.index)


class Ina3221:
    """A `Meter` over all INA3221 chips of a board; `read` gives watts."""

    name = "INA3221"
    quantity: Quantity = "W"
    scope = MODULE

    def __init__(self, channels: Sequence[Channel]) -> None:
        names = distinct(c.rail for c in channels)
        self._inputs = [
            (rail, c.file("in{}_input"), c.file("curr{}_input"))
            for rail, c in zip(names, channels, strict=True)
        ]
        self._channels = dict(zip(names, channels, strict=True))
        self._highest_ma = dict.fromkeys(names, 0.0)
        self.rails = tuple(names)
        self.total = known_total(self.rails)

    def read(self) -> dict[str, float]:
        """Watts of each rail now."""
        watts = {}
        for rail, volts, amperes in self._inputs:
            milliamperes = read_number(amperes)
            watts[rail] = read_number(volts) * milliamperes / 1e6
            if milliamperes > self._highest_ma[rail]:
                self._highest_ma[rail] = milliamperes
        return watts

    def conditions(self) -> dict[str, str]:
        """Averaging (`samples`) and refresh (`update_interval`, ms) of each chip, and limits.

        For each rail with limits of current: those, the alarms now, and the highest current
        read so far, all in mA; `edgesr.power.alarms` reads them.
        """
        found = {}
        for folder in dict.fromkeys(c.folder for c in self._channels.values()):
            for name in ("samples", "update_interval"):
                found[f"{folder.name}/{name}"] = read_optional(folder / name)
        for rail, channel in self._channels.items():
            limits = {
                f"{rail}/{name}": read_optional(channel.file("curr{}_" + name))
                for name in ("max", "crit", "max_alarm", "crit_alarm")
            }
            if any(limits.values()):
                found.update(limits)
                found[f"{rail}/highest"] = f"{self._highest_ma[rail]:.0f}"
        return {name: text for name, text in found.items() if text}


def find(root: Path) -> Ina3221 | NoMeter:
    """The board's meter below the sysfs folder `root`, or why there is none."""
    channels = [c for folder in _chips(root) for c in _wired(folder)]
    if channels:
        return Ina3221(channels)
    return NoMeter("no INA3221", "run on a Jetson board")


def _chips(root: Path) -> list[Path]:
    """The hwmon folders of all chips; two ways in, since drivers and kernels vary."""
    folders = sorted((root / "bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*"))
    if not folders:
        for name in sorted((root / "class/hwmon").glob("hwmon*/name")):
            if read_optional(name) == "ina3221":
                folders.append(name.parent)
    return list({folder.resolve(): folder for folder in folders}.values())


def _wired(folder: Path) -> list[Channel]:
    found = []
    for index in (1, 2, 3):  # in4–6 are the shunt voltages, in7 their sum
        rail = read_optional(folder / f"in{index}_label")
        off = read_optional(folder / f"in{index}_enable") == "0"
        if is_wired(rail) and not off and (folder / f"curr{index}_input").is_file():
            found.append(Channel(rail, folder, index))
    return found
