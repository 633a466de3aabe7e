"""Filter sensitivities against finite differences and against a network taken apart."""

from __future__ import annotations

import numpy as np
import torch
from networks import random_weights
from torch import Tensor

from edgesr.graph.groups import prune_groups
from edgesr.graph.spec import Graph, Weights
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.pruning.importance import unit_importance
from edgesr.training.data import Batch
from edgesr.training.net import GraphNet
from edgesr.training.taylor import filter_sensitivity


class Fixed:
    """Seeded noise by step."""

    def __getitem__(self, step: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        return Batch(
            torch.rand(2, 3, 6, 7, generator=rng), torch.rand(2, 3, 24, 28, generator=rng), None
        )


def squared(output: Tensor, photograph: Tensor) -> Tensor:
    return (output - photograph).square().mean()


def loss_at(graph: Graph, weights: Weights, step: int) -> float:
    net = GraphNet(graph).double()
    net.load_weights(weights)
    batch = Fixed()[step]
    with torch.no_grad():
        return float(squared(net(batch.lr.double()), batch.hr.double()))


def test_it_is_the_change_of_the_loss_when_a_filter_shrinks() -> None:
    graph = student(8, 1)
    weights = random_weights(graph, 1)
    rows = filter_sensitivity(graph, weights, Fixed(), squared, 2)
    assert {name: r.shape for name, r in rows.items()} == {
        c.name: (2, c.out) for c in graph.convs()
    }
    step = 2.0**-10
    for name, index, batch in (("head", 3, 0), ("body0", 5, 1), ("tail", 17, 0)):
        scaled = []
        for factor in (1 + step, 1 - step):
            moved = {n: w.copy() for n, w in weights.items()}
            for kind in ("weight", "bias"):  # the bias goes with its filter
                moved[f"{name}.{kind}"][index] *= np.float32(factor)
            scaled.append(loss_at(graph, moved, batch))
        slope = (scaled[0] - scaled[1]) / (2 * step)
        np.testing.assert_allclose(rows[name][batch, index], slope, rtol=2e-3, atol=1e-7)


def test_a_filter_that_nothing_reads_does_not_matter() -> None:
    graph = srresnet(blocks=1, width=4)
    weights = random_weights(graph, 3)
    weights["b0_conv2.weight"][:, 2] = 0  # the only reader of b0_conv1
    rows = filter_sensitivity(graph, weights, Fixed(), squared, 2)
    assert not rows["b0_conv1"][:, 2].any()
    group = next(g for g in prune_groups(graph) if g.producers == (("b0_conv1", 1),))
    scores = unit_importance(group, weights, "taylor", rows)
    assert scores[2] == 0 and np.all(scores[[0, 1, 3]] > 0)


def test_a_step_of_a_run_is_left_as_it_was() -> None:
    graph = student(8, 1)
    weights = random_weights(graph, 1)
    before = {n: w.copy() for n, w in weights.items()}
    state = torch.get_rng_state()
    filter_sensitivity(graph, weights, Fixed(), squared, 1)
    assert all(np.array_equal(before[n], w) for n, w in weights.items())
    assert torch.equal(state, torch.get_rng_state())
