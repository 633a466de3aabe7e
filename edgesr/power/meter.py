"""What a power meter is, how its files are read, and the trace that comes of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from edgesr.errors import Impossible

if TYPE_CHECKING:
    from typing import TypeAlias

Quantity: TypeAlias = Literal["W", "J"]
T = TypeVar("T")
_TRACE_FACTS = ("meter", "quantity", "scope", "nominal_s", "conditions", "stopped")
# The bus was taken or the chip was busy: the next reading may well succeed.
_PASSING = (errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT)
_LONGEST_STEP_S = 1.0


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
        """Each rail's value now.

        Raises `Busy` when a sensor did not answer this once, and `Impossible` when it stopped.
        """
        ...

    def conditions(self) -> dict[str, str]:
        """The sensor's own settings and alarms now, for the report; nothing is changed.

        Never raises: what does not answer is left out.
        """
        ...


class Busy(Impossible):
    """A sensor did not answer this once; asked again it may."""


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
    """Every reading of one meter, in order of time; `nominal_s` is the aimed-at interval.

    `conditions` are the sensor's before the first reading, `conditions_after` those after the
    last. `lost` counts readings that a busy sensor did not answer.
    """

    meter: str
    quantity: Quantity
    rails: tuple[str, ...]
    total: tuple[str, ...]
    scope: str
    nominal_s: float
    conditions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    stopped: str = ""  # why the sensor stopped answering, if it did
    lost: int = 0
    conditions_after: dict[str, str] = field(default_factory=dict)

    def to_json(self, origin_s: float = 0.0) -> dict[str, Any]:
        """Plain data for a report: stamps in seconds from `origin_s`, values by rail."""
        plain = {name: getattr(self, name) for name in _TRACE_FACTS}
        return {
            **plain,
            "lost": self.lost,
            "conditions_after": self.conditions_after,
            "rails": list(self.rails),
            "total": list(self.total),
            "before_s": [round(s.before_s - origin_s, 6) for s in self.samples],
            "after_s": [round(s.after_s - origin_s, 6) for s in self.samples],
            "values": {r: [round(s.values[r], 6) for s in self.samples] for r in self.rails},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """The trace that `to_json` wrote, also an older one's; KeyError for anything else."""
        rails = tuple(data["rails"])
        facts = {name: data[name] for name in _TRACE_FACTS}
        columns = zip(data["before_s"], data["after_s"], strict=True)
        samples = [
            Sample(before, after, {r: data["values"][r][k] for r in rails})
            for k, (before, after) in enumerate(columns)
        ]
        return cls(
            rails=rails,
            total=tuple(data["total"]),
            samples=samples,
            lost=data.get("lost", 0),
            conditions_after=data.get("conditions_after", {}),
            **facts,
        )

    def watts(self) -> Iterator[tuple[float, str, float]]:
        """(time in s, rail, watts) of every reading.

        A counter gives the mean power between two of its steps, stamped in their middle: some
        step only every 100 ms, and between two readings in one step lie no joules at all.
        """
        if self.quantity == "W":
            for sample in self.samples:
                for rail in self.rails:
                    yield sample.time_s, rail, sample.values[rail]
            return
        last = dict.fromkeys(self.rails, self.samples[0]) if self.samples else {}
        for sample in self.samples[1:]:
            for rail in self.rails:
                since = last[rail]
                elapsed = sample.time_s - since.time_s
                joules = sample.values[rail] - since.values[rail]
                if elapsed > 0 and (joules or elapsed >= _LONGEST_STEP_S):
                    yield (since.time_s + sample.time_s) / 2, rail, joules / elapsed
                    last[rail] = sample


def formula(total: tuple[str, ...]) -> str:
    """How the total is made, in words: `VDD_IN` or `A + B`."""
    return " + ".join(total) if total else "none: what these rails add up to is not known"


def sysfs_root() -> Path:
    """`/sys`, or the folder that EDGESR_SYSFS_ROOT names (a recorded tree)."""
    return Path(os.environ.get("EDGESR_SYSFS_ROOT") or "/sys")


def read_text(path: Path) -> str:
    """The stripped text of one sysfs file; OSError as the kernel gives it."""
    with open(path, "rb", buffering=0) as file:  # unbuffered: read fifty times a second
        return (file.read() or b"").decode(errors="replace").strip()


def read_optional(path: Path) -> str:
    """The text of a file that may be missing or closed to us; empty then."""
    try:
        return read_text(path)
    except OSError:
        return ""


def read_number(path: Path) -> float:
    """The number in one sysfs file.

    Raises `Busy` when it cannot be read this once, `Impossible` when it cannot be read at all.
    """
    try:
        return float(read_text(path))
    except (OSError, ValueError) as e:
        passing = isinstance(e, OSError) and e.errno in _PASSING
        kind = Busy if passing else Impossible
        raise kind(f"the power sensor does not answer: {path}: {_why(e)}") from e


def patiently(read: Callable[[], T]) -> T:
    """`read()`, once more if the sensor was busy."""
    try:
        return read()
    except Busy:
        return read()


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "there is no number in it"
