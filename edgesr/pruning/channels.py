"""Channel pruning to a budget, over the whole generator.

Which channels go together comes from the graph (`edgesr.graph.groups`), how much each matters
from `edgesr.pruning.importance`; here it is decided which of them go. Widths are taken only
from a list of steps that the target runs well: an odd width costs as much as the next step
(benchmarks of ONNX Runtime show 36 channels at twice the cost of 32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesr.graph.groups import Group, Unit, narrower, prune_groups, remove_units
from edgesr.graph.spec import Graph, Weights
from edgesr.pruning.importance import Sensitivity, unit_importance

_TINY = 1e-12


@dataclass(frozen=True)
class Pruned:
    """The smaller network and what was taken out: (group's first convolution, from, to)."""

    graph: Graph
    weights: Weights
    removed: tuple[Unit, ...]
    widths: tuple[tuple[str, int, int], ...]
    within_budget: bool


def prune_to(
    graph: Graph,
    weights: Weights,
    *,
    cost: Callable[[Graph], float],
    target: float,
    widths: Sequence[int],
    importance: str = "l1",
    sensitivity: Sensitivity | None = None,
) -> Pruned:
    """Remove the least important channels until `cost(graph)` is at most `target`.

    Greedy: each turn narrows the group whose next width step that saves anything loses the least
    importance per unit of cost saved. Stops early (`within_budget` False) when no narrower step
    is left or none saves. `importance` is `l1`, `median` or `taylor`; the last needs
    `sensitivity`, for each convolution one row a batch (`edgesr.training.taylor`).
    """
    groups = prune_groups(graph)
    scores = [unit_importance(g, weights, importance, sensitivity) for g in groups]
    now = [g.width for g in groups]
    at, now_cost = narrower(graph, groups), cost(graph)
    losses = [_loss(s, importance) for s in scores]
    while now_cost > target:
        best: tuple[float, list[int], float] | None = None
        for k in range(len(groups)):
            for kept in _narrower_steps(now[k], widths):
                tried = [*now[:k], kept, *now[k + 1 :]]
                new_cost = cost(at(tried))
                if new_cost >= now_cost:
                    continue
                lost = losses[k][groups[k].width - kept] - losses[k][groups[k].width - now[k]]
                rate = float(lost) / (now_cost - new_cost)
                if best is None or rate < best[0]:
                    best = (rate, tried, new_cost)
                break
        if best is None:
            break
        _, now, now_cost = best
    doomed = _doomed(groups, scores, now)
    smaller_graph, smaller = remove_units(graph, weights, doomed)
    changes = tuple(
        (g.producers[0][0], g.width, n) for g, n in zip(groups, now, strict=True) if n < g.width
    )
    return Pruned(smaller_graph, smaller, tuple(doomed), changes, now_cost <= target)


def _loss(scores: NDArray[np.float64], importance: str) -> NDArray[np.float64]:
    """What is lost when the 0, 1, … least important units are gone; (units + 1,).

    Taylor's estimates of the loss add up. The others only rank: there halving a group costs the
    same at any width, log(importance ÷ what remains of it), since with a plain sum one group
    that reaches many layers would be emptied before the others are touched.
    """
    gone = np.concatenate([[0.0], np.cumsum(np.sort(scores))])
    if importance == "taylor":
        return gone
    total = max(float(gone[-1]), _TINY)
    return np.asarray(-total * np.log(np.maximum(total - gone, _TINY) / total))


def _narrower_steps(width: int, widths: Sequence[int]) -> Iterator[int]:
    yield from sorted({w for w in widths if w < width}, reverse=True)


def _doomed(
    groups: Sequence[Group], scores: Sequence[NDArray[np.float64]], widths: Sequence[int]
) -> list[Unit]:
    return [
        group.units[i]
        for group, score, width in zip(groups, scores, widths, strict=True)
        for i in np.argsort(score, kind="stable")[: group.width - width]
    ]
