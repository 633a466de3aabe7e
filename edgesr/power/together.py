"""Several meters read as one, so that one trace holds the rails of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from edgesr.power.meter import Meter, Quantity
from edgesr.power.rails import chosen_total, distinct


class Counted:
    """A `Meter` of watts turned into a counter of joules: trapezoids between its readings.

    `clock` is in seconds. It stands beside real counters; alone, the watts are kept instead.
    """

    quantity: Quantity = "J"

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.perf_counter) -> None:
        self._meter, self._clock = meter, clock
        self.name, self.scope = meter.name, meter.scope
        self.rails, self.total = meter.rails, meter.total
        self._joules = dict.fromkeys(self.rails, 0.0)
        self._last = self._timed()

    def read(self) -> dict[str, float]:
        """Joules of each rail since the meter was made."""
        then, before = self._last
        now, watts = self._last = self._timed()
        for rail in self.rails:
            self._joules[rail] += (before[rail] + watts[rail]) / 2 * (now - then)
        return dict(self._joules)

    def conditions(self) -> dict[str, str]:
        """Those of the meter itself."""
        return {**self._meter.conditions(), f"{self.name}/joules": "integrated from its watts"}

    def _timed(self) -> tuple[float, dict[str, float]]:
        start = self._clock()
        watts = self._meter.read()
        return (start + self._clock()) / 2, watts


class Together:
    """A `Meter` over several, read one after the other.

    It counts joules if any of them does. `total` names the rails that add up; None: the totals
    of all meters. `notes` are further conditions. Raises `BadConfig` for a rail that is not
    there.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        total: Sequence[str] | None = None,
        notes: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        counts = any(m.quantity == "J" for m in meters)
        self.quantity: Quantity = "J" if counts else "W"
        self._meters = [Counted(m, clock) if counts and m.quantity == "W" else m for m in meters]
        self._notes = dict(notes or {})
        self.name = " + ".join(m.name for m in meters)
        self.scope = _scope(meters, total)
        self.rails = tuple(distinct(rail for m in meters for rail in m.rails))
        all_of_them = [rail for m in meters for rail in m.total]
        self.total = chosen_total(self.rails, all_of_them if total is None else total)

    def read(self) -> dict[str, float]:
        """Each rail's value now."""
        values = [value for meter in self._meters for value in meter.read().values()]
        return dict(zip(self.rails, values, strict=True))

    def conditions(self) -> dict[str, str]:
        """Those of all meters, and the notes."""
        found: dict[str, str] = {}
        for meter in self._meters:
            found.update(meter.conditions())
        return {**found, **self._notes}


def _scope(meters: Sequence[Meter], total: Sequence[str] | None) -> str:
    if len(meters) == 1:
        return meters[0].scope
    parts = []
    for meter in meters:
        added = total is None or any(rail in total for rail in meter.rails)
        parts.append(f"{meter.name}: {meter.scope}" + ("" if added else " (shown, not added)"))
    return "; ".join(parts)
