"""The networks of a bundle while it is written: their ONNX files and golden tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgesr.bundle import golden, manifest, photographs
from edgesr.checkpoint import Checkpoint
from edgesr.device import DeviceProfile
from edgesr.errors import BadConfig
from edgesr.graph.counts import macs_per_pixel, parameters
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import FORMS, to_onnx_int8
from edgesr.graph.quant import QuantSpec
from edgesr.graph.reach import halo
from edgesr.runtime.ort import OrtRuntime

GOLDEN_TILES = {"student": 3, "teacher": 1}  # the teacher takes seconds a tile
WINDOW = 96  # low-resolution pixels of a golden output that are kept, along each side
SMALL = (45, 61)  # odd on purpose: a picture for the network of open shape


@dataclass(frozen=True)
class Role:
    """One network of the bundle; `role` is `student` or `teacher`, `tile` (height, width).

    `half` asks for fp16 files, `quant` for int8 ones.
    """

    role: str
    network: Checkpoint
    tile: tuple[int, int]
    half: bool
    quant: QuantSpec | None = None


def tile_of(
    role: str, network: Checkpoint, profile: DeviceProfile, side: int | None
) -> tuple[int, int]:
    """The fixed input: `side` × `side`, or the device's first tile that has an exact middle.

    Raises `BadConfig` when the network looks too far for any.
    """
    reach = halo(network.graph)
    sizes = [(side, side)] if side else [(t.height, t.width) for t in profile.tiles]
    fitting = [size for size in sizes if min(size) > 2 * reach]
    if not fitting:
        leave = ", or leave the teacher out with --no-teacher" if role == "teacher" else ""
        raise BadConfig(
            f"{role} '{network.graph.name}' looks {reach} pixels far, so a tile of "
            f"{min(sizes[0])} has no exact middle: give --tile {64 * (2 * reach // 64 + 2)}{leave}"
        )
    return fitting[0]


def onnx_files(role: Role) -> dict[str, dict[str, bytes]]:
    """The bytes of the role's ONNX files by shape (`tile`, `dynamic`) and form."""
    graph, weights = role.network.graph, role.network.weights
    fixed = {"fp32": to_onnx(graph, weights, shape=role.tile)}
    if role.half:
        fixed["fp16"] = to_onnx(graph, weights, precision="fp16", shape=role.tile)
    files = {"tile": fixed}
    if role.role == "student":  # pictures smaller than the tile
        files["dynamic"] = {"fp32": to_onnx(graph, weights)}
    if role.quant is not None and role.quant.scales:
        for form in FORMS:
            fixed[f"int8.{form}"] = to_onnx_int8(
                graph, weights, role.quant, form=form, shape=role.tile
            )
        files["dynamic"]["int8.ort"] = to_onnx_int8(graph, weights, role.quant, form="ort")
    return files


def file_name(role: str, shape: str, form: str) -> str:
    """Such as student.fp16.onnx, student.dynamic.int8.ort.onnx."""
    return ".".join([role, *([] if shape == "tile" else [shape]), form, "onnx"])


def model_of(role: Role, files: Mapping[str, Mapping[str, bytes]]) -> manifest.Model:
    """The role's entry in the manifest."""
    graph = role.network.graph
    names = {
        shape: {form: file_name(role.role, shape, form) for form in forms}
        for shape, forms in files.items()
    }
    return manifest.Model(
        name=graph.name,
        scale=graph.scale,
        halo=halo(graph),
        parameters=parameters(graph),
        macs_per_pixel=macs_per_pixel(graph),
        tile=role.tile,
        onnx=names,
        lineage=role.network.lineage,
    )


def described(models: Mapping[str, manifest.Model]) -> dict[str, dict[str, str]]:
    """Of every ONNX file, by name: role, shape, precision and form, as the manifest lists them."""
    found = {}
    for role, model in models.items():
        for shape, names in model.onnx.items():
            for key, name in names.items():
                precision, _, form = key.partition(".")
                found[name] = {"role": role, "shape": shape, "precision": precision,
                               "form": form or "plain"}  # fmt: skip
    return found


def write_golden(
    folder: Path, role: Role, model: manifest.Model, pictures: list[photographs.Tile]
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
