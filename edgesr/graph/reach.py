"""How far an output pixel looks: the exact receptive field, per output phase.

An output pixel at column x of a tensor that is `s` times larger than the input belongs to
input pixel x // s and has phase x mod s. For each phase we keep how many input pixels to
the left and to the right it depends on; a convolution widens these by the pixels it reads
and whatever they in turn reach. Rows behave as columns do.
"""

from __future__ import annotations

from typing import TypeAlias

from edgesr.graph.spec import INPUT, Conv, Graph, Layer, Nearest, PixelShuffle

Reach: TypeAlias = tuple[tuple[int, int], ...]  # per phase: (left, right) input pixels


def reach(graph: Graph) -> Reach:
    """Input pixels to the left and right that each output phase depends on."""
    by_name: dict[str, Reach] = {INPUT: ((0, 0),)}
    for layer in graph.layers:
        by_name[layer.name] = _through(layer, [by_name[i] for i in layer.inputs])
    return by_name[graph.output]


def halo(graph: Graph) -> int:
    """Receptive-field radius in whole input pixels.

    A tile with this much context on every side gives exactly the untiled result in its
    middle. SRResNet-16 reaches 40.
    """
    return max(max(left, right) for left, right in reach(graph))


def _through(layer: Layer, inputs: list[Reach]) -> Reach:
    if isinstance(layer, Conv):
        return _widen(inputs[0], layer.kernel // 2)
    if isinstance(layer, PixelShuffle | Nearest):
        return tuple(side for side in inputs[0] for _ in range(layer.factor))
    return tuple(
        (max(r[phase][0] for r in inputs), max(r[phase][1] for r in inputs))
        for phase in range(len(inputs[0]))
    )


def _widen(before: Reach, radius: int) -> Reach:
    size = len(before)
    widened = []
    for phase in range(size):
        left = right = 0
        for offset in range(-radius, radius + 1):
            shift, source = divmod(phase + offset, size)
            left = max(left, before[source][0] - shift)
            right = max(right, before[source][1] + shift)
        widened.append((left, right))
    return tuple(widened)
