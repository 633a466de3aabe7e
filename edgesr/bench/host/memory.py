"""On the board: peak memory of one network, in a process of its own. Python 3.8.

The same sizes as `edgesr.bench.memory` takes on this machine.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgesr.bench.host.networks import Network
from edgesr.bench.memory_watch import MemoryWatch, runtime_memory

RUNS, LEAST_S = 2, 0.3  # at least so many calls, and so long that some looks fall into them
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")  # "5" sets the high water back to the present size


def measure(program: str, folder: Path, number: int) -> dict[str, Any]:
    """Bytes by name of the `number`-th network of the request, or `{"missing": why}`."""
    if not _STATUS.is_file():
        return {"missing": "this system has no /proc/self/status to read it from"}
    done = subprocess.run(
        [sys.executable, *_no_site(), program, str(folder), str(number)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode < 0:
        return {"missing": f"its process was killed (signal {-done.returncode}); out of memory?"}
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"missing": f"its process failed: {last}"}


def measure_here(network: Network, size: tuple[int, int], module: str) -> dict[str, Any]:
    """Load and run it in this process; `module` is the runtime's, whose own size is "before"."""
    importlib.import_module(module)
    batch = np.full((1, 3, *size), 0.5, np.float32)
    watch = MemoryWatch()
    with suppress(OSError):  # without it the high water may be that of the imports
        _CLEAR.write_text("5")
    before = _bytes("VmRSS")
    with watch as seen:
        runtime = network.open()
        loaded, runs, begin = _bytes("VmRSS"), 0, time.perf_counter()
        while runs < RUNS or time.perf_counter() - begin < LEAST_S:
            runtime.run(batch)
            runs += 1
        peak = _bytes("VmHWM")
    sizes = {"before_bytes": before, "loaded_bytes": loaded, "peak_bytes": peak, "runs": runs}
    said = runtime_memory(runtime.name, runtime.memory())
    return {**sizes, **seen.found, "looks": seen.looks, **said}


def _bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _no_site() -> list[str]:
    """The board's Python was perhaps started without its site packages; so is this one."""
    return ["-S"] if sys.flags.no_site else []
