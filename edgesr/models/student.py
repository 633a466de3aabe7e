"""The student family: plain 3×3 convolutions at full low resolution.

    input ─ head 3×3 ─ act ─┬─ body × depth (3×3 + act) ─ (+) ─ tail 3×3 → 3·s² ─ (+) ─ shuffle
      │                     └──────────── skip ───────────┘                        │
      └────────────────────────── anchor 1×1 → 3·s² ───────────────────────────────┘

One convolution to 3·s² and one PixelShuffle instead of SRGAN's up-convolutions and 9×9, since
at 48 channels that tail costs a fiftieth of theirs. The anchor starts as nearest-neighbour
upsampling and is learned. No strided or global branch: tiles are exact. In training each 3×3
but the head has parallel branches that fold into it (`edgesr.training.rep`). After ECBSR
(Zhang et al., ACM MM 2021) and ABPN's anchor (Du et al., CVPRW 2021), in their plainest form.
"""

from __future__ import annotations

from edgesr.graph.spec import INPUT, Activation, Add, Conv, Graph, Layer, PixelShuffle

ANCHOR = "anchor"


def student(
    width: int = 32, depth: int = 12, *, scale: int = 4, act: str = "relu", name: str = "student"
) -> Graph:
    """A student with `depth` body convolutions of `width` channels.

    `act` is `relu`, `leaky_relu` (slope 0.1) or `clip` (0 to 6, for int8).
    """

    def activation(layer: str, source: str) -> Activation:
        if act == "leaky_relu":
            return Activation(layer, (source,), "leaky_relu", slope=0.1)
        if act == "clip":
            return Activation(layer, (source,), "clip", high=6.0)
        return Activation(layer, (source,), "relu")

    layers: list[Layer] = [Conv("head", (INPUT,), width, 3), activation("head_act", "head")]
    last = "head_act"
    for i in range(depth):
        layers += [Conv(f"body{i}", (last,), width, 3), activation(f"body{i}_act", f"body{i}")]
        last = f"body{i}_act"
    out = 3 * scale**2
    layers += [
        Add("skip", (last, "head_act")),
        Conv("tail", ("skip",), out, 3),
        Conv(ANCHOR, (INPUT,), out, 1),
        Add("sum", ("tail", ANCHOR)),
        PixelShuffle("shuffle", ("sum",), scale),
    ]
    return Graph(name, tuple(layers))
