"""What is quantised in an int8 network, with which numbers: the one arithmetic of all its forms.

A quantised convolution reads int8 activations (one scale a tensor) and int8 weights (one
scale an output channel), both symmetric: q = clip(round half to even(x / s)), x ≈ q · s, zero
point 0. Nagel et al., "A White Paper on Neural Network Quantization", 2021, equations 4 to 8.

Two kinds of tensors carry a scale. What a quantised convolution makes, after the ReLU or clip
that alone reads it, is rounded where it is made, so all its readers see the rounded tensor:
this lets ONNX Runtime fuse the convolution. What comes from elsewhere is rounded on the way
into quantised convolutions only; its other readers keep fp32.

AVX2 adds the products of two neighbouring activations and weights in 16 bits, saturating. An
activation that cannot be negative has the codes 0 to 127: two products reach 2 · 127 · 127 =
32258 < 32768, and weights may use all 8 bits. A signed activation becomes uint8 with zero
point 128 there, codes up to 255: its convolutions get 7-bit weights, 2 · 255 · 63 = 32130.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel
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
)

Bits: TypeAlias = Literal[7, 8]
HIGH = 127  # the largest code of an activation
LOW = -128  # the smallest one of a signed activation; the others start at 0
WEIGHT_CODES = {7: 63, 8: 127}
WEAKEST = np.float32(2.0**-10)  # the least scale of a channel, the layer's largest being 1
_INT32 = 2**31 - 1


@dataclass(frozen=True)
class QuantSpec:
    """The numbers of an int8 network: a float32 `scale` for each tensor of `points(…)`.

    `bits` are those of the weights: 8 (−127 to 127) or 7 (−63 to 63). `high` names the
    convolutions that stay fp32. Weight scales are not kept: they follow from the weights.
    Raises `BadModel` for scales that are not positive float32 numbers, or other bits.
    """

    scales: Mapping[str, float]
    bits: Bits = 8
    high: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bits not in WEIGHT_CODES:
            raise BadModel(f"int8 weights have 7 or 8 bits, not {self.bits!r}")
        for name, scale in self.scales.items():
            if not (math.isfinite(scale) and scale > 0 and float(np.float32(scale)) == scale):
                raise BadModel(f"scale of '{name}' is {scale!r}, not a positive float32 number")

    def check(self, graph: Graph) -> Points:
        """The points of `graph`; `BadModel` unless `scales` are exactly theirs."""
        where = points(graph, self.high)
        missing = [t for t in where.tensors if t not in self.scales]
        extra = sorted(set(self.scales) - set(where.tensors))
        if missing or extra:
            what = f"no scale for {missing[:3]}" if missing else f"unknown tensors {extra[:3]}"
            raise BadModel(f"network '{graph.name}': {what}; calibrate it again")
        return where

    def keeping(self, graph: Graph, high: Iterable[str]) -> QuantSpec:
        """The same numbers with more convolutions in `high`, all of them named, kept fp32.

        The scales of the tensors that are then no longer rounded are left out. Raises
        `BadModel` for a name that is no convolution of `graph`.
        """
        wanted = frozenset(high)
        scales = {t: self.scales[t] for t in points(graph, wanted).tensors}
        kept = tuple(c.name for c in graph.convs() if c.name in wanted)
        return QuantSpec(scales, self.bits, kept)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json`."""
        return {"bits": self.bits, "high": list(self.high), "scales": dict(self.scales)}

    @classmethod
    def from_json(cls, data: object) -> QuantSpec:
        """The spec that `to_json` gave. Raises `BadModel` for anything else."""
        try:
            if not isinstance(data, dict):
                raise TypeError(f"a {type(data).__name__} instead of a table")
            scales = {str(name): float(scale) for name, scale in data["scales"].items()}
            return cls(scales, data["bits"], tuple(str(name) for name in data["high"]))
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise BadModel(f"not a description of an int8 network ({type(e).__name__}: {e})") from e


@dataclass(frozen=True)
class Points:
    """Where a graph is quantised.

    `convs` are the quantised convolutions. `made` has the tensors that are rounded where they
    are made, `read` those that are rounded on the way into the convolutions of `convs`;
    `signed` are those of both that can be negative. `tensors` lists both in graph order.
    """

    convs: frozenset[str]
    made: frozenset[str]
    read: frozenset[str]
    signed: frozenset[str]
    tensors: tuple[str, ...]

    def lowest(self, tensor: str) -> int:
        """The smallest code of `tensor`."""
        return LOW if tensor in self.signed else 0

    def weight_codes(self, conv: Conv, bits: Bits) -> int:
        """The largest weight code of `conv`: 127, or 63 where AVX2 could saturate."""
        return WEIGHT_CODES[7 if conv.inputs[0] in self.signed else bits]


