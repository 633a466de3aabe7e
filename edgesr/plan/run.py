"""`plan`: one network, and its teacher beside it, on one device and one size of picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesr import device
from edgesr.checkpoint import summary
from edgesr.device import DeviceProfile, Precision
from edgesr.errors import BadConfig
from edgesr.graph.counts import macs_per_pixel, parameters
from edgesr.graph.live import largest_live_set
from edgesr.graph.reach import halo
from edgesr.graph.spec import Graph
from edgesr.models import find
from edgesr.models.table import TEACHERS
from edgesr.plan import advice, roofline
from edgesr.plan.windows import Cut, Tile, choose_tile, cut
from edgesr.plan.work import VALUE_BYTES, layer_weight_bytes
from edgesr.report.figures import Figure, figure

FORMAT = 1
LARGEST_SIDE = 1 << 20
_TIME_FIGURES = {
    "floor_ms": "ms at least",
    "layers_ms": "ms layer by layer",
    "fps_at_most": "pictures/s at most",
    "memory_bound_share": "share of the time",
}


@dataclass(frozen=True)
class Request:
    """What to plan. `tile` is a side in input pixels, None for the device's own tiles.

    Raises `BadConfig` for a picture or tile that is none.
    """

    model: str
    target: str
    width: int
    height: int
    teacher: str | None = "srgan"
    precision: str = "auto"
    mode: str | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        if not (0 < self.width <= LARGEST_SIDE and 0 < self.height <= LARGEST_SIDE):
            raise BadConfig(
                f"no picture has {self.width}x{self.height} pixels; give 1 to {LARGEST_SIDE} a side"
            )
        if self.precision not in ("auto", *VALUE_BYTES):
            known = ", ".join(("auto", *VALUE_BYTES))
            raise BadConfig(f"precision is '{self.precision}'; may be {known}")


def plan(request: Request) -> dict[str, Any]:
    """The plan as JSON: docs/devices.md describes it. Every figure in it is estimated.

    Raises `UnknownName`, `BadModel`, `BadConfig`, `MissingExtra`.
    """
    profile = device.load(request.target)
    if request.mode is not None and not profile.modes:
        raise BadConfig(f"no power modes are known of {profile.name}; edgesr devices lists boards")
    if request.mode is not None:
        profile = profile.in_mode(request.mode)
    precision = _precision(profile, request.precision)
    roles = {"student": request.model, "teacher": request.teacher}
    models = {
        role: _model(graph_of(name), role, profile, precision, request)
        for role, name in roles.items()
        if name is not None
    }
    return {
        "format": FORMAT,
        "kind": "estimated",
        "target": profile.name,
        "title": profile.title,
        "mode": request.mode,
        "gpu_mhz": profile.gpu_mhz,
        "precision": precision,
        "image": {"width": request.width, "height": request.height},
        "models": models,
        "dla": advice.dla_verdict(profile),
        "notes": [*_notes(profile, precision), *_mode_notes(profile, request.mode)],
    }


def graph_of(name: str) -> Graph:
    """The network of a name or path, without its weights where that can be had.

    Raises as `edgesr.models.find.load_network` does.
    """
    for model in find.describe():
        weights = model.files["safetensors"]
        if model.name == name and weights is not None:
            return summary(weights).graph
    for teacher in TEACHERS:
        if teacher.name == name:
            return teacher.graph()
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        return summary(path).graph
    return find.load_network(name).graph


def _precision(profile: DeviceProfile, wanted: str) -> Precision:
    if wanted == "auto":
        return profile.precision
    for precision in profile.precisions:
        if precision == wanted:
            return precision
    has = ", ".join(profile.precisions)
    raise BadConfig(f"{profile.name} has no {wanted}; it has {has}")


def _model(
    graph: Graph, role: str, profile: DeviceProfile, precision: Precision, request: Request
) -> dict[str, Any]:
    tile = choose_tile(graph, profile, VALUE_BYTES[precision], request.tile)
    # A bundle's run.py takes the open shape for fp32 on ONNX Runtime; only students have one.
    open_shape = profile.kind == "cpu" and precision == "fp32" and role == "student"
    windows = cut(graph, tile, request.width, request.height, open_shape=open_shape)
    times = roofline.times(graph, profile, precision, windows.sizes)
    live = largest_live_set(graph, VALUE_BYTES[precision])
    tensors = live.tensors.items()
    return {
        "name": graph.name,
        "scale": graph.scale,
        "parameters": parameters(graph),
        "macs_per_pixel": macs_per_pixel(graph),
        "halo": halo(graph),
        "tile": {"fixed": windows.fixed, **asdict(tile)},
        "figures": _figures(graph, profile, precision, windows, times),
        "live_set": {"at": live.at, "bytes": {n: b * windows.largest for n, b in tensors}},
        "layers": _layers(times),
        "advice": _advice(graph, profile, windows),
        "notes": _model_notes(graph, role, profile, tile, windows),
    }


def _figures(
    graph: Graph,
    profile: DeviceProfile,
    precision: Precision,
    windows: Cut,
    times: roofline.Times | None,
) -> dict[str, Figure]:
    pixels = sum(size * count for size, count in windows.sizes.items())
    live = largest_live_set(graph, VALUE_BYTES[precision]).bytes_per_pixel * windows.largest
    weights = sum(layer_weight_bytes(graph, precision).values())
    made = {
        "windows": figure(windows.count, "windows", "estimated"),
        "overlap": figure(windows.overlap, "pixels computed per pixel", "estimated"),
        "macs": figure(macs_per_pixel(graph) * pixels, "MAC per picture", "estimated"),
        "live_bytes": figure(live, "bytes", "estimated"),
        "weight_bytes": figure(weights, "bytes", "estimated"),
        "memory_bytes": figure(live + weights, "bytes at least", "estimated"),
    }
    values: tuple[float | None, ...] = (None,) * len(_TIME_FIGURES)
    if times is not None:
        values = (1e3 * times.floor_s, 1e3 * times.layers_s, 1 / times.floor_s, times.memory_share)
    missing = _missing_rates(profile, precision)
    for (key, unit), value in zip(_TIME_FIGURES.items(), values, strict=True):
        made[key] = figure(value, unit, "estimated", note=missing)
    return made


def _missing_rates(profile: DeviceProfile, precision: Precision) -> str:
    """Why there is no time, or nothing."""
    lacking = []
    if profile.peak_ops_s(precision) is None:
        lacking.append(f"peak rate in {precision}")
    if profile.bandwidth_bytes_s is None:
        lacking.append("memory bandwidth")
    return f"{profile.name} states no {' and no '.join(lacking)}" if lacking else ""


def _layers(times: roofline.Times | None) -> list[dict[str, Any]]:
    steps = times.steps if times else ()
    return [
        {
            "name": step.name,
            "arithmetic": figure(1e3 * step.arithmetic_s, "ms", "estimated"),
            "memory": figure(1e3 * step.memory_s, "ms", "estimated"),
        }
        for step in steps
    ]


def _advice(graph: Graph, profile: DeviceProfile, windows: Cut) -> dict[str, str]:
    fp16 = roofline.times(graph, profile, "fp16", windows.sizes)
    int8 = roofline.times(graph, profile, "int8", windows.sizes)
    wide = advice.padding(graph, "fp16", profile.width_step_fp16)
    strange = advice.strangers(graph, profile.widths)
    made = {
        "int8": advice.int8_verdict(profile, fp16, int8),
        "2:4": advice.sparsity_verdict(profile, advice.sparsity(graph)),
        "widths": advice.strangers_verdict(strange, profile.widths)
        if strange
        else advice.padding_verdict(wide),
    }
    if profile.width_step_int8 is not None:
        narrow = advice.padding(graph, "int8", profile.width_step_int8)
        made["widths in int8"] = advice.padding_verdict(narrow)
    return made


def _model_notes(
    graph: Graph, role: str, profile: DeviceProfile, tile: Tile, windows: Cut
) -> list[str]:
    notes = []
    if tile.fits is False:
        notes.append(
            f"{graph.name}: even its smallest tile needs much of the memory of {profile.name}; "
            "expect the builder to run out of it"
        )
    listed = [(t.height, t.width) for t in profile.tiles]
    first = next((s for s in listed if min(s) > 2 * halo(graph)), None)
    if first not in (None, (tile.height, tile.width)) and tile.fits is not False:
        notes.append(f"{graph.name}: export it with --tile {tile.width}")
    if not windows.fixed and role == "teacher":
        notes.append(f"{graph.name}: a bundle has no teacher for pictures below its tile")
    return notes


def _notes(profile: DeviceProfile, precision: Precision) -> list[str]:
    builder = ", and the builder up to 40 % of what is free while it works"
    notes = [
        "memory is the largest live set and the weights; an engine takes more"
        + (builder if profile.kind != "cpu" else "")
    ]
    missing = _missing_rates(profile, precision)
    if missing:
        notes.append(f"{missing}, so no time: edgesr bench on the device measures it")
    else:
        notes.append(
            "times hold for direct convolution at the profile's peak rates"
            + (f" ({profile.gpu_mhz} MHz)" if profile.gpu_mhz else "")
            + "; Winograd's kernels need up to 2.25 times less arithmetic in 3×3 layers"
        )
        used = ("bandwidth_bytes_s", f"peak_{precision}_ops_s")
        doubtful = [fact for fact in used if not profile.verified(fact)]
        if doubtful:
            notes.append(f"unverified in the profile: {', '.join(doubtful)}")
    return notes


def _mode_notes(profile: DeviceProfile, asked: str | None) -> list[str]:
    """That the board does not start in the mode that the rates are for."""
    usual = next((mode for mode in profile.modes if mode.default), None)
    if asked is not None or usual is None or usual.gpu_mhz == profile.gpu_mhz:
        return []
    clock = f"{usual.gpu_mhz} MHz" if usual.gpu_mhz else "a clock that is not known here"
    return [f"the board starts in mode {usual.name}, its GPU at {clock}"]
