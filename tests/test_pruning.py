"""Channel pruning: exact against zeroing, within budget, at the widths asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_weights, small_networks

from edgesr.errors import BadConfig, UnknownName
from edgesr.graph import counts
from edgesr.graph.groups import Group, Unit, narrower, prune_groups, remove_units, zero_units
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import INPUT, Activation, Affine, Conv, Graph, Weights
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.pruning.budget import parse_budget
from edgesr.pruning.channels import prune_to
from edgesr.pruning.importance import unit_importance
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
        expected = np.zeros(8)
        for name, per_unit in group.producers:
            norms = np.abs(weights[f"{name}.weight"]).sum((1, 2, 3))
            expected += norms / norms.mean()
            assert per_unit == 1
        np.testing.assert_allclose(unit_importance(group, weights), expected, rtol=1e-5)
    smallest = counts.macs_per_pixel(student(4, 1))
    pruned = prune_to(graph, weights, cost=counts.macs_per_pixel, target=smallest, widths=(4,))
    gone = {index for unit in pruned.removed for _, index in unit.filters}
    assert gone == {1, 4, 5, 6}


def up_group() -> tuple[Group, Weights]:
    """The first up-convolution of a small SRResNet: four filters a unit."""
    graph = srresnet(blocks=1, width=4)
    group = next(g for g in prune_groups(graph) if g.producers == (("up0", 4),))
    return group, random_weights(graph, 5)


def test_geometric_median_is_the_summed_distance_to_the_others() -> None:
    group, weights = up_group()
    joined = weights["up0.weight"].reshape(4, -1).astype(np.float64)  # four filters a unit
    distance = [sum(np.sqrt(((a - b) ** 2).sum()) for b in joined) for a in joined]
    expected = np.array(distance) / np.mean(distance) * 4
    np.testing.assert_allclose(unit_importance(group, weights, "median"), expected, rtol=1e-9)


def test_a_unit_with_a_twin_goes_first_by_median_and_a_small_one_by_l1() -> None:
    graph = student(8, 1)
    weights = random_weights(graph, 2)
    group = next(g for g in prune_groups(graph) if ("head", 1) in g.producers)
    for name in ("head.weight", "body0.weight"):
        middle = weights[name].mean(axis=0)
        weights[name][3] = weights[name][6] = middle * 3  # alike, and not small
        weights[name][1] *= 0.5
    by_median = np.argsort(unit_importance(group, weights, "median"))
    assert set(by_median[:2]) == {3, 6} or by_median[0] in (3, 6)
    assert np.argmin(unit_importance(group, weights, "l1")) == 1


def test_taylor_sums_over_the_filters_before_it_squares() -> None:
    group, weights = up_group()
    rows = np.zeros((2, 16))
    rows[0, :4] = (1, -1, 2, -2)  # unit 0: filters that cancel
    rows[:, 4:8] = 0.5  # unit 1: (4 · 0.5)² in both batches
    rows[1, 8] = 3.0  # unit 2: 9 in one of two
    scores = unit_importance(group, weights, "taylor", {"up0": rows})
    np.testing.assert_allclose(scores, [0, 4, 4.5, 0])


def test_taylor_keeps_what_the_loss_depends_on() -> None:
    graph = student(8, 1)
    weights = random_weights(graph)
    rows = {name: np.full((3, 8), 1e-6) for name in ("head", "body0")}
    for name in rows:
        rows[name][:, [0, 2, 5, 7]] = 1.0
    pruned = prune_to(
        graph,
        weights,
        cost=counts.parameters,
        target=counts.parameters(student(4, 1)),
        widths=(4,),
        importance="taylor",
        sensitivity={**rows, "tail": np.ones((3, 48)), "anchor": np.ones((3, 48))},
    )
    assert {i for unit in pruned.removed for _, i in unit.filters} == {1, 3, 4, 6}


def test_an_unknown_importance_is_refused() -> None:
    group, weights = up_group()
    with pytest.raises(UnknownName, match=r"no importance 'l3'.*l1"):
        unit_importance(group, weights, "l3")


@settings(deadline=None, max_examples=30)
@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 10_000))
def test_narrowed_graph_is_the_one_that_removal_gives(name: str, seed: int) -> None:
    graph, rng = NETWORKS[name], np.random.default_rng(seed)
    groups = prune_groups(graph)
    widths = [int(rng.integers(1, g.width + 1)) for g in groups]
    doomed: list[Unit] = []
    for group, width in zip(groups, widths, strict=True):
        doomed += group.units[width:]
    removed, _ = remove_units(graph, random_weights(graph), doomed)
    assert narrower(graph, groups)(widths) == removed


def test_the_trunk_does_not_bear_it_alone() -> None:
    """With a plain sum of importance the trunk alone would go from 32 to 8."""
    graph = srresnet(blocks=3, width=32)
    target = counts.parameters(graph) // 2
    pruned = prune_to(
        graph,
        random_weights(graph),
        cost=counts.parameters,
        target=target,
        widths=(4, 8, 12, 16, 20, 24, 28),
    )
    widths = {name: after for name, _, after in pruned.widths}
    assert counts.parameters(pruned.graph) <= target
    assert widths["head"] >= 16 and len(widths) >= 2


def test_a_step_that_saves_nothing_is_passed_over() -> None:
    """28 and 24 cost as much as 32 here, as on hardware that pads to 16."""

    def padded(graph: Graph) -> float:
        widths = [-(-c.out // 16) * 16 for c in graph.convs() if c.name != "anchor"]
        return float(sum(a * b for a, b in itertools.pairwise(widths)))

    graph = student(32, 2)
    pruned = prune_to(
        graph,
        random_weights(graph),
        cost=padded,
        target=padded(graph) * 0.6,
        widths=(16, 20, 24, 28, 32),
    )
    assert pruned.within_budget
    assert {c.out for c in pruned.graph.convs()} <= {16, 32, 48}


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
    for bad in ("", "macs", "macs=", "ms=4k", "s=4", "macs=0", "macs=1.2.3", "macs=-5%"):
        with pytest.raises(BadConfig, match="budget"):
            parse_budget(bad)


def test_a_budget_in_milliseconds_asks_what_it_is_given() -> None:
    graph = student(16, 2)
    budget = parse_budget("ms=4.5", latency=lambda g: counts.parameters(g) / 1000)
    assert budget.cost(graph) == counts.parameters(graph) / 1000
    assert budget.limit(graph) == 4.5
    half = parse_budget("ms=50%", latency=lambda g: 7.0)
    assert half.limit(graph) == 3.5
    assert half.show(3.456) == "3.5 ms"
    assert parse_budget("params=1k").show(1234) == "1,234 params"


def test_pruning_to_milliseconds_stays_within_them() -> None:
    graph = student(32, 3)
    latency = {32: 4.0, 24: 2.5, 16: 1.0, 8: 0.75, 48: 3.0}
    budget = parse_budget("ms=50%", latency=lambda g: sum(latency[c.out] for c in g.convs()))
    pruned = prune_to(
        graph,
        random_weights(graph),
        cost=budget.cost,
        target=budget.limit(graph),
        widths=(8, 16, 24, 32),
    )
    assert pruned.within_budget
    assert budget.cost(pruned.graph) <= 0.5 * budget.cost(graph)


def test_what_a_step_saved_too_much_is_given_back() -> None:
    """No group could be one step wider within the budget: each tried by hand."""
    graph = srresnet(blocks=3, width=32)
    steps = (8, 16, 24, 32)
    target = int(0.6 * counts.parameters(graph))
    pruned = prune_to(graph, random_weights(graph), cost=counts.parameters, target=target,
                      widths=steps)  # fmt: skip
    assert pruned.within_budget
    groups = prune_groups(graph)
    now = {g.producers[0][0]: g.width for g in groups}
    now |= {name: after for name, _, after in pruned.widths}
    at = narrower(graph, groups)
    assert counts.parameters(at(list(now.values()))) == counts.parameters(pruned.graph)
    for group in groups:
        name = group.producers[0][0]
        if now[name] < group.width:
            wider = {**now, name: min(w for w in steps if w > now[name])}
            assert counts.parameters(at(list(wider.values()))) > target
