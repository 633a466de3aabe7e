"""What a power meter is, and the trace that is read from one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from edgesr.errors import Impossible

Quantity: TypeAlias = Literal["W", "J"]
_TRACE_FACTS = ("meter", "quantity", "scope", "nominal_s", "conditions", "stopped")


class Meter(Protocol):
    """Reads the rails of one machine.

    `quantity` says what `read` gives for each rail: the power now in watts, or the energy in
    joules since the meter was made (a counter). `total` names the rails that add up to the
    whole; empty when that is not known, and then only single rails can be reported. `scope`
    says in words what the total covers and what it leaves out.
    """

    name: str
    quantity: Quantity
    rails: tuple[str, ...]
    total: tuple[str, ...]
    scope: str

    def read(self) -> dict[str, float]:
        """Each rail's value now; raises `Impossible` when a sensor stopped answering."""
        ...

    def conditions(self) -> dict[str, str]:
        """The sensor's own settings (averaging, refresh), for the report; never changed."""
        ...


@dataclass(frozen=True)
class NoMeter:
    """Why nothing can be measured, and the one line that would mend it.

    `present` means that there is a sensor, but that it cannot be read.
    """

    reason: str
    fix: str
    present: bool = False


@dataclass(frozen=True)
class Sample:
    """One reading; the two monotonic stamps in seconds lie before and after it."""

    before_s: float
    after_s: float
    values: dict[str, float]

    @property
    def time_s(self) -> float:
        """The instant this reading stands for: the middle."""
        return (self.before_s + self.after_s) / 2


@dataclass
class Trace:
    """Every reading of one meter, in order of time; `nominal_s` is the aimed-at interval."""

    meter: str
    quantity: Quantity
    rails: tuple[str, ...]
    total: tuple[str, ...]
    scope: str
    nominal_s: float
    conditions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    stopped: str = ""  # why the sensor stopped answering, if it did

    def to_json(self, origin_s: float = 0.0) -> dict[str, Any]:
        """Plain data for a report: stamps in seconds from `origin_s`, values by rail."""
        plain = {name: getattr(self, name) for name in _TRACE_FACTS}
        return {
            **plain,
            "rails": list(self.rails),
            "total": list(self.total),
            "before_s": [round(s.before_s - origin_s, 6) for s in self.samples],
            "after_s": [round(s.after_s - origin_s, 6) for s in self.samples],
            "values": {r: [round(s.values[r], 6) for s in self.samples] for r in self.rails},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """The trace that `to_json` wrote; KeyError for anything else."""
        rails = tuple(data["rails"])
        facts = {name: data[name] for name in _TRACE_FACTS}
        columns = zip(data["before_s"], data["after_s"], strict=True)
        samples = [
            Sample(before, after, {r: data["values"][r][k] for r in rails})
            for k, (before, after) in enumerate(columns)
        ]
        return cls(rails=rails, total=tuple(data["total"]), samples=samples, **facts)

    def watts(self) -> Iterator[tuple[float, str, float]]:
        """(time in s, rail, watts) of every reading.

        A counter gives the mean power between two readings, stamped in their middle.
        """
        if self.quantity == "W":
            for sample in self.samples:
                for rail in self.rails:
                    yield sample.time_s, rail, sample.values[rail]
            return
        for a, b in zip(self.samples, self.samples[1:], strict=False):
            elapsed = b.time_s - a.time_s
            for rail in self.rails if elapsed > 0 else ():
                power = (b.values[rail] - a.values[rail]) / elapsed
                yield (a.time_s + b.time_s) / 2, rail, power


def formula(total: tuple[str, ...]) -> str:
    """How the total is made, in words: `VDD_IN` or `A + B`."""
    return " + ".join(total) if total else "none: what these rails add up to is not known"


def sysfs_root() -> Path:
    """`/sys`, or the folder that EDGESR_SYSFS_ROOT names (a recorded tree)."""
    return Path(os.environ.get("EDGESR_SYSFS_ROOT") or "/sys")


def read_text(path: Path) -> str:
    """The stripped text of one sysfs file; OSError as the kernel gives it."""
    return path.read_text(encoding="utf-8", errors="replace").strip()


def read_number(path: Path) -> float:
    """The number in one sysfs file; raises `Impossible` when it cannot be read now."""
    try:
        return float(read_text(path))
    except (OSError, ValueError) as e:
        raise Impossible(f"the power sensor does not answer: {path}: {_why(e)}") from e


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "there is no number in it"
