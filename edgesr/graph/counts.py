"""Parameters and multiply-accumulates, counted from the graph.

A multiply-accumulate (MAC) is one; FLOPs would be twice that. Only convolutions are
counted: activations, additions and shuffles are left out, as in the literature, though on
a memory-bound device they are not free.
"""

from __future__ import annotations

import math

from edgesr.graph.spec import Conv, Graph


def parameters(graph: Graph) -> int:
    """Number of weights, biases and slopes."""
    return sum(math.prod(shape) for shape in graph.weight_shapes().values())


def layer_macs(graph: Graph) -> dict[str, int]:
    """MACs of each convolution per low-resolution input pixel, by layer name."""
    macs_by_layer = {}
    for layer in graph.layers:
        if isinstance(layer, Conv):
            cin, size = graph.channels[layer.inputs[0]], graph.sizes[layer.inputs[0]]
            macs_by_layer[layer.name] = layer.out * cin * layer.kernel**2 * size**2
    return macs_by_layer


def macs_per_pixel(graph: Graph) -> int:
    """MACs per low-resolution input pixel."""
    return sum(layer_macs(graph).values())


def macs(graph: Graph, height: int, width: int) -> int:
    """MACs for one input of `height` × `width` low-resolution pixels."""
    return macs_per_pixel(graph) * height * width
