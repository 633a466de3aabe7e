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
from edgesr.training.rep import RepConv


class GraphNet(nn.Module):
    """Runs a graph layer by layer; parameters carry the names of the graph's weights.

    `rep=True` gives the 3×3 convolutions their training-only branches; `weights()` folds
    them. NCHW float32 RGB in [0, 1] in, the same `scale` times larger out, not clipped.
    """

    def __init__(self, graph: Graph, *, rep: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
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
            values[layer.name] = self._compute(layer, [values[i] for i in layer.inputs])
            if layer.name in keep:
                kept[layer.name] = values[layer.name]
            for i in layer.inputs:
                uses[i] -= 1
                if uses[i] == 0:
                    del values[i]
        return values[self.graph.output], kept

    def _compute(self, layer: Layer, x: list[Tensor]) -> Tensor:
        match layer:
            case Conv():
                y: Tensor = self.layers[layer.name](x[0])
                return y
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
                if isinstance(module, RepConv):
                    w, b = module.folded()
                elif isinstance(module, nn.PReLU):
                    out[f"{name}.slope"] = module.weight.detach().cpu().numpy().copy()
                    continue
                else:
                    assert isinstance(module, nn.Conv2d)
                    w, b = module.weight, module.bias
                out[f"{name}.weight"] = np.ascontiguousarray(w.detach().cpu().numpy())
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
