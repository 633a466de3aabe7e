"""Fake quantisation: training sees the rounding of the int8 files, bit for bit.

The forward pass rounds weights and activations with the numbers of `edgesr.graph.quant`. The
gradient passes straight through the rounding, and not through what was clipped (Bengio et al.,
2013). Activation scales are learned with the gradient of LSQ (Esser et al., "Learned Step Size
Quantization", ICLR 2020, equations 3 and 5). What the optimizer moves is the logarithm of a
scale, as in TQT (Jain et al., MLSys 2020): one learning rate then fits scales of any size, and
none turns negative. A weight scale is max|w| / 127 of its channel at every step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from edgesr.graph.quant import HIGH, WEAKEST, QuantSpec
from edgesr.graph.spec import Activation, Graph

# Adam moves the logarithm of a scale by up to this times the learning rate a step: 3 % at 1e-3.
GAIN = 30.0


class FakeQuant(nn.Module):
    """The rounding of an int8 network, to be called from its torch form.

    For each convolution that is not in `high`: `x = activation(its input's name, x)` and
    `w = weight(its name, folded kernel)`; after each layer of any kind
    `y = output(its name, y)`. `quant` has the calibrated scales; the one parameter, `shift`,
    times `GAIN` is for each tensor the logarithm of its scale over the calibrated one. Tensors
    of half precision cannot carry the codes and come back as float32. Raises `BadModel` when
    `quant` does not fit `graph`.
    """

    def __init__(self, graph: Graph, quant: QuantSpec) -> None:
        super().__init__()
        self.points = quant.check(graph)
        self.bits, self.high = quant.bits, quant.high
        self._index = {name: i for i, name in enumerate(self.points.tensors)}
        self._largest = {
            c.name: self.points.weight_codes(c, quant.bits)
            for c in graph.convs()
            if c.name in self.points.convs
        }
        bounds = {x.name: x.high for x in graph.layers if isinstance(x, Activation) and x.high}
        base = [quant.scales[name] for name in self.points.tensors]
        limit = [bounds.get(name, math.inf) / HIGH for name in self.points.tensors]
        self.register_buffer("base", torch.tensor(base, dtype=torch.float32))
        self.register_buffer("limit", torch.tensor(limit, dtype=torch.float32), persistent=False)
        self.shift = nn.Parameter(torch.zeros(len(base), dtype=torch.float32))

    def activation(self, tensor: str, x: Tensor) -> Tensor:
        """The tensor `x` as a quantised convolution reads it."""
        return self._round(tensor, x) if tensor in self.points.read else x

    def weight(self, conv: str, w: Tensor) -> Tensor:
        """The kernel (O, I, K, K) of `conv`, rounded channel by channel; as it is when high."""
        if conv not in self._largest:
            return w
        rounded: Tensor = _Weight.apply(w, self._largest[conv])  # type: ignore[no-untyped-call]
        return rounded

    def output(self, layer: str, y: Tensor) -> Tensor:
        """What `layer` made, rounded where the int8 files round it for all its readers."""
        return self._round(layer, y) if layer in self.points.made else y

    def scales(self) -> Tensor:
        """The scales as they are now, float32, in the order of `points.tensors`.

        A clipped activation's stays at its bound / 127 or below, so that no code is idle; the
        gradient passes, so that it can come back.
        """
        free = self.get_buffer("base") * torch.exp(GAIN * self.shift)
        return free - (free - self.get_buffer("limit")).clamp(min=0).detach()

    def spec(self) -> QuantSpec:
        """The numbers for the exporter, as they are now."""
        now = self.scales().detach().cpu().tolist()
        return QuantSpec(dict(zip(self.points.tensors, now, strict=True)), self.bits, self.high)

    def _round(self, tensor: str, x: Tensor) -> Tensor:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        scale, lowest = self.scales()[self._index[tensor]], self.points.lowest(tensor)
        rounded: Tensor = _Activation.apply(wide, scale, lowest)  # type: ignore[no-untyped-call]
        return rounded


class _Activation(torch.autograd.Function):
    """clip(round(x / s), lowest, 127) · s, with the gradients for x and s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, lowest: int) -> Tensor:
        scaled = x / scale
        ctx.save_for_backward(scaled)
        ctx.lowest = lowest
        return scaled.round().clamp_(lowest, HIGH).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (scaled,) = ctx.saved_tensors
        kept = scaled.clamp(ctx.lowest, HIGH)
        inside = kept == scaled
        slope = torch.where(inside, scaled.round() - scaled, kept)
        # The factor of section 2.2 keeps the scale's gradient in proportion to the weights'.
        factor = 1.0 / math.sqrt(scaled.numel() * HIGH)
        return grad * inside, ((grad * slope).sum() * factor).float(), None


class _Weight(torch.autograd.Function):
    """A kernel rounded as `edgesr.graph.quant.weight_codes` does; the gradient is unchanged."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, largest: int) -> Tensor:
        # A tensor, since CUDA multiplies by the reciprocal of a Python number.
        last = torch.full((), largest, dtype=w.dtype, device=w.device)
        tops = w.abs().amax((1, 2, 3), keepdim=True)
        strongest = tops.max()
        tops = torch.where(strongest > 0, torch.maximum(tops, strongest * float(WEAKEST)), 1.0)
        scales = tops / last
        return (w / scales).round().clamp(-largest, largest) * scales

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
