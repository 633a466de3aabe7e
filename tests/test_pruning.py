"""Channel pruning: exact against zeroing, within budget, at the widths asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights, small_networks

from edgesr.errors import BadConfig
from edgesr.graph import counts
from edgesr.graph.groups import prune_groups, remove_units, zero_units
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import INPUT, Activation, Affine, Conv, Graph
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.pruning.budget import parse_budget
from edgesr.pruning.channels import prune_to, unit_importance
from edgesr.runtime.ort import OrtRuntime

NETWORKS = small_networks()


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    seed=st.integers(0, 10_000),
    share=st.floats(0.05, 0.9),
)
def test_pruned_equals_dense_with_those_channels_zeroed(name: str, seed: int, share: float) -> None:
    graph, rng = NETWORKS[name], np.random.default_rng(seed)
    weights = random_weights(graph, seed)
    doomed = []
    for group in prune_groups(graph):
        count = min(int(group.width * share), group.width - 1)
        doomed += [group.units[i] for i in rng.permutation(group.width)[:count]]
    small_graph, small = remove_units(graph, weights, doomed)
    small_graph.check_weights(small)
    x = rng.random((1, 3, 11, 13), dtype=np.float32)
    zeroed = OrtRuntime(to_onnx(graph, zero_units(graph, weights, doomed))).run(x)
    pruned = OrtRuntime(to_onnx(small_graph, small)).run(x)
    assert np.abs(zeroed - pruned).max() <= 1e-5 * max(1.0, np.abs(zeroed).max())


def test_groups_of_srresnet_cover_trunk_skips_and_pixel_shuffles() -> None:
    graph = srresnet(blocks=2, width=8)
    groups = {g.producers: g.width for g in prune_groups(graph)}
    sizes = sorted((len(p), sorted({n for _, n in p}), w) for p, w in groups.items())
    # One group over the whole residual path: head, both blocks' second convolutions and the
    # trunk's last. One of its own for each block's first. Up-convolutions: r² = 4 filters a unit.
    assert sizes == [(1, [1], 8), (1, [1], 8), (1, [4], 8), (1, [4], 8), (4, [1], 8)]
    convs = {name for producers in groups for name, _ in producers}
    tail = graph.convs()[-1].name
    assert convs == {c.name for c in graph.convs()} - {tail}


def test_students_picture_channels_are_never_pruned() -> None:
    for group in prune_groups(student(8, 3)):
        assert not {"tail", "anchor"} & {name for name, _ in group.producers}


def test_channels_that_do_not_stay_zero_are_never_pruned() -> None:
    """relu(0 - 1) + 1 is 1: without such a channel the next convolution would read 0."""
    for fn in ("relu", "clip", "leaky_relu"):
        graph = Graph("odd", (
            Conv("a", (INPUT,), 4, 3),
            Affine("down", ("a",), shift=(-1.0,)),
            Activation("cut", ("down",), fn, high=6.0),
            Affine("up", ("cut",), shift=(1.0,)),
            Conv("b", ("up",), 3, 3),
        ))  # fmt: skip
        assert prune_groups(graph) == ()


def test_prune_to_reaches_the_budget_at_allowed_widths() -> None:
    graph = student(32, 6)
    weights = random_weights(graph)
    target = counts.macs_per_pixel(graph) * 2 // 5
    pruned = prune_to(
        graph, weights, cost=counts.macs_per_pixel, target=target, widths=(8, 16, 24, 32)
    )
    assert pruned.within_budget
    assert counts.macs_per_pixel(pruned.graph) <= target
    body = [x.out for x in pruned.graph.layers if isinstance(x, Conv) and x.out != 48]
    assert set(body) <= {8, 16, 24, 32}
    assert len(set(body)) > 1  # some layers gave more than others


def test_the_least_important_channels_go_first() -> None:
    graph = student(8, 1)
    weights = random_weights(graph)
    for dull in (1, 4, 5, 6):
        weights["body0.weight"][dull] *= 1e-3
        weights["head.weight"][dull] *= 1e-3
    for group in prune_groups(graph):
        expected = [
            sum(np.abs(weights[f"{n}.weight"][i]).sum() for n, i in u.filters) for u in group.units
        ]
        np.testing.assert_allclose(
            unit_importance(group, weights), np.array(expected) / np.mean(expected), rtol=1e-6
        )
    smallest = counts.macs_per_pixel(student(4, 1))
    pruned = prune_to(graph, weights, cost=counts.macs_per_pixel, target=smallest, widths=(4,))
    gone = {index for unit in pruned.removed for _, index in unit.filters}
    assert gone == {1, 4, 5, 6}


def test_an_impossible_budget_stops_at_the_narrowest_and_says_so() -> None:
    graph = student(16, 2)
    pruned = prune_to(
        graph, random_weights(graph), cost=counts.parameters, target=10, widths=(8, 16)
    )
    assert not pruned.within_budget
    assert {c.out for c in pruned.graph.convs()} == {8, 48}


def test_budgets_are_parsed_and_refused() -> None:
    teacher = student(16, 2)
    assert parse_budget("macs=25%").limit(teacher) == counts.macs_per_pixel(teacher) // 4
    assert parse_budget("params=50k").limit(teacher) == 50_000
    assert parse_budget("bytes = 1.5M").limit(teacher) == 1_500_000
    assert parse_budget("bytes=10").cost(teacher) == 4 * counts.parameters(teacher)
    for bad in ("", "macs", "macs=", "ms=4", "macs=0", "macs=1.2.3", "macs=-5%"):
        with pytest.raises(BadConfig, match="budget"):
            parse_budget(bad)
