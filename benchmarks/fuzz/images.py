"""Damages real picture files in many ways, and sees that nothing but `EdgeSRError` comes of it.

    python -m benchmarks.fuzz.images --out benchmarks/fuzz/results/images-2026-11.json

Run from the repository's root. Each input is a seed (`seeds.py`) with one to four damages, made
from a number alone, so that any of them can be made again: `--show PNG 4711`. A worker process
per format decodes each with `edgesr.image.decode`, and what comes out is written as PNG and read
again. Its memory is limited; when it dies, or stands still, the parent keeps the input, counts
it, and starts another one behind it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, astuple, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.fuzz.damage import damaged
from benchmarks.fuzz.seeds import seeds
from edgesr import atomic, image
from edgesr.errors import EdgeSRError

MAX_PIXELS = 1_000_000
MEMORY_BYTES = 512 << 20  # of address space, beside what the worker has after loading
WEBP_SIDE = 16_383
SLOWEST_S = 10.0  # of processor time, for one input: reading, writing thrice, reading
STILL_S = 60.0  # a worker that says nothing for so long is stopped
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF")


@dataclass
class Tally:
    """What became of the inputs of one format; `failures` should be empty."""

    inputs: int = 0
    decoded: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    peak_mb: float = 0.0  # resident, of the worker
    printed_lines: int = 0  # what C libraries wrote to the terminal by themselves
    seconds: float = 0.0


@dataclass(frozen=True)
class Said:
    """What a worker says of one input: both texts are empty when it is a picture."""

    reason: str  # why it was refused
    failure: str  # what else happened
    ms: float
    peak_mb: float  # of the worker so far


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="inputs of each format")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--out", type=Path, help="the record, as JSON")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="their inputs")
    parser.add_argument("--show", nargs=2, metavar=("FORMAT", "NUMBER"), help="write one input")
    parser.add_argument("--worker", nargs=3, metavar=("FORMAT", "START", "STOP"))
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], int(args.worker[1]), int(args.worker[2]))
    elif args.show:
        sys.stdout.buffer.write(made(args.show[0], int(args.show[1])))
    else:
        tallies = {fmt: run(fmt, args.count, args.keep) for fmt in args.formats}
        if args.out:
            atomic.write_text(args.out, json.dumps(record(tallies), indent=1) + "\n")
        sys.exit(any(tally.failures for tally in tallies.values()))


def run(fmt: str, count: int, keep: Path) -> Tally:
    """Put `count` inputs of a format through workers; inputs that fail are written to `keep`."""
    tally, start, began = Tally(), 0, time.monotonic()
    while start < count:
        start = _follow(fmt, start, count, tally, keep)
    tally.seconds = round(time.monotonic() - began, 1)
    refused = sum(tally.refused.values())
    print(
        f"{fmt}: {tally.inputs} inputs, {tally.decoded} decoded, {refused} refused, "
        f"{len(tally.failures)} failures, slowest {tally.slowest_ms:.0f} ms, "
        f"{tally.peak_mb:.0f} MB, {tally.seconds:.0f} s",
        flush=True,
    )
    return tally


def _follow(fmt: str, start: int, stop: int, tally: Tally, keep: Path) -> int:
    """Run one worker to its end, good or bad; gives the number to go on with."""
    command = [sys.executable, "-m", "benchmarks.fuzz.images", "--worker", fmt]
    with tempfile.TemporaryFile() as printed:
        worker = subprocess.Popen(
            [*command, str(start), str(stop)], stdout=subprocess.PIPE, stderr=printed, text=True
        )
        assert worker.stdout is not None
        at, still = start, False
        with worker, worker.stdout as lines:
            while True:
                if not select.select([lines], [], [], STILL_S)[0]:
                    worker.kill()
                    still = True
                line = lines.readline()
                if not line:
                    break
                _count(Said(*json.loads(line)), fmt, at, tally, keep)
                at += 1
        printed.seek(0)
        text = printed.read().decode(errors="replace").splitlines()
    tally.printed_lines += len(text)
    if at < stop:  # it died of that input
        what = f"no answer for {STILL_S:.0f} s" if still else f"exit {worker.returncode}"
        _fail(tally, fmt, at, " ".join([what, *text[-1:]]), keep)
        tally.inputs += 1
    return at + 1


def _count(said: Said, fmt: str, number: int, tally: Tally, keep: Path) -> None:
    tally.inputs += 1
    tally.slowest_ms = max(tally.slowest_ms, said.ms)
    tally.peak_mb = max(tally.peak_mb, said.peak_mb)
    if said.failure:
        _fail(tally, fmt, number, said.failure, keep)
    elif said.reason:
        tally.refused[said.reason] = tally.refused.get(said.reason, 0) + 1
    else:
        tally.decoded += 1


def _fail(tally: Tally, fmt: str, number: int, what: str, keep: Path) -> None:
    atomic.write_bytes(keep / f"{fmt.lower()}-{number}", made(fmt, number))
    tally.failures.append(f"{fmt} {number}: {what}")
    print(f"FAILED {fmt} {number}: {what}", flush=True)


def made(fmt: str, number: int) -> bytes:
    """Input `number` of a format."""
    kinds = list(seeds()[fmt].values())
    return damaged(kinds, fmt, number)


def work(fmt: str, start: int, stop: int) -> None:
    """The worker: inputs `start` to `stop`, reported as JSON lines on standard output."""
    kinds = list(seeds()[fmt].values())
    for data in kinds:  # loads what is to be loaded before memory is limited
        _reason(data)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(start, stop):
        print(json.dumps(astuple(_tried(damaged(kinds, fmt, number)))), flush=True)


def _tried(data: bytes) -> Said:
    reason = failure = ""
    began, cpu_s = time.perf_counter(), time.process_time()
    try:
        reason = _reason(data)
    except Exception as e:
        failure = f"{type(e).__name__}: {e}"
    cpu_s = time.process_time() - cpu_s
    if cpu_s > SLOWEST_S:
        failure = failure or f"took {cpu_s:.0f} s"
    ms = (time.perf_counter() - began) * 1e3
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Said(reason, failure, round(ms, 1), round(peak_mb, 1))


def _reason(data: bytes) -> str:
    """Why the file is refused, in few words; empty when it is a picture, which is tried out."""
    try:
        picture = image.decode(data, "input", MAX_PIXELS)
    except EdgeSRError as e:
        text = str(e)
        assert text.startswith("input: ") and "\n" not in text, text
        assert "does not fit in memory" not in text, text
        return _kind(text.removeprefix("input: "))
    pixels = picture.pixels
    assert pixels.ndim == 3 and pixels.shape[2] in (1, 2, 3, 4), pixels.shape
    assert pixels.dtype in (np.uint8, np.uint16) and pixels.flags.c_contiguous
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    again = image.decode(image.encode(picture, Path("a.png")), "output", MAX_PIXELS)
    np.testing.assert_array_equal(again.pixels, pixels)
    if max(pixels.shape) <= WEBP_SIDE:  # others must hold whatever metadata came along, too
        image.encode(picture, Path("a.jpg" if pixels.shape[2] in (1, 3) else "a.webp"))
        image.encode(picture, Path("a.tif"))
    return ""


def _kind(text: str) -> str:
    """A message without what differs from file to file."""
    if text.startswith("the picture is damaged"):
        return "damaged"
    return re.sub(r"\d+(\.\d+)?(e\+\d+)?", "#", text.partition(";")[0])


def record(tallies: dict[str, Tally]) -> dict[str, object]:
    """What is kept of a run."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("pillow", "opencv-python-headless", "numpy")},
        "memory_limit_mb": MEMORY_BYTES >> 20,
        "max_pixels": MAX_PIXELS,
        "formats": {fmt: _sorted(tally) for fmt, tally in tallies.items()},
    }


def _sorted(tally: Tally) -> dict[str, object]:
    often = sorted(tally.refused.items(), key=lambda item: -item[1])
    return asdict(tally) | {"refused": dict(often)}


if __name__ == "__main__":
    main()
