"""The clocks of processor, GPU and memory in sysfs: what they are and what they may be.

CPU: /sys/devices/system/cpu/cpufreq/policy*/scaling_*, kHz (kernel, admin-guide/pm/cpufreq).
GPU of a Jetson: a folder of /sys/class/devfreq, Hz, known by its device-tree name or, on Thor,
by its own. Memory (EMC): root alone may read it, but for Thor's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgesr.power.meter import read_optional

_GPU_NODES = ("gpu", "gp10b", "gv11b", "ga10b", "gb10b")
_THOR_GPU = re.compile(r"gpu-(gpc|nvd)-\d+")
_EMC = ("kernel/debug/bpmp/debug/clk/emc/rate", "class/devfreq/bwmgr/cur_freq")


@dataclass(frozen=True)
class Domain:
    """Units that share a clock. `now`, `least`, `most` and `governor` are its files.

    `per_mhz` of the files' unit make one MHz.
    """

    name: str
    folder: Path
    prefix: str
    per_mhz: float

    @property
    def governor(self) -> Path:
        """Who decides on the clock."""
        return self.folder / f"{self.prefix}governor"

    @property
    def now(self) -> Path:
        """The clock now."""
        return self.folder / f"{self.prefix}cur_freq"

    @property
    def least(self) -> Path:
        """The lowest that it may be set to."""
        return self.folder / f"{self.prefix}min_freq"

    @property
    def most(self) -> Path:
        """The highest; thermal limits lower it too."""
        return self.folder / f"{self.prefix}max_freq"

    def mhz(self, file: Path) -> float | None:
        """The clock in one of its files; None where it does not tell."""
        told = read_optional(file)
        return int(told) / self.per_mhz if told.isdigit() else None


def cpu_domains(sys: Path) -> list[Domain]:
    """Every cpufreq policy, each once; empty on most virtual machines."""
    folders = sorted((sys / "devices/system/cpu/cpufreq").glob("policy[0-9]*"), key=_number)
    if not folders:  # older kernels have them below each core only
        each = (sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq")
        folders = sorted({f.resolve(): f for f in each}.values(), key=lambda f: _number(f.parent))
    named = [(f.name if f.name != "cpufreq" else f.parent.name, f) for f in folders]
    return [Domain(name, folder, "scaling_", 1e3) for name, folder in named]


def gpu_domains(sys: Path) -> list[Domain]:
    """The clocks of a Jetson's GPU: one, on Thor two."""
    found = []
    for folder in sorted((sys / "class/devfreq").glob("*")):
        node = read_optional(folder / "device/of_node/name").strip("\0")
        if node in _GPU_NODES or _THOR_GPU.fullmatch(folder.name):
            found.append(Domain(folder.name, folder, "", 1e6))
    return found


def emc_mhz(sys: Path) -> float | None:
    """The clock of the memory; None where only root may know it."""
    told = (read_optional(sys / path) for path in _EMC)
    return next((int(t) / 1e6 for t in told if t.isdigit()), None)


def pinned(domains: list[Domain]) -> bool | None:
    """Whether every clock has one value it may take; None where no clock tells its limits."""
    limits = [(d.mhz(d.least), d.mhz(d.most)) for d in domains]
    known = [(least, most) for least, most in limits if least is not None and most is not None]
    return all(least == most for least, most in known) if known else None


def _number(folder: Path) -> int:
    return int(re.sub(r"\D", "", folder.name) or 0)
