"""Times our models beside the field's, all in turns in one run, and keeps every sample.

    python -m benchmarks.peers.measure --out benchmarks/peers/results/cpu-2026-11.json

Run from the repository's root, on a machine with nothing else to do. ONNX Runtime on the CPU, one
picture of 180×320 as a static shape, spinning off. Each round runs every network once, those that
take less than 60 ms several times in a row; the order turns round from round to round, so that
slow drift hits all alike. A network's figure is the median over rounds of its median in a round;
ratios are against the SRGAN generator, which runs in every round.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.peers.field import CITED, Cited
from benchmarks.peers.figures import SCHEMA, add_figures
from benchmarks.peers.subjects import BASELINE, HEIGHT, WIDTH, Subject, quality_json, subjects
from edgesr import atomic
from edgesr.bench.conditions import conditions
from edgesr.errors import BadModel, EdgeSRError, UnknownName

TURN_S = 0.06
SMALLEST = 24  # below it the pooled branches have nothing left


class Lane:
    """A network that is loaded and ready to run, its input, and what was measured of it."""

    def __init__(self, subject: Subject, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Shipped files leave these open; a file without them takes no notice.
        for name, size in (("N", 1), ("H", subject.height), ("W", subject.width)):
            options.add_free_dimension_override_by_name(name, size)
        self.subject = subject
        self.session = ort.InferenceSession(subject.model, options, ["CPUExecutionProvider"])
        shape = (1, subject.channels, subject.height, subject.width)
        self.x: NDArray[np.float32] = np.random.default_rng(0).random(shape, dtype=np.float32)
        self.samples: dict[str, list[Any]] = {"round": [], "wall_ms": [], "cpu_ms": []}
        self.calls = 1

    def warm_up(self) -> None:
        """Two calls; the second says how many make a turn. Raises `BadModel` for overflow."""
        if not np.isfinite(self.session.run(None, {"input": self.x})[0]).all():
            raise BadModel(f"{self.subject.name} overflows: its time would mean nothing")
        wall_ms, _ = self._call()
        self.calls = max(1, math.ceil(TURN_S * 1e3 / wall_ms))

    def turn(self, number: int) -> None:
        """The calls of one round."""
        for _ in range(self.calls):
            wall_ms, cpu_ms = self._call()
            self.samples["round"].append(number)
            self.samples["wall_ms"].append(round(wall_ms, 4))
            self.samples["cpu_ms"].append(round(cpu_ms, 4))

    def _call(self) -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        self.session.run(None, {"input": self.x})
        return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def record(
    found: list[Subject], rounds: int, threads: int, size: tuple[int, int]
) -> dict[str, Any]:
    """Time all of `found`, made for `size` (height, width): the record, figures included."""
    before = conditions()
    lanes = [Lane(subject, threads) for subject in found]
    for lane in lanes:
        lane.warm_up()
    begun = time.perf_counter()
    _take_turns(lanes, rounds)
    return add_figures(
        {
            "schema": SCHEMA,
            "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "protocol": {
                "runtime": f"onnxruntime {ort.__version__}, CPU", "threads": threads,
                "spinning": False, "height": size[0], "width": size[1], "batch": 1,
                "rounds": rounds, "warm_up_calls": 2,
                "seconds": round(time.perf_counter() - begun, 1),
            },
            "conditions": {"before": before, "after": conditions()},
            "instructions": instructions(),
            "versions": {name: version(name) for name in ("onnx", "onnxruntime", "numpy")},
            "networks": [_timed_json(lane) for lane in lanes],
            "cited": [_cited_json(cited) for cited in CITED],
        }
    )  # fmt: skip


def _take_turns(lanes: list[Lane], rounds: int) -> None:
    for number in range(rounds):
        for lane in lanes if number % 2 == 0 else lanes[::-1]:
            lane.turn(number)
        # Plain lines: the thread of a live bar would count as the networks' CPU time.
        print(f"round {number + 1} of {rounds}, {len(lanes)} networks", file=sys.stderr, flush=True)


def _timed_json(lane: Lane) -> dict[str, Any]:
    subject = lane.subject
    shape = [1, subject.channels, subject.height, subject.width]
    return {"name": subject.name, **subject.facts, "input": shape, "samples": lane.samples}


def _cited_json(cited: Cited) -> dict[str, Any]:
    return {
        "name": cited.name, "origin": cited.origin, "parameters": cited.params,
        "tileable": cited.tileable, "quality": quality_json(cited.quality),
        "ratio_avx2": cited.ratio_avx2,
    }  # fmt: skip


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The vector instructions that speed of networks depends on; empty where nothing tells."""
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return []
    return [name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
            if name in words]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure and write the record; 1 with one line on an error."""
    args = _arguments(arguments)
    try:
        atomic.refuse_overwrite(args.out, args.yes)
        found = _chosen(subjects(*args.size), args.only)
        result = record(found, args.rounds, args.threads, args.size)
        atomic.write_text(args.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    except EdgeSRError as e:
        print(f"measure: {e}", file=sys.stderr)
        return 1
    for net in sorted(result["networks"], key=lambda n: n["figures"]["cpu_ms"]):
        figures = net["figures"]
        print(f"{net['name']:24} {figures['cpu_ms']:8.1f} ms CPU {figures['ratio_cpu']:7.1f}×")
    return 0


def _chosen(found: list[Subject], only: list[str] | None) -> list[Subject]:
    """Those of the names `only`, and the generator that ratios are against; None: all."""
    known = {s.name for s in found}
    for name in only or ():
        if name not in known:
            raise UnknownName("network", name, known)
    return [s for s in found if only is None or s.name in {*only, BASELINE}]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=_positive, default=8)
    parser.add_argument("--threads", type=_positive, default=2)
    parser.add_argument("--size", type=_size, default=(HEIGHT, WIDTH), help="WxH of the input")
    parser.add_argument("--only", nargs="+", help="names: a quick look at some of them")
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    parser.add_argument("-y", "--yes", action="store_true", help="overwrite the record")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _size(text: str) -> tuple[int, int]:
    """(height, width) of "320x180"."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= SMALLEST):
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT, {SMALLEST} or more each")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
