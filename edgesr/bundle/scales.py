"""Where the numbers of an int8 network come from: from training, or from pictures.

Never from anything else: scales that fit no picture clip, and clipped pictures turn dark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig, BadImage, BadModel
from edgesr.graph.quant import QuantSpec, bias_codes, fits_half, made_by, weight_codes
from edgesr.graph.spec import Graph, Weights

Picture = NDArray[np.uint8]
MOST = 32  # pictures of a folder, spread evenly
PIECE = 192  # pixels of the network's input
HIGH = ("head", "tail")  # what stays in higher precision: measured in docs/export.md
SMALLEST = 32  # below that a picture is not made smaller
MAX_DROP_DB = {"trained": 0.10, "calibrated": 0.30}


@dataclass(frozen=True)
class Scales:
    """The numbers of an int8 network; `pictures` is how many they were calibrated on."""

    quant: QuantSpec
    origin: Literal["trained", "calibrated"]
    pictures: int = 0


def find_scales(
    network: Checkpoint, calib: Path | None, log: Callable[[str], None] = lambda line: None
) -> Scales | None:
    """The scales that `network` was trained with, else those of the pictures in `calib`.

    None without either. A calibrated network has 8-bit weights (7 bits where AVX2 would
    saturate), and its first and last convolutions stay out of int8. Raises `BadImage` for a
    folder without pictures.
    """
    if network.quant is not None:
        return Scales(network.quant, "trained")
    if calib is None:
        return None
    from edgesr.runtime.calibrate import post_training

    pictures = calibration_pictures(calib, network.graph.scale)
    log(f"int8: calibrating on {len(pictures)} pictures")
    inputs = [piece for picture in pictures for piece in pieces(picture)]
    quant = post_training(network.graph, network.weights, inputs, high=HIGH)
    return Scales(quant, "calibrated", len(pictures))


def need_scales(name: str, int8_name: str | None) -> BadConfig:
    """The refusal of int8 without scales, with the ways out; `int8_name` has trained ones."""
    if int8_name is not None:
        return BadConfig(
            f"int8: '{name}' is the fp32 network; export {int8_name}, which brings trained scales, "
            "or give a folder of photographs with --calib DIR"
        )
    return BadConfig(
        f"int8: '{name}' was not trained with int8 scales, and there are no pictures "
        "to find them on: give a folder of photographs with --calib DIR, or train them in with "
        'edgesr compress and a stage of kind = "quantize" (benchmarks/recipes/int8.toml)'
    )


def calibration_pictures(folder: Path, scale: int) -> list[Picture]:
    """Network inputs from the photographs of `folder`: made `scale` times smaller, as in training.

    At most `MOST` of them, spread evenly over the sorted names; HWC uint8 RGB. A picture whose
    small version would have a side below `SMALLEST` is taken as it is. Raises `BadImage` for
    a folder without pictures and for a damaged one.
    """
    from edgesr.image import load_folder, read_rgb8
    from edgesr.resize import downscale_bicubic

    paths = load_folder(folder)
    step = max(1, len(paths) // MOST)
    found = []
    for path in paths[::step][:MOST]:
        picture = read_rgb8(path)
        small = min(picture.shape[:2]) < SMALLEST * scale
        found.append(picture if small else downscale_bicubic(picture, scale))
    if not any(min(p.shape[:2]) >= SMALLEST for p in found):
        raise BadImage(f"{folder}: its pictures are below {SMALLEST} pixels; give photographs")
    return found


def pieces(picture: Picture) -> list[Picture]:
    """The picture, or of a larger one up to four squares of 192, one in each quarter."""

    def starts(side: int) -> list[int]:
        if side <= 2 * PIECE:
            return sorted({0, max(0, side - PIECE)})
        half = side // 2
        return [(half - PIECE) // 2, half + (side - half - PIECE) // 2]

    return [
        picture[top : top + PIECE, left : left + PIECE]
        for top in starts(picture.shape[0])
        for left in starts(picture.shape[1])
    ]


def unfit(graph: Graph, weights: Weights, quant: QuantSpec) -> dict[str, str]:
    """Convolutions that a form cannot hold in int8, each with the reason.

    float16 does not hold the scale of a tensor around it, or int32 not its bias.
    """
    where = quant.check(graph)
    tiny = {t for t in where.tensors if not fits_half(quant.scales[t])}
    reasons = {}
    for conv in graph.convs():
        if conv.name not in where.convs:
            continue
        lost = sorted(tiny & {conv.inputs[0], made_by(graph, conv)})
        if lost:
            reasons[conv.name] = f"float16 does not hold the scale of '{lost[0]}'"
        elif conv.bias:
            largest = where.weight_codes(conv, quant.bits)
            _, units = weight_codes(weights[f"{conv.name}.weight"], largest)
            units = units * np.float32(quant.scales[conv.inputs[0]])
            try:
                bias_codes(conv.name, weights[f"{conv.name}.bias"], units)
            except BadModel:
                reasons[conv.name] = "int32 does not hold its bias"
    return reasons
