"""Which channels must be pruned together, found from the graph.

Every channel of every convolution output starts as a unit of its own. An addition or a
product ties the channels of its inputs one to one; a PixelShuffle by r ties the r² channels
that become one; everything else passes them on. Tied units form one *unit*: it is removed
whole or not at all, and the pruned network then equals the dense one with the filters of
that unit set to zero. Units that live in the same layers form a *group*, whose size is one
width to choose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Graph,
    Layer,
    Multiply,
    PixelShuffle,
    Weights,
)

# For each group its units' new order: place i is taken by the unit that was at `order[i]`.
Orders: TypeAlias = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Unit:
    """Filters that go together: (convolution, output channel) pairs."""

    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Group:
    """Units over the same convolutions; `producers` gives filters per unit in each."""

    producers: tuple[tuple[str, int], ...]
    units: tuple[Unit, ...]

    @property
    def width(self) -> int:
        """Number of units that can be kept or removed one by one."""
        return len(self.units)


class _Ties:
    """Union-find over channel numbers."""

    def __init__(self) -> None:
        self.parent: list[int] = []

    def new(self, n: int) -> list[int]:
        first = len(self.parent)
        self.parent.extend(range(first, first + n))
        return list(range(first, first + n))

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def tie(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        self.parent[max(a, b)] = min(a, b)


@dataclass(frozen=True)
class Channels:
    """For each tensor, the unit number of each of its channels."""

    of: dict[str, tuple[int, ...]]
    fixed: frozenset[int]  # units that must stay: picture channels


def channel_units(graph: Graph) -> Channels:
    """The unit of each channel of each tensor, ties resolved."""
    ties = _Ties()
    ids: dict[str, list[int]] = {INPUT: ties.new(graph.channels[INPUT])}
    for layer in graph.layers:
        ids[layer.name] = _pass_on(layer, [ids[i] for i in layer.inputs], ties)
    of = {name: tuple(ties.root(i) for i in channels) for name, channels in ids.items()}
    return Channels(of, frozenset(of[INPUT]) | frozenset(of[graph.output]))


def _pass_on(layer: Layer, inputs: list[list[int]], ties: _Ties) -> list[int]:
    match layer:
        case Conv():
            return ties.new(layer.out)
        case Add() | Multiply():
            for other in inputs[1:]:
                for a, b in zip(inputs[0], other, strict=True):
                    ties.tie(a, b)
            return inputs[0]
        case Concat():
            return [i for channels in inputs for i in channels]
        case PixelShuffle():
            r2 = layer.factor**2
            joined = []
            for start in range(0, len(inputs[0]), r2):
                for i in inputs[0][start + 1 : start + r2]:
                    ties.tie(inputs[0][start], i)
                joined.append(inputs[0][start])
            return joined
        case _:
            return inputs[0]


def prune_groups(graph: Graph) -> tuple[Group, ...]:
    """The groups that may be pruned, in order of their first convolution.

    Left out: units tied to the picture's own channels, and units that a layer may turn from
    zero into something else before a convolution reads them (removal would then differ
    from zeroing).
    """
    channels = channel_units(graph)
    return _groups(graph, channels, channels.fixed | _not_zero_preserving(graph, channels))


def order_groups(graph: Graph) -> tuple[Group, ...]:
    """The groups whose units may change places, in order of their first convolution.

    Left out: units tied to the picture's own channels, and units that a constant of their own
    (an `Affine` with one each) is applied to: the graph itself would have to change.
    """
    channels = channel_units(graph)
    own: set[int] = set()
    for layer in graph.layers:
        if isinstance(layer, Affine) and max(len(layer.gain), len(layer.shift)) > 1:
            own |= set(channels.of[layer.name])
    return _groups(graph, channels, channels.fixed | own)


def _groups(graph: Graph, channels: Channels, frozen: Set[int]) -> tuple[Group, ...]:
    members: dict[int, list[tuple[str, int]]] = {}
    for conv in graph.convs():
        for index, unit in enumerate(channels.of[conv.name]):
            members.setdefault(unit, []).append((conv.name, index))
    groups: dict[tuple[tuple[str, int], ...], list[Unit]] = {}
    for unit, filters in members.items():
        if unit in frozen:
            continue
        per_conv: dict[str, int] = {}
        for name, _ in filters:
            per_conv[name] = per_conv.get(name, 0) + 1
        groups.setdefault(tuple(per_conv.items()), []).append(Unit(tuple(filters)))
    return tuple(Group(producers, tuple(units)) for producers, units in groups.items())


def _not_zero_preserving(graph: Graph, channels: Channels) -> set[int]:
    value: dict[str, NDArray[np.float64]] = {INPUT: np.zeros(graph.channels[INPUT])}
    bad: set[int] = set()
    for layer in graph.layers:
        inputs = [value[i] for i in layer.inputs]
        if isinstance(layer, Conv):
            bad |= {channels.of[layer.inputs[0]][c] for c in np.flatnonzero(inputs[0])}
        value[layer.name] = _of_zero(layer, inputs)
    return bad


def _of_zero(layer: Layer, inputs: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    x = inputs[0]
    y: NDArray[np.float64] = x  # pixel repetition
    match layer:
        case Conv():
            y = np.zeros(layer.out)
        case Activation(fn="sigmoid"):
            y = 1 / (1 + np.exp(-x))
        case Activation():
            # The others keep zero. What became of anything else is not known here, and NaN
            # stays so through all that follows: such a unit is never taken for zero.
            y = np.where(x == 0, 0.0, np.nan)
        case Affine():
            y = x * np.array(layer.gain) + np.array(layer.shift)
        case Add():
            y = x + inputs[1]
        case Multiply():
            y = x * inputs[1]
        case Concat():
            y = np.concatenate(inputs)
        case PixelShuffle():
            y = x[:: layer.factor**2]
    return y


def remove_units(graph: Graph, weights: Weights, doomed: list[Unit]) -> tuple[Graph, Weights]:
    """The graph and weights without those units: smaller layers, same other weights."""
    channels = channel_units(graph)
    gone = {channels.of[name][index] for unit in doomed for name, index in unit.filters}
    keep = {
        name: np.array([u not in gone for u in units], dtype=bool)
        for name, units in channels.of.items()
    }
    layers: list[Layer] = []
    smaller: Weights = {}
    for layer in graph.layers:
        kept_in, kept_out = keep[layer.inputs[0]], keep[layer.name]
        if isinstance(layer, Conv):
            layers.append(dataclasses.replace(layer, out=int(kept_out.sum())))
            smaller[f"{layer.name}.weight"] = weights[f"{layer.name}.weight"][kept_out][:, kept_in]
            if layer.bias:
                smaller[f"{layer.name}.bias"] = weights[f"{layer.name}.bias"][kept_out]
        elif isinstance(layer, Affine):
            layers.append(_smaller_affine(layer, kept_out))
        else:
            layers.append(layer)
            slope = f"{layer.name}.slope"
            if slope in weights:
                per_channel = weights[slope].shape[0] > 1
                smaller[slope] = weights[slope][kept_out] if per_channel else weights[slope]
    return Graph(graph.name, tuple(layers)), smaller


def zero_units(graph: Graph, weights: Weights, doomed: list[Unit]) -> Weights:
    """The dense weights with the filters and biases of those units set to zero."""
    zeroed = {name: value.copy() for name, value in weights.items()}
    for unit in doomed:
        for name, index in unit.filters:
            zeroed[f"{name}.weight"][index] = 0
            if f"{name}.bias" in zeroed:
                zeroed[f"{name}.bias"][index] = 0
    return zeroed


def _smaller_affine(layer: Affine, kept: NDArray[np.bool_]) -> Affine:
    def pick(values: tuple[float, ...]) -> tuple[float, ...]:
        if len(values) == 1:
            return values
        return tuple(v for v, k in zip(values, kept, strict=True) if k)

    return dataclasses.replace(layer, gain=pick(layer.gain), shift=pick(layer.shift))


def narrower(graph: Graph, groups: Sequence[Group]) -> Callable[[Sequence[int]], Graph]:
    """A function from one width for each of `groups` to the graph at these widths.

    It gives the graph that `remove_units` gives, except that constants of an `Affine` are the
    first ones. Cheap, as it counts channels instead of moving weights: for searching widths.
    """
    channels = channel_units(graph)
    group_of = {}
    for k, group in enumerate(groups):
        for unit in group.units:
            name, index = unit.filters[0]
            group_of[channels.of[name][index]] = k
    fixed: dict[str, int] = {}
    of_group: dict[str, list[tuple[int, int]]] = {}
    for layer in graph.layers:
        owners = [group_of.get(unit, -1) for unit in channels.of[layer.name]]
        fixed[layer.name] = owners.count(-1)
        of_group[layer.name] = [
            (k, owners.count(k) // groups[k].width) for k in sorted(set(owners) - {-1})
        ]

    def at(widths: Sequence[int]) -> Graph:
        layers: list[Layer] = []
        for layer in graph.layers:
            if isinstance(layer, Conv | Affine) and of_group[layer.name]:
                out = fixed[layer.name] + sum(n * widths[k] for k, n in of_group[layer.name])
                if isinstance(layer, Conv):
                    layer = dataclasses.replace(layer, out=out)
                else:
                    layer = _smaller_affine(layer, np.arange(graph.channels[layer.name]) < out)
            layers.append(layer)
        return Graph(graph.name, tuple(layers))

    return at


def permute_units(graph: Graph, weights: Weights, orders: Orders) -> Weights:
    """The same network with the units of each of `order_groups` in another order.

    Filters, biases and slopes move in the convolutions that make the channels, input slices in
    those that read them. Nothing is computed, so `permute_units(…, inverse(orders))` gives back
    the same bits; the output is equal up to the order of summation.
    """
    moved = _channel_orders(graph, orders)
    permuted: Weights = {}
    for layer in graph.layers:
        into, out = moved[layer.inputs[0]], moved[layer.name]
        if isinstance(layer, Conv):
            weight = weights[f"{layer.name}.weight"]
            permuted[f"{layer.name}.weight"] = np.ascontiguousarray(weight[out][:, into])
            if layer.bias:
                permuted[f"{layer.name}.bias"] = weights[f"{layer.name}.bias"][out]
        elif f"{layer.name}.slope" in weights:
            slope = weights[f"{layer.name}.slope"]
            permuted[f"{layer.name}.slope"] = slope[out] if slope.shape[0] > 1 else slope.copy()
    return permuted


def inverse(orders: Orders) -> Orders:
    """The orders that undo `orders`."""
    return tuple(tuple(int(i) for i in np.argsort(order)) for order in orders)


def _channel_orders(graph: Graph, orders: Orders) -> dict[str, NDArray[np.intp]]:
    """For each tensor which old channel is at each place."""
    moved = {name: np.arange(n) for name, n in graph.channels.items()}
    for group, order in zip(order_groups(graph), orders, strict=True):
        assert sorted(order) == list(range(group.width))
        for unit, source in zip(group.units, (group.units[i] for i in order), strict=True):
            for (name, place), (_, old) in zip(unit.filters, source.filters, strict=True):
                moved[name][place] = old
    for layer in graph.layers:
        inputs = [moved[i] for i in layer.inputs]
        if isinstance(layer, Concat):
            starts = np.cumsum([0, *(len(i) for i in inputs[:-1])])
            moved[layer.name] = np.concatenate(
                [i + start for i, start in zip(inputs, starts, strict=True)]
            )
        elif isinstance(layer, PixelShuffle):
            r2 = layer.factor**2
            moved[layer.name] = inputs[0][::r2] // r2
            assert np.array_equal(
                inputs[0].reshape(-1, r2), moved[layer.name][:, None] * r2 + np.arange(r2)
            )
        elif not isinstance(layer, Conv):
            assert all(np.array_equal(inputs[0], other) for other in inputs[1:])
            moved[layer.name] = inputs[0]
    return moved
