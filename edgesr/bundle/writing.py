"""Fill a folder with a bundle: networks, golden tiles, gates, kit, and the manifest last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import edgesr
from edgesr.bundle import hops, kit, manifest, networks, photographs, readme, verify
from edgesr.bundle.gates import LIMITS, Limits, tightened
from edgesr.bundle.judge import Judge
from edgesr.bundle.networks import Role
from edgesr.bundle.repair import Repaired, repair
from edgesr.bundle.scales import Scales
from edgesr.device import DeviceProfile
from edgesr.runtime.ort import OrtRuntime

Log = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What goes into a bundle. `roles` begin with the student; `scales` are its int8 numbers.

    `max_drop_db` is what int8 may lose of PSNR-Y.
    """

    profile: DeviceProfile
    precision: str
    sparsity: dict[str, Any]
    roles: tuple[Role, ...]
    pictures: list[photographs.Tile]
    scales: Scales | None
    max_drop_db: float


def fill(folder: Path, plan: Plan, log: Log) -> manifest.Manifest:
    """Write everything into the empty `folder`; the manifest comes last, with the hashes.

    Gates that are missed are in the manifest's `gates`, and `gates_passed` is then false.
    """
    (folder / "golden").mkdir()
    models: dict[str, manifest.Model] = {}
    cases: list[manifest.Golden] = []
    gates: list[hops.Gate] = []
    repaired = _repair(plan, log)
    for role in plan.roles:
        log(f"{role.role}: {role.network.graph.name}, tile {role.tile[1]}×{role.tile[0]}")
        gates += hops.plain_gates(role.role, role.network, plan.pictures, half=role.half)
        if repaired is not None and role.role == "student":
            role = dataclasses.replace(role, quant=repaired.quant)
            gates += hops.int8_gates(role.role, role.network, repaired, plan.pictures)
        files = networks.onnx_files(role)
        models[role.role] = networks.model_of(role, files)
        written = _write(folder, role.role, files)
        if role.role == "student" and plan.sparsity["choice"] == "2:4":
            gates += hops.sparsity_gates(written)
        cases += networks.write_golden(folder, role, models[role.role], plan.pictures)
    kit.copy_kit(folder)
    (folder / "device.json").write_text(plan.profile.to_json() + "\n", encoding="utf-8")
    about = _manifest(plan, models, cases, repaired)
    log("golden tiles through ONNX Runtime")
    about, replayed = _replayed(folder, about)
    gates += replayed
    passed = not any(g["failures"] for g in gates)
    about = dataclasses.replace(about, gates=tuple(gates), gates_passed=passed)
    (folder / "README.md").write_text(readme.text(about, plan.profile), encoding="utf-8")
    about = dataclasses.replace(about, files=_entries(folder, about))
    (folder / manifest.FILE).write_text(about.dumps(), encoding="utf-8")
    return about


def _repair(plan: Plan, log: Log) -> Repaired | None:
    if plan.scales is None:
        return None
    network = plan.roles[0].network
    judge = Judge(network.graph, network.weights, plan.pictures)
    found = repair(judge, plan.scales.quant, plan.max_drop_db, log)
    for form, quality in found.quality.items():
        log(f"int8.{form}: {quality.drop_db:+.3f} dB of PSNR-Y lost, "
            f"{quality.lost.psnr_db:.1f} dB against fp32")  # fmt: skip
    return found


def _write(folder: Path, role: str, files: dict[str, dict[str, bytes]]) -> dict[str, bytes]:
    """Write the ONNX files of a role; their bytes by name."""
    named = {
        networks.file_name(role, shape, form): data
        for shape, forms in files.items()
        for form, data in forms.items()
    }
    for name, data in named.items():
        (folder / name).write_bytes(data)
    return named


def _manifest(
    plan: Plan,
    models: dict[str, manifest.Model],
    cases: list[manifest.Golden],
    repaired: Repaired | None,
) -> manifest.Manifest:
    """The manifest before the golden tiles were replayed and the files were hashed."""
    ends = plan.profile.tensorrt_range()
    limits = {name: dataclasses.asdict(LIMITS[name]) for name in LIMITS}
    if repaired is None:
        del limits["int8"]
    return manifest.Manifest(
        edgesr=edgesr.__version__,
        target=plan.profile.name,
        precision=plan.precision,
        sparsity=plan.sparsity,
        tensorrt=dict(zip(("oldest", "newest"), ends, strict=True)) if ends else None,
        models=models,
        golden=tuple(cases),
        limits=limits,
        gates=(),
        gates_passed=True,
        files={
            name: manifest.Entry("", 0, **words, limits=limits[words["precision"]])
            for name, words in networks.described(models).items()
        },
        int8=repaired.to_json(plan.scales, plan.max_drop_db) if repaired and plan.scales else None,
    )


def _replayed(folder: Path, about: manifest.Manifest) -> tuple[manifest.Manifest, list[hops.Gate]]:
    """What `verify` will find: every ONNX file against the golden tiles, and what int8 then has.

    The thresholds of an int8 file are drawn in to what it was measured to do, but not beyond
    those of fp16, which is the rest of it on a board; those of an int8 engine are the loosest.
    """
    targets = verify.onnx_targets(
        folder, about, OrtRuntime, "ONNX Runtime",
        open_as_written=partial(OrtRuntime, optimize=False),
    )  # fmt: skip
    gates, files, drawn = [], dict(about.files), []
    for target in targets:
        hop = verify.replay(folder, about, target)
        gates.append(hops.record(f"golden tiles → {hop.name}", hop.difference, list(hop.failures)))
        name = about.models[target.model].onnx[target.shape][target.precision]
        if files[name].precision == "int8" and hop.difference is not None:
            limits = tightened(hop.difference, LIMITS["int8"], LIMITS["fp16"])
            files[name] = dataclasses.replace(files[name], limits=dataclasses.asdict(limits))
            drawn.append(limits)
    limits_by_precision = dict(about.limits)
    if drawn:
        limits_by_precision["int8"] = dataclasses.asdict(_loosest(drawn))
    return dataclasses.replace(about, files=files, limits=limits_by_precision), gates


def _loosest(limits: list[Limits]) -> Limits:
    return Limits(
        psnr_db=min(x.psnr_db for x in limits),
        beyond_one_share=max(x.beyond_one_share for x in limits),
        mean_shift_levels=max(x.mean_shift_levels for x in limits),
    )


def _entries(folder: Path, about: manifest.Manifest) -> dict[str, manifest.Entry]:
    """Hash and size of every file, with what `about` says of the ONNX files."""
    found = manifest.entries(folder)
    for name, told in about.files.items():
        found[name] = dataclasses.replace(told, sha256=found[name].sha256, bytes=found[name].bytes)
    return found
