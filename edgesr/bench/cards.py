"""Clocks, temperature and memory of NVIDIA cards through NVML (package nvidia-ml-py).

NVML reference, "Device Queries". On Jetsons most of it is not supported; what a card does not
tell is None. Not run on a card; tested with a stand-in for the binding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgesr.power.nvml import Load, pynvml

# nvmlClocksEventReasons: bits that a card sets when it slows itself: hardware slowdown (0x08),
# software (0x20) and hardware (0x40) thermal slowdown, external power brake (0x80).
_SLOWED = 0x08 | 0x20 | 0x40 | 0x80
_SM_CLOCK = 1  # NVML_CLOCK_SM
_CORE = 0  # NVML_TEMPERATURE_GPU


@dataclass(frozen=True)
class Card:
    """One card; `lib` is the module pynvml, initialised."""

    name: str
    lib: Any
    handle: Any

    def model(self) -> str:
        """What it is called; empty where it does not tell."""
        told = self._told("nvmlDeviceGetName")
        return told.decode() if isinstance(told, bytes) else str(told or "")

    def clock_mhz(self) -> float | None:
        """The clock of its multiprocessors now."""
        return _number(self._told("nvmlDeviceGetClockInfo", _SM_CLOCK))

    def most_mhz(self) -> float | None:
        """The highest clock it may take."""
        return _number(self._told("nvmlDeviceGetMaxClockInfo", _SM_CLOCK))

    def temperature_c(self) -> float | None:
        """°C of its core."""
        return _number(self._told("nvmlDeviceGetTemperature", _CORE))

    def slowed(self) -> float | None:
        """Why it slows itself now, in bits of nvmlClocksEventReasons; 0: it does not."""
        told = self._told("nvmlDeviceGetCurrentClocksEventReasons")
        if told is None:  # its name before CUDA 12.2
            told = self._told("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if told is None else float(int(told) & _SLOWED)

    def process_bytes(self, pid: int) -> int | None:
        """Memory of the card that a process holds with its compute contexts."""
        for process in self._told("nvmlDeviceGetComputeRunningProcesses") or ():
            if process.pid == pid and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    def _told(self, name: str, *arguments: Any) -> Any:
        ask: Callable[..., Any] | None = getattr(self.lib, name, None)
        try:
            return None if ask is None else ask(self.handle, *arguments)
        except self.lib.NVMLError:
            return None


def cards(load: Load = pynvml) -> list[Card]:
    """This machine's cards; none without the binding or the driver."""
    try:
        lib = load()
    except ImportError:
        return []
    try:
        lib.nvmlInit()
        handles = [lib.nvmlDeviceGetHandleByIndex(k) for k in range(lib.nvmlDeviceGetCount())]
    except lib.NVMLError:
        return []
    return [Card(f"gpu-{k}", lib, handle) for k, handle in enumerate(handles)]


def _number(told: Any) -> float | None:
    return None if told is None else float(told)
