"""Grown networks compute what they computed before: deeper students, students inside SRGAN."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import random_weights

from edgesr.errors import BadConfig
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import Graph, Weights
from edgesr.models.find import load_network
from edgesr.models.grow import embed, enlarge
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.net import GraphNet


def run(graph: Graph, weights: Weights, picture: np.ndarray) -> np.ndarray:
    return OrtRuntime(to_onnx(graph, weights)).run(picture)


@pytest.mark.parametrize(("depth", "blocks", "width"), [(1, 1, 16), (3, 5, 24), (2, 2, 17)])
def test_the_generator_computes_what_the_student_computes(
    depth: int, blocks: int, width: int
) -> None:
    plain, generator = student(8, depth), srresnet(blocks, width)
    weights = random_weights(plain)
    picture = np.random.default_rng(1).random((1, 3, 11, 9), np.float32)
    made = run(generator, embed(plain, weights, generator), picture)
    expected = run(plain, weights, picture)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(made, expected, rtol=0, atol=2e-5 * float(np.abs(expected).max()))


def test_the_bundled_student_fits_the_papers_generator() -> None:
    balanced, generator = load_network("balanced"), srresnet(16, 64)
    picture = np.random.default_rng(2).random((1, 3, 24, 20), np.float32)
    made = run(generator, embed(balanced.graph, balanced.weights, generator), picture)
    expected = run(balanced.graph, balanced.weights, picture)
    assert float(np.abs(made - expected).max()) < 1e-4


def test_channels_left_over_look_at_the_picture_and_are_not_read() -> None:
    plain, generator = student(8, 1), srresnet(1, 32)
    weights = embed(plain, random_weights(plain), generator, seed=3)
    spare = slice(8 + 3, None)
    assert np.all(np.abs(weights["head.weight"][spare]).reshape(32 - 11, -1).max(1) > 0)
    for name, used in (("b0_conv1", 16), ("body", None), ("up0", 48)):
        assert not weights[f"{name}.weight"][:used, spare].any()


def test_all_that_is_left_over_can_learn() -> None:
    # A zero weight that reads zeros, and is read by zeros, would never get a gradient.
    plain, generator = student(4, 1), srresnet(3, 16)
    net = GraphNet(generator)
    net.load_weights(embed(plain, random_weights(plain), generator))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    _learn(net)
    still = {
        name: float((p == before[name]).float().mean())
        for name, p in net.named_parameters()
        if bool((p == before[name]).any())
    }
    assert not still


def _learn(net: GraphNet) -> None:
    """Eight steps of Adam."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(8):
        optimizer.zero_grad()
        rng = torch.Generator().manual_seed(step)
        picture, wanted = (torch.rand(1, 3, n, n, generator=rng) for n in (8, 32))
        (net(picture) - wanted).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("plain", "generator", "says"),
    [
        (student(8, 3), srresnet(2, 16), "3 blocks of 16"),
        (student(8, 1), srresnet(1, 12), "1 blocks of 16"),
        (student(4, 1), srresnet(1, 8), "1 blocks of 12"),
        (student(8, 1, act="clip"), srresnet(1, 16), "only a plain ReLU student"),
        (srresnet(1, 16), srresnet(1, 16), "only a plain ReLU student"),
        (student(8, 1, scale=2), srresnet(1, 16), "scale 4"),
    ],
)
def test_what_does_not_fit_is_refused(plain: Graph, generator: Graph, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        embed(plain, random_weights(plain), generator)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 4), (3, 5), (4, 7), (14, 16)])
def test_a_deeper_student_computes_the_same(before: int, after: int) -> None:
    plain = student(8, before)
    weights = random_weights(plain)
    graph, made = enlarge(plain, weights, 8, after, name="deeper")
    assert graph.layers == student(8, after).layers
    kept = [k for k in made if k.startswith("body") and k.endswith("weight")]
    identity = np.zeros((8, 8, 3, 3), np.float32)
    identity[np.arange(8), np.arange(8), 1, 1] = 1
    assert sum(np.array_equal(made[k], identity) for k in kept) == after - before
    picture = np.random.default_rng(1).random((1, 3, 11, 9), np.float32)
    np.testing.assert_allclose(run(graph, made, picture), run(plain, weights, picture), atol=1e-6)


def test_a_student_does_not_grow_backwards() -> None:
    plain = student(8, 3)
    for width, depth in ((8, 2), (7, 3)):
        with pytest.raises(BadConfig, match="3 body convolutions of 8 channels"):
            enlarge(plain, random_weights(plain), width, depth, name="smaller")


@pytest.mark.parametrize(("width", "depth"), [(9, 3), (24, 3), (16, 5)])
def test_a_wider_student_computes_the_same(width: int, depth: int) -> None:
    plain = student(8, 3)
    weights = random_weights(plain)
    graph, made = enlarge(plain, weights, width, depth, name="wider")
    assert graph.layers == student(width, depth).layers
    picture = np.random.default_rng(1).random((1, 3, 11, 9), np.float32)
    expected = run(plain, weights, picture)
    close = 1e-5 * float(np.abs(expected).max())
    np.testing.assert_allclose(run(graph, made, picture), expected, rtol=0, atol=close)


def test_new_channels_come_to_be_read() -> None:
    plain = student(8, 2)
    graph, weights = enlarge(plain, random_weights(plain), 24, 3, name="wider")
    net = GraphNet(graph)
    net.load_weights(weights)
    _learn(net)
    learned = net.weights()
    for name in ("body0", "body1", "body2", "tail"):
        unread = (slice(None if name == "tail" else 8), slice(8, None))
        assert not weights[f"{name}.weight"][unread].any()
        assert learned[f"{name}.weight"][unread].any()
