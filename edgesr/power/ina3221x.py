"""The INA3221 of the Jetson boards, through NVIDIA's own driver of L4T 32 and older (JetPack 4).

An IIO device of three channels, k = 0, 1, 2: `rail_name_{k}`, `in_power{k}_input` (mW),
`in_voltage{k}_input` (mV), `in_current{k}_input` (mA). World-readable. The driver is not in
the mainline kernel; its files are described in energymon's and jetson_stats' sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgesr.power.ina3221 import MODULE
from edgesr.power.meter import NoMeter, Quantity, read_number, read_optional
from edgesr.power.rails import distinct, is_wired, known_total


class Ina3221x:
    """A `Meter` over all chips of a board; `read` gives watts.

    `channels` are (rail, folder, number). This driver averages nothing that it tells of, and
    has limits of current but no alarm to read.
    """

    name = "INA3221"
    quantity: Quantity = "W"
    scope = MODULE

    def __init__(self, channels: Sequence[tuple[str, Path, int]]) -> None:
        self.rails = tuple(distinct(rail for rail, _, _ in channels))
        self._files = {
            rail: _files(folder, k)
            for rail, (_, folder, k) in zip(self.rails, channels, strict=True)
        }
        self.total = known_total(self.rails)

    def read(self) -> dict[str, float]:
        """Watts of each rail now."""
        return {rail: _watts(files) for rail, files in self._files.items()}

    def conditions(self) -> dict[str, str]:
        """Which driver it is."""
        return {"driver": "ina3221x (L4T 32 or older)"}


def find(root: Path) -> Ina3221x | NoMeter:
    """The board's meter below the sysfs folder `root`, or why there is none."""
    folders = sorted((root / "bus/i2c/drivers/ina3221x").glob("*/iio:device*"))
    channels = []
    for folder in folders:
        for k in (0, 1, 2):
            rail = read_optional(folder / f"rail_name_{k}")
            if is_wired(rail) and any(path.is_file() for path in _files(folder, k)):
                channels.append((rail, folder, k))
    if channels:
        return Ina3221x(channels)
    if folders:
        return NoMeter(
            f"the old INA3221 driver names no rail in {folders[0]}",
            "update to JetPack 5 or newer where the board has it, or use the board's own image",
            present=True,
        )
    return NoMeter("no INA3221", "run on a Jetson board")


def _files(folder: Path, k: int) -> tuple[Path, ...]:
    """The power, where the driver multiplies itself, else voltage and current."""
    power = folder / f"in_power{k}_input"
    if power.is_file():
        return (power,)
    return folder / f"in_voltage{k}_input", folder / f"in_current{k}_input"


def _watts(files: tuple[Path, ...]) -> float:
    if len(files) == 1:
        return read_number(files[0]) / 1e3
    return read_number(files[0]) * read_number(files[1]) / 1e6
