"""A network as data: a short list of typed layers, from which everything else follows.

The torch module, the ONNX bytes, MACs, parameters, receptive field and prune groups are
all computed from a `Graph`; none of them is written down twice. A graph takes NCHW float32
RGB in [0, 1] under the name `input` and gives the same, `scale` times larger.

Weights live beside the graph in a dict of float32 arrays, named after the layer:
`NAME.weight` (O, I, K, K) and `NAME.bias` (O,) for a convolution, `NAME.slope` (C,) or (1,)
for a PReLU.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel

Weights: TypeAlias = dict[str, NDArray[np.float32]]
ActivationName: TypeAlias = Literal[
    "relu", "leaky_relu", "prelu", "clip", "silu", "sigmoid", "tanh"
]

INPUT = "input"
INPUT_CHANNELS = 3


@dataclass(frozen=True)
class Conv:
    """A convolution, stride 1, zero padding that keeps the size; `kernel` is odd."""

    name: str
    inputs: tuple[str, ...]
    out: int
    kernel: int
    bias: bool = True
    kind: str = "conv"


@dataclass(frozen=True)
class Activation:
    """A pointwise function. `slope` is leaky_relu's, `high` is clip's upper bound (lower: 0)."""

    name: str
    inputs: tuple[str, ...]
    fn: ActivationName
    slope: float = 0.0
    high: float = 0.0
    shared: bool = True  # prelu: one slope for all channels, or one each
    kind: str = "act"


@dataclass(frozen=True)
class Add:
    """The sum of two tensors of the same shape."""

    name: str
    inputs: tuple[str, ...]
    kind: str = "add"


@dataclass(frozen=True)
class Multiply:
    """The elementwise product of two tensors of the same shape."""

    name: str
    inputs: tuple[str, ...]
    kind: str = "mul"


@dataclass(frozen=True)
class Concat:
    """Tensors joined along the channels."""

    name: str
    inputs: tuple[str, ...]
    kind: str = "concat"


@dataclass(frozen=True)
class PixelShuffle:
    """(C·r², H, W) → (C, rH, rW), channel order CRD as in torch."""

    name: str
    inputs: tuple[str, ...]
    factor: int
    kind: str = "pixel_shuffle"


@dataclass(frozen=True)
class Nearest:
    """Each pixel repeated `factor` × `factor` times."""

    name: str
    inputs: tuple[str, ...]
    factor: int
    kind: str = "nearest"


@dataclass(frozen=True)
class Affine:
    """x · gain + shift with constants: one each, or one per channel."""

    name: str
    inputs: tuple[str, ...]
    gain: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    kind: str = "affine"


Layer: TypeAlias = Conv | Activation | Add | Multiply | Concat | PixelShuffle | Nearest | Affine
_KINDS: dict[str, type[Any]] = {
    "conv": Conv, "act": Activation, "add": Add, "mul": Multiply, "concat": Concat,
    "pixel_shuffle": PixelShuffle, "nearest": Nearest, "affine": Affine,
}  # fmt: skip


@dataclass(frozen=True)
class Graph:
    """Layers in order of computation; the last one is the output.

    Raises `BadModel` when a layer reads what is not there or shapes do not fit.
    """

    name: str
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise BadModel(f"network '{self.name}' has no layers")
        channels, sizes = {INPUT: INPUT_CHANNELS}, {INPUT: 1}
        for layer in self.layers:
            if layer.name in channels:
                raise BadModel(f"network '{self.name}': two layers are named '{layer.name}'")
            missing = [i for i in layer.inputs if i not in channels]
            if missing:
                raise BadModel(f"network '{self.name}': '{layer.name}' reads unknown {missing}")
            _check_inputs(layer)
            channels[layer.name] = _channels_out(layer, [channels[i] for i in layer.inputs])
            sizes[layer.name] = _size_out(layer, [sizes[i] for i in layer.inputs])
        object.__setattr__(self, "_channels", channels)
        object.__setattr__(self, "_sizes", sizes)

    @property
    def output(self) -> str:
        """Name of the last layer."""
        return self.layers[-1].name

    @property
    def channels(self) -> Mapping[str, int]:
        """Channels of each tensor, by layer name (and `input`)."""
        return self._channels  # type: ignore[attr-defined,no-any-return]

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many times larger than the input each tensor is, by layer name."""
        return self._sizes  # type: ignore[attr-defined,no-any-return]

    @property
    def scale(self) -> int:
        """How many times larger the output is."""
        return self.sizes[self.output]

    def convs(self) -> tuple[Conv, ...]:
        """The convolutions, in order."""
        return tuple(x for x in self.layers if isinstance(x, Conv))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight this graph needs."""
        shapes: dict[str, tuple[int, ...]] = {}
        for x in self.layers:
            cin = self.channels[x.inputs[0]]
            if isinstance(x, Conv):
                shapes[f"{x.name}.weight"] = (x.out, cin, x.kernel, x.kernel)
                if x.bias:
                    shapes[f"{x.name}.bias"] = (x.out,)
            elif isinstance(x, Activation) and x.fn == "prelu":
                shapes[f"{x.name}.slope"] = (1,) if x.shared else (cin,)
        return shapes

    def check_weights(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Raise `BadModel` unless `weights` are exactly those that this graph needs."""
        want = self.weight_shapes()
        for name, shape in want.items():
            if name not in weights:
                raise BadModel(f"network '{self.name}': weight '{name}' is missing")
            if tuple(weights[name].shape) != shape:
                got = tuple(weights[name].shape)
                raise BadModel(f"network '{self.name}': '{name}' is {got}, should be {shape}")
        extra = sorted(set(weights) - set(want))
        if extra:
            raise BadModel(f"network '{self.name}': unknown weights {extra[:3]}")

    def to_json(self) -> str:
        """Canonical JSON: the same graph always gives the same text."""
        layers = []
        for x in self.layers:
            d = dataclasses.asdict(x)
            layers.append({"kind": d.pop("kind"), **d})
        return json.dumps({"name": self.name, "layers": layers}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Graph:
        """The graph that `to_json` wrote. Raises `BadModel` for anything else."""
        try:
            data = json.loads(text)
            layers = tuple(_layer_from(dict(d)) for d in data["layers"])
            return cls(name=str(data["name"]), layers=layers)
        except (ValueError, KeyError, TypeError) as e:
            raise BadModel(f"not an EdgeSR network description: {e}") from e


def _layer_from(d: dict[str, Any]) -> Layer:
    kind = d.pop("kind")
    if kind not in _KINDS:
        raise BadModel(f"unknown layer kind '{kind}'; known: {', '.join(_KINDS)}")
    for key in ("inputs", "gain", "shift"):
        if key in d:
            d[key] = tuple(d[key])
    if kind == "act" and d.get("fn") not in get_args(ActivationName):
        raise BadModel(f"unknown activation '{d.get('fn')}'")
    layer: Layer = _KINDS[kind](**d)
    return layer


def _check_inputs(layer: Layer) -> None:
    count, two = len(layer.inputs), isinstance(layer, Add | Multiply)
    fits = count >= 1 if isinstance(layer, Concat) else count == (2 if two else 1)
    if not fits:
        raise BadModel(f"'{layer.name}': a layer of kind {layer.kind} cannot have {count} inputs")


def _channels_out(layer: Layer, cin: list[int]) -> int:
    if isinstance(layer, Conv):
        if layer.kernel % 2 == 0 or layer.kernel < 1 or layer.out < 1:
            raise BadModel(f"'{layer.name}': kernel must be odd and width positive")
        return layer.out
    if isinstance(layer, Concat):
        return sum(cin)
    if isinstance(layer, PixelShuffle | Nearest) and layer.factor < 1:
        raise BadModel(f"'{layer.name}': factor must be positive")
    if isinstance(layer, PixelShuffle):
        if cin[0] % layer.factor**2:
            raise BadModel(f"'{layer.name}': {cin[0]} channels do not split into {layer.factor}²")
        return cin[0] // layer.factor**2
    if len(set(cin)) != 1:
        raise BadModel(f"'{layer.name}': inputs have {cin} channels")
    if isinstance(layer, Affine):
        for constants in (layer.gain, layer.shift):
            if len(constants) not in (1, cin[0]):
                raise BadModel(f"'{layer.name}': {len(constants)} constants, {cin[0]} channels")
    return cin[0]


def _size_out(layer: Layer, sizes: list[int]) -> int:
    if len(set(sizes)) != 1:
        raise BadModel(f"'{layer.name}': inputs have sizes {sizes}")
    return sizes[0] * (layer.factor if isinstance(layer, PixelShuffle | Nearest) else 1)
