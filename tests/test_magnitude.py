"""Magnitude pruning: the exact count, globally, and zeros that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights, small_networks

from edgesr.errors import BadConfig
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import Graph, Weights
from edgesr.models.srresnet import srresnet
from edgesr.pruning.magnitude import cubic_keep, prune_magnitude
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.net import GraphNet

NETWORKS = small_networks()


def all_weights(weights: Weights, graph: Graph) -> np.ndarray:
    return np.concatenate([weights[f"{c.name}.weight"].ravel() for c in graph.convs()])


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 10_000),
    keep=st.floats(0.02, 1.0),
)
def test_pruned_equals_dense_with_those_weights_zeroed(name: str, seed: int, keep: float) -> None:
    graph, rng = NETWORKS[name], np.random.default_rng(seed)
    weights = random_weights(graph, seed)
    pruned = prune_magnitude(weights, graph, keep)
    # By hand: everything under the k-th largest magnitude of the whole network.
    magnitudes = np.sort(np.abs(all_weights(weights, graph)))[::-1]
    count = round(keep * len(magnitudes))
    threshold = magnitudes[count - 1] if count else np.inf
    zeroed = {
        n: np.where(np.abs(w) >= threshold, w, 0) if n.endswith(".weight") else w
        for n, w in weights.items()
    }
    assert np.count_nonzero(all_weights(pruned, graph)) == count
    for key, value in zeroed.items():
        np.testing.assert_array_equal(pruned[key], value)
    x = rng.random((1, 3, 9, 10), dtype=np.float32)
    net = GraphNet(graph)
    net.load_weights(zeroed)
    with torch.no_grad():
        dense = net(torch.from_numpy(x)).numpy()
    got = OrtRuntime(to_onnx(graph, pruned)).run(x)
    assert np.abs(dense - got).max() <= 1e-5 * max(1.0, np.abs(dense).max())


def test_all_parts_of_the_generator_compete() -> None:
    graph = srresnet(blocks=1, width=8)
    weights = random_weights(graph)
    for name in ("head", "b0_conv1", "up1", "tail"):
        weights[f"{name}.weight"] *= np.float32(1e-3)
    pruned = prune_magnitude(weights, graph, 0.05)
    for conv in graph.convs():
        small = conv.name in ("head", "b0_conv1", "up1", "tail")
        assert np.any(pruned[f"{conv.name}.weight"]) != small
        np.testing.assert_array_equal(pruned[f"{conv.name}.bias"], weights[f"{conv.name}.bias"])
    np.testing.assert_array_equal(pruned["head_act.slope"], weights["head_act.slope"])


def test_a_later_call_only_adds_zeros() -> None:
    graph = NETWORKS["span"]
    rng = np.random.default_rng(4)
    weights = random_weights(graph)
    gone: dict[str, np.ndarray] = {}
    for keep in (0.9, 0.7, 0.5):
        weights = prune_magnitude(weights, graph, keep)
        for name, zero in gone.items():
            assert not weights[name][zero].any()
        gone = {n: w == 0 for n, w in weights.items() if n.endswith(".weight")}
        for name, zero in gone.items():  # healing, with the mask kept
            weights[name] += np.where(zero, 0, rng.normal(0, 0.1, zero.shape)).astype(np.float32)
    fewer = prune_magnitude(weights, graph, 0.8)  # asks for more than there are
    np.testing.assert_array_equal(all_weights(fewer, graph), all_weights(weights, graph))


def test_equal_magnitudes_still_give_the_exact_count() -> None:
    graph = NETWORKS["student"]
    weights = {n: np.ones_like(w) for n, w in random_weights(graph).items()}
    weights["body0.weight"] *= -1
    pruned = prune_magnitude(weights, graph, 0.5)
    n = all_weights(weights, graph).size
    assert np.count_nonzero(all_weights(pruned, graph)) == round(0.5 * n)
    again = prune_magnitude(weights, graph, 0.5)
    np.testing.assert_array_equal(all_weights(pruned, graph), all_weights(again, graph))
    assert np.all(weights["body0.weight"] == -1)  # the argument is left alone


def test_the_schedule_is_cubic() -> None:
    assert cubic_keep(0.82, 0.0) == 1.0
    assert cubic_keep(0.82, 1.0) == 0.82
    assert cubic_keep(0.82, 0.5) == pytest.approx(0.82 + 0.18 / 8)
    # Half way, seven eighths of what is to go have gone.
    steps = [cubic_keep(0.5, d) for d in np.linspace(0, 1, 9)]
    drops = -np.diff(steps)
    assert np.all(drops > 0) and np.all(np.diff(drops) < 0)


@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(keep: float) -> None:
    graph = NETWORKS["student"]
    with pytest.raises(BadConfig, match="keep"):
        prune_magnitude(random_weights(graph), graph, keep)
