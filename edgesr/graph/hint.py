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
