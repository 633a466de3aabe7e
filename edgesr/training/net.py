"""The torch form of a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
from edgesr.training.precision import exact, pictures
from edgesr.training.qat import FakeQuant
from edgesr.training.rep import RepConv


class GraphNet(nn.Module):
    """Runs a graph layer by layer; parameters carry the names of the graph's weights.

    `rep=True` gives the 3×3 convolutions their training-only branches; `weights()` folds
    them. `keep_zeros` freezes the zeros of pruned weights, `attach` adds fake quantisation.
    NCHW float32 RGB in [0, 1] in, the same `scale` times larger out, not clipped.
    """

    def __init__(self, graph: Graph, *, rep: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        self.quant: FakeQuant | None = None
        self.masked = False
        self._pictures = pictures(graph)
        for layer in graph.layers:
            cin = graph.channels[layer.inputs[0]]
            if isinstance(layer, Conv):
                conv = RepConv if rep and layer.kernel == 3 and cin > 3 else nn.Conv2d
                self.layers[layer.name] = conv(
                    cin, layer.out, layer.kernel, padding=layer.kernel // 2, bias=layer.bias
                )
            elif isinstance(layer, Activation) and layer.fn == "prelu":
                self.layers[layer.name] = nn.PReLU(1 if layer.shared else cin)
            elif isinstance(layer, Affine):
                for what, values in (("gain", layer.gain), ("shift", layer.shift)):
                    constant = torch.tensor(values).view(1, -1, 1, 1)
                    self.register_buffer(f"{layer.name}_{what}", constant, persistent=False)

    def keep_zeros(self, weights: Mapping[str, np.ndarray]) -> None:
        """From now on, what is zero in these convolution weights (by the graph's names) is zero.

        It is asked of them and not of this network, since branches fold back to their sum only
        within rounding.
        """
        self.masked = True
        for conv in self.graph.convs():
            mask = torch.from_numpy((weights[f"{conv.name}.weight"] != 0).astype(np.uint8))
            self.register_buffer(f"{conv.name}_mask", mask)

    def attach(self, quant: FakeQuant) -> None:
        """Quantise as `quant` says, in every forward pass from now on."""
        self.quant = quant

    def _folded(self, name: str) -> tuple[Tensor, Tensor | None]:
        module = self.layers[name]
        if isinstance(module, RepConv):
            return module.folded()
        assert isinstance(module, nn.Conv2d)
        return module.weight, module.bias

    def kernel(self, name: str) -> tuple[Tensor, Tensor | None]:
        """The (O, I, K, K) weight of a convolution, branches folded, zeros kept; and its bias."""
        weight, bias = self._folded(name)
        if self.masked:
            weight = weight * self.get_buffer(f"{name}_mask")
        return weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """The network's output."""
        return self.run(x)[0]

    def run(self, x: Tensor, keep: Collection[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """The output and, by name, the tensors in `keep` (for feature distillation)."""
        uses = {INPUT: 0}
        for layer in self.graph.layers:
            for i in layer.inputs:
                uses[i] = uses.get(i, 0) + 1
        values, kept = {INPUT: x}, {}
        for layer in self.graph.layers:
            made = self._at_precision(layer, [values[i] for i in layer.inputs])
            values[layer.name] = made if self.quant is None else self.quant.output(layer.name, made)
            if layer.name in keep:
                kept[layer.name] = values[layer.name]
            for i in layer.inputs:
                uses[i] -= 1
                if uses[i] == 0:
                    del values[i]
        return values[self.graph.output], kept

    def _at_precision(self, layer: Layer, x: list[Tensor]) -> Tensor:
        if layer.name not in self._pictures or not torch.is_autocast_enabled(x[0].device.type):
            return self._compute(layer, x)
        with exact(x[0].device.type):
            return self._compute(layer, [t.float() for t in x])

    def _compute(self, layer: Layer, x: list[Tensor]) -> Tensor:
        match layer:
            case Conv():
                return self._convolve(layer, x[0])
            case Activation():
                return self._activate(layer, x[0])
            case Add():
                return x[0] + x[1]
            case Multiply():
                return x[0] * x[1]
            case Concat():
                return torch.cat(x, 1)
            case PixelShuffle():
                return F.pixel_shuffle(x[0], layer.factor)
            case Nearest():
                return F.interpolate(x[0], scale_factor=layer.factor, mode="nearest")
            case Affine():
                gain = self.get_buffer(f"{layer.name}_gain")
                return x[0] * gain + self.get_buffer(f"{layer.name}_shift")

    def _convolve(self, layer: Conv, x: Tensor) -> Tensor:
        weight, bias = self.kernel(layer.name)
        if self.quant is not None and layer.name not in self.quant.high:
            x = self.quant.activation(layer.inputs[0], x)
            weight = self.quant.weight(layer.name, weight)
        return F.conv2d(x, weight, bias, padding=layer.kernel // 2)

    def _activate(self, layer: Activation, x: Tensor) -> Tensor:
        match layer.fn:
            case "relu":
                return F.relu(x)
            case "leaky_relu":
                return F.leaky_relu(x, layer.slope)
            case "prelu":
                y: Tensor = self.layers[layer.name](x)
                return y
            case "clip":
                return x.clamp(0.0, layer.high)
            case "silu":
                return F.silu(x)
            case "sigmoid":
                return torch.sigmoid(x)
            case "tanh":
                return torch.tanh(x)

    def weights(self) -> Weights:
        """Folded weights under the graph's names, float32 numpy copies."""
        out: Weights = {}
        with torch.no_grad():
            for name, module in self.layers.items():
                if isinstance(module, nn.PReLU):
                    out[f"{name}.slope"] = module.weight.detach().cpu().numpy().copy()
                    continue
                w, b = self.kernel(name)
                # Adding 0 makes -0 of a masked weight the 0 that a sparse coding leaves out.
                out[f"{name}.weight"] = np.array(w.cpu().numpy() + 0.0, np.float32, order="C")
                if b is not None:
                    out[f"{name}.bias"] = b.detach().cpu().numpy().copy()
        return out

    def load_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take over weights by the graph's names; a rep form starts as exactly these."""
        self.graph.check_weights(weights)
        with torch.no_grad():
            for name, module in self.layers.items():
                if isinstance(module, nn.PReLU):
                    module.weight.copy_(torch.from_numpy(weights[f"{name}.slope"].copy()))
                    continue
                w = torch.from_numpy(weights[f"{name}.weight"].copy())
                b = weights.get(f"{name}.bias")
                bias = None if b is None else torch.from_numpy(b.copy())
                if isinstance(module, RepConv):
                    module.unfold(w, bias)
                else:
                    assert isinstance(module, nn.Conv2d)
                    module.weight.copy_(w)
                    if bias is not None and module.bias is not None:
                        module.bias.copy_(bias)
