"""Pruned weights stay exactly zero through training, with and without branches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import random_weights

from edgesr.graph.spec import Weights
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.pruning.magnitude import prune_magnitude
from edgesr.pruning.two_four import eligible, prune_two_four
from edgesr.sparsity import coded_bytes, violations
from edgesr.training.data import Batch
from edgesr.training.legs import Leg
from edgesr.training.net import GraphNet
from edgesr.training.recipe import Stage
from edgesr.training.start import Trained, continued_student
from edgesr.training.trainer import Trainer, TrainSpec

GRAPH = student(16, 3, act="leaky_relu")  # a ReLU that is never on learns nothing
PRUNED = prune_magnitude(random_weights(GRAPH), GRAPH, 0.5)


class Noise:
    """Random crops of 8×8, a function of the step."""

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng(step)
        lr, hr = (rng.random((2, 3, side, side), np.float32) for side in (8, 32))
        return Batch(torch.from_numpy(lr), torch.from_numpy(hr), None)


def trained(net: GraphNet, steps: int, optimizer: str = "adam") -> Trainer:
    leg = Leg("0-prune-1of1", Stage("finetune", steps, lr=1e-2, warmup=0), steps)
    spec = TrainSpec(ema=0.9, clip=1.0, seed=0, checkpoint_every=1000, optimizer=optimizer)
    trainer = Trainer(net, None, Noise(), leg, spec)
    trainer.run(lambda event: None, lambda: None)
    return trainer


def zeros(weights: Weights) -> dict[str, np.ndarray]:
    return {k: w == 0 for k, w in weights.items() if w.ndim == 4}


def assert_same_zeros(weights: Weights, pruned: Weights) -> None:
    for name, expected in zeros(pruned).items():
        np.testing.assert_array_equal(weights[name] == 0, expected, err_msg=name)
        assert not np.signbit(weights[name][expected]).any(), name


@pytest.mark.parametrize("rep", [False, True])
def test_a_masked_network_is_the_dense_one_with_those_weights_zeroed(rep: bool) -> None:
    net = continued_student(Trained(GRAPH, PRUNED, keeps_zeros=True), rep=rep, seed=3)
    assert_same_zeros(net.weights(), PRUNED)
    plain = GraphNet(GRAPH)
    plain.load_weights(PRUNED)
    x = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (net(x) - plain(x)).abs().max() <= 1e-5


@pytest.mark.parametrize("optimizer", ["adam", "muon", "sgd"])
@pytest.mark.parametrize("rep", [False, True])
def test_training_keeps_zeros_at_exactly_their_places(rep: bool, optimizer: str) -> None:
    net = continued_student(Trained(GRAPH, PRUNED, keeps_zeros=True), rep=rep, seed=3)
    trainer = trained(net, 12, optimizer)
    for made in (trainer.net, trainer.ema):
        weights = made.weights()
        assert_same_zeros(weights, PRUNED)
        for name, dead in zeros(PRUNED).items():
            moved = weights[name][~dead] != PRUNED[name][~dead]
            assert moved.mean() > 0.99, name  # what lives has learnt
    # What was pruned costs one bit a weight, not a float: no value came back.
    assert coded_bytes(trainer.ema.weights()) == coded_bytes(PRUNED)


def test_the_gradient_is_zero_where_a_weight_is_masked_and_only_there() -> None:
    net = continued_student(Trained(GRAPH, PRUNED, keeps_zeros=True), rep=False, seed=0)
    batch = Noise()[0]
    torch.autograd.backward((net(batch.lr) - batch.hr).square().mean())
    for name, dead in zeros(PRUNED).items():
        gradient = net.get_parameter(f"layers.{name}").grad
        assert gradient is not None
        assert (gradient.numpy()[dead] == 0).all()
        assert (gradient.numpy()[~dead] != 0).mean() > 0.9


def test_without_a_mask_zeros_come_back() -> None:
    net = continued_student(Trained(GRAPH, PRUNED), rep=False, seed=0)
    weights = trained(net, 3).net.weights()
    assert (weights["tail.weight"] == 0).mean() < 0.01 < (PRUNED["tail.weight"] == 0).mean()


@pytest.mark.parametrize("rep", [False, True])
def test_two_of_four_holds_after_training_in_the_whole_generator(rep: bool) -> None:
    graph = srresnet(blocks=1, width=8, tail_kernel=3)
    pruned = prune_two_four(graph, random_weights(graph), seed=0).weights
    net = continued_student(Trained(graph, pruned, keeps_zeros=True), rep=rep, seed=0)
    weights = trained(net, 4).ema.weights()
    assert_same_zeros(weights, pruned)
    names = eligible(graph)
    assert {"b0_conv1", "body", "up0", "up1", "tail"} <= set(names)
    assert all(violations(weights[f"{name}.weight"]) == 0 for name in names)


@pytest.mark.parametrize("rep", [False, True])
def test_masks_travel_in_the_state(rep: bool) -> None:
    net = continued_student(Trained(GRAPH, PRUNED, keeps_zeros=True), rep=rep, seed=3)
    other = prune_magnitude(random_weights(GRAPH, seed=9), GRAPH, 0.9)
    again = continued_student(Trained(GRAPH, other, keeps_zeros=True), rep=rep, seed=0)
    again.load_state_dict(net.state_dict())
    got, expected = again.weights(), net.weights()
    assert all(np.array_equal(got[name], expected[name]) for name in expected)
    assert_same_zeros(trained(again, 3).net.weights(), PRUNED)
