"""`export`: a network and its teacher as a bundle that builds, runs and checks itself.

Needs onnx and onnxruntime, never torch. Every file is held against the one before it: the
graph computed by numpy, the fp32 ONNX, the fp16 ONNX, what ONNX Runtime makes of them. What
a hop may lose is in `edgesr.bundle.gates`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

import edgesr
from edgesr import device
from edgesr.atomic import atomic_folder, refuse_overwrite
from edgesr.bundle import golden, kit, manifest, photographs, readme, reference, verify
from edgesr.bundle.gates import LIMITS, difference, failures
from edgesr.checkpoint import Checkpoint
from edgesr.device import DeviceProfile
from edgesr.errors import BadConfig, GateNotMet, MissingExtra, WouldOverwrite
from edgesr.graph.counts import macs_per_pixel, parameters
from edgesr.graph.onnx import to_onnx
from edgesr.graph.reach import halo
from edgesr.models.find import load_network
from edgesr.runtime.ort import OrtRuntime

Precision = Literal["auto", "fp32", "fp16"]
Log = Callable[[str], None]

GOLDEN_TILES = {"student": 3, "teacher": 1}  # the teacher takes seconds a tile
WINDOW = 96  # low-resolution pixels of a golden output that are kept, along each side
SMALL = (45, 61)  # odd on purpose: a picture for the network of open shape
CROP = (32, 40)  # what numpy computes
NO_SPARSITY = (
    "TensorRT seldom picks 2:4 kernels below 256 channels and these networks have fewer; "
    "fewer channels (compress) are what pays"
)


@dataclass(frozen=True)
class Bundle:
    """Where a bundle was written, and its manifest."""

    path: Path
    manifest: manifest.Manifest


@dataclass(frozen=True)
class _Role:
    """One network of the bundle while it is written."""

    role: str
    network: Checkpoint
    tile: tuple[int, int]
    precisions: tuple[Literal["fp32", "fp16"], ...]


def export_bundle(
    student: str | Path,
    *,
    teacher: str | Path | None = "srgan",
    target: str,
    out: Path,
    precision: str = "auto",
    sparsity: str = "auto",
    tile: int | None = None,
    photos: Path | None = None,
    yes: bool = False,
    log: Log = lambda line: None,
) -> Bundle:
    """Write the bundle of `student` (and `teacher`, None for none) for `target` to `out`.

    `precision` is auto (the device's), fp16 or fp32; fp32 leaves the fp16 files out. `tile`
    is the side of the fixed input in low-resolution pixels; None takes the device's. `photos`
    is a folder of photographs for the golden tiles; None takes shipped ones. `log` gets a
    line for each step. The same inputs give the same bytes.

    Raises `GateNotMet` when a file lost more than allowed: the bundle is there, and marked.
    Raises `WouldOverwrite`, `UnknownName`, `BadConfig`, `BadModel`, `BadImage`, `MissingExtra`.
    """
    profile = device.load(target)
    chosen = _precision(profile, precision)
    _refuse_sparsity(sparsity)
    _refuse_foreign_folder(out, yes)
    if find_spec("onnx") is None:
        raise MissingExtra("onnx", "export", "writing ONNX files")
    roles = [_role("student", student, profile, tile, precision)]
    if teacher is not None:
        roles.append(_role("teacher", teacher, profile, tile, precision))
    pictures = photographs.load(photos)
    with atomic_folder(out) as folder:
        about = _fill(folder, profile, chosen, roles, pictures, log)
    missed = [g for g in about.gates if g["failures"]]
    if missed:
        first = missed[0]
        raise GateNotMet(
            f"{first['hop']}: {'; '.join(first['failures'])}. The bundle is kept in {out} and "
            "marked; --precision fp32 exports without fp16"
        )
    return Bundle(out, about)


def _precision(profile: DeviceProfile, wanted: str) -> str:
    if wanted == "int8":
        raise BadConfig("int8 bundles are not in this version; export fp16 or fp32")
    if wanted not in ("auto", "fp32", "fp16"):
        raise BadConfig(f"precision is '{wanted}'; may be auto, fp32, fp16")
    return profile.precision if wanted == "auto" else wanted


def _refuse_sparsity(wanted: str) -> None:
    if wanted == "2:4":
        raise BadConfig(f"2:4 bundles are not in this version: {NO_SPARSITY}")
    if wanted not in ("auto", "none"):
        raise BadConfig(f"sparsity is '{wanted}'; may be auto, none")


def _refuse_foreign_folder(out: Path, yes: bool) -> None:
    """A folder is replaced as a whole, so with -y it must be a bundle or empty."""
    if out.is_dir() and any(out.iterdir()) and not manifest.is_bundle(out):
        raise WouldOverwrite(f"{out} is a folder but no bundle; choose another with -o")
    refuse_overwrite(out, yes)


def _role(
    role: str, name: str | Path, profile: DeviceProfile, tile: int | None, precision: str
) -> _Role:
    network = load_network(name)
    reach = halo(network.graph)
    sizes = [(tile, tile)] if tile else [(t.height, t.width) for t in profile.tiles]
    fitting = [size for size in sizes if min(size) > 2 * reach]
    if not fitting:
        leave = ", or leave the teacher out with --no-teacher" if role == "teacher" else ""
        raise BadConfig(
            f"{role} '{network.graph.name}' looks {reach} pixels far, so a tile of "
            f"{min(sizes[0])} has no exact middle: give --tile {64 * (2 * reach // 64 + 2)}{leave}"
        )
    return _Role(role, network, fitting[0], ("fp32",) if precision == "fp32" else ("fp32", "fp16"))


def _fill(
    folder: Path,
    profile: DeviceProfile,
    precision: str,
    roles: list[_Role],
    pictures: list[photographs.Tile],
    log: Log,
) -> manifest.Manifest:
    """Write everything into `folder`; the manifest comes last, with the hashes."""
    (folder / "golden").mkdir()
    models: dict[str, manifest.Model] = {}
    cases: list[manifest.Golden] = []
    gates: list[dict[str, Any]] = []
    for role in roles:
        log(f"{role.role}: {role.network.graph.name}, tile {role.tile[1]}×{role.tile[0]}")
        models[role.role] = _write_onnx(folder, role)
        gates += _numpy_gates(role, pictures)
        cases += _write_golden(folder, role, models[role.role], pictures)
    kit.copy_kit(folder)
    (folder / "device.json").write_text(profile.to_json() + "\n", encoding="utf-8")
    oldest_newest = profile.tensorrt_range()
    about = manifest.Manifest(
        edgesr=edgesr.__version__,
        target=profile.name,
        precision=precision,
        sparsity={"choice": "none", "why": NO_SPARSITY},
        tensorrt=dict(zip(("oldest", "newest"), oldest_newest, strict=True))
        if oldest_newest
        else None,
        models=models,
        golden=tuple(cases),
        limits={name: dataclasses.asdict(limits) for name, limits in LIMITS.items()},
        gates=(),
        gates_passed=True,
        files={},
    )
    log("golden tiles through ONNX Runtime")
    gates += _replay_gates(folder, about)
    passed = not any(g["failures"] for g in gates)
    about = dataclasses.replace(about, gates=tuple(gates), gates_passed=passed)
    (folder / "README.md").write_text(readme.text(about, profile), encoding="utf-8")
    about = dataclasses.replace(about, files=manifest.entries(folder))
    (folder / manifest.FILE).write_text(about.dumps(), encoding="utf-8")
    return about


def _write_onnx(folder: Path, role: _Role) -> manifest.Model:
    """The role's ONNX files and its entry in the manifest."""
    graph, weights = role.network.graph, role.network.weights
    files: dict[str, dict[str, str]] = {"tile": {}}
    for precision in role.precisions:
        name = f"{role.role}.{precision}.onnx"
        data = to_onnx(graph, weights, precision=precision, shape=role.tile)
        (folder / name).write_bytes(data)
        files["tile"][precision] = name
    if role.role == "student":  # pictures smaller than the tile
        name = f"{role.role}.dynamic.fp32.onnx"
        (folder / name).write_bytes(to_onnx(graph, weights))
        files["dynamic"] = {"fp32": name}
    return manifest.Model(
        name=graph.name,
        scale=graph.scale,
        halo=halo(graph),
        parameters=parameters(graph),
        macs_per_pixel=macs_per_pixel(graph),
        tile=role.tile,
        onnx=files,
        lineage=role.network.lineage,
    )


def _numpy_gates(role: _Role, pictures: list[photographs.Tile]) -> list[dict[str, Any]]:
    """ONNX Runtime, and fp16 arithmetic, against the graph computed by numpy in float64."""
    graph, weights = role.network.graph, role.network.weights
    tile = photographs.crops(pictures, *CROP, 1)[0]
    image = tile.transpose(2, 0, 1) / 255.0
    exact = reference.evaluate(graph, weights, image).transpose(1, 2, 0)
    runtime = OrtRuntime(to_onnx(graph, weights), optimize=False)
    onnx = golden.run_tile(runtime, tile)
    runtime.close()
    gates = [_gate(f"{role.role}: graph in numpy → ONNX fp32", "fp32", exact, onnx)]
    if "fp16" in role.precisions:
        # ONNX Runtime computes fp16 in fp32 on most CPUs and would not see an overflow.
        half = reference.evaluate(graph, weights, image, half=True).transpose(1, 2, 0)
        gates.append(_gate(f"{role.role}: fp16 arithmetic in numpy", "fp16", exact, half))
    return gates


def _gate(hop: str, precision: str, expected: Any, found: Any) -> dict[str, Any]:
    lost = difference(expected, found)
    return _record(hop, lost, failures(lost, LIMITS[precision]))


def _record(hop: str, lost: Any, failed: list[str]) -> dict[str, Any]:
    numbers = dataclasses.asdict(lost) if lost else {}
    return {"hop": hop, "failures": failed, **numbers}


def _write_golden(
    folder: Path, role: _Role, model: manifest.Model, pictures: list[photographs.Tile]
) -> list[manifest.Golden]:
    """Golden inputs, and outputs by ONNX Runtime in fp32 without its optimisations."""
    cases = []
    for shape, files in model.onnx.items():
        # build.py's engine of open shape takes pictures up to the tile.
        small = min(SMALL[0], role.tile[0]), min(SMALL[1], role.tile[1])
        size, count = (role.tile, GOLDEN_TILES[role.role]) if shape == "tile" else (small, 1)
        runtime = OrtRuntime(folder / files["fp32"], optimize=False)
        for i, tile in enumerate(photographs.crops(pictures, *size, count)):
            source = f"golden/{shape}-{size[1]}x{size[0]}-{i}.npy"
            result = f"golden/{role.role}-{shape}-{i}.npy"
            window = _window(size, i, model.scale)
            np.save(folder / source, tile)
            np.save(folder / result, golden.cut(golden.run_tile(runtime, tile), window))
            cases.append(manifest.Golden(role.role, shape, source, result, window))
        runtime.close()
    return cases


def _window(size: tuple[int, int], i: int, scale: int) -> tuple[int, int, int, int]:
    """Top left, bottom right or middle of the output: with borders, and without."""
    height, width = (min(WINDOW, side) for side in size)
    part = (0.0, 1.0, 0.5)[i % 3]
    top, left = int((size[0] - height) * part), int((size[1] - width) * part)
    return top * scale, left * scale, height * scale, width * scale


def _replay_gates(folder: Path, about: manifest.Manifest) -> list[dict[str, Any]]:
    """What `verify` will find: every ONNX file, optimised, against the golden tiles."""
    targets = verify.onnx_targets(folder, about, OrtRuntime, "ONNX Runtime")
    hops = [verify.replay(folder, about, target) for target in targets]
    return [_record(f"golden tiles → {h.name}", h.difference, list(h.failures)) for h in hops]
