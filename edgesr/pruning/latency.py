"""Milliseconds of a network on this machine, from a table of measured layers.

Each layer is measured once in a short chain: a 1×1 convolution before it, one after it, so that
it finds and leaves its data as in a network (ONNX Runtime keeps convolutions in a blocked
layout, and what cannot work in it pays for the way out and in). The time of a convolution is
that of its node, of its activation where the engine does not fuse it, and of the reordering in
between. A network is the sum of its layers, and of what a run costs besides its nodes.

A machine that does other work too slows everything down, now more and now less. So the chain
also holds a reference, a 3×3 convolution of 32 channels, and the table keeps how many references
a layer costs: the ratio of the medians, in which the load cancels. The reference itself is
measured once, in processor time divided by threads, which other work hardly changes. Together
they say what a network takes when nothing disturbs it and its threads are always busy; on an
idle machine of two cores the wall clock showed 5 to 11 % more.

The key of a convolution is (channels in, channels out, kernel, size factor, activation).
Only keys that are asked for are measured. They are kept in one JSON file a processor, version of
ONNX Runtime, number of threads and picture size.

Limits: the table knows nothing of caches that stay warm from one layer to the next, nor of
additions that the engine fuses into a convolution. At n times the picture's size the reference
is taken to cost n² as much.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from edgesr import atomic, machine
from edgesr.errors import BadConfig
from edgesr.graph.spec import (
    INPUT,
    INPUT_CHANNELS,
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
)
from edgesr.pruning.profile import Profile, profile

HEIGHT, WIDTH = 180, 320
_REFERENCE = 32  # channels of the reference
_CONVS = "Conv"  # Conv, FusedConv, NhwcFusedConv: how an engine calls what it made of it


class Measure(Protocol):
    """Times the nodes of a network; `edgesr.pruning.profile.profile` is the real one."""

    def __call__(self, graph: Graph, *, height: int, width: int, threads: int) -> Profile:
        """The nodes' times for one picture of that size."""


