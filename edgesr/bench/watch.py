"""Looks at clocks and temperatures once a second while a benchmark runs.

A look reads some ten small files, in a thread of its own; the processor time that it takes is
kept beside what it saw. Nothing is changed. Python 3.8 and the standard library.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from edgesr.bench import heat
from edgesr.bench.cards import Card, cards
from edgesr.bench.clocks import Domain, cpu_domains, gpu_domains
from edgesr.bench.places import Places
from edgesr.power.meter import read_optional

INTERVAL_S = 1.0
_MOST_CPU_DOMAINS = 16  # of a large machine the first so many


@dataclass(frozen=True)
class Probe:
    """Something that is looked at: its column, its name there, and how it is read."""

    column: str
    name: str
    read: Callable[[], float | None]


@dataclass
class Watch:
    """What was seen: `at_s` by the given clock, `cpu_ms` the cost of each look.

    `values` by column and name has one entry a look, None where nothing was told then;
    `trips_c` by zone are °C from which the kernel slows or stops the machine.
    """

    interval_s: float
    trips_c: dict[str, float]
    at_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    values: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)

    def to_json(self, origin_s: float) -> dict[str, Any]:
        """Plain data for the report; times count from `origin_s`."""
        return {
            "interval_s": self.interval_s,
            "trips_c": self.trips_c,
            "at_s": [round(t - origin_s, 3) for t in self.at_s],
            "cpu_ms": [round(t, 3) for t in self.cpu_ms],
            **self.values,
        }


def probes(places: Places, there: list[Card]) -> list[Probe]:
    """All that this machine tells now; what says nothing at the start is left out."""
    cpu, gpu = cpu_domains(places.sys)[:_MOST_CPU_DOMAINS], gpu_domains(places.sys)
    found = [*_clocks("cpu", cpu), *_clocks("gpu", gpu)]
    for zone in heat.zones(places.sys):
        found.append(Probe("temperatures_c", zone.name, zone.temperature_c))
    for brake in heat.brakes(places.sys):
        found.append(Probe("cooling", brake.name, brake.state))
    for card in there:
        found.append(Probe("gpu_clock_mhz", card.name, card.clock_mhz))
        found.append(Probe("gpu_limit_mhz", card.name, card.most_mhz))
        found.append(Probe("temperatures_c", card.name, card.temperature_c))
        found.append(Probe("card_slowed", card.name, card.slowed))
    file = heat.raspberry_file(places.sys)
    if file is not None:
        found.append(Probe("raspberry", "throttled", lambda: _bits(read_optional(file))))
    return [probe for probe in found if probe.read() is not None]


class Watcher:
    """Looks as long as the `with` block runs, at its start and its end at least.

    `clock` gives the seconds of `at_s`. `places` None: this machine.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        *,
        places: Places | None = None,
        find_cards: Callable[[], list[Card]] = cards,
        interval_s: float = INTERVAL_S,
    ) -> None:
        at = places or Places.here()
        self._clock = clock
        self._probes = probes(at, [] if at.recorded else find_cards())
        trips = ((zone.name, zone.trip_c()) for zone in heat.zones(at.sys))
        self.watch = Watch(interval_s, {name: c for name, c in trips if c is not None})
        for probe in self._probes:
            self.watch.values.setdefault(probe.column, {})[probe.name] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def look(self) -> None:
        """One look, now."""
        at, cpu = self._clock(), time.thread_time()
        told = [(probe, probe.read()) for probe in self._probes]
        for probe, value in told:
            kept = None if value is None else round(value, 3)
            self.watch.values[probe.column][probe.name].append(kept)
        self.watch.at_s.append(at)
        self.watch.cpu_ms.append((time.thread_time() - cpu) * 1e3)

    def _run(self) -> None:
        while not self._stop.wait(self.watch.interval_s):
            self.look()

    def __enter__(self) -> Watch:
        if self._probes:
            self.look()
            self._thread.start()
        return self.watch

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._probes:
            self._stop.set()
            self._thread.join()
            self.look()


def _clocks(what: str, domains: list[Domain]) -> list[Probe]:
    return [
        Probe(f"{what}_{column}_mhz", domain.name, _reader(domain, file))
        for domain in domains
        for column, file in (("clock", "now"), ("limit", "most"))
    ]


def _reader(domain: Domain, file: str) -> Callable[[], float | None]:
    path = getattr(domain, file)
    return lambda: domain.mhz(path)


def _bits(told: str) -> float | None:
    bits = heat.raspberry_bits(told)
    return None if bits is None else float(bits)
