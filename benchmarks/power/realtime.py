"""EdgeSR's joules against a program that knows its own, in real time.

A writer process plays a waveform into the files of an Orin Nano's power sensor, in a temporary
folder, and adds up what it wrote. The sampler of `edgesr bench --power` reads those files at the
same time, knowing nothing of the writer. Both use the same monotonic clock.

    python -m benchmarks.power.realtime --json benchmarks/power/results/realtime-2026-11.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgesr.atomic import refuse_overwrite, write_text
from edgesr.bench.conditions import conditions
from edgesr.errors import EdgeSRError
from edgesr.power.energy import Energy, energy
from edgesr.power.find import find_meter
from edgesr.power.meter import NoMeter, Trace
from edgesr.power.sampler import Sampler

FORMULA = "3 W + 3 W * (t mod 20 s) / 20 s + 6 W where t mod 150 ms < 60 ms"
ALLOWED = 0.03
STEP_S = 0.005
MARGIN_S = 1.0  # played before and after the window
PART_S = 10.0
MILLIVOLTS = 5000
CHIP = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
RAILS = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")


@dataclass(frozen=True)
class Played:
    """What the writer wrote: joules so far at each of its writes (seconds, perf_counter)."""

    times_s: list[float]
    joules: list[float]

    def joules_in(self, start_s: float, end_s: float) -> float:
        """Exact, since the power is constant between two writes."""
        start, end = np.interp([start_s, end_s], self.times_s, self.joules)
        return float(end - start)


def waveform(t: float) -> float:
    """Watts at `t` seconds, by `FORMULA`."""
    return 3.0 + 3.0 * (t % 20.0) / 20.0 + (6.0 if t % 0.150 < 0.060 else 0.0)


def play(root: str, seconds: float, log: str) -> None:
    """Play the waveform for `seconds` into the tree at `root`; leaves its account in `log`."""
    chip = Path(root) / CHIP
    chip.mkdir(parents=True)
    for k, rail in enumerate(RAILS, 1):
        (chip / f"in{k}_label").write_text(rail)
        (chip / f"in{k}_input").write_text(str(MILLIVOLTS))
        (chip / f"curr{k}_input").write_text("100      ")
    total = os.open(chip / "curr1_input", os.O_WRONLY)
    times: list[float] = []
    joules = [0.0]
    watts = 0.0
    start = time.perf_counter()
    while not times or times[-1] - start < seconds:
        milliamperes = round(waveform(time.perf_counter() - start) * 1e6 / MILLIVOLTS)
        before = time.perf_counter()
        os.pwrite(total, f"{milliamperes:<9d}".encode(), 0)
        now = (before + time.perf_counter()) / 2
        if times:
            joules.append(joules[-1] + watts * (now - times[-1]))
        else:
            (chip / "name").write_text("ina3221")  # from now on there is something to read
        times.append(now)
        watts = milliamperes * MILLIVOLTS / 1e6
        time.sleep(STEP_S)
    os.close(total)
    write_text(Path(log), json.dumps({"times_s": times, "joules": joules}))


def run(seconds: float) -> tuple[Played, Trace, float]:
    """The writer's account, the sampler's trace, and where the window of `seconds` starts."""
    with tempfile.TemporaryDirectory(prefix="edgesr-power-") as scratch:
        root, log = Path(scratch) / "sys", Path(scratch) / "played.json"
        length = seconds + 2 * MARGIN_S
        writer = multiprocessing.get_context("spawn").Process(
            target=play, args=(str(root), length, str(log))
        )
        writer.start()
        try:
            while not (root / CHIP / "name").exists() and writer.is_alive():
                time.sleep(0.01)
            meter = find_meter(root)
            if isinstance(meter, NoMeter):
                raise EdgeSRError(f"the writer did not start: {meter.reason}")
            start = time.perf_counter() + MARGIN_S / 2
            with Sampler(meter) as trace:
                time.sleep(seconds + MARGIN_S)
            writer.join(timeout=30)
        finally:
            writer.kill()
        return Played(**json.loads(log.read_text())), trace, start


def compare(played: Played, trace: Trace, start_s: float, end_s: float) -> dict[str, Any]:
    """Both accounts of one window, and how far EdgeSR's is off, as a share."""
    known, got = played.joules_in(start_s, end_s), energy(trace, (start_s, end_s))
    measured = got.total_j or 0.0
    return {
        "seconds": round(end_s - start_s, 6),
        "writer_j": round(known, 4),
        "edgesr_j": round(measured, 4),
        "error": round(measured / known - 1, 5),
    }


def record(seconds: float) -> dict[str, Any]:
    """Run it and compare: the whole window, and each ten seconds of it."""
    before = conditions()
    played, trace, start = run(seconds)
    edges = [start + PART_S * k for k in range(int(seconds // PART_S) + 1)]
    whole = energy(trace, (start, start + seconds))
    return {
        "schema": "edgesr.power-realtime/1",
        "created_utc": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "waveform": FORMULA,
        "allowed": ALLOWED,
        "whole": compare(played, trace, start, start + seconds),
        "parts": [compare(played, trace, a, b) for a, b in pairwise(edges)],
        "writer": {"step_s": STEP_S, "writes": len(played.times_s)},
        "sampler": _sampler(trace, whole),
        "conditions": {"before": before, "after": conditions()},
    }


def _sampler(trace: Trace, whole: Energy) -> dict[str, Any]:
    times = [s.time_s for s in trace.samples]
    reads = [s.after_s - s.before_s for s in trace.samples]
    return {
        "meter": trace.meter,
        "total": list(trace.total),
        "nominal_s": trace.nominal_s,
        "samples": whole.samples,
        "lost": trace.lost,
        "coverage": round(whole.coverage, 5),
        "longest_gap_s": round(max(b - a for a, b in pairwise(times)), 5),
        "read_median_ms": round(1e3 * statistics.median(reads), 4),
        "problems": list(whole.problems),
    }


def main() -> int:
    """0 when it agrees within `ALLOWED`, 3 when not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="the window; default 60")
    parser.add_argument("--json", type=Path, help="where to keep the record")
    parser.add_argument("-y", action="store_true", help="overwrite it")
    given = parser.parse_args()
    try:
        if given.json is not None:
            refuse_overwrite(given.json, given.y)
        found = record(given.seconds)
        if given.json is not None:
            write_text(given.json, json.dumps(found, indent=1, sort_keys=True) + "\n")
    except EdgeSRError as e:
        print(f"realtime: {e}", file=sys.stderr)
        return e.exit_code
    whole, sampler = found["whole"], found["sampler"]
    print(
        f"{whole['seconds']:.0f} s: writer {whole['writer_j']:.2f} J, "
        f"EdgeSR {whole['edgesr_j']:.2f} J ({whole['error']:+.2%}); {sampler['samples']} readings, "
        f"coverage {sampler['coverage']:.1%}"
    )
    return 0 if abs(whole["error"]) <= ALLOWED and not sampler["problems"] else 3


if __name__ == "__main__":
    sys.exit(main())
