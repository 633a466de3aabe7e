"""2:4 pruning: of every four consecutive input channels two keep their weight.

For each filter and each kernel position the two largest of four magnitudes stay: the pattern
of NVIDIA's sparse tensor cores (Mishra et al., arXiv 2104.08378), along the input channels as
TensorRT reads them. Which channels share a four is free to choose, since the units of a prune
group may change places (`edgesr.graph.groups.permute_units`). The search goes over pairs of
fours and takes the best of the 35 ways to split their eight units, after the exhaustive stripe
search of Pool & Yu (NeurIPS 2021), until no pair gains.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesr.graph.groups import (
    Channels,
    Group,
    Orders,
    channel_units,
    order_groups,
    permute_units,
)
from edgesr.graph.spec import Graph, Weights
from edgesr.sparsity import violations

__all__ = ["TwoFour", "eligible", "prune_two_four", "search_orders", "two_four_mask", "violations"]

MAX_SWEEPS = 20  # over all pairs of fours; the search ends by itself after five to ten
_PAIRS = tuple(itertools.combinations(range(8), 2))
# The fours of eight that hold unit 0, each with the rest: 35 ways to split.
_SPLITS = tuple(
    ((0, *rest), tuple(i for i in range(1, 8) if i not in rest))
    for rest in itertools.combinations(range(1, 8), 3)
)


@dataclass(frozen=True)
class TwoFour:
    """Weights in the new order and masked, and how much of the magnitude is left.

    `orders` is what `permute_units` was given. The shares are Σ|w| kept ÷ Σ|w| over the
    eligible convolutions, 0 to 1: before the search and after it. `layers` are the
    convolutions that were masked, `eligible` those that could be, and `dense` those whose input
    channels do not come in fours: they are left as they are.
    """

    weights: Weights
    orders: Orders
    kept_share_before: float
    kept_share_after: float
    layers: tuple[str, ...]
    eligible: tuple[str, ...]
    dense: tuple[str, ...]


def eligible(graph: Graph) -> tuple[str, ...]:
    """Names of the convolutions whose input channels come in fours."""
    return tuple(c.name for c in graph.convs() if graph.channels[c.inputs[0]] % 4 == 0)


def two_four_mask(weight: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which weights stay: bool (O, I, K, K); of equal magnitudes the earlier channel's.

    I must be a multiple of four.
    """
    o, i, *kernel = weight.shape
    fours = np.abs(weight).reshape(o, i // 4, 4, *kernel)
    places = np.argsort(-fours, axis=2, kind="stable")[:, :, :2]
    mask = np.zeros(fours.shape, bool)
    np.put_along_axis(mask, places, True, axis=2)
    return mask.reshape(weight.shape)


def prune_two_four(
    graph: Graph, weights: Weights, *, seed: int, search: bool = True, share: float = 1.0
) -> TwoFour:
    """Mask the `share` (0 to 1) of the eligible convolutions that loses least to 2:4.

    Before, a `search` for the channel order that keeps more. The network computes what `weights`
    compute with those weights zeroed, in another order of the channels. `seed` decides the
    order in which the search tries pairs.
    """
    names = eligible(graph)
    orders = tuple(tuple(range(g.width)) for g in order_groups(graph))
    before = after = _kept_share(weights, names)
    if search:
        found = search_orders(graph, weights, seed=seed)
        moved = permute_units(graph, weights, found)
        kept = _kept_share(moved, names)
        if kept > before:
            weights, orders, after = moved, found, kept
    best_first = sorted(names, key=lambda name: -_kept_share(weights, [name]))
    layers = tuple(best_first[: math.ceil(share * len(names))])
    masked = {name: value.copy() for name, value in weights.items()}
    for name in layers:
        w = masked[f"{name}.weight"]
        w[~two_four_mask(w)] = 0
    dense = tuple(c.name for c in graph.convs() if c.name not in names)
    return TwoFour(masked, orders, before, after, layers, names, dense)


def search_orders(graph: Graph, weights: Weights, *, seed: int) -> Orders:
    """For each of `order_groups` an order of its units that keeps more magnitude.

    A group one of whose readers has fours that reach into other groups keeps its order, as
    does one whose width is no multiple of four.
    """
    rng = np.random.default_rng(seed)
    channels = channel_units(graph)
    orders = []
    for group in order_groups(graph):
        rows = _read_magnitudes(graph, weights, channels, group)
        order = list(range(group.width))
        orders.append(tuple(order if rows is None else _best_order(rows, rng)))
    return tuple(orders)


def _read_magnitudes(
    graph: Graph, weights: Weights, channels: Channels, group: Group
) -> NDArray[np.float32] | None:
    """|w| of all that reads the group in fours: (units, weights that read each unit)."""
    units = [channels.of[unit.filters[0][0]][unit.filters[0][1]] for unit in group.units]
    members = set(units)
    found = []
    for name in eligible(graph):
        conv = next(c for c in graph.convs() if c.name == name)
        reads = channels.of[conv.inputs[0]]
        places = [p for p, unit in enumerate(reads) if unit in members]
        # One run of all units in order for each time that the group is in this tensor.
        for start in places[:: group.width]:
            run = reads[start : start + group.width]
            if start % 4 or group.width % 4 or list(run) != units:
                return None
            part = weights[f"{name}.weight"][:, start : start + group.width]
            found.append(np.abs(part).transpose(1, 0, 2, 3).reshape(group.width, -1))
    return np.concatenate(found, axis=1) if found else None


def _best_order(rows: NDArray[np.float32], rng: np.random.Generator) -> list[int]:
    fours = [list(range(i, i + 4)) for i in range(0, len(rows), 4)]
    pairs = list(itertools.combinations(range(len(fours)), 2))
    changed = dict.fromkeys(range(len(fours)), 0)  # in which try a four was last made
    tried = dict.fromkeys(pairs, -1)
    now = 0
    for _ in range(MAX_SWEEPS):
        gained = False
        for i in rng.permutation(len(pairs)):
            a, b = pairs[i]
            if tried[a, b] >= max(changed[a], changed[b]):
                continue
            now += 1
            tried[a, b] = now
            eight = fours[a] + fours[b]
            split = _best_split(rows[eight])
            if split is not None:
                fours[a], fours[b] = ([eight[k] for k in half] for half in split)
                changed[a] = changed[b] = now
                gained = True
        if not gained:
            break
    return [unit for four in fours for unit in four]


def _best_split(
    rows: NDArray[np.float32],
) -> tuple[Sequence[int], Sequence[int]] | None:
    """The split of eight rows into two fours that keeps most; None: as they are."""
    larger = {pair: np.maximum(rows[pair[0]], rows[pair[1]]) for pair in _PAIRS}
    both = {pair: rows[pair[0]] + rows[pair[1]] for pair in _PAIRS}

    def kept(four: Sequence[int]) -> float:
        # The two largest of a, b, c, d: one of each pair, or both of one pair.
        ab, cd = (four[0], four[1]), (four[2], four[3])
        top = np.maximum(larger[ab] + larger[cd], np.maximum(both[ab], both[cd]))
        return float(top.sum(dtype=np.float64))

    totals = [kept(one) + kept(other) for one, other in _SPLITS]
    best = int(np.argmax(totals))
    # _SPLITS[0] is the present one. A gain within rounding could go back and forth for ever.
    return _SPLITS[best] if totals[best] > totals[0] * (1 + 1e-9) else None


def _kept_share(weights: Weights, names: Sequence[str]) -> float:
    kept = total = 0.0
    for name in names:
        magnitude = np.abs(weights[f"{name}.weight"])
        kept += float(magnitude[two_four_mask(magnitude)].sum(dtype=np.float64))
        total += float(magnitude.sum(dtype=np.float64))
    return kept / total if total else 1.0
