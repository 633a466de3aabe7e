"""How much the loss depends on each filter: the gradients that Taylor pruning ranks by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgesr.graph.spec import Graph, Weights
from edgesr.training.data import Batch, Batches, Pack
from edgesr.training.losses import distance
from edgesr.training.net import GraphNet

BATCHES = 24


class Steps(Protocol):
    """Batches by step, as `edgesr.training.data.Batches` gives them."""

    def __getitem__(self, step: int) -> Batch:
        """The batch of that step."""


def sensitivity(
    graph: Graph, weights: Weights, pack: Pack, *, patch: int, batch: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """`filter_sensitivity` for the L1 loss over 24 batches of `pack`, of at most 8 crops each."""
    size = min(batch, 8)
    crops = Batches(pack, patch=patch, batch=size, seed=seed, teacher=False)
    return filter_sensitivity(graph, weights, crops, lambda a, b: distance("l1", a, b), BATCHES)


def filter_sensitivity(
    graph: Graph,
    weights: Weights,
    batches: Steps,
    loss: Callable[[Tensor, Tensor], Tensor],
    n: int,
) -> dict[str, NDArray[np.float64]]:
    """Σ w·∂L/∂w over each filter and its bias, per convolution: float64 (n, O), one row a batch.

    `loss` takes the output and the photograph, both NCHW float32 in [0, 1], and gives a scalar.
    Steps 0 … n − 1 of `batches` are used. To first order, a filter's number is minus what the
    loss would change by if the filter and its bias were zero (Molchanov et al., CVPR 2019); the
    bias is in it because it goes with the filter.
    """
    with torch.random.fork_rng(devices=[]):  # a net draws first weights; the run's state stays
        net = GraphNet(graph)
    net.load_weights(weights)
    parameters = dict(net.named_parameters())
    found: dict[str, list[Tensor]] = {conv.name: [] for conv in graph.convs()}
    for step in range(n):
        batch = batches[step]
        net.zero_grad()
        loss(net(batch.lr), batch.hr).backward()  # type: ignore[no-untyped-call]
        for conv in graph.convs():
            row = torch.zeros(conv.out, dtype=torch.float64)
            for kind in ("weight", "bias"):
                value = parameters.get(f"layers.{conv.name}.{kind}")
                if value is not None and value.grad is not None:
                    change = (value.detach() * value.grad).double()
                    row += change.reshape(conv.out, -1).sum(1)
            found[conv.name].append(row)
    return {name: torch.stack(rows).numpy() for name, rows in found.items()}
