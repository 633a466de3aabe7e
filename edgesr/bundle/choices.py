"""What a bundle is made in: which precision, and whether its zeros are worth a flag."""

from __future__ import annotations

from typing import Any

from edgesr import sparsity
from edgesr.device import DeviceProfile
from edgesr.errors import BadConfig
from edgesr.graph.spec import Weights

PRECISIONS = ("auto", "fp32", "fp16", "int8")
SPARSITIES = ("auto", "none", "2:4")
_FEW_CHANNELS = (
    "TensorRT seldom picks 2:4 kernels below 256 channels and these networks have fewer; "
    "fewer channels (compress) are what pays"
)


def check(profile: DeviceProfile, precision: str, sparse: str) -> None:
    """Raise `BadConfig` for words that are none, and for int8 where the device has none."""
    for what, wanted, known in (
        ("precision", precision, PRECISIONS),
        ("sparsity", sparse, SPARSITIES),
    ):
        if wanted not in known:
            raise BadConfig(f"{what} is '{wanted}'; may be {', '.join(known)}")
    if precision == "int8" and "int8" not in profile.precisions:
        raise BadConfig(
            f"{profile.name} has no int8 arithmetic ({profile.sources['precisions']}); "
            f"it runs {', '.join(profile.precisions)}"
        )


def precision_of(profile: DeviceProfile, wanted: str, *, scales: bool) -> str:
    """`wanted`, or for `auto` what the device's profile allows and the network can.

    int8 where the device has it and there are `scales` (trained, or pictures for them), since
    they are there for nothing else; else the profile's own choice, never int8.
    """
    if wanted != "auto":
        return wanted
    if scales and "int8" in profile.precisions:
        return "int8"
    if profile.precision != "int8":
        return profile.precision
    return next(p for p in ("fp16", "fp32") if p in profile.precisions)


def sparsity_of(profile: DeviceProfile, wanted: str, weights: Weights) -> dict[str, Any]:
    """What the manifest says about 2:4: `choice` (`2:4` or `none`), `why`, the layers.

    `eligible` counts the convolutions whose input channels come in fours, `in_pattern` those of
    them that have at most two non-zeros in each four. `auto` is 2:4 for a network that has the
    pattern in all of them, on a device that has kernels for it. Raises `BadConfig` when 2:4 is
    asked for and the network has not the pattern.
    """
    layers = sparsity.eligible(weights)
    dense = [n for n in layers if sparsity.violations(weights[f"{n}.weight"])]
    counts = {"eligible": len(layers), "in_pattern": len(layers) - len(dense)}
    has_pattern = bool(layers) and not dense
    if wanted == "2:4" and not has_pattern:
        raise BadConfig(_refusal(layers, dense))
    if wanted == "none":
        return {"choice": "none", "why": "asked for with --sparsity none", **counts}
    if not has_pattern:
        return {"choice": "none", "why": f"the network is not 2:4. {_FEW_CHANNELS}", **counts}
    if profile.sparse_tensor_cores:
        return {"choice": "2:4", "why": f"every eligible layer is 2:4. {_FEW_CHANNELS}", **counts}
    nothing = f"{profile.name} has no sparse tensor cores: the zeros bring nothing there"
    return {"choice": wanted if wanted == "2:4" else "none", "why": nothing, **counts}


def _refusal(layers: tuple[str, ...], dense: list[str]) -> str:
    if not layers:
        return "--sparsity 2:4: no convolution of this network has input channels in fours"
    shown = ", ".join(dense[:3]) + (" …" if len(dense) > 3 else "")
    return (
        f"--sparsity 2:4: {len(dense)} of {len(layers)} eligible layers are not 2:4 ({shown}); "
        'prune the network first: edgesr compress with a stage of kind = "prune" and '
        'method = "2:4" (benchmarks/recipes/two-four.toml)'
    )
