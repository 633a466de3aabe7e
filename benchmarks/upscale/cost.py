"""Memory of enlarging: what was predicted, and what a process really took.

    python benchmarks/upscale/cost.py [--models tiny balanced …] [--out RECORD.json]

Each measurement is a process of its own. It opens the model, asks `Enlarger.cost`, enlarges a
picture of noise that is made row by row (nothing of it is kept), and reads the high water of its
resident set. `ratio` is measured over predicted; above 1 the prediction was too low. With a limit
the high water of the whole process must stay below it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

STUDENTS = ("tiny", "fast", "balanced", "gan", "quality")
MODELS = (*STUDENTS, *(f"{name}:int8" for name in STUDENTS if name != "gan"))
LARGE = ("paper", "srresnet")
MB = 1024**2


def main() -> None:
    """Measure, print a line for each case, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=[*MODELS, *LARGE])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help="a measurement as JSON: for the processes that this starts")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(**json.loads(arguments.one))))
        return
    rows = []
    for model in arguments.models:
        for case in cases(model):
            row = {"model": model, **case, **process(model, case)}
            rows.append(row)
            print(line(row), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(record(rows), indent=1) + "\n", encoding="utf-8")


def cases(model: str) -> list[dict[str, Any]]:
    """What is measured for a model: tiles, layouts, sizes and limits."""
    plain = {"height": 400, "width": 400, "channels": 3, "bits": 8}
    if model in LARGE:
        return [{**plain, "height": 200, "width": 200, "tile": n} for n in (32, 64, 96)]
    found: list[dict[str, Any]] = [{**plain, "tile": n} for n in (32, 64, 128, 256)]
    found.append(plain)
    found.append({**plain, "mixed": True})
    found.append({**plain, "channels": 4, "bits": 16})
    found.append({**plain, "scale": 2})
    found.append({**plain, "channels": 4, "scale": 3})
    if model in ("tiny", "balanced"):
        found.append({**plain, "height": 90, "width": 90, "scale": 10})
        for limit in (256, 384, 512, 1024):
            found.append({**plain, "height": 300, "width": 10_000, "limit_mb": limit})
        found.append({**plain, "height": 100, "width": 10_000, "channels": 4, "bits": 16,
                      "limit_mb": 512})  # fmt: skip
    return found


def process(model: str, case: dict[str, Any]) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps({"model": model, **case})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return dict(json.loads(done.stdout))


def measured(
    model: str,
    height: int,
    width: int,
    channels: int,
    bits: int,
    *,
    tile: int | None = None,
    scale: float | None = None,
    limit_mb: int | None = None,
    mixed: bool = False,
) -> dict[str, Any]:
    """In this process: bytes before, predicted and taken."""
    from edgesr.enlarge import Enlarger, Settings, target_size
    from edgesr.models.find import onnx_of
    from edgesr.runtime.open import open_runtime

    runtime = open_runtime(onnx_of(model), threads=2)
    limit = limit_mb * MB if limit_mb else None
    enlarger = Enlarger(runtime, Settings(tile=tile, max_bytes=limit))
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    size = target_size(height, width, scale=scale) if scale else None
    cost = enlarger.cost(height, width, channels, bits, size)
    if mixed:  # pictures of other shapes first
        for h, w in ((80, 300), (300, 80), (200, 200), (150, 160)):
            run(enlarger, Noise(h, w, channels, bits), None)
    run(enlarger, Noise(height, width, channels, bits), size)
    peak = status_bytes("VmHWM")
    return {
        "before_bytes": before, "predicted_bytes": cost.working_bytes, "tile_chosen": cost.tile,
        "taken_bytes": peak - before, "peak_bytes": peak,
        "ratio": round((peak - before) / cost.working_bytes, 3),
    }  # fmt: skip


def run(enlarger: Any, rows: Noise, size: tuple[int, int] | None) -> None:
    """Enlarge `rows`; keep nothing."""
    made = sum(len(strip) for strip in enlarger.strips(rows, size))
    assert made == (size[0] if size else 4 * rows.height)


class Noise:
    """Rows of noise, a quarter of them transparent; nothing is kept."""

    def __init__(self, height: int, width: int, channels: int, bits: int) -> None:
        self.height, self.width, self.channels = height, width, channels
        self.dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)

    def take(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Rows `start:stop`, HWC."""
        shape = (stop - start, self.width, self.channels)
        made = np.random.default_rng(start).integers(0, 200, shape, self.dtype)
        if self.channels in (2, 4):
            made[..., -1] *= made[..., -1] > 50
        return made


def status_bytes(field: str) -> int:
    """A size of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def line(row: dict[str, Any]) -> str:
    """A row of the table, as a text."""
    what = f"{row['model']:<14} {row['width']}x{row['height']}x{row['channels']}/{row['bits']}"
    for key in ("tile", "scale", "mixed", "limit_mb"):
        what += f" {key} {row[key]}" if key in row else ""
    if "failed" in row:
        return f"{what}: {row['failed']}"
    taken, predicted = row["taken_bytes"] / MB, row["predicted_bytes"] / MB
    return (
        f"{what:<60} tile {row['tile_chosen']}  {taken:.0f} of {predicted:.0f} MB "
        f"({row['ratio']:.2f}), peak {row['peak_bytes'] / MB:.0f} MB"
    )


def record(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What goes into the file."""
    import onnxruntime

    from edgesr.machine import processor

    worst = max(row.get("ratio", 0.0) for row in rows)
    return {
        "benchmark": "upscale/cost", "commit": commit(),
        "machine": processor(Path("/")) or platform.machine(), "cores": os.cpu_count(),
        "python": platform.python_version(), "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__, "worst_ratio": worst, "rows": rows,
    }  # fmt: skip


def commit() -> str:
    """The commit that this script is of; `+` when files were changed since."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "")


if __name__ == "__main__":
    main()
