"""The gates of a network's files: each is held against the one before it.

    graph in float64 ─▶ ONNX fp32 ─▶ ONNX Runtime                       same numbers
      ├──▶ float16 arithmetic ─▶ ONNX fp16 ─▶ ONNX Runtime              quality
      └──▶ int8 arithmetic                                              quality
             ├──▶ ONNX int8 for TensorRT, run as it is written          same codes
             └──▶ … with int32 biases ─▶ ONNX Runtime's form, optimised same codes

numpy computes the left column, so that a wrong ONNX writer and a wrong runtime are both seen. A
gate is a dict: `hop`, `failures` (empty when it holds), and the numbers.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.bundle import golden, photographs, reference
from edgesr.bundle.gates import LIMITS, SAME_CODES, Difference, Limits, difference, failures
from edgesr.bundle.pattern import broken_fours
from edgesr.bundle.repair import Repaired
from edgesr.checkpoint import Checkpoint
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Graph
from edgesr.runtime.ort import OrtRuntime

CROP = (32, 40)  # what numpy computes
# Where codes are compared (see gates.SAME_CODES): so few of them that ties are rare.
CODES_CROPS, CODES, CODES_SIDES = 5, 250_000, (8, 24)

Gate = dict[str, Any]


def plain_gates(
    role: str, network: Checkpoint, pictures: list[photographs.Tile], *, half: bool
) -> list[Gate]:
    """The graph against the fp32 ONNX file and, with `half`, against float16 arithmetic."""
    graph, weights = network.graph, network.weights
    tile = photographs.crops(pictures, *CROP, 1)[0]
    image = tile.transpose(2, 0, 1) / 255.0
    exact = reference.evaluate(graph, weights, image).transpose(1, 2, 0)
    found = _run(to_onnx(graph, weights), tile, optimize=False)
    gates = [_gate(f"{role}: graph in numpy → ONNX fp32", LIMITS["fp32"], exact, found)]
    if half:
        # ONNX Runtime computes fp16 in fp32 on most CPUs and would not see an overflow.
        rounded = reference.evaluate(graph, weights, image, half=True).transpose(1, 2, 0)
        gates.append(_gate(f"{role}: fp16 arithmetic in numpy", LIMITS["fp16"], exact, rounded))
    return gates


def int8_gates(
    role: str, network: Checkpoint, repaired: Repaired, pictures: list[photographs.Tile]
) -> list[Gate]:
    """int8 arithmetic against fp32, its two ONNX forms against it, and what each form costs."""
    if not repaired.quality:
        failed = next(iter(repaired.failures.values()))
        return [record(f"{role}: fp32 → int8", None, failed)]
    return [
        _arithmetic(role, network, repaired.quant, pictures),
        *_same_codes(role, network, repaired.quant, pictures),
        *_costs(role, repaired),
    ]


def sparsity_gates(files: dict[str, bytes]) -> list[Gate]:
    """Whether every eligible layer of each ONNX file (by name) has the 2:4 pattern."""
    gates = []
    for name, data in sorted(files.items()):
        broken = broken_fours(data)
        bad = [layer for layer, count in broken.items() if count]
        failed = [f"'{bad[0]}' and {len(bad) - 1} more are not 2:4"] if bad else []
        gates.append(record(f"{name}: 2:4 in {len(broken) - len(bad)} of {len(broken)} "
                            "eligible layers", None, failed))  # fmt: skip
    return gates


def record(hop: str, found: Difference | None, failed: list[str], **numbers: Any) -> Gate:
    """A gate; `failures` empty when it holds."""
    return {"hop": hop, "failures": failed,
            **(dataclasses.asdict(found) if found else {}), **numbers}  # fmt: skip


def _gate(hop: str, limits: Limits, expected: NDArray[Any], found: NDArray[Any]) -> Gate:
    lost = difference(expected, found)
    return record(hop, lost, failures(lost, limits))


def _arithmetic(
    role: str, network: Checkpoint, quant: QuantSpec, pictures: list[photographs.Tile]
) -> Gate:
    tile = photographs.crops(pictures, *CROP, 1)[0]
    image = tile.transpose(2, 0, 1) / 255.0
    exact, rounded = (
        reference.evaluate(network.graph, network.weights, image, quant=spec).transpose(1, 2, 0)
        for spec in (None, quant)
    )
    return _gate(f"{role}: int8 arithmetic in numpy", LIMITS["int8"], exact, rounded)


def _same_codes(
    role: str, network: Checkpoint, quant: QuantSpec, pictures: list[photographs.Tile]
) -> list[Gate]:
    graph, weights = network.graph, network.weights
    side = _codes_side(graph, quant)
    tiles = photographs.crops(pictures, side, side, CODES_CROPS)
    forms = {
        form: to_onnx_int8(graph, weights, quant, form=form, shape=(side, side))
        for form in ("trt", "ort")
    }
    hops: dict[str, list[Difference]] = {}
    for tile in tiles:
        image = tile.transpose(2, 0, 1) / 255.0
        trt, ort = (
            reference.evaluate(graph, weights, image, quant=quant, whole_biases=whole)
            for whole in (False, True)
        )
        steps = (
            ("int8 arithmetic in numpy → ONNX int8.trt", trt,
             _run(forms["trt"], tile, optimize=False)),
            ("int8 arithmetic in numpy → ONNX int8.ort", ort,
             _run(forms["ort"], tile, optimize=False)),
            ("ONNX int8.ort → ONNX Runtime's integer kernels", ort,
             _run(forms["ort"], tile, optimize=True)),
        )  # fmt: skip
        for hop, expected, found in steps:
            hops.setdefault(hop, []).append(difference(expected.transpose(1, 2, 0), found))
    return [_second_best(f"{role}: {hop}", found) for hop, found in hops.items()]


def _codes_side(graph: Graph, quant: QuantSpec) -> int:
    """The side of a crop in which int8 activations have about `CODES` values."""
    values = sum(graph.channels[t] * graph.sizes[t] ** 2 for t in quant.scales)
    return int(np.clip(math.isqrt(CODES // max(1, values)), *CODES_SIDES))


def _second_best(hop: str, found: Sequence[Difference]) -> Gate:
    second = sorted(found, key=lambda d: d.psnr_db, reverse=True)[1]
    return record(hop, second, failures(second, SAME_CODES))


def _costs(role: str, repaired: Repaired) -> list[Gate]:
    gates = []
    for form, quality in repaired.quality.items():
        failed = list(repaired.failures[form])
        if failed and repaired.guilty():
            failed.append(repaired.guilty())
        numbers = {"psnr_y_fp32": quality.psnr_y_fp32, "psnr_y": quality.psnr_y,
                   "drop_db": quality.drop_db}  # fmt: skip
        gates.append(record(f"{role}: photographs, fp32 → int8.{form}", quality.lost, failed,
                            **numbers))  # fmt: skip
    return gates


def _run(model: bytes, tile: photographs.Tile, *, optimize: bool) -> NDArray[np.float32]:
    runtime = OrtRuntime(model, optimize=optimize)
    try:
        return golden.run_tile(runtime, tile)
    finally:
        runtime.close()
