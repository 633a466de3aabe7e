"""Where to look inside a network when its features are distilled."""

from __future__ import annotations

from edgesr.errors import BadModel
from edgesr.graph.spec import INPUT, Conv, Graph, Layer, Nearest, PixelShuffle


def hint_layer(graph: Graph) -> str:
    """The last tensor at input size before the network starts to enlarge.

    Found by walking back from the first layer that enlarges: past additions to the
    convolution that feeds a PixelShuffle, whose input it is; a nearest upsampling's own
    input otherwise. In SRResNet this is the sum after the trunk, in SPAN the fused 1×1, in
    the student the body's skip sum.
    """
    layers = {x.name: x for x in graph.layers}
    for layer in graph.layers:
        if isinstance(layer, PixelShuffle | Nearest) and layer.inputs[0] != INPUT:
            source: Layer = layers[layer.inputs[0]]
            while isinstance(layer, PixelShuffle) and not isinstance(source, Conv):
                source = layers[source.inputs[0]]
            return source.inputs[0] if isinstance(layer, PixelShuffle) else source.name
    raise BadModel(f"network '{graph.name}' does not enlarge: no features to distil")


def hint_layers(graph: Graph, count: int) -> tuple[str, ...]:
    """`count` tensors at input size, in order of depth; the last one is `hint_layer`.

    Depth is the number of convolutions on the longest path from the input. The other places
    are a `count`-th of the hint's depth apart. Near each of them the tensor is taken beside
    which the fewest others are still needed, so the end of a block and not its inside; of
    several such the nearest, and of those the last. Raises `BadModel` when the network has
    fewer convolutions than that before its hint.
    """
    last = hint_layer(graph)
    depths = _depths(graph)
    if count > depths[last]:
        raise BadModel(
            f"network '{graph.name}' has {depths[last]} convolutions before it enlarges: too few "
            f"for {count} hints; lower hints in the recipe"
        )
    before, alive = _ancestors(graph, last), _alive(graph)
    order = {x.name: i for i, x in enumerate(graph.layers)}
    spacing = depths[last] / count
    places = []
    for k in range(1, count):
        middle = k * spacing
        near = [n for n in before if middle - spacing / 2 <= depths[n] < middle + spacing / 2]
        places.append(
            min(near, key=lambda n, m=middle: (alive[n], abs(depths[n] - m), -order[n]))  # type: ignore[misc]
        )
    return (*places, last)


def _depths(graph: Graph) -> dict[str, int]:
    depths = {INPUT: 0}
    for x in graph.layers:
        depths[x.name] = max(depths[i] for i in x.inputs) + isinstance(x, Conv)
    return depths


def _ancestors(graph: Graph, name: str) -> list[str]:
    """The layers that `name` is computed from, in order, without itself."""
    wanted = {name}
    for x in reversed(graph.layers):
        if x.name in wanted:
            wanted.update(x.inputs)
    return [x.name for x in graph.layers if x.name in wanted and x.name != name]


def _alive(graph: Graph) -> dict[str, int]:
    """How many tensors a later layer still reads, once each layer has been computed."""
    last_use = {i: at for at, x in enumerate(graph.layers) for i in x.inputs}
    made = {INPUT: -1, **{x.name: at for at, x in enumerate(graph.layers)}}
    return {
        x.name: sum(made[n] <= at < use for n, use in last_use.items())
        for at, x in enumerate(graph.layers)
    }
