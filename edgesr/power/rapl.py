"""RAPL: the energy counters of Intel and AMD processors, through Linux powercap.

`/sys/class/powercap/intel-rapl:N` are the packages (and `psys`, the platform), `intel-rapl:N:M`
their parts; `energy_uj` counts microjoules and wraps at `max_energy_range_uj`. Kernel
documentation: Documentation/power/powercap/powercap.rst. Readable by root only since
CVE-2020-8694.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesr.power.meter import NoMeter, Quantity, read_number, read_text

_FIX = "sudo chmod a+r /sys/class/powercap/*/energy_uj   (lasts until the next boot)"


@dataclass(frozen=True)
class Zone:
    """One counter: its rail name, file, and the value in microjoules at which it wraps."""

    rail: str
    energy: Path
    range_uj: float


class Rapl:
    """A `Meter` over the processor's own counters; `read` gives joules since it was made.

    It must be read at least once in every wrap of the counter (a minute or more).
    """

    name = "RAPL"
    quantity: Quantity = "J"
    scope = "the processor package(s), and DRAM where counted; not the board, disks or a GPU card"

    def __init__(self, zones: list[Zone]) -> None:
        self._zones = tuple(zones)
        self.rails = tuple(z.rail for z in zones)
        # core and uncore lie inside their package, and packages inside psys.
        self.total = tuple(r for r in self.rails if _adds_up(r))
        self._last_uj = {z.rail: read_number(z.energy) for z in zones}
        self._joules = dict.fromkeys(self.rails, 0.0)

    def read(self) -> dict[str, float]:
        """Joules of each rail since the meter was made, wraps undone."""
        for zone in self._zones:
            now = read_number(zone.energy)
            delta = now - self._last_uj[zone.rail]
            if delta < 0:
                delta += zone.range_uj
            self._last_uj[zone.rail] = now
            self._joules[zone.rail] += delta / 1e6
        return dict(self._joules)

    def conditions(self) -> dict[str, str]:
        """Where each counter wraps."""
        return {f"{z.rail}/max_energy_range_uj": f"{z.range_uj:.0f}" for z in self._zones}


def find(root: Path) -> Rapl | NoMeter:
    """The processor's meter below the sysfs folder `root`, or why there is none."""
    folders = sorted((root / "class/powercap").glob("intel-rapl:*"))
    if not folders:
        return NoMeter(
            "no RAPL counters", "run on bare metal: virtual machines and containers hide them"
        )
    zones = []
    for folder in folders:
        try:
            read_text(folder / "energy_uj")
        except PermissionError:
            return NoMeter(f"{folder / 'energy_uj'} is readable by root only", _FIX, present=True)
        except OSError:
            continue  # a zone without a counter
        range_uj = read_number(folder / "max_energy_range_uj")
        zones.append(Zone(_rail(root, folder), folder / "energy_uj", range_uj))
    if not any(_adds_up(z.rail) for z in zones):
        return NoMeter("RAPL has no package counter here", "update the kernel", present=True)
    return Rapl(zones)


def _rail(root: Path, folder: Path) -> str:
    """`package-0`, `package-0/dram`, `psys`: a part is named after its package."""
    name = read_text(folder / "name")
    parts = folder.name.split(":")
    if len(parts) < 3:
        return name
    parent = root / "class/powercap" / ":".join(parts[:2])
    return f"{read_text(parent / 'name')}/{name}"


def _adds_up(rail: str) -> bool:
    zone, _, part = rail.partition("/")
    return zone.startswith("package") and part in {"", "dram"}
