"""Networks that grow without changing what they compute, after Net2Net (Chen et al., ICLR 2016).

`enlarge` makes a plain student deeper, by identity convolutions, and wider, by channels that look
at the others and are not read by them at first.

`embed` sets a plain student into SRGAN's generator, whose PSNR phase then begins at the student's
quality instead of at nothing. The student's features live in the generator's first channels and the
picture in the next three; all are at least 0, so a PReLU of slope 0 passes them. Block k computes
relu(body_k) and takes away what it was computed from: its own skip then leaves the new features.
The tail's s² colours are shuffled in two steps by slopes of 1 and middle taps. Channels and blocks
left over compute random features that nothing reads yet, and training finds their use. (Zeros on
both sides of a layer would have no gradient, and stay zeros for ever.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadConfig
from edgesr.graph.spec import Activation, Graph, Weights
from edgesr.models.student import ANCHOR, student
from edgesr.models.table import untrained_weights

COLOURS = 3


def embed(plain: Graph, weights: Weights, generator: Graph, *, seed: int = 0) -> Weights:
    """Weights with which `generator` (of `srresnet`) computes what the student computes.

    Equal up to rounding for pictures in [0, 1]. Raises `BadConfig` where `plain` is no ReLU
    student of scale 4, or `generator` has too few blocks or channels to hold it.
    """
    depth, features = _shape(plain)
    if plain.scale != 4:
        raise BadConfig(f"'{plain.name}' is x{plain.scale}; only a student of scale 4 fits")
    blocks = sum(layer.name.endswith("_conv1") for layer in generator.layers)
    width = generator.channels["head"]
    least = max(2 * features, features + COLOURS, 4 * COLOURS)
    if depth > blocks or least > width:
        raise BadConfig(
            f"a student of {features} channels × {depth} does not fit into a generator of "
            f"{blocks} blocks of {width} channels; it takes {depth} blocks of {least}"
        )
    made = _unread(generator, seed)
    _head(made, weights, features)
    for k in range(depth):
        _block(made, f"b{k}", weights[f"body{k}.weight"], weights[f"body{k}.bias"])
    _middle(made["body.weight"], features)
    _upsampling(made, weights, features)
    return made


def enlarge(
    plain: Graph, weights: Weights, width: int, depth: int, *, name: str, seed: int = 0
) -> tuple[Graph, Weights]:
    """The same function with `width` channels and `depth` body convolutions.

    The new convolutions are spread evenly: a ReLU lets its own output through, so an identity
    kernel in front of it is no step at all. The new channels compute random features (He et al.,
    ICCV 2015) of all others, and the old ones read them with weights of 0. Raises `BadConfig` where
    `plain` is no ReLU student or has more of either.
    """
    had, narrow = _shape(plain)
    if had > depth or narrow > width:
        raise BadConfig(
            f"'{plain.name}' has {had} body convolutions of {narrow} channels: it cannot grow to "
            f"{depth} of {width}"
        )
    graph = student(width, depth, scale=plain.scale, name=name)
    deeper = {k: w for k, w in weights.items() if not k.startswith("body")}
    for k in range(depth):
        # Old ones at the places k where floor(k · had / depth) goes up, beginning with the first.
        old, place = k * had // depth, f"body{k}"
        if k == 0 or old > (k - 1) * had // depth:
            deeper[f"{place}.weight"] = weights[f"body{old}.weight"]
            deeper[f"{place}.bias"] = weights[f"body{old}.bias"]
        else:
            deeper[f"{place}.weight"] = np.zeros((narrow, narrow, 3, 3), np.float32)
            deeper[f"{place}.bias"] = np.zeros(narrow, np.float32)
            _middle(deeper[f"{place}.weight"], narrow)
    return graph, _widen(graph, deeper, np.random.default_rng(seed))


def _widen(graph: Graph, narrow: Weights, rng: np.random.Generator) -> Weights:
    """The weights of `narrow` in the first channels of `graph`'s layers."""
    made = {}
    for conv in graph.convs():
        small = narrow[f"{conv.name}.weight"]
        out, into = small.shape[:2]
        kernel = np.zeros((conv.out, graph.channels[conv.inputs[0]], *small.shape[2:]), np.float32)
        kernel[out:] = rng.normal(0, (2 / kernel[0].size) ** 0.5, kernel[out:].shape)
        kernel[:out, :into] = small
        bias = np.zeros(conv.out, np.float32)
        bias[:out] = narrow[f"{conv.name}.bias"]
        made[f"{conv.name}.weight"], made[f"{conv.name}.bias"] = kernel, bias
    return made


