"""What a folder of 100 small pictures costs beside its network and its codecs alone.

    python -m benchmarks.upscale.folder --out benchmarks/upscale/results/folder-2026-11.json -y

In each round, in turn: all pictures decoded; all through the network; all results encoded and
written; and the whole folder through the code of `edgesr upscale`, at first in this process with
the model open, then as the command. CPU seconds are of the process, all threads. The aim: the
folder takes at most 1.15 × (network + codecs, CPU seconds) / cores of wall time.

On a machine with other work wall time says how much of it others left. So a second process looks
every few milliseconds how many threads of this one could run (state R). Where each gets the same
share of a core, a moment with k of them is k parts of the work, which `cores` free ones would do
in k / min(k, cores) parts of the time: `idle_over_bound` is the wall time, over the bound, that
follows for a machine without other work. It is an estimate; wall times are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesr import image
from edgesr.atomic import refuse_overwrite, write_text
from edgesr.enlarge import Enlarger
from edgesr.resources import samples
from edgesr.runtime.ort import physical_cores
from edgesr.upscaling.batch import upscale_files
from edgesr.upscaling.inputs import find
from edgesr.upscaling.network import opened
from edgesr.upscaling.options import Options
from edgesr.upscaling.results import Done

WIDTH, HEIGHT, PICTURES = 160, 120, 100
AIM = 1.15
# Counts how often so many threads of a process were runnable, until its own input ends.
_WATCH = """
import collections, glob, json, select, sys
seen = collections.Counter()
while not select.select([sys.stdin], [], [], 0.004)[0]:
    runnable = 0
    for path in glob.glob(f"/proc/{sys.argv[1]}/task/*/stat"):
        try:
            with open(path) as file:
                runnable += file.read().rpartition(")")[2].split()[0] == "R"
        except OSError:
            pass
    seen[runnable] += 1
print(json.dumps(seen))
"""


def make_pictures(folder: Path) -> None:
    """Pieces of a photograph, each another one, as JPEG of quality 90."""
    from PIL import Image

    with Image.open(samples() / "chelsea.jpg") as photograph:
        pixels = np.asarray(photograph.convert("RGB"))
    rng = np.random.default_rng(1)
    for number in range(PICTURES):
        y = rng.integers(pixels.shape[0] - HEIGHT + 1)
        x = rng.integers(pixels.shape[1] - WIDTH + 1)
        piece = np.ascontiguousarray(pixels[y : y + HEIGHT, x : x + WIDTH])
        image.write(folder / f"{number:03}.jpg", image.Picture(piece), 90)


class Lane:
    """Times of one thing: CPU seconds of the process, wall seconds, seconds of waiting."""

    def __init__(self) -> None:
        self.cpu_s: list[float] = []
        self.wall_s: list[float] = []
        self.runnable: Counter[int] = Counter()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the block."""
        with _watched(self.runnable):
            wall, cpu = time.perf_counter(), _own_cpu_s()
            yield
            self.wall_s.append(time.perf_counter() - wall)
            self.cpu_s.append(_own_cpu_s() - cpu)

    def stretch(self, cores: int) -> float:
        """Wall time on free cores, over CPU time / cores."""
        work = sum(k * n for k, n in self.runnable.items())
        alone = sum(n * k / min(k, cores) for k, n in self.runnable.items() if k)
        return cores * alone / work if work else 1.0

    def to_json(self) -> dict[str, Any]:
        """Medians and samples."""
        return {
            "cpu_s": statistics.median(self.cpu_s),
            "wall_s": statistics.median(self.wall_s),
            "samples_cpu_s": self.cpu_s,
            "samples_wall_s": self.wall_s,
            "runnable": dict(sorted(self.runnable.items())),
        }


