"""How an untrained student begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Graph, Weights
from edgesr.models.student import ANCHOR
from edgesr.training.net import GraphNet
from edgesr.training.qat import FakeQuant
from edgesr.training.rep import RepConv


@dataclass(frozen=True)
class Trained:
    """What one leg hands to the next: a network, and what the next must respect.

    `keeps_zeros`: weights that are zero were pruned and stay so. `quant`: the activation
    scales that it was trained with.
    """

    graph: Graph
    weights: Weights
    keeps_zeros: bool = False
    quant: QuantSpec | None = None


def fresh_student(graph: Graph, *, rep: bool, seed: int) -> GraphNet:
    """A student whose output is near nearest-neighbour upsampling, from a fixed seed.

    The identity branches carry the signal at first, so the other branches start small: a
    stack of them neither fades nor explodes without batch normalisation (Fixup's idea,
    Zhang et al., ICLR 2019). Without branches the usual He initialisation is used.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = GraphNet(graph, rep=rep)
        with torch.no_grad():
            for name, module in net.layers.items():
                if isinstance(module, RepConv):
                    module.plain.weight.mul_(0.3 if module.identity is not None else 0.1)
                elif isinstance(module, torch.nn.Conv2d) and name != ANCHOR:
                    torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                    module.bias.zero_()
            if ANCHOR in net.layers:
                anchor = net.layers[ANCHOR]
                assert isinstance(anchor, torch.nn.Conv2d)
                # PixelShuffle takes s² channels a colour: each repeats that colour.
                copies = graph.scale**2
                rows = torch.eye(3).repeat_interleave(copies, 0)
                anchor.weight.copy_(rows[:, :, None, None])
            if not rep and "tail" in net.layers:
                tail = net.layers["tail"]
                assert isinstance(tail, torch.nn.Conv2d)
                tail.weight.mul_(0.1)
    return net


def continued_student(trained: Trained, *, rep: bool, seed: int) -> GraphNet:
    """A network that starts as exactly `trained`, with fresh branches where `rep`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = GraphNet(trained.graph, rep=rep)
    net.load_weights(trained.weights)
    if trained.keeps_zeros:
        net.keep_zeros(trained.weights)
    if trained.quant is not None:
        net.attach(FakeQuant(trained.graph, trained.quant))
    return net
