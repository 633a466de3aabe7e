"""What int8, 2:4 sparsity, other widths and the DLA can bring to a network on a device, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgesr.device import DLA_REFUSED, DeviceProfile, Precision
from edgesr.graph.counts import layer_macs
from edgesr.graph.spec import INPUT, Conv, Graph
from edgesr.plan.roofline import Times

# NVIDIA/apex, contrib/sparsity/asp.py: the layers that its 2:4 masks go to.
ELIGIBLE_IN, ELIGIBLE_OUT = 16, 8
# NVIDIA/TensorRT issues 3849 and 4065: where sparse kernels begin to win.
PICKED_FROM = 256


@dataclass(frozen=True)
class Padding:
    """Arithmetic lost when channels are rounded up to a multiple of `step`.

    `share` is the part of the padded network's arithmetic that is padding, 0 to 1. `widths`
    maps a channel count that could be another to (what it is padded to, how many
    convolutions write it). The picture's channels and those of the last convolutions are
    given by the task, and not in it; they are in `share`.
    """

    precision: Precision
    step: int
    share: float
    widths: dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Sparsity:
    """Convolutions by how well their shape suits 2:4: all, eligible, and wide both ways."""

    convolutions: int
    eligible: int
    wide: int
    macs_share: float  # of the eligible ones, 0 to 1


def padding(graph: Graph, precision: Precision, step: int) -> Padding:
    """What a channel step of `step` costs `graph`."""
    real = padded = 0
    widths: Counter[int] = Counter()
    given = _given_by_the_task(graph)
    for conv in graph.convs():
        cin = graph.channels[conv.inputs[0]]
        area = conv.kernel**2 * graph.sizes[conv.name] ** 2
        real += cin * conv.out * area
        padded += _up(cin, step) * _up(conv.out, step) * area
        if conv.out % step and conv.name not in given:
            widths[conv.out] += 1
    kept = {width: (_up(width, step), count) for width, count in sorted(widths.items())}
    return Padding(precision, step, 1 - real / padded if padded else 0.0, kept)


def sparsity(graph: Graph) -> Sparsity:
    """How many convolutions of `graph` have a shape for 2:4."""
    convs = graph.convs()
    eligible = [c for c in convs if _inputs(graph, c) % ELIGIBLE_IN == 0]
    eligible = [c for c in eligible if c.out % ELIGIBLE_OUT == 0]
    wide = [c for c in eligible if min(_inputs(graph, c), c.out) >= PICKED_FROM]
    macs = layer_macs(graph)
    share = sum(macs[c.name] for c in eligible) / sum(macs.values()) if macs else 0.0
    return Sparsity(len(convs), len(eligible), len(wide), share)


def int8_verdict(profile: DeviceProfile, fp16: Times | None, int8: Times | None) -> str:
    """What int8 can bring over fp16; None for times that the profile has no rates for."""
    if "int8" not in profile.precisions:
        return f"cannot help: {profile.name} computes {' and '.join(profile.precisions)} only"
    scales = "It needs a quantised student (a quantize stage) or photographs (export --calib)"
    if profile.kind == "cpu":
        return f"may help or hurt, which depends on the CPU: edgesr bench decides. {scales}"
    if fp16 is None or int8 is None:
        return f"cannot be bounded without the card's rates; fp16 is the safe choice. {scales}"
    gain = fp16.layers_s / int8.layers_s
    return (
        f"at most {gain:.1f} times faster than fp16, layer by layer {milliseconds(int8.layers_s)} "
        f"instead of {milliseconds(fp16.layers_s)} ms; less, where layers stay in fp16 and values "
        f"are converted between. {scales}"
    )


def sparsity_verdict(profile: DeviceProfile, found: Sparsity) -> str:
    """What 2:4 can bring to a network of these shapes."""
    if profile.kind == "cpu":
        return "cannot help: ONNX Runtime multiplies zeros like any number; fewer channels pay"
    why = profile.sources["sparse_tensor_cores"].rstrip(".")
    if not profile.sparse_tensor_cores and profile.kind == "jetson":
        return f"cannot help on {profile.name} ({why}); fewer channels pay"
    shapes = (
        f"{found.eligible} of {found.convolutions} convolutions have the shape "
        f"({100 * found.macs_share:.0f} % of the arithmetic)"
    )
    if not profile.sparse_tensor_cores:
        shapes = f"it depends on the card ({why}); {shapes}"
    if not found.wide:
        return (
            f"not to be expected: {shapes}, but none has {PICKED_FROM} channels in and out, "
            "below which TensorRT seldom takes its sparse kernels; fewer channels pay"
        )
    return (
        f"may help: {shapes}, {found.wide} of them with {PICKED_FROM} channels in and out; "
        "build.py --sparse-weights lets TensorRT try"
    )


def strangers(graph: Graph, measured: tuple[int, ...]) -> tuple[int, ...]:
    """The widths of `graph` that are none of `measured`, the ones found to run well."""
    given = _given_by_the_task(graph)
    widths = {conv.out for conv in graph.convs() if conv.name not in given}
    return tuple(sorted(widths - set(measured))) if measured else ()


def strangers_verdict(found: tuple[int, ...], measured: tuple[int, ...]) -> str:
    """Which widths are none of the measured good ones, and what those are."""
    listed, good = (", ".join(map(str, widths)) for widths in (found, measured))
    return f"{listed} channels are none of the widths that ran well on CPUs ({good})"


def padding_verdict(found: Padding) -> str:
    """Which widths waste arithmetic, and what they are padded to."""
    lost = f"{100 * found.share:.0f} % of the arithmetic is on padding"
    if not found.widths:
        where = "where the picture's channels or a shuffle's go in or out"
        rest = f"; {lost}, {where}" if found.share >= 0.005 else ""
        return f"every width is a multiple of {found.step}{rest}"
    listed = ", ".join(
        f"{width} → {to} in {count} layer{'s' if count > 1 else ''}"
        for width, (to, count) in found.widths.items()
    )
    return f"channels come in steps of {found.step}: {listed}; {lost} (unverified for TensorRT)"


def dla_verdict(profile: DeviceProfile) -> str:
    """Why the DLA is not used, or that there is none."""
    return DLA_REFUSED if profile.dla else "none on this device"


def milliseconds(seconds: float) -> str:
    """Three digits, of which more would claim a precision that a bound has not."""
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _up(channels: int, step: int) -> int:
    return -(-channels // step) * step


def _inputs(graph: Graph, conv: Conv) -> int:
    return graph.channels[conv.inputs[0]]


def _given_by_the_task(graph: Graph) -> set[str]:
    """The convolutions whose width the output's channels fix: no other lies behind them."""
    layers = {layer.name: layer for layer in graph.layers}
    found, waiting = set(), [graph.output]
    while waiting:
        name = waiting.pop()
        if name == INPUT or name in found:
            continue
        found.add(name)
        if not isinstance(layers[name], Conv):
            waiting.extend(layers[name].inputs)
    return {name for name in found if isinstance(layers[name], Conv)}
