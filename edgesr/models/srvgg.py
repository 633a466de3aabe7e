"""SRVGGNetCompact, the small network of Real-ESRGAN (Wang et al., ICCVW 2021).

Plain 3×3 convolutions, each with a PReLU of one slope per channel, one convolution to 3·s²
and a PixelShuffle, on top of the nearest-neighbour picture.
"""

from __future__ import annotations

from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Conv,
    Graph,
    Layer,
    Nearest,
    PixelShuffle,
)


def srvgg(convs: int = 16, width: int = 64, *, scale: int = 4, name: str = "srvgg") -> Graph:
    """The network with `convs` convolutions between the first and the last."""
    layers: list[Layer] = []
    last = INPUT
    for i in range(convs + 1):
        layers += [
            Conv(f"conv{i}", (last,), width, 3),
            Activation(f"act{i}", (f"conv{i}",), "prelu", shared=False),
        ]
        last = f"act{i}"
    layers += [
        Conv("tail", (last,), 3 * scale**2, 3),
        PixelShuffle("shuffle", ("tail",), scale),
        Nearest("base", (INPUT,), scale),
        Add("sum", ("shuffle", "base")),
    ]
    return Graph(name, tuple(layers))
