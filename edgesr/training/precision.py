"""bfloat16 where it costs nothing: which arithmetic stays in float32.

bfloat16 has 8 significant bits, as many as a pixel: a picture itself must not pass through it, a
correction of it may. So the layers that read the picture, and one that alone makes the output,
stay in float32. Weights, loss, gradients of the weights and moving average always do.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from edgesr.graph.spec import INPUT, Affine, Conv, Graph, Nearest, PixelShuffle


def pictures(graph: Graph) -> frozenset[str]:
    """The layers that read a picture or alone make one: those of float32."""
    by_name = {layer.name: layer for layer in graph.layers}
    shown, names = {INPUT}, set()
    for layer in graph.layers:
        if shown.intersection(layer.inputs):
            names.add(layer.name)
            if isinstance(layer, Affine):
                shown.add(layer.name)
    last = by_name[graph.output]
    while isinstance(last, PixelShuffle | Nearest) and last.inputs[0] in by_name:
        last = by_name[last.inputs[0]]
    if isinstance(last, Conv):
        names.add(last.name)
    return frozenset(names)


def in_bf16(precision: str, device: str) -> bool:
    """Whether a forward pass runs in bfloat16, as a recipe's `precision` says.

    `auto`: on a GPU. `bf16`: where the hardware multiplies it, a CPU with AVX512-BF16 or AMX among
    them; another CPU would take longer than in float32.
    """
    if precision == "fp32":
        return False
    if device == "cuda":
        return True
    return precision == "bf16" and cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not public in torch 2.13
    return any(getattr(torch.cpu, name, lambda: False)() for name in known)


def autocast(device: str, on: bool) -> AbstractContextManager[Any]:
    """The forward pass in bfloat16 where `on`."""
    return torch.autocast(device, torch.bfloat16) if on else nullcontext()


def exact(device: str) -> AbstractContextManager[Any]:
    """Off again, for the layers of `pictures`."""
    return torch.autocast(device, enabled=False)