def points(graph: Graph, high: Iterable[str]) -> Points:
    """Where `graph` is quantised when the convolutions `high` (exact names) stay fp32."""
    kept = frozenset(high)
    unknown = sorted(kept - {c.name for c in graph.convs()})
    if unknown:
        raise BadModel(f"network '{graph.name}' has no convolution {unknown[:3]} to keep in fp32")
    convs = [c for c in graph.convs() if c.name not in kept]
    made = frozenset(made_by(graph, c) for c in convs)
    read = frozenset(c.inputs[0] for c in convs) - made
    positive = _not_negative(graph)
    tensors = tuple(t for t in (INPUT, *(x.name for x in graph.layers)) if t in made | read)
    return Points(frozenset(c.name for c in convs), made, read,
                  frozenset(tensors) - positive, tensors)  # fmt: skip


def high_convs(graph: Graph, names: Iterable[str]) -> tuple[str, ...]:
    """The convolutions that `names` mean, in graph order.

    A name is that of a convolution, or a place: `head` means all that read the picture, `tail`
    all whose result reaches the output without another convolution (the student's anchor is
    both). Raises `BadModel` for a name that is neither.
    """
    heads, tails = _ends(graph)
    known = {c.name: {c.name} for c in graph.convs()}
    known["head"] = known.get("head", set()) | heads
    known["tail"] = known.get("tail", set()) | tails
    chosen: set[str] = set()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean {near[0]}?" if near else ""
            raise BadModel(f"network '{graph.name}' has no convolution '{name}'.{guess}")
        chosen |= known[name]
    return tuple(c.name for c in graph.convs() if c.name in chosen)


def scale_of(absmax: float) -> float:
    """The scale whose codes reach `absmax`: absmax / 127 in float32; 1 / 127 for a dead tensor.

    An absmax that is not a positive normal number counts as dead.
    """
    top = np.float32(absmax)
    usable = np.isfinite(top) and top > 1e-30
    return float((top if usable else np.float32(1)) / np.float32(HIGH))


def fits_half(scale: float) -> bool:
    """Whether float16 holds the scale of an activation to within 1/1024: 6e-5 to 65504."""
    half = float(np.float16(scale)) if scale < 65520 else math.inf
    return half >= 2.0**-14 and abs(half - scale) <= scale / 1024


def weight_scales(weight: NDArray[np.float32], largest: int) -> NDArray[np.float32]:
    """One scale an output channel (O,) for a weight (O, I, K, K): max|w| / `largest`.

    A channel weaker than 1/1024 of the layer's strongest gets the scale of one that strong:
    it loses nothing that shows, and its bias still fits into int32.
    """
    tops = np.abs(weight.reshape(weight.shape[0], -1)).max(1).astype(np.float32)
    strongest = tops.max()
    if strongest <= 0:
        return np.full(tops.shape, np.float32(1) / np.float32(largest))
    scales: NDArray[np.float32] = np.maximum(tops, strongest * WEAKEST) / np.float32(largest)
    return scales


def weight_codes(
    weight: NDArray[np.float32], largest: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (O, I, K, K) in −`largest` to `largest`, and their scales (O,)."""
    scales = weight_scales(weight, largest)
    codes = np.rint(weight / scales[:, None, None, None])
    return np.clip(codes, -largest, largest).astype(np.int8), scales


def bias_codes(
    name: str, bias: NDArray[np.float32], scales: NDArray[np.float32]
) -> NDArray[np.int32]:
    """The bias (O,) in units of `scales` (O,), the products of input and weight scale.

    Raises `BadModel` when a value does not fit into int32.
    """
    codes = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    if bool((np.abs(codes) > _INT32).any()):
        raise BadModel(f"bias of '{name}' is too large for its int8 weights: keep '{name}' in fp32")
    return codes.astype(np.int32)


def made_by(graph: Graph, conv: Conv) -> str:
    """The tensor that `conv` makes in int8: its own, or the ReLU or clip that alone reads it."""
    readers = [x for x in graph.layers if conv.name in x.inputs]
    if len(readers) == 1 and isinstance(readers[0], Activation):
        return readers[0].name if readers[0].fn in ("relu", "clip") else conv.name
    return conv.name


def _not_negative(graph: Graph) -> frozenset[str]:
    """Tensors that cannot hold a negative number; the picture is one."""
    known = {INPUT}
    for x in graph.layers:
        if _stays_positive(x, all(i in known for i in x.inputs)):
            known.add(x.name)
    return frozenset(known)


def _stays_positive(layer: Layer, inputs: bool) -> bool:
    match layer:
        case Conv():
            return False
        case Activation():
            always = layer.fn in ("relu", "clip", "sigmoid")
            return always or (inputs and layer.fn in ("leaky_relu", "prelu", "silu", "tanh"))
        case Affine():
            return inputs and min(layer.gain) >= 0 and min(layer.shift) >= 0
        case Add() | Multiply() | Concat() | PixelShuffle() | Nearest():
            return inputs


def _ends(graph: Graph) -> tuple[set[str], set[str]]:
    """Convolutions that read the picture, and those that reach the output, with none between."""
    before, heads = {INPUT}, set()
    for x in graph.layers:
        if any(i in before for i in x.inputs):
            if isinstance(x, Conv):
                heads.add(x.name)
            else:
                before.add(x.name)
    after, tails = {graph.output}, set()
    for x in reversed(graph.layers):
        if x.name in after:
            if isinstance(x, Conv):
                tails.add(x.name)
            else:
                after.update(x.inputs)
    return heads, tails
