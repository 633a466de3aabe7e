"""What a runtime holds for a window, measured: by how much the process grows when it runs.

ONNX Runtime keeps what it has once taken, so that its memory is that of the largest windows so
far. `Footprint` adds up the growth over all runs from the first one on, and divides by the
largest window. That errs on the safe side: small windows have more overhead for a pixel, and
whatever else grows meanwhile counts too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel, Impossible, MissingExtra
from edgesr.machine import memory_bytes, text
from edgesr.runtime.base import Runtime

# Where growth cannot be read: more than the widest network that we know (32 kB, SRGAN's).
UNKNOWN_PIXEL_BYTES = 40_000
# No network that we know takes less (tiny: 950). A runtime that ran before anybody looked has
# grown already, and would seem to.
LEAST_PIXEL_BYTES = 1000
_ENOUGH_PIXELS = 64 * 64  # below this a window says little
_FIRST_SIDE, _SIDES = 24, (128, 96, 64)  # of the windows that are run to find out
_SHORT_S = 0.25  # the largest of them that is likely to take no longer


class Footprint:
    """Bytes that one runtime takes for each source pixel of a window."""

    # Runtimes stay open between enlargers, and what they have taken stays with them.
    _of: ClassVar[WeakKeyDictionary[Runtime, Footprint]] = WeakKeyDictionary()

    def __init__(self, resident: Callable[[], int | None]) -> None:
        self._resident = resident
        self.grown_bytes = self.largest = 0  # so far; `largest` in pixels of a window
        self.probe_bytes = 0  # what windows that were run to find out have left behind

    @classmethod
    def of(cls, runtime: Runtime) -> Footprint:
        """That of `runtime`, the same one for as long as it lives."""
        if runtime not in cls._of:
            cls._of[runtime] = cls(resident_bytes)
        return cls._of[runtime]

    def watch(
        self, run: Callable[[NDArray[np.float32]], NDArray[np.float32]], batch: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """`run(batch)`; looks at the memory where the batch is larger than all before."""
        pixels = batch.shape[0] * batch.shape[2] * batch.shape[3]
        if pixels <= self.largest:
            return run(batch)
        before = self._resident()
        out = run(batch)
        after = self._resident()
        if before is not None and after is not None:
            self.grown_bytes += max(0, after - before)
            self.largest = pixels
        return out

    def pixel_bytes(self, runtime: Runtime, pixels: int) -> int:
        """Bytes for each pixel of a window, in a picture of so many.

        Where no window that says much has been run yet, a small one is, no larger than that.
        """
        if self.largest < min(_ENOUGH_PIXELS, pixels):
            try:
                self._try(runtime, pixels)
            except Exception as e:
                # The tiles will meet it too, and know what to do.
                if not is_out_of_memory(e):
                    raise
            self.probe_bytes = self.grown_bytes
        if self.largest == 0:
            return UNKNOWN_PIXEL_BYTES
        return max(LEAST_PIXEL_BYTES, -(-self.grown_bytes // self.largest))

    def _try(self, runtime: Runtime, pixels: int) -> None:
        for height, width in runtime.tile_shapes[:1]:
            self.watch(runtime.run, _grey(height, width))
            return
        start = time.perf_counter()
        self.watch(runtime.run, _grey(_FIRST_SIDE, _FIRST_SIDE))
        pixel_s = (time.perf_counter() - start) / _FIRST_SIDE**2
        sides = [n for n in _SIDES if n * n <= pixels]
        if sides:
            side = next((n for n in sides if n * n * pixel_s < _SHORT_S), sides[-1])
            self.watch(runtime.run, _grey(side, side))


def resident_bytes() -> int | None:
    """What of this process is in memory now; None where the system does not tell."""
    pages = text(Path("/proc/self/statm")).split()[1:2]
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else None


def free_bytes(root: Path = Path("/")) -> int | None:
    """What the machine, or the container that this runs in, has left; None where unknown."""
    sizes = [memory_bytes(root, "MemAvailable")]
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = (text(root / "sys/fs/cgroup" / name) for name in (limit, used))
        if most.isdigit() and now.isdigit():
            sizes.append(max(0, int(most) - int(now)))
    known = [size for size in sizes if size is not None]
    return min(known) if known else None


def is_out_of_memory(error: Exception) -> bool:
    """Whether a runtime says with this error that memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, Impossible):
        return not isinstance(error, MissingExtra)
    if isinstance(error, BadModel):
        return False  # of a known cause, which is not memory
    reason = str(error).lower()
    return "alloc" in reason or "out of memory" in reason


def _grey(height: int, width: int) -> NDArray[np.float32]:
    return np.full((1, 3, height, width), 0.5, np.float32)
