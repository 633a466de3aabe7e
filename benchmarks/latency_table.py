"""How well a budget in ms predicts: the table of layers against whole networks, in one run.

The networks take turns; each is timed by process CPU time divided by the threads, which other
jobs on the machine disturb least. The weights are random: they do not change the time.

    python benchmarks/latency_table.py --threads 2 --out FILE
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgesr import atomic
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import Graph
from edgesr.models.span import span
from edgesr.models.srvgg import srvgg
from edgesr.models.student import student
from edgesr.models.table import untrained_weights
from edgesr.pruning.latency import HEIGHT, WIDTH, LatencyTable
from edgesr.runtime.ort import OrtRuntime

NETWORKS: dict[str, Graph] = {
    "student 16x12": student(16, 12),
    "student 24x12": student(24, 12),
    "student 32x14": student(32, 14),
    "student 48x12": student(48, 12),
    "student 64x6": student(64, 6),
    "student 32x8, leaky ReLU": student(32, 8, act="leaky_relu"),
    "student 32x8, clipped ReLU": student(32, 8, act="clip"),
    "SPAN, 32 channels": span(32),
    "SRVGG 8x32": srvgg(8, 32),
}


def main() -> None:
    """Measure, print and keep the record."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        table = LatencyTable(Path(folder), threads=args.threads)
        begun = time.perf_counter()
        predicted = {name: table.cost(graph) for name, graph in NETWORKS.items()}
        asked_s = time.perf_counter() - begun
        facts = table.facts
    measured = _measured(args)
    rows = {}
    for name, ms in predicted.items():
        median = statistics.median(measured[name])
        rows[name] = {
            "predicted_ms": round(ms, 2),
            "measured_ms": round(median, 2),
            "error": round(ms / median - 1, 4),
        }
    errors = [abs(row["error"]) for row in rows.values()]
    record: dict[str, Any] = {
        "what": "ms of one 180x320 picture: table of layers against CPU time / threads",
        "median_error": round(statistics.median(errors), 4),
        "largest_error": max(errors),
        "asking_s": round(asked_s, 1),
        "rounds": args.rounds,
        "networks": rows,
        **facts,
    }
    print(json.dumps(record, indent=1))
    atomic.write_text(args.out, json.dumps(record, indent=1) + "\n")


def _measured(args: argparse.Namespace) -> dict[str, list[float]]:
    runtimes = {
        name: OrtRuntime(to_onnx(graph, untrained_weights(graph, 0)), threads=args.threads)
        for name, graph in NETWORKS.items()
    }
    x = np.random.default_rng(0).random((1, 3, HEIGHT, WIDTH), dtype=np.float32)
    times: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for turn in range(args.rounds + 1):
        for name, runtime in runtimes.items():
            before = time.process_time()
            runtime.run(x)
            if turn:  # the first is a warm-up
                times[name].append((time.process_time() - before) * 1e3 / args.threads)
    return times


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    return parser.parse_args()


if __name__ == "__main__":
    main()
