"""SPAN, the swift parameter-free attention network (Wan et al., CVPRW 2024).

Six attention blocks of three 3×3 convolutions: what the third gives, through a sigmoid
shifted to zero, weighs that same output plus the block's input; no parameter is added. The
first feature map, the last, the first block's output and the last block's first activation
are concatenated. The re-parameterised convolutions of its training form are folded.
"""

from __future__ import annotations

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
)

BLOCKS = 6
MEAN_RGB = (0.4488, 0.4371, 0.4040)  # of DIV2K
RANGE = 255.0


def span(width: int = 48, *, scale: int = 4, norm: bool = True, name: str = "span") -> Graph:
    """The network with `width` channels, 48 or 52 in the paper.

    `norm` subtracts the mean colour and scales to 0..255 in front, as the authors' does.
    """
    layers: list[Layer] = []
    if norm:
        shift = tuple(-RANGE * mean for mean in MEAN_RGB)
        layers.append(Affine("norm", (INPUT,), gain=(RANGE,), shift=shift))
    layers.append(Conv("conv_1", ("norm" if norm else INPUT,), width, 3))
    last = "conv_1"
    for i in range(1, BLOCKS + 1):
        layers += _block(f"block_{i}", last, width)
        last = f"block_{i}"
    layers += [
        Conv("conv_2", (last,), width, 3),
        Concat("cat", ("conv_1", "conv_2", "block_1", f"block_{BLOCKS}_act1")),
        Conv("conv_cat", ("cat",), width, 1),
        Conv("upsampler", ("conv_cat",), 3 * scale**2, 3),
        PixelShuffle("shuffle", ("upsampler",), scale),
    ]
    return Graph(name, tuple(layers))


def _block(name: str, source: str, width: int) -> list[Layer]:
    return [
        Conv(f"{name}_c1", (source,), width, 3),
        Activation(f"{name}_act1", (f"{name}_c1",), "silu"),
        Conv(f"{name}_c2", (f"{name}_act1",), width, 3),
        Activation(f"{name}_act2", (f"{name}_c2",), "silu"),
        Conv(f"{name}_c3", (f"{name}_act2",), width, 3),
        Activation(f"{name}_sigmoid", (f"{name}_c3",), "sigmoid"),
        Affine(f"{name}_attention", (f"{name}_sigmoid",), shift=(-0.5,)),
        Add(f"{name}_residual", (f"{name}_c3", source)),
        Multiply(name, (f"{name}_residual", f"{name}_attention")),
    ]
