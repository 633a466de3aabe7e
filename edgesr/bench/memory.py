"""Peak memory of one network, in a process of its own.

    python -m edgesr.bench.memory MODEL.onnx 320x180 THREADS RUNTIME

prints JSON: `before_bytes` (resident before loading), `loaded_bytes` (resident after it) and
`peak_bytes` (VmHWM, the high water, after `runs` calls). 0 threads leave the number to the
runtime. One process cannot tell two networks apart: what the first one freed, the second reuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")  # "5" sets the high water back to the present size
_RUNS = 2


def measure(
    model: Path, width: int, height: int, threads: int | None, *, runtime: str = "auto"
) -> dict[str, Any]:
    """Run the above for one ONNX file; bytes by name, or `{"missing": why}`.

    Memory of the process: what a GPU's own memory holds is not in it.
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
) -> dict[str, int]:
    import onnxruntime  # noqa: F401  its own size belongs to "before"

    from edgesr.runtime.open import open_runtime

    batch = np.full((1, 3, height, width), 0.5, np.float32)
    with suppress(OSError):  # without it the high water may be that of the imports
        _CLEAR.write_text("5")
    before = _here("VmRSS")
    runtime = open_runtime(model, name, threads=threads)
    loaded = _here("VmRSS")
    for _ in range(_RUNS):
        runtime.run(batch)
    peak = _here("VmHWM")
    return {"before_bytes": before, "loaded_bytes": loaded, "peak_bytes": peak, "runs": _RUNS}


def _main(arguments: list[str]) -> None:
    width, height = (int(side) for side in arguments[1].split("x"))
    threads = int(arguments[2]) or None
    print(json.dumps(_measure_here(Path(arguments[0]), width, height, threads, arguments[3])))


if __name__ == "__main__":
    _main(sys.argv[1:])
