"""Int8 networks whose arithmetic is exact in float32, and what they give, in whole numbers."""

from __future__ import annotations

import numpy as np

from edgesr.bundle import reference
from edgesr.graph.quant import QuantSpec, high_convs, points
from edgesr.graph.spec import INPUT, Activation, Add, Conv, Graph, PixelShuffle, Weights
from edgesr.models.student import student

SCALE = 2.0**-5  # of every activation


def leaky(width: int = 8) -> Graph:
    """Signed activations: a leaky ReLU with an exact slope between convolutions."""
    return Graph(
        "leaky",
        (
            Conv("head", (INPUT,), width, 3),
            Activation("head_act", ("head",), "leaky_relu", slope=0.25),
            Conv("body", ("head_act",), width, 3),
            Activation("body_act", ("body",), "leaky_relu", slope=0.25),
            Add("skip", ("body_act", "head_act")),
            Conv("tail", ("skip",), 12, 3),
            PixelShuffle("shuffle", ("tail",), 2),
        ),
    )


def exact_networks() -> dict[str, Graph]:
    """The kinds of activations that int8 treats differently."""
    return {
        "relu": student(width=8, depth=3),
        "clip": student(width=8, depth=2, act="clip"),
        "leaky": leaky(),
    }


def exact(graph: Graph, high: tuple[str, ...], seed: int = 0) -> tuple[Weights, QuantSpec]:
    """Weights and scales that are small multiples of powers of two.

    Every sum of products then has fewer than 24 bits: float32 holds it, in any order of
    adding. Ties at half a code are common, so that rounding to even shows.
    """
    rng = np.random.default_rng(seed)
    kept = high_convs(graph, high)
    where = points(graph, kept)
    weights: Weights = {}
    for conv in graph.convs():
        quantised = conv.name in where.convs
        shape = graph.weight_shapes()[f"{conv.name}.weight"]
        largest, step = (where.weight_codes(conv, 8), 2.0**-10) if quantised else (15, 2.0**-5)
        codes = rng.integers(-largest, largest + 1, shape) * (rng.random(shape) < 0.5)
        codes[:, 0, 0, 0] = largest
        weights[f"{conv.name}.weight"] = (codes * step).astype(np.float32)
        bias = rng.integers(-20, 21, shape[0]) * 2.0**-6
        weights[f"{conv.name}.bias"] = bias.astype(np.float32)
    return weights, QuantSpec(dict.fromkeys(where.tensors, SCALE), 8, kept)


def picture(seed: int = 0, height: int = 11, width: int = 14) -> np.ndarray:
    """A random 1×3×H×W float32 picture of multiples of 1/16."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 17, (1, 3, height, width)) / 16).astype(np.float32)


def in_whole_numbers(
    graph: Graph, weights: Weights, quant: QuantSpec, image: np.ndarray
) -> np.ndarray:
    """The int8 network with integer convolutions, the rest in float64: 1×3×H×W in and out."""
    where = points(graph, quant.high)
    values = {INPUT: image[0].astype(np.float64)}
    for layer in graph.layers:
        if isinstance(layer, Conv) and layer.name in where.convs:
            source = layer.inputs[0]
            y = _convolve(layer, weights, quant, values[source], where.lowest(source))
        else:
            wide = {k: v.astype(np.float64) for k, v in weights.items()}
            y = reference._layer(layer, [values[i] for i in layer.inputs], wide)
        if layer.name in where.made:
            s = quant.scales[layer.name]
            y = _codes(y, s, where.lowest(layer.name)) * s
        values[layer.name] = y
    return values[graph.output][None]


def _codes(x: np.ndarray, scale: float, lowest: int) -> np.ndarray:
    return np.clip(np.rint(x / scale), lowest, 127).astype(np.int64)


def _convolve(
    conv: Conv, weights: Weights, quant: QuantSpec, x: np.ndarray, lowest: int
) -> np.ndarray:
    s_x = quant.scales[conv.inputs[0]]
    w = weights[f"{conv.name}.weight"].astype(np.float64)
    largest = 63 if lowest < 0 or quant.bits == 7 else 127
    s_w = np.abs(w).max((1, 2, 3)) / largest
    w_codes = np.rint(w / s_w[:, None, None, None]).astype(np.int64)
    pad = conv.kernel // 2
    codes = np.pad(_codes(x, s_x, lowest), ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(codes, (conv.kernel,) * 2, (1, 2))
    sums = np.einsum("ihwkl,oikl->ohw", windows, w_codes)
    assert sums.dtype == np.int64
    bias = weights[f"{conv.name}.bias"].astype(np.float64)
    return sums * (s_x * s_w)[:, None, None] + bias[:, None, None]
