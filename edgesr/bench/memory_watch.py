"""The memory of a process and of its machine, looked at while a network runs.

The high water of the resident set is the kernel's own (VmHWM). What has no high water there is
looked at every 50 ms in a thread: the proportional set size (PSS, /proc/PID/smaps_rollup: each
page shared with others counted in part), MemAvailable and NvMapMemUsed (what a Jetson's GPU has
of the common memory) of /proc/meminfo, and what NVIDIA's cards say of this process. Shorter
peaks are not seen. Python 3.8 and the standard library.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from edgesr.bench.cards import Card, cards
from edgesr.machine import memory_bytes

INTERVAL_S = 0.05


@dataclass
class Memory:
    """Bytes by name: before, and the highest or lowest since; what is not told is left out."""

    found: dict[str, int] = field(default_factory=dict)
    looks: int = 0

    def highest(self, name: str, size: int | None) -> None:
        """Keep the larger."""
        if size is not None:
            self.found[name] = max(size, self.found.get(name, size))

    def lowest(self, name: str, size: int | None) -> None:
        """Keep the smaller."""
        if size is not None:
            self.found[name] = min(size, self.found.get(name, size))


class MemoryWatch:
    """Looks for as long as the `with` block runs, at its start and its end at least.

    `root` is the folder of /proc; the cards are asked for process `pid`.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        pid: int | None = None,
        find_cards: Callable[[], list[Card]] = cards,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._root, self._interval_s = root, interval_s
        self._pid = os.getpid() if pid is None else pid
        self._cards = find_cards()
        self.memory = Memory()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def look(self) -> None:
        """One look, now."""
        kept = self.memory
        kept.looks += 1
        kept.lowest("available_lowest_bytes", memory_bytes(self._root, "MemAvailable"))
        kept.highest("nvmap_highest_bytes", memory_bytes(self._root, "NvMapMemUsed"))
        kept.highest("pss_bytes", self._pss())
        told = [card.process_bytes(self._pid) for card in self._cards]
        known = [size for size in told if size is not None]
        kept.highest("gpu_process_bytes", sum(known) if known else None)

    def _pss(self) -> int | None:
        try:
            told = (self._root / f"proc/{self._pid}/smaps_rollup").read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return None
        sizes = (line.split()[1] for line in told.splitlines() if line.startswith("Pss:"))
        return next((int(size) * 1024 for size in sizes), None)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.look()

    def __enter__(self) -> Memory:
        self.memory.lowest("available_before_bytes", memory_bytes(self._root, "MemAvailable"))
        self.memory.lowest("nvmap_before_bytes", memory_bytes(self._root, "NvMapMemUsed"))
        self.look()
        self._thread.start()
        return self.memory

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.look()


def runtime_memory(name: str, told: dict[str, int]) -> dict[str, Any]:
    """What the runtime `name` says of its own memory, for the record; or that it says nothing."""
    if told:
        return {"runtime": told}
    return {"runtime_missing": f"{name} does not tell what it holds"}