def measure(model: str, fmt: str, rounds: int, folder: Path) -> dict[str, Any]:
    """All lanes of one model, in turns."""
    sources = find([str(folder / "in")]).sources
    paths = sorted((folder / "in").iterdir())
    out = folder / "out"
    options = Options(out=out, many=True, yes=True, fmt=fmt)
    lanes = {name: Lane() for name in ("decode", "network", "encode", "folder", "command")}
    with opened(model) as runtime:
        enlarger = Enlarger(runtime)
        for number in range(rounds + 1):  # the first is to warm up
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            steps = {} if number == 0 else lanes
            with _timed(steps, "decode"):
                pictures = [image.read(path) for path in paths]
            with _timed(steps, "network"):
                larger = [replace(p, pixels=enlarger.picture(p.pixels)) for p in pictures]
            with _timed(steps, "encode"):
                for path, picture in zip(paths, larger, strict=True):
                    image.write(out / f"{path.stem}.{fmt}", picture)
            with _timed(steps, "folder"):
                outcomes = list(upscale_files(sources, options, runtime))
            assert all(isinstance(o, Done) for o in outcomes), outcomes
            with _timed(steps, "command"):  # CPU and threads are its own: wall time only
                _command(folder / "in", out, model, fmt)
    cores = physical_cores()
    found = {name: lane.to_json() for name, lane in lanes.items()}
    parts = sum(found[name]["cpu_s"] for name in ("decode", "network", "encode"))
    bound = parts / cores
    return {
        "model": model, "format": fmt, **found, "bound_s": bound,
        "folder_over_bound": found["folder"]["wall_s"] / bound,
        "folder_cpu_over_parts": found["folder"]["cpu_s"] / parts,
        "idle_over_bound": lanes["folder"].stretch(cores) * found["folder"]["cpu_s"] / parts,
        "command_over_bound": found["command"]["wall_s"] / bound,
    }  # fmt: skip


@contextmanager
def _timed(lanes: dict[str, Lane], name: str) -> Iterator[None]:
    if name not in lanes:
        yield
        return
    with lanes[name].timed():
        yield


def _command(source: Path, out: Path, model: str, fmt: str) -> None:
    call = ["upscale", str(source), "-o", str(out), "-m", model, "-f", fmt, "-y"]
    subprocess.run([sys.executable, "-m", "edgesr", *call], check=True, capture_output=True)


@contextmanager
def _watched(into: Counter[int]) -> Iterator[None]:
    call = [sys.executable, "-S", "-c", _WATCH, str(os.getpid())]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watch:
        yield
        seen, _ = watch.communicate(b"")
    into.update({int(k): n for k, n in json.loads(seen).items()})


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tiny,fast,balanced")
    parser.add_argument("--formats", default="png,jpg")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("-y", "--yes", action="store_true")
    args = parser.parse_args()
    if args.out:
        refuse_overwrite(args.out, args.yes)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="edgesr-folder-") as name:
        folder = Path(name)
        (folder / "in").mkdir()
        make_pictures(folder / "in")
        rows = [
            measure(model, fmt, args.rounds, folder)
            for model in args.models.split(",")
            for fmt in args.formats.split(",")
        ]
    for row in rows:
        print(_line(row))
    record = {
        "what": f"{PICTURES} pictures of {WIDTH}x{HEIGHT}, JPEG in", "aim": AIM,
        "cores": physical_cores(), "python": platform.python_version(),
        "load_before": load, "load_after": os.getloadavg(), "rounds": args.rounds, "rows": rows,
    }  # fmt: skip
    if args.out:
        write_text(args.out, json.dumps(record, indent=1) + "\n")


def _line(row: dict[str, Any]) -> str:
    parts = ", ".join(f"{n} {row[n]['cpu_s']:.2f}" for n in ("decode", "network", "encode"))
    return (
        f"{row['model']} → {row['format']}: CPU s: {parts}; bound {row['bound_s']:.2f} s; "
        f"folder {row['folder']['wall_s']:.2f} s ({row['folder_over_bound']:.2f} ×), "
        f"CPU {row['folder_cpu_over_parts']:.2f} ×, on free cores {row['idle_over_bound']:.2f} ×; "
        f"command {row['command']['wall_s']:.2f} s"
    )


if __name__ == "__main__":
    main()
