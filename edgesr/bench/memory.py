"""Peak memory of one network, in a process of its own.

    python -m edgesr.bench.memory MODEL.onnx 320x180 THREADS RUNTIME

prints JSON: `before_bytes` (resident before loading), `loaded_bytes` (resident after it) and
`peak_bytes` (VmHWM, the high water, after `runs` calls), what was seen beside it while it loaded
and ran (edgesr.bench.memory_watch), and `runtime`, what the runtime says of its own memory. 0
threads leave the number to the runtime. One process cannot tell two networks apart: what the
first one freed, the second reuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgesr.bench.memory_watch import MemoryWatch, runtime_memory

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")  # "5" sets the high water back to the present size
_RUNS, _LEAST_S = 2, 0.3  # at least so many calls, and so long that some looks fall into them


def measure(
    model: Path, width: int, height: int, threads: int | None, *, runtime: str = "auto"
) -> dict[str, Any]:
    """Run the above for one ONNX file; bytes by name, or `{"missing": why}`.

    Sizes of the process; what a GPU's own memory holds is in `runtime` and `gpu_process_bytes`.
    """
    if not _STATUS.is_file():
        return {"missing": "this system has no /proc/self/status to read it from"}
    command = [sys.executable, "-m", __name__, str(model), f"{width}x{height}"]
    command += [str(threads or 0), runtime]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    if done.returncode < 0:
        return {"missing": f"its process was killed (signal {-done.returncode}); out of memory?"}
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"missing": f"its process failed: {last}"}


def status_bytes(field: str, text: str) -> int:
    """A size (`VmRSS`, `VmHWM`) from the text of /proc/PID/status, in bytes."""
    for line in text.splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _here(field: str) -> int:
    return status_bytes(field, _STATUS.read_text())


def _measure_here(
    model: Path, width: int, height: int, threads: int | None, name: str
) -> dict[str, Any]:
    import onnxruntime  # noqa: F401  its own size belongs to "before"

    from edgesr.runtime.open import open_runtime

    batch = np.full((1, 3, height, width), 0.5, np.float32)
    watch = MemoryWatch()
    with suppress(OSError):  # without it the high water may be that of the imports
        _CLEAR.write_text("5")
    before = _here("VmRSS")
    with watch as seen:
        runtime = open_runtime(model, name, threads=threads)
        loaded, runs, begin = _here("VmRSS"), 0, time.perf_counter()
        while runs < _RUNS or time.perf_counter() - begin < _LEAST_S:
            runtime.run(batch)
            runs += 1
        peak = _here("VmHWM")
    return {
        "before_bytes": before,
        "loaded_bytes": loaded,
        "peak_bytes": peak,
        "runs": runs,
        **seen.found,
        "looks": seen.looks,
        **runtime_memory(runtime.name, runtime.memory()),
    }


def _main(arguments: list[str]) -> None:
    width, height = (int(side) for side in arguments[1].split("x"))
    threads = int(arguments[2]) or None
    print(json.dumps(_measure_here(Path(arguments[0]), width, height, threads, arguments[3])))


if __name__ == "__main__":
    _main(sys.argv[1:])
