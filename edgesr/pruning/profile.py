"""How long each node of a network takes in ONNX Runtime on this machine."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import INPUT, INPUT_CHANNELS, Graph, Weights

RUNS = 20
ENOUGH_S = 2.0
FEWEST = 4


@dataclass(frozen=True)
class Profile:
    """Some runs of a network: what the engine made of its layers, and how long each took.

    `operators` are in the order in which they ran, fusions done; `ms` is float64 (runs,
    operators), wall-clock; `whole_ms` (runs,) is the time of a run with all that surrounds it, and
    `cpu_ms` (runs,) the processor time that this process used meanwhile, over all its threads.
    """

    operators: tuple[str, ...]
    ms: NDArray[np.float64]
    whole_ms: NDArray[np.float64]
    cpu_ms: NDArray[np.float64]


def profile(graph: Graph, *, height: int, width: int, threads: int) -> Profile:
    """Run `graph` with seeded random weights on a `height` × `width` picture and time its nodes.

    The engine's own profiler tells the time of each node. There are RUNS runs, or fewer, but
    at least FEWEST, when they take longer than ENOUGH_S together.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    picture = np.random.default_rng(0).random((1, INPUT_CHANNELS, height, width), np.float32)
    wholes_s: list[float] = []
    cpus_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="edgesr-") as folder:
        options.profile_file_prefix = f"{folder}/nodes"
        session = ort.InferenceSession(
            to_onnx(graph, _weights(graph)), options, ["CPUExecutionProvider"]
        )
        session.run(None, {INPUT: picture})  # the first run allocates
        while len(wholes_s) < FEWEST or (len(wholes_s) < RUNS and sum(wholes_s) < ENOUGH_S):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            session.run(None, {INPUT: picture})
            wholes_s.append(time.perf_counter() - begun)
            cpus_s.append(time.process_time() - cpu_begun)
        events = json.loads(Path(session.end_profiling()).read_text())
    operators, ms = _by_node(events)
    return Profile(operators, ms[1:], 1e3 * np.array(wholes_s), 1e3 * np.array(cpus_s))


def _by_node(events: list[dict[str, Any]]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    times: dict[str, list[float]] = {}
    operators = {}
    for event in events:
        name = event["name"]
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            operators[name] = str(event["args"]["op_name"])
            times.setdefault(name, []).append(event["dur"] / 1e3)
    return tuple(operators.values()), np.array(list(times.values()), np.float64).T


def _weights(graph: Graph) -> Weights:
    # Scaled so that activations stay near 1: denormal numbers would be slow.
    rng = np.random.default_rng(0)
    weights: Weights = {}
    for name, shape in graph.weight_shapes().items():
        scale = 1.0 / np.sqrt(max(1.0, float(np.prod(shape[1:]))))
        weights[name] = rng.normal(0, scale, shape).astype(np.float32)
    return weights
