"""Channel pruning to a budget, over the whole generator.

Which channels go together comes from the graph (`edgesr.graph.groups`); here it is decided
which of them go. Importance of a unit is the sum of the absolute weights of its filters
(Li et al., ICLR 2017), divided by the mean of its group, so that groups of different
scale can be compared. Widths are taken only from a list of steps that the target runs
well: an odd width costs as much as the next step (benchmarks of ONNX Runtime show 36
channels at twice the cost of 32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgesr.graph.groups import Group, Unit, prune_groups, remove_units
from edgesr.graph.spec import Graph, Weights


@dataclass(frozen=True)
class Pruned:
    """The smaller network and what was taken out: (group's first convolution, from, to)."""

    graph: Graph
    weights: Weights
    removed: tuple[Unit, ...]
    widths: tuple[tuple[str, int, int], ...]
    within_budget: bool


def unit_importance(group: Group, weights: Weights) -> np.ndarray:
    """L1 norm of each unit's filters, relative to the group's mean; float64 (units,)."""
    norms = np.array(
        [
            sum(float(np.abs(weights[f"{name}.weight"][i]).sum()) for name, i in unit.filters)
            for unit in group.units
        ]
    )
    return np.asarray(norms / max(norms.mean(), 1e-12))


def prune_to(
    graph: Graph,
    weights: Weights,
    *,
    cost: Callable[[Graph], int],
    target: int,
    widths: Sequence[int],
) -> Pruned:
    """Remove the least important channels until `cost(graph)` is at most `target`.

    Greedy: each turn narrows the group whose next width step loses the least importance
    per unit of cost saved. Stops early (`within_budget` False) when every group is at
    the narrowest step.
    """
    groups = prune_groups(graph)
    ranks = [np.argsort(unit_importance(g, weights), kind="stable") for g in groups]
    scores = [np.sort(unit_importance(g, weights), kind="stable") for g in groups]
    cut = [0] * len(groups)
    now_cost = cost(graph)
    while now_cost > target:
        best: tuple[float, int, int, int] | None = None
        for k, group in enumerate(groups):
            kept = _next_width(group.width - cut[k], widths)
            if kept is None:
                continue
            tried = [*cut[:k], group.width - kept, *cut[k + 1 :]]
            saved = now_cost - cost(remove_units(graph, weights, _doomed(groups, ranks, tried))[0])
            lost = float(scores[k][cut[k] : group.width - kept].sum())
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = (lost / saved, k, group.width - kept, saved)
        if best is None:
            break
        cut[best[1]] = best[2]
        now_cost -= best[3]
    doomed = _doomed(groups, ranks, cut)
    smaller_graph, smaller = remove_units(graph, weights, doomed)
    changes = tuple(
        (g.producers[0][0], g.width, g.width - c) for g, c in zip(groups, cut, strict=True) if c
    )
    return Pruned(smaller_graph, smaller, tuple(doomed), changes, now_cost <= target)


def _next_width(width: int, widths: Sequence[int]) -> int | None:
    narrower = [w for w in widths if w < width]
    return max(narrower) if narrower else None


def _doomed(groups: Sequence[Group], ranks: list[np.ndarray], cut: list[int]) -> list[Unit]:
    return [g.units[i] for g, order, n in zip(groups, ranks, cut, strict=True) for i in order[:n]]