def is_plain(graph: Graph) -> bool:
    """Whether `graph` is of the plain student family, whatever its activation and scale."""
    names = {layer.name for layer in graph.layers}
    return {"head", "body0", "tail", ANCHOR} <= names


def _shape(plain: Graph) -> tuple[int, int]:
    """(depth, width) of a plain student. Raises `BadConfig` for anything else."""
    convs = plain.convs()
    depth = sum(conv.name.startswith("body") for conv in convs)
    if is_plain(plain):
        expected = student(convs[0].out, depth, scale=plain.scale)
        if plain.layers == expected.layers:
            return depth, convs[0].out
    raise BadConfig(f"only a plain ReLU student can grow; '{plain.name}' is none")


def _unread(generator: Graph, seed: int) -> Weights:
    """Random weights, but zeros where they would be read; slopes are 1 behind up-convolutions.

    What reads are the convolutions whose result is added up, and the tail.
    """
    made = untrained_weights(generator, seed)
    for conv in generator.convs():
        if conv.name in ("body", "tail") or conv.name.endswith("_conv2"):
            _clear(made, conv.name, conv.out)
    for layer in generator.layers:
        if isinstance(layer, Activation):
            made[f"{layer.name}.slope"][:] = 1.0 if layer.name.startswith("up") else 0.0
    return made


def _clear(made: Weights, name: str, count: int) -> None:
    """The first `count` channels that the convolution `name` makes become 0."""
    made[f"{name}.weight"][:count] = 0.0
    made[f"{name}.bias"][:count] = 0.0


def _middle(kernel: NDArray[np.float32], count: int) -> None:
    """Channel i of the output becomes channel i of the input, for the first `count`."""
    middle, i = kernel.shape[-1] // 2, np.arange(count)
    kernel[i, i, middle, middle] = 1.0


def _head(made: Weights, weights: Weights, features: int) -> None:
    kernel, small = made["head.weight"], weights["head.weight"]
    _clear(made, "head", features + COLOURS)
    inset, end = kernel.shape[-1] // 2, features + COLOURS
    low = inset - small.shape[-1] // 2
    kernel[:features, :, low : low + small.shape[-1], low : low + small.shape[-1]] = small
    made["head.bias"][:features] = weights["head.bias"]
    kernel[np.arange(features, end), np.arange(COLOURS), inset, inset] = 1.0


def _block(
    made: Weights, name: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]
) -> None:
    n, i = len(kernel), np.arange(len(kernel))
    _clear(made, f"{name}_conv1", 2 * n)
    first, second = made[f"{name}_conv1.weight"], made[f"{name}_conv2.weight"]
    first[:n, :n] = kernel
    made[f"{name}_conv1.bias"][:n] = bias
    first[n + i, i, 1, 1] = 1.0  # what the block reads, to be taken away from its skip
    second[i, i, 1, 1] = 1.0
    second[i, n + i, 1, 1] = -1.0


def _upsampling(made: Weights, weights: Weights, features: int) -> None:
    """Tail and anchor in the first up-convolution; from there on, pixels are only moved.

    The student's channel c·16 + y·4 + x is colour c at row y, column x of a 4×4 block. With
    y = 2a + a' and x = 2b + b', the first shuffle places (a, b) and the second (a', b').
    """
    first, bias = made["up0.weight"], made["up0.bias"]
    _clear(made, "up0", 4 * 4 * COLOURS)
    _clear(made, "up1", 4 * COLOURS)
    for c in range(COLOURS):
        for y in range(4):
            for x in range(4):
                theirs = c * 16 + y * 4 + x
                finer = c * 4 + (y % 2) * 2 + x % 2
                mine = finer * 4 + (y // 2) * 2 + x // 2
                first[mine, :features] = weights["tail.weight"][theirs]
                anchor = weights[f"{ANCHOR}.weight"][theirs, :, 0, 0]
                first[mine, features : features + COLOURS, 1, 1] = anchor
                bias[mine] = weights["tail.bias"][theirs] + weights[f"{ANCHOR}.bias"][theirs]
    _middle(made["up1.weight"], 4 * COLOURS)
    _middle(made["tail.weight"], COLOURS)
