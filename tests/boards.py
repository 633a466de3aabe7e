"""Fake sysfs trees of every board with a power sensor, and loads of known energy on them.

Rails, chips and addresses are those of the boards (energymon's JetsonPowerRails.md, NVIDIA's
device trees); the numbers in the files follow a waveform on a clock that only sleeping moves.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgesr.power.meter import Meter, Trace
from edgesr.power.sampler import new_trace, sample

Watts = Callable[[float], float]
DECOY_W = 2.0  # on every rail outside of the total: adding one would be seen
WIDTH = 14


class Tree:
    """Files below `root` that are rewritten in place, without the cost of opening them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, int] = {}
        self._held: dict[str, str] = {}

    def put(self, path: str, value: object) -> None:
        """Write one file; of a fixed width, so that no reader ever sees half a number."""
        if self._held.get(path) == str(value):
            return
        if path not in self._open:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            self._open[path] = os.open(self.root / path, os.O_CREAT | os.O_RDWR)
        self._held[path] = str(value)
        os.pwrite(self._open[path], f"{value!s:<{WIDTH}}\n".encode(), 0)

    def close(self) -> None:
        """Close all files; they stay."""
        for number in self._open.values():
            os.close(number)
        self._open.clear()


@contextmanager
def tree(root: Path) -> Iterator[Tree]:
    """A tree that is closed at the end."""
    made = Tree(root)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Board:
    """A layout: chips as {bus address: rails in order}, and what adds up to the total.

    `old` is NVIDIA's driver of L4T 32 (IIO), else the mainline one (hwmon). `volts` is the
    voltage of all rails. `multiplies`: the old driver gives power, not only its factors.
    """

    name: str
    chips: dict[str, tuple[str, ...]]
    total: tuple[str, ...]
    volts: float = 5.0
    old: bool = False
    multiplies: bool = True
    vin: float = 0.0  # watts at an INA238 called VIN; 0: there is none

    @property
    def rails(self) -> set[str]:
        """All wired rails."""
        named = {rail for rails in self.chips.values() for rail in rails if rail != "NC"}
        return named | ({"VIN"} if self.vin else set())

    def build(self, files: Tree, watts: float = 1.0) -> None:
        """Write the whole tree at a constant power of the total."""
        for number, (bus, rails) in enumerate(self.chips.items()):
            for k, rail in enumerate(rails):
                if self.old:
                    files.put(f"{self._old(bus)}/rail_name_{k}", rail)
                else:
                    folder = self._new(bus, number)
                    files.put(f"{folder}/in{k + 1}_label", rail)
                    files.put(f"{folder}/in{k + 1}_enable", 1)
            if not self.old:
                files.put(f"{self._new(bus, number)}/name", "ina3221")
                files.put(f"{self._new(bus, number)}/in7_label", "sum of shunt voltages")
                files.put(f"{self._new(bus, number)}/in7_input", 99)
        if self.vin:
            files.put("class/hwmon/hwmon9/name", "ina238")
            files.put("class/hwmon/hwmon9/in1_label", "VIN")
            files.put("class/hwmon/hwmon9/power1_input", int(self.vin * 1e6))
        self.apply(files, watts)

    def apply(self, files: Tree, watts: float) -> None:
        """Share `watts` unevenly among the rails of the total; all else draws `DECOY_W`."""
        shares = {rail: k + 1.0 for k, rail in enumerate(self.total)}
        whole = sum(shares.values())
        for number, (bus, rails) in enumerate(self.chips.items()):
            for k, rail in enumerate(rails):
                power = watts * shares[rail] / whole if rail in shares else DECOY_W
                if self.old:
                    self._apply_old(files, self._old(bus), k, power)
                else:
                    folder = self._new(bus, number)
                    files.put(f"{folder}/in{k + 1}_input", round(self.volts * 1e3))
                    files.put(f"{folder}/curr{k + 1}_input", round(power / self.volts * 1e3))

    def _apply_old(self, files: Tree, folder: str, k: int, power: float) -> None:
        files.put(f"{folder}/in_voltage{k}_input", round(self.volts * 1e3))
        files.put(f"{folder}/in_current{k}_input", round(power / self.volts * 1e3))
        if self.multiplies:
            files.put(f"{folder}/in_power{k}_input", round(power * 1e3))

    @staticmethod
    def _old(bus: str) -> str:
        return f"bus/i2c/drivers/ina3221x/{bus}/iio:device{int(bus[-1])}"

    @staticmethod
    def _new(bus: str, number: int) -> str:
        return f"bus/i2c/drivers/ina3221/{bus}/hwmon/hwmon{number + 1}"


_XAVIER = {"1-0040": ("GPU", "CPU", "SOC"), "1-0041": ("CV", "VDDRQ", "SYS5V")}
_SIX = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
_NX = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
_IN = ("VDD_IN",)
NANO = Board(
    "Nano, L4T 32", {"6-0040": ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")}, ("POM_5V_IN",), old=True
)
ORIN_NANO = Board("Orin Nano, L4T 36", {"1-0040": _NX}, _IN)
AGX_ORIN = Board(
    "AGX Orin, L4T 35",
    {"1-0040": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
     "1-0041": ("NC", "VDDQ_VDD2_1V8AO", "NC")},
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
)  # fmt: skip
THOR = Board(
    "Thor, L4T 38",
    {"2-0040": ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")},
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
    volts=12.0,
    vin=23.0,
)
BOARDS = (
    NANO,
    Board("Nano, L4T 32, factors only", NANO.chips, NANO.total, old=True, multiplies=False),
    Board("TX2, L4T 32",
          {"0-0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"),
           "0-0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
           "0-0042": ("VDD_MUX", "VDD_5V0_IO_SYS", "VDD_3V3_SYS")}, _IN, 19.0, True),
    Board("TX2, L4T 32, short names",
          {"0-0040": ("VDD_GPU", "VDD_SOC", "VDD_WIFI"),
           "0-0041": ("VDD_IN", "VDD_CPU", "VDD_DDR")}, _IN, 19.0, True),
    Board("TX2 NX, L4T 32", {"7-0040": ("VDD_IN", "VDD_CPU_GPU", "VDD_SOC")}, _IN, old=True),
    Board("Xavier NX, L4T 32", {"7-0040": _NX}, _IN, old=True),
    Board("Xavier NX, L4T 35", {"7-0040": _NX}, _IN),
    Board("AGX Xavier, L4T 32", _XAVIER, _SIX, old=True),
    Board("AGX Xavier, L4T 35", _XAVIER, _SIX),
    ORIN_NANO,
    Board("Orin NX, L4T 35", {"1-0040": _NX}, _IN),
    AGX_ORIN,
    THOR,
)  # fmt: skip


class Fixed(random.Random):
    """Draws the same share every time: a poller at a fixed rate."""

    def random(self) -> float:
        return 0.1


class Load:
    """A clock that only sleeping moves, and a load: watts as a function of its time."""

    def __init__(self, watts: Watts, apply: Callable[[float], None]) -> None:
        self.now, self._watts, self._apply = 0.0, watts, apply
        apply(watts(0.0))

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._apply(self._watts(self.now))

    def run(self, meter: Meter, seconds: float, rng: random.Random) -> Trace:
        """The trace of `meter` over `seconds` of this clock."""
        trace = new_trace(meter, self.clock)
        sample(
            meter,
            trace,
            lambda: self.now > seconds,
            clock=self.clock,
            sleep=self.sleep,
            rng=rng,
        )
        trace.conditions_after = meter.conditions()
        return trace
