"""RRDBNet, the generator of ESRGAN (Wang et al., ECCVW 2018) and of Real-ESRGAN.

A residual-in-residual dense block (RRDB) is three dense blocks of five convolutions, each
reading everything before it in its block; both residuals are scaled by 0.2. Upsampling is
nearest-neighbour twice, each followed by a convolution.
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
    Nearest,
)

SLOPE = 0.2
RESIDUAL_SCALE = 0.2


def rrdb(blocks: int = 23, width: int = 64, growth: int = 32, *, name: str = "rrdb") -> Graph:
    """The ×4 generator; 16,697,987 parameters with 23 blocks, 4,467,779 with 6."""
    layers: list[Layer] = [Conv("conv_first", (INPUT,), width, 3)]
    last = "conv_first"
    for i in range(blocks):
        before = last
        for k in (1, 2, 3):
            layers += _dense(f"b{i}_rdb{k}", last, width, growth)
            last = f"b{i}_rdb{k}"
        layers += _scaled(f"b{i}", last, before)
        last = f"b{i}"
    layers += [Conv("conv_body", (last,), width, 3), Add("skip", ("conv_body", "conv_first"))]
    last = "skip"
    for i in (1, 2):
        layers += [
            Nearest(f"up{i}", (last,), 2),
            Conv(f"conv_up{i}", (f"up{i}",), width, 3),
            _leaky(f"conv_up{i}"),
        ]
        last = f"conv_up{i}_act"
    layers += [
        Conv("conv_hr", (last,), width, 3),
        _leaky("conv_hr"),
        Conv("conv_last", ("conv_hr_act",), 3, 3),
    ]
    return Graph(name, tuple(layers))


def _dense(name: str, source: str, width: int, growth: int) -> list[Layer]:
    layers: list[Layer] = []
    features = [source]
    for j in (1, 2, 3, 4, 5):
        if j > 1:
            layers.append(Concat(f"{name}_cat{j}", tuple(features)))
        read = f"{name}_cat{j}" if j > 1 else source
        layers.append(Conv(f"{name}_conv{j}", (read,), growth if j < 5 else width, 3))
        if j < 5:
            layers.append(_leaky(f"{name}_conv{j}"))
            features.append(f"{name}_conv{j}_act")
    return [*layers, *_scaled(name, f"{name}_conv5", source)]


def _scaled(name: str, branch: str, source: str) -> list[Layer]:
    scaled = Affine(f"{name}_scaled", (branch,), gain=(RESIDUAL_SCALE,))
    return [scaled, Add(name, (scaled.name, source))]


def _leaky(conv: str) -> Activation:
    return Activation(f"{conv}_act", (conv,), "leaky_relu", slope=SLOPE)
