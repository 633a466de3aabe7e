"""Small networks of every architecture, with seeded random weights."""

from __future__ import annotations

import numpy as np

from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Graph,
    Multiply,
    Nearest,
    PixelShuffle,
    Weights,
)
from edgesr.models.rrdb import rrdb
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.srvgg import srvgg
from edgesr.models.student import student


def all_kinds() -> Graph:
    """One layer of every kind and every activation, ×4."""
    return Graph(
        "all_kinds",
        (
            Affine("norm", (INPUT,), gain=(2.0,), shift=(-0.4, -0.5, -0.6)),
            Conv("a", ("norm",), 8, 5),
            Activation("a_prelu", ("a",), "prelu", shared=False),
            Conv("b", ("a_prelu",), 8, 3, bias=False),
            Activation("b_silu", ("b",), "silu"),
            Multiply("gated", ("b_silu", "a_prelu")),
            Activation("leaky", ("gated",), "leaky_relu", slope=0.2),
            Concat("both", ("leaky", "a_prelu")),
            Conv("c", ("both",), 12, 1),
            Activation("c_clip", ("c",), "clip", high=1.0),
            PixelShuffle("up", ("c_clip",), 2),
            Activation("up_tanh", ("up",), "tanh"),
            Nearest("again", ("up_tanh",), 2),
            Nearest("skip", (INPUT,), 4),
            Activation("gate", ("again",), "sigmoid"),
            Affine("half", ("gate",), gain=(0.5,)),
            Activation("half_relu", ("half",), "relu"),
            Conv("d", ("half_relu",), 3, 3),
            Add("out", ("d", "skip")),
        ),
    )


def small_networks() -> dict[str, Graph]:
    """Every architecture at a size that runs in milliseconds."""
    return {
        "all_kinds": all_kinds(),
        "srresnet": srresnet(blocks=2, width=8, tail_kernel=9),
        "rrdb": rrdb(blocks=1, width=8, growth=4),
        "span": span(width=8),
        "srvgg": srvgg(convs=2, width=8),
        "student": student(width=8, depth=3),
        "student_clip": student(width=8, depth=2, act="clip"),
        "student_x2": student(width=8, depth=2, scale=2, act="leaky_relu"),
    }


def random_weights(graph: Graph, seed: int = 0) -> Weights:
    """He-scaled normal weights and small biases: activations stay near 1."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in graph.weight_shapes().items():
        fan_in = int(np.prod(shape[1:])) or 1
        scale = (1.5 / fan_in) ** 0.5 if name.endswith("weight") else 0.2
        weights[name] = rng.normal(0, scale, shape).astype(np.float32)
    # SPAN multiplies its input by 255: its first convolution brings that back to about 1.
    gains = {x.name: max(x.gain) for x in graph.layers if isinstance(x, Affine)}
    for conv in graph.convs():
        weights[f"{conv.name}.weight"] /= np.float32(max(1.0, gains.get(conv.inputs[0], 1.0)))
    return weights
