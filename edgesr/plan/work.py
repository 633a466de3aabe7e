"""A network as the steps that an engine runs: what each computes, reads and writes.

A step is a convolution, shuffle, upsampling or concatenation with the pointwise layers behind
it: those write nothing of their own, since an engine applies them before the result leaves the
registers. All counts are per input pixel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edgesr.device import Precision
from edgesr.graph.counts import layer_macs
from edgesr.graph.live import is_pointwise, tensor_bytes
from edgesr.graph.spec import Conv, Graph, Layer

VALUE_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
# Biases and slopes stay fp32 beside int8 weights.
_BIAS_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 4}


@dataclass
class Step:
    """One kernel: the layers it computes, the tensors it reads, and the one it writes."""

    layers: list[str]
    reads: set[str]
    writes: str
    macs: int  # per input pixel


@dataclass(frozen=True)
class Load:
    """What a step asks of the device: per input pixel, and once a window (the weights)."""

    name: str
    macs: int
    tensor_bytes: int
    weight_bytes: int


@dataclass
class _Open:
    """The steps so far, and which of them wrote each tensor."""

    steps: list[Step] = field(default_factory=list)
    writer: dict[str, int] = field(default_factory=dict)


def steps(graph: Graph) -> list[Step]:
    """The steps of `graph`, in order.

    A pointwise layer joins the step that wrote the latest of its inputs, unless another layer
    reads that input too: then it must be written anyway, and the layer is a step of its own.
    """
    readers = Counter(name for layer in graph.layers for name in set(layer.inputs))
    macs, so_far = layer_macs(graph), _Open()
    for layer in graph.layers:
        host = _host(layer, so_far, readers)
        if host is None:
            so_far.steps.append(
                Step([layer.name], set(layer.inputs), layer.name, macs.get(layer.name, 0))
            )
            so_far.writer[layer.name] = len(so_far.steps) - 1
            continue
        step = so_far.steps[host]
        step.reads |= set(layer.inputs) - {step.writes}
        step.layers.append(layer.name)
        step.writes = layer.name
        so_far.writer[layer.name] = host
    return so_far.steps


def loads(graph: Graph, precision: Precision) -> list[Load]:
    """What each step asks of the device when tensors and weights are kept in `precision`.

    Every tensor that a step reads or writes passes through memory once; the network's input
    and output are float32.
    """
    sizes = tensor_bytes(graph, VALUE_BYTES[precision])
    weights = layer_weight_bytes(graph, precision)
    return [
        Load(
            name=step.layers[0],
            macs=step.macs,
            tensor_bytes=sum(sizes[name] for name in step.reads) + sizes[step.writes],
            weight_bytes=sum(weights.get(name, 0) for name in step.layers),
        )
        for step in steps(graph)
    ]


def layer_weight_bytes(graph: Graph, precision: Precision) -> dict[str, int]:
    """Bytes of weights, bias and slopes by layer; layers without any are left out."""
    total: Counter[str] = Counter()
    for name, shape in graph.weight_shapes().items():
        layer, kind = name.rsplit(".", 1)
        values = 1
        for side in shape:
            values *= side
        table = VALUE_BYTES if kind == "weight" else _BIAS_BYTES
        total[layer] += values * table[precision]
    return dict(total)


def _host(layer: Layer, so_far: _Open, readers: Counter[str]) -> int | None:
    """The step that `layer` joins, or None for one of its own."""
    if isinstance(layer, Conv) or not is_pointwise(layer):
        return None
    written = {so_far.writer[name]: name for name in layer.inputs if name in so_far.writer}
    if not written:
        return None
    latest = max(written)
    return latest if readers[written[latest]] == 1 else None