class LatencyTable:
    """The costs of layers, measured when first asked for and kept in `folder`.

    `cost` is what a budget in `ms` and `prune_to` take. `say` hears of each measurement.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        height: int = HEIGHT,
        width: int = WIDTH,
        measure: Measure = profile,
        say: Callable[[str], None] = lambda text: None,
        root: Path = Path("/"),
    ) -> None:
        from importlib.metadata import version

        self.threads, self.height, self.width = threads, height, width
        self._measure, self._say = measure, say
        self.facts = {
            "processor": machine.processor(root),
            "onnxruntime": version("onnxruntime"),
            "threads": threads,
            "picture": [height, width],
        }
        name = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]
        self.path = folder / f"latency-{name}.json"
        self._layers: dict[str, float] = {}  # how many references each layer costs
        self._reference_ms = self._base_ms = 0.0
        self._read()

    def cost(self, graph: Graph) -> float:
        """Milliseconds for one picture, estimated from measured layers."""
        keys = [key for layer in graph.layers if (key := layer_key(graph, layer))]
        missing = [key for key in sorted(set(keys)) if key not in self._layers]
        if not self._reference_ms:
            self._start()
        for key in missing:
            self._say(f"measuring {key} on this machine")
            self._layers[key] = self._references(key)
        if missing:
            self._write()
        return self._base_ms + self._reference_ms * sum(self._layers[key] for key in keys)

    def _start(self) -> None:
        """What the reference takes, and what a run costs besides its nodes."""
        self._say("measuring what a convolution takes on this machine")
        result = self._profile(Graph("reference", tuple(_after(INPUT))), 1)
        convs = [i for i, op in enumerate(result.operators) if op.endswith(_CONVS)]
        nodes_ms = np.median(result.ms, axis=0)
        cpu_ms = float(np.median(result.cpu_ms)) / self.threads
        self._reference_ms = cpu_ms * float(nodes_ms[convs[1]] / nodes_ms.sum())
        self._base_ms = max(0.0, float(np.median(result.whole_ms - result.ms.sum(axis=1))))

    def _references(self, key: str) -> float:
        """How many references the layer costs."""
        graph, size, first = probe(key)
        result = self._profile(graph, size)
        starts = [i for i, op in enumerate(result.operators) if op.endswith(_CONVS)]
        # From the layer's own convolution, or from behind the one before it, to the one behind.
        begin = starts[first] if key.startswith("conv ") else starts[first] + 1
        layer_ms = result.ms[:, begin : starts[-3]].sum(axis=1)
        reference_ms = float(np.median(result.ms[:, starts[-2]]))
        return float(np.median(layer_ms)) / reference_ms * (size * graph.sizes["reference"]) ** 2

    def _profile(self, graph: Graph, size: int) -> Profile:
        return self._measure(
            graph, height=self.height * size, width=self.width * size, threads=self.threads
        )

    def _read(self) -> None:
        if not self.path.is_file():
            return
        try:
            data = json.loads(self.path.read_text())
            self._layers = {str(key): float(n) for key, n in data["references"].items()}
            self._reference_ms, self._base_ms = float(data["reference_ms"]), float(data["base_ms"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise BadConfig(f"{self.path}: damaged table of latencies; delete it") from e

    def _write(self) -> None:
        table = {
            **self.facts,
            "reference_ms": self._reference_ms,
            "base_ms": self._base_ms,
            "references": dict(sorted(self._layers.items())),
        }
        atomic.write_text(self.path, json.dumps(table, indent=1) + "\n")


def layer_key(graph: Graph, layer: Layer) -> str:
    """What the table calls this layer; '' when its time is another layer's.

    `conv IN OUT KERNEL SIZE ACTIVATION`, otherwise `KIND CHANNELS SIZE DETAIL`: channels
    going in, and how many times larger than the network's input the layer's input is.
    """
    source = layer.inputs[0]
    cin, size = graph.channels[source], graph.sizes[source]
    match layer:
        case Conv():
            own = _own_activation(graph, layer)
            return f"conv {cin} {layer.out} {layer.kernel} {size} {own.fn if own else 'none'}"
        case Activation():
            before = next((x for x in graph.layers if x.name == source), None)
            if isinstance(before, Conv) and _own_activation(graph, before) == layer:
                return ""
            return f"act {cin} {size} {layer.fn}"
        case PixelShuffle() | Nearest():
            return f"{layer.kind} {cin} {size} {layer.factor}"
        case Concat():
            widths = "+".join(str(graph.channels[i]) for i in layer.inputs)
            return f"concat {widths} {size} {len(layer.inputs)}"
        case Affine():
            # The two steps that it may take are written only where they do something.
            steps = any(g != 1 for g in layer.gain) + any(s != 0 for s in layer.shift)
            return f"affine {cin} {size} {max(1, steps)}"
        case _:
            return f"{layer.kind} {cin} {size} 2"


def _own_activation(graph: Graph, conv: Conv) -> Activation | None:
    readers = [x for x in graph.layers if conv.name in x.inputs]
    alone = len(readers) == 1 and isinstance(readers[0], Activation)
    return readers[0] if alone and isinstance(readers[0], Activation) else None


def probe(key: str) -> tuple[Graph, int, int]:
    """A chain to measure `key` in, its size factor, and which convolution is (before) the layer.

    Its last three convolutions are the one behind the layer, the reference, and an end.
    """
    kind, *words = key.split()
    if kind == "conv":
        cin, out, kernel, size = (int(w) for w in words[:4])
        layers: list[Layer] = []
        source = INPUT
        if cin != INPUT_CHANNELS:
            layers = _before("before", cin)
            source = "before_act"
        layers.append(Conv("layer", (source,), out, kernel))
        if words[4] != "none":
            layers.append(_activation("layer_act", "layer", words[4]))
        layers += _after(layers[-1].name)
        return Graph("probe", tuple(layers)), size, 0 if cin == INPUT_CHANNELS else 1
    widths = [int(w) for w in words[0].split("+")]
    size, detail = int(words[1]), words[2]
    if kind in ("add", "mul"):
        widths *= 2
    layers = [x for i, w in enumerate(widths) for x in _before(f"before{i}", w)]
    inputs = tuple(f"before{i}_act" for i in range(len(widths)))
    layers += [_pointwise(kind, inputs, detail), *_after("layer")]
    return Graph("probe", tuple(layers)), size, len(widths) - 1


def _before(name: str, width: int) -> list[Layer]:
    return [Conv(name, (INPUT,), width, 1), _activation(f"{name}_act", name, "relu")]


def _after(source: str) -> list[Layer]:
    return [
        Conv("after", (source,), _REFERENCE, 1),
        _activation("after_act", "after", "relu"),
        Conv("reference", ("after_act",), _REFERENCE, 3),
        _activation("reference_act", "reference", "relu"),
        Conv("last", ("reference_act",), 8, 1),
    ]


def _activation(name: str, source: str, fn: str) -> Activation:
    return Activation(name, (source,), fn, slope=0.1, high=6.0)  # type: ignore[arg-type]


def _pointwise(kind: str, inputs: tuple[str, ...], detail: str) -> Layer:
    match kind:
        case "act":
            # Behind the convolution's own activation: it is not fused, as it would not be there.
            return _activation("layer", inputs[0], detail)
        case "pixel_shuffle":
            return PixelShuffle("layer", inputs, int(detail))
        case "nearest":
            return Nearest("layer", inputs, int(detail))
        case "concat":
            return Concat("layer", inputs)
        case "affine":
            return Affine("layer", inputs, gain=(2.0,), shift=(0.5,) if detail == "2" else (0.0,))
        case "mul":
            return Multiply("layer", inputs)
    return Add("layer", inputs)
