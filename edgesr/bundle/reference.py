"""A network computed from its graph with numpy alone: slow, and independent of ONNX.

The gates hold the exported files against it, so that a wrong ONNX writer and a wrong
runtime are both seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.graph.quant import HIGH, QuantSpec, bias_codes, weight_codes
from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Graph,
    Layer,
    Multiply,
    Nearest,
    PixelShuffle,
    Weights,
)

Array = NDArray[np.float64]


def evaluate(
    graph: Graph,
    weights: Weights,
    image: NDArray[Any],
    *,
    half: bool = False,
    quant: QuantSpec | None = None,
    whole_biases: bool = False,
) -> NDArray[np.float64]:
    """The network's output for `image`, CHW RGB in [0, 1], as float64 CHW.

    `half` rounds the weights and every layer's result to float16, as hardware does that
    adds up in higher precision; what exceeds 65504 becomes infinite, as it would there.
    `quant` rounds what an int8 network rounds, to the same codes; `whole_biases` also rounds its
    biases to int32, as the form for ONNX Runtime does. Raises `BadModel` when `quant` does not
    fit the graph.
    """
    keep = _to_half if half else np.asarray
    rounding = _Rounding(graph, quant, whole_biases)
    tensors: dict[str, Array] = {INPUT: keep(np.asarray(image, np.float64))}
    stored = {name: keep(w) for name, w in rounding.weights(weights).items()}
    for layer in graph.layers:
        inputs = [rounding.read(layer, i, tensors[i]) for i in layer.inputs]
        with np.errstate(over="ignore", invalid="ignore"):
            tensors[layer.name] = rounding.made(layer, keep(_layer(layer, inputs, stored)))
    return tensors[graph.output]


class _Rounding:
    """What `quant` does to weights and activations; nothing when it is None."""

    def __init__(self, graph: Graph, quant: QuantSpec | None, whole_biases: bool) -> None:
        self.graph, self.quant, self.whole_biases = graph, quant, whole_biases
        self.points = quant.check(graph) if quant is not None else None

    def weights(self, weights: Weights) -> dict[str, Array]:
        stored = {name: np.asarray(w, np.float64) for name, w in weights.items()}
        for conv in self.graph.convs():
            if self.points is not None and conv.name in self.points.convs:
                self._round_weights(conv, weights, stored)
        return stored

    def _round_weights(self, conv: Conv, weights: Weights, stored: dict[str, Array]) -> None:
        assert self.points is not None and self.quant is not None
        largest = self.points.weight_codes(conv, self.quant.bits)
        codes, scales = weight_codes(weights[f"{conv.name}.weight"], largest)
        stored[f"{conv.name}.weight"] = codes * scales.astype(np.float64)[:, None, None, None]
        if conv.bias and self.whole_biases:
            units = np.float32(self.quant.scales[conv.inputs[0]]) * scales
            whole = bias_codes(conv.name, weights[f"{conv.name}.bias"], units)
            stored[f"{conv.name}.bias"] = whole.astype(np.float64) * units

    def read(self, layer: Layer, tensor: str, x: Array) -> Array:
        if self.points is None or layer.name not in self.points.convs:
            return x
        return self._rounded(tensor, x) if tensor in self.points.read else x

    def made(self, layer: Layer, y: Array) -> Array:
        if self.points is None or layer.name not in self.points.made:
            return y
        return self._rounded(layer.name, y)

    def _rounded(self, tensor: str, x: Array) -> Array:
        assert self.points is not None and self.quant is not None
        scale = self.quant.scales[tensor]
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            codes = np.clip(np.rint(x / scale), self.points.lowest(tensor), HIGH)
        return codes * scale


def _to_half(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float64)


def _layer(layer: Layer, x: list[Array], weights: dict[str, Array]) -> Array:
    if isinstance(layer, Conv):
        bias = weights[f"{layer.name}.bias"] if layer.bias else None
        return _conv(x[0], weights[f"{layer.name}.weight"], bias)
    if isinstance(layer, Activation):
        return _activation(layer, x[0], weights.get(f"{layer.name}.slope"))
    if isinstance(layer, Add):
        return x[0] + x[1]
    if isinstance(layer, Multiply):
        return x[0] * x[1]
    if isinstance(layer, Concat):
        return np.concatenate(x)
    if isinstance(layer, PixelShuffle):
        return _shuffle(x[0], layer.factor)
    if isinstance(layer, Nearest):
        return x[0].repeat(layer.factor, axis=1).repeat(layer.factor, axis=2)
    return _affine(layer, x[0])


def _affine(layer: Affine, x: Array) -> Array:
    gain = np.array(layer.gain, np.float64).reshape(-1, 1, 1)
    shift = np.array(layer.shift, np.float64).reshape(-1, 1, 1)
    return x * gain + shift


def _conv(x: Array, weight: Array, bias: Array | None) -> Array:
    """Zero-padded convolution of CHW with OIKK: one matrix product per kernel position."""
    size = weight.shape[2]
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2)))
    total = np.zeros((weight.shape[0], height * width))
    for i in range(size):
        for j in range(size):
            shifted = padded[:, i : i + height, j : j + width].reshape(x.shape[0], -1)
            total += weight[:, :, i, j] @ shifted
    if bias is not None:
        total += bias[:, None]
    return total.reshape(-1, height, width)


def _activation(layer: Activation, x: Array, slope: Array | None) -> Array:
    if slope is not None:  # prelu
        return np.where(x < 0, x * slope.reshape(-1, 1, 1), x)
    functions: dict[str, Callable[[Array], Array]] = {
        "relu": lambda v: np.maximum(v, 0.0),
        "leaky_relu": lambda v: np.where(v < 0, v * layer.slope, v),
        "clip": lambda v: np.clip(v, 0.0, layer.high),
        "silu": lambda v: v / (1.0 + np.exp(-v)),
        "sigmoid": lambda v: 1.0 / (1.0 + np.exp(-v)),
        "tanh": np.tanh,
    }
    return functions[layer.fn](x)


def _shuffle(x: Array, factor: int) -> Array:
    channels, height, width = x.shape
    parts = x.reshape(channels // factor**2, factor, factor, height, width)
    return parts.transpose(0, 3, 1, 4, 2).reshape(-1, height * factor, width * factor)
