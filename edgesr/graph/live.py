"""How much memory the tensors of a network need at once: its live set.

The layers run in order. While one runs, its output and every tensor that it or a later layer
still reads are there; a tensor goes with its last reader. A pointwise layer (activation, affine,
addition, product) writes over an input of the same size that nothing reads afterwards, as
ONNX Runtime and TensorRT do, but never over the network's own input. What an engine takes
beside (copies in other layouts, scratch of its kernels) is not in it, so the live set is a floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgesr.graph.spec import INPUT, Activation, Add, Affine, Graph, Layer, Multiply

IO_BYTES = 4  # a value of the network's input and output, float32 in every exported file


@dataclass(frozen=True)
class LiveSet:
    """The tensors that are there while the layer `at` runs: bytes per input pixel, by name."""

    at: str
    tensors: dict[str, int]

    @property
    def bytes_per_pixel(self) -> int:
        """All of them, for each pixel of the network's input."""
        return sum(self.tensors.values())


def is_pointwise(layer: Layer) -> bool:
    """Whether each output value depends on the same place of its inputs only."""
    return isinstance(layer, Activation | Affine | Add | Multiply)


def tensor_bytes(graph: Graph, value_bytes: int) -> dict[str, int]:
    """Bytes of each tensor per input pixel: `value_bytes` a value, float32 in and out."""
    sizes = {}
    for name, channels in graph.channels.items():
        each = IO_BYTES if name in (INPUT, graph.output) else value_bytes
        sizes[name] = channels * graph.sizes[name] ** 2 * each
    return sizes


def live_sets(graph: Graph, value_bytes: int) -> Iterator[LiveSet]:
    """The live set of each layer, in order."""
    sizes = tensor_bytes(graph, value_bytes)
    last = {i: at for at, layer in enumerate(graph.layers) for i in layer.inputs}
    last[graph.output] = len(graph.layers)
    alive = [INPUT]
    for at, layer in enumerate(graph.layers):
        present = [name for name in alive if name != _overwritten(layer, at, last, sizes)]
        present.append(layer.name)
        yield LiveSet(layer.name, {name: sizes[name] for name in present})
        alive = [name for name in present if last.get(name, at) > at]


def largest_live_set(graph: Graph, value_bytes: int) -> LiveSet:
    """The live set that needs most memory; of equal ones the first."""
    return max(live_sets(graph, value_bytes), key=lambda live: live.bytes_per_pixel)


def _overwritten(layer: Layer, at: int, last: dict[str, int], sizes: dict[str, int]) -> str | None:
    """The input that `layer` writes its output over, or None."""
    if is_pointwise(layer):
        for name in layer.inputs:
            if name != INPUT and last[name] == at and sizes[name] == sizes[layer.name]:
                return name
    return None
