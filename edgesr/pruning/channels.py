"""Channel pruning to a budget, over the whole generator.

Which channels go together comes from the graph (`edgesr.graph.groups`), how much each matters
from `edgesr.pruning.importance`; here it is decided which of them go. Widths are taken only
from a list of steps that the target runs well: an odd width costs as much as the next step
(benchmarks of ONNX Runtime show 36 channels at twice the cost of 32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    importance per unit of cost saved. The last step may save more than was needed: what fits is
    then given back where it regains most. Stops early (`within_budget` False) when no narrower
    step is left or none saves. `importance` is `l1`, `median` or `taylor`; the last needs
    `sensitivity`, for each convolution one row a batch (`edgesr.training.taylor`).
    """
    groups = prune_groups(graph)
    scores = [unit_importance(g, weights, importance, sensitivity) for g in groups]
    choice = _Choice(groups, [_loss(s, importance) for s in scores], widths, graph, cost)
    while choice.cost > target and choice.narrow():
        pass
    while choice.widen(target):
        pass
    now, now_cost = choice.now, choice.cost
    doomed = _doomed(groups, scores, now)
    smaller_graph, smaller = remove_units(graph, weights, doomed)
    changes = tuple(
        (g.producers[0][0], g.width, n) for g, n in zip(groups, now, strict=True) if n < g.width
    )
    return Pruned(smaller_graph, smaller, tuple(doomed), changes, now_cost <= target)


class _Choice:
    """One width for each group, and what narrowing or widening one of them does.

    `losses` has, for each group, what is lost when its 0, 1, … least important units are gone.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        losses: Sequence[NDArray[np.float64]],
        widths: Sequence[int],
        graph: Graph,
        cost: Callable[[Graph], float],
    ) -> None:
        at = narrower(graph, groups)

        def cost_of(now: Sequence[int]) -> float:
            return cost(at(now))

        self.groups, self.losses, self.widths = groups, losses, sorted(set(widths))
        self.now = [g.width for g in groups]
        self._cost = cost_of
        self.cost = cost(graph)

    def narrow(self) -> bool:
        """Take the step that loses least for what it saves; False when none saves."""
        tries = []
        for k, width in enumerate(self.now):
            for narrower_width in reversed([w for w in self.widths if w < width]):
                now, cost = self._with(k, narrower_width)
                if cost < self.cost:
                    tries.append((self._lost(k, narrower_width) / (self.cost - cost), now, cost))
                    break
        return self._take(min(tries, key=lambda t: t[0], default=None))

    def widen(self, target: float) -> bool:
        """Take the step within `target` that regains most for what it costs; False: none fits."""
        tries = []
        if self.cost <= target:
            for k, group in enumerate(self.groups):
                steps = [*(w for w in self.widths if w < group.width), group.width]
                for wider in [w for w in steps if w > self.now[k]][:1]:
                    now, cost = self._with(k, wider)
                    if cost <= target:
                        spent = max(cost - self.cost, _TINY)
                        tries.append((self._lost(k, wider) / spent, now, cost))
        return self._take(min(tries, key=lambda t: t[0], default=None))

    def _with(self, k: int, width: int) -> tuple[list[int], float]:
        now = [*self.now[:k], width, *self.now[k + 1 :]]
        return now, self._cost(now)

    def _lost(self, k: int, width: int) -> float:
        """What group `k` loses at that width against now; negative when it regains."""
        whole, losses = self.groups[k].width, self.losses[k]
        return float(losses[whole - width] - losses[whole - self.now[k]])

    def _take(self, best: tuple[float, list[int], float] | None) -> bool:
        if best is None:
            return False
        _, self.now, self.cost = best
        return True


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


def _doomed(
    groups: Sequence[Group], scores: Sequence[NDArray[np.float64]], widths: Sequence[int]
) -> list[Unit]:
    return [
        group.units[i]
        for group, score, width in zip(groups, scores, widths, strict=True)
        for i in np.argsort(score, kind="stable")[: group.width - width]
    ]
