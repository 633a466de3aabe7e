"""2:4: the pattern, the search for a better channel order, and what it must not change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights, small_networks

from edgesr.graph.groups import Orders, inverse, order_groups, permute_units
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import INPUT, Affine, Conv, Graph, Weights
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.pruning.two_four import (
    eligible,
    prune_two_four,
    search_orders,
    two_four_mask,
    violations,
)
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.net import GraphNet

NETWORKS = small_networks()


def output(graph: Graph, weights: Weights, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).random((1, 3, 9, 10), dtype=np.float32)
    return OrtRuntime(to_onnx(graph, weights)).run(x)


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(a).max())


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 10_000))
def test_any_order_of_units_computes_the_same(name: str, seed: int) -> None:
    graph, rng = NETWORKS[name], np.random.default_rng(seed)
    weights = random_weights(graph, seed)
    orders: Orders = tuple(
        tuple(int(i) for i in rng.permutation(g.width)) for g in order_groups(graph)
    )
    moved = permute_units(graph, weights, orders)
    graph.check_weights(moved)
    assert any(not np.array_equal(moved[n], weights[n]) for n in weights)
    assert_close(output(graph, weights, seed), output(graph, moved, seed))
    back = permute_units(graph, moved, inverse(orders))
    assert {n: w.tobytes() for n, w in back.items()} == {n: w.tobytes() for n, w in weights.items()}


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 10_000),
    search=st.booleans(),
)
def test_pruned_equals_dense_with_those_weights_zeroed(name: str, seed: int, search: bool) -> None:
    graph = NETWORKS[name]
    weights = random_weights(graph, seed)
    pruned = prune_two_four(graph, weights, seed=seed, search=search)
    for conv in pruned.eligible:
        w = pruned.weights[f"{conv}.weight"]
        assert violations(w) == 0
        assert np.count_nonzero(w) == w.size // 2
    for conv in pruned.dense:
        assert np.all(pruned.weights[f"{conv}.weight"])
    # In the old order: the dense weights, some of them zero, none of them changed.
    back = permute_units(graph, pruned.weights, inverse(pruned.orders))
    zeroed = {n: np.where(back[n] == 0, np.float32(0), w) for n, w in weights.items()}
    for key, value in zeroed.items():
        np.testing.assert_array_equal(back[key], value)
    net = GraphNet(graph)
    net.load_weights(zeroed)
    x = np.random.default_rng(seed).random((1, 3, 9, 10), dtype=np.float32)
    with torch.no_grad():
        dense = net(torch.from_numpy(x)).numpy()
    assert_close(dense, output(graph, pruned.weights, seed))


def test_two_largest_of_four_stay_for_each_filter_and_place() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 8, 3, 3)).astype(np.float32)
    mask = two_four_mask(weight)
    for o, four, y, x in np.ndindex(3, 2, 3, 3):
        values = np.abs(weight[o, 4 * four : 4 * four + 4, y, x])
        largest = set(np.argsort(values)[2:])
        assert set(np.flatnonzero(mask[o, 4 * four : 4 * four + 4, y, x])) == largest
    ties = np.ones((1, 4, 1, 1), np.float32)
    assert two_four_mask(ties).ravel().tolist() == [True, True, False, False]


def test_violations_are_counted_by_fours() -> None:
    weight = np.zeros((2, 8, 1, 1), np.float32)
    weight[0, :2] = 1
    assert violations(weight) == 0
    weight[0, 3] = 1
    weight[1, 4:8] = 1
    assert violations(weight) == 2


def test_layers_that_read_the_picture_stay_dense() -> None:
    graph = student(16, 2)
    assert eligible(graph) == ("body0", "body1", "tail")
    pruned = prune_two_four(graph, random_weights(graph), seed=0)
    assert pruned.dense == ("head", "anchor")
    assert eligible(student(18, 1)) == ()


def shares(pruned_weights: Weights, names: tuple[str, ...], weights: Weights) -> float:
    kept = sum(float(np.abs(pruned_weights[f"{n}.weight"]).sum()) for n in names)
    return kept / sum(float(np.abs(weights[f"{n}.weight"]).sum()) for n in names)


@pytest.mark.parametrize(
    "graph", [student(16, 4), srresnet(blocks=2, width=16), span(width=16)], ids=lambda g: g.name
)
def test_the_search_keeps_more_and_says_how_much(graph: Graph) -> None:
    weights = random_weights(graph, 1)
    plain = prune_two_four(graph, weights, seed=3, search=False)
    found = prune_two_four(graph, weights, seed=3)
    assert plain.kept_share_before == plain.kept_share_after == found.kept_share_before
    assert found.kept_share_after > found.kept_share_before + 0.003
    for pruned, share in ((plain, plain.kept_share_after), (found, found.kept_share_after)):
        assert shares(pruned.weights, pruned.eligible, weights) == pytest.approx(share, abs=1e-6)
    assert prune_two_four(graph, weights, seed=3).orders == found.orders


def test_the_search_finds_the_best_split_of_eight() -> None:
    """Against all orders of eight channels that differ in what shares a four."""
    graph = Graph("one", (Conv("a", (INPUT,), 8, 1), Conv("b", ("a",), 3, 3)))
    weights = random_weights(graph, 7)
    found = prune_two_four(graph, weights, seed=0)
    magnitude = np.abs(weights["b.weight"])
    best = 0.0
    for first in itertools.combinations(range(8), 4):
        order = [*first, *(i for i in range(8) if i not in first)]
        moved = magnitude[:, order]
        best = max(best, float(moved[two_four_mask(moved)].sum()))
    assert found.kept_share_after == pytest.approx(best / magnitude.sum(), rel=1e-6)


def test_a_hidden_good_order_is_found() -> None:
    """Channels whose weights never meet, laid out so that the plain order loses half of them."""
    graph = Graph("one", (Conv("a", (INPUT,), 16, 1), Conv("b", ("a",), 8, 1)))
    weights = random_weights(graph, 3)
    b = np.zeros((8, 16, 1, 1), np.float32)
    for o in range(8):
        b[o, 4 * (o % 4) : 4 * (o % 4) + 4] = 1 + 0.1 * o  # four neighbours at once
    weights["b.weight"] = b
    found = prune_two_four(graph, weights, seed=0)
    assert found.kept_share_before == pytest.approx(0.5)
    assert found.kept_share_after == 1.0


def test_a_group_whose_fours_reach_into_another_keeps_its_order() -> None:
    graph = srresnet(blocks=1, width=6)
    orders = search_orders(graph, random_weights(graph), seed=0)
    assert all(order == tuple(range(len(order))) for order in orders)


def test_units_with_constants_of_their_own_keep_their_place() -> None:
    graph = Graph("own", (
        Conv("a", (INPUT,), 4, 1),
        Affine("scaled", ("a",), gain=(1.0, 2.0, 3.0, 4.0)),
        Conv("b", ("scaled",), 3, 1),
    ))  # fmt: skip
    assert order_groups(graph) == ()


def test_a_share_of_the_layers_takes_those_that_lose_least() -> None:
    graph = student(16, 4)
    weights = random_weights(graph)
    # One layer is 2:4 already: it loses nothing, so it is the first to be taken.
    w = weights["body2.weight"]
    w[~two_four_mask(w)] = 0
    part = prune_two_four(graph, weights, seed=0, search=False, share=0.2)
    assert part.layers == ("body2",)  # ceil(0.2 × 5): 4 body layers and the tail
    for name, value in weights.items():
        np.testing.assert_array_equal(part.weights[name], value)
    half = prune_two_four(graph, weights, seed=0, search=False, share=0.5)
    assert len(half.layers) == 3 and half.layers[0] == "body2"
    for name in half.eligible:
        zeros = violations(half.weights[f"{name}.weight"]) == 0
        assert zeros == (name in half.layers)
