"""Peak memory of `edgesr upscale --max-memory` on pictures up to 100 megapixels.

    python -m benchmarks.upscale.memory --out benchmarks/upscale/results/memory-2026-11.json

Each run is the command as a user types it, in a process of its own. Its peak is what the kernel
counted when it ended (ru_maxrss of wait4: all resident pages, libraries among them; never less
than this script held at the start), beside the largest VmHWM seen in /proc while it ran. The
pictures are made here, row by row, of our sample photograph in tiles with varied brightness and
noise. Afterwards libvips, which had no part in making it, decodes the result and reduces it four
times: `mean_difference` is how far that is from the picture, in levels of 255.

Runs are added to a record that exists; one of the same model, format and size is replaced. A
picture of 100 megapixels takes 3 GB of disk and, with `balanced` on two cores, some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr import image
from edgesr.atomic import write_text
from edgesr.bench.conditions import conditions
from edgesr.enlarge import parse_bytes
from edgesr.stream import write_strips

SIDES = {1: (1000, 1000), 10: (2500, 4000), 100: (8000, 12500)}  # height, width by megapixels
SAMPLE = Path(image.__file__).parents[1] / "samples" / "chelsea.jpg"
SAMPLED_S = 0.2


def photographs(height: int, width: int) -> Iterator[NDArray[np.uint8]]:
    """RGB rows of the sample, side by side, each with other light, flipped or not, and noisy."""
    sample = image.read(SAMPLE).pixels
    rng = np.random.default_rng(0)
    tall, wide, _ = sample.shape
    for start in range(0, height, tall):
        tiles = []
        for _ in range(0, width, wide):
            tile = sample[:, :: rng.choice((-1, 1))] * rng.uniform(0.6, 1.1)
            tile = tile + rng.uniform(-10, 10) + rng.normal(0, 2, sample.shape)
            tiles.append(np.clip(tile, 0, 255).astype(np.uint8))
        yield np.concatenate(tiles, axis=1)[: height - start, :width]


def make(path: Path, megapixels: int) -> None:
    """The picture of that size."""
    height, width = SIDES[megapixels]
    write_strips(
        path, photographs(height, width), height=height, width=width, channels=3,
        dtype=np.dtype(np.uint8), metadata=image.Metadata(dpi=(300.0, 300.0)),
    )  # fmt: skip


def run(command: list[str]) -> tuple[int, int, float, float]:
    """Peak bytes by the kernel's account and by /proc; seconds by the clock and of processors."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    seen = 0
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        seen = max(seen, _high_water(child.pid))
        time.sleep(SAMPLED_S)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    processor_s = usage.ru_utime + usage.ru_stime
    return usage.ru_maxrss * 1024, seen, time.perf_counter() - start, processor_s


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return 0
    found = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found else 0


def difference(source: Path, output: Path) -> float:
    """Mean distance in levels between `source` and `output` reduced four times, by libvips."""
    import pyvips

    pyvips.cache_set_max(0)
    load = {"PNG": pyvips.Image.pngload, "TIFF": pyvips.Image.tiffload}
    kind = load[image.SUFFIXES[source.suffix]]
    reduced = kind(str(output), access="sequential").shrink(4, 4)
    return float((reduced - kind(str(source), access="sequential")).abs().avg())


def measure(folder: Path, model: str, suffix: str, megapixels: int, limit: str) -> dict[str, Any]:
    """One run, as it stands in the record."""
    source, output = folder / f"in.{suffix}", folder / f"out.{suffix}"
    make(source, megapixels)
    command = [sys.executable, "-m", "edgesr", "upscale", str(source), "-o", str(output)]
    command += ["-m", model, "--max-memory", limit, "-y"]
    peak, seen, wall_s, processor_s = run(command)
    height, width = SIDES[megapixels]
    facts = image.probe(output, sys.maxsize)
    assert (facts.height, facts.width) == (4 * height, 4 * width), facts
    return {
        "model": model,
        "format": image.SUFFIXES["." + suffix],
        "megapixels": megapixels,
        "width": width,
        "height": height,
        "limit_bytes": parse_bytes(limit),
        "peak_bytes": peak,
        "peak_bytes_in_proc": seen,
        "kept": peak <= parse_bytes(limit),
        "wall_s": round(wall_s, 1),
        "processor_s": round(processor_s, 1),
        "source_file_bytes": source.stat().st_size,
        "result_file_bytes": output.stat().st_size,
        "mean_difference": round(difference(source, output), 2),
    }


def main() -> None:
    """Run the grid and write the record after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megapixels", type=int, nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--models", nargs="+", default=["tiny", "balanced"])
    parser.add_argument("--formats", nargs="+", default=["png", "tif"], choices=["png", "tif"])
    parser.add_argument("--max-memory", default="512M")
    parser.add_argument("--folder", type=Path, help="for pictures; default: the system's")
    args = parser.parse_args()
    record = json.loads(args.out.read_text()) if args.out.exists() else {"runs": []}
    for megapixels in args.megapixels:
        for model in args.models:
            for suffix in args.formats:
                with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                    found = measure(Path(folder), model, suffix, megapixels, args.max_memory)
                _add(record, found | {"measured_on": conditions()})
                write_text(args.out, json.dumps(record, indent=1) + "\n")
                print(line(found), flush=True)


def line(found: dict[str, Any]) -> str:
    """A run for people."""
    peak, limit = (found[key] / 2**20 for key in ("peak_bytes", "limit_bytes"))
    return (
        f"{found['megapixels']:3} MP {found['format']:4} {found['model']:9} "
        f"peak {peak:4.0f} of {limit:.0f} MiB  {found['wall_s']:.0f} s  "
        f"difference {found['mean_difference']}"
    )


def _add(record: dict[str, Any], found: dict[str, Any]) -> None:
    keys = ("megapixels", "format", "model", "limit_bytes")
    same = [run for run in record["runs"] if all(run[key] == found[key] for key in keys)]
    record["runs"] = [run for run in record["runs"] if run not in same] + [found]
    record["runs"].sort(key=lambda run: [run[key] for key in keys])


if __name__ == "__main__":
    main()
