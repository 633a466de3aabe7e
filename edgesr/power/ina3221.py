"""The INA3221 of the Jetson boards, through the mainline hwmon driver (L4T 34 and newer).

Three channels a chip: `in{k}_label` (rail), `in{k}_input` (mV), `curr{k}_input` (mA). Kernel
documentation: Documentation/hwmon/ina3221.rst. World-readable; no root, nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesr.errors import BadConfig
from edgesr.power.meter import NoMeter, Quantity, read_number, read_text

# Rails that add up to the module, by the labels that the board's device tree gives. On AGX
# Orin VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0, so adding it would count it twice.
_TOTALS: tuple[tuple[str, ...], ...] = (
    ("VDD_IN",),  # Orin Nano, Orin NX, Xavier NX, TX2: the module's input
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor
    ("POM_5V_IN",),  # Nano
)
_UNUSED = re.compile(r"(^|[\W_])NC($|[\W_])", re.IGNORECASE)


@dataclass(frozen=True)
class Channel:
    """One wired channel of a chip."""

    rail: str
    folder: Path
    index: int


class Ina3221:
    """A `Meter` over all INA3221 chips of a board; `read` gives watts.

    `total` comes from the device profile; without one it follows from the rails' names.
    Raises `BadConfig` when a profile names a rail that this board does not have.
    """

    name = "INA3221"
    quantity: Quantity = "W"
    scope = "the module with its DRAM; not the carrier board, its supply, a fan or a disk"

    def __init__(self, channels: Sequence[Channel], total: Sequence[str] | None = None) -> None:
        self._channels = tuple(channels)
        self.rails = tuple(c.rail for c in self._channels)
        self.total = known_total(self.rails) if total is None else tuple(total)
        absent = [rail for rail in self.total if rail not in self.rails]
        if absent:
            raise BadConfig(f"no power rail {absent} here; this board has {', '.join(self.rails)}")

    def read(self) -> dict[str, float]:
        """Watts of each rail now."""
        return {c.rail: _millivolts(c) * _milliamperes(c) / 1e6 for c in self._channels}

    def conditions(self) -> dict[str, str]:
        """Each chip's averaging (`samples`) and refresh (`update_interval`, ms)."""
        found = {}
        for folder in dict.fromkeys(c.folder for c in self._channels):
            for name in ("samples", "update_interval"):
                if (folder / name).is_file():
                    found[f"{folder.name}/{name}"] = read_text(folder / name)
        return found


def find(root: Path, total: Sequence[str] | None = None) -> Ina3221 | NoMeter:
    """The board's meter below the sysfs folder `root`, or why there is none."""
    channels = [c for folder in _chips(root) for c in _channels(folder)]
    if channels:
        return Ina3221(channels, total)
    if any((root / "bus/i2c/drivers/ina3221x").glob("*/iio:device*")):
        return NoMeter(
            "this Jetson runs L4T 32 or older, whose power sensor driver is not read",
            "update to JetPack 5 or newer",
            present=True,
        )
    return NoMeter("no INA3221 power sensor", "run on a Jetson board")


def known_total(rails: Sequence[str]) -> tuple[str, ...]:
    """The rails whose sum is the module's input power; empty for an unknown set."""
    for total in _TOTALS:
        if set(total) <= set(rails):
            return total
    return ()


def _chips(root: Path) -> list[Path]:
    """The hwmon folders of all chips; two ways in, since drivers and kernels vary."""
    folders = sorted((root / "bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*"))
    if not folders:
        for name in sorted((root / "class/hwmon").glob("hwmon*/name")):
            if read_text(name) == "ina3221":
                folders.append(name.parent)
    return list({folder.resolve(): folder for folder in folders}.values())


def _channels(folder: Path) -> list[Channel]:
    found = []
    for index in (1, 2, 3):  # in4–6 are the shunt voltages, in7 their sum
        label, enable = folder / f"in{index}_label", folder / f"in{index}_enable"
        if not label.is_file() or not (folder / f"curr{index}_input").is_file():
            continue
        if enable.is_file() and read_text(enable) == "0":
            continue
        rail = read_text(label)
        if rail and not _UNUSED.search(rail):
            found.append(Channel(rail, folder, index))
    return found


def _millivolts(channel: Channel) -> float:
    return read_number(channel.folder / f"in{channel.index}_input")


def _milliamperes(channel: Channel) -> float:
    return read_number(channel.folder / f"curr{channel.index}_input")
