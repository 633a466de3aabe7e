"""`export`: a network and its teacher as a bundle that builds, runs and checks itself.

Needs onnx and onnxruntime, never torch. What goes into a bundle is in `edgesr.bundle`: what is
written in `networks`, where int8 scales come from in `scales`, what a hop may lose in `gates`,
and which layers leave int8 in `repair`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from edgesr import device
from edgesr.atomic import atomic_folder, refuse_overwrite
from edgesr.bundle import choices, manifest, photographs, writing
from edgesr.bundle.networks import Role, tile_of
from edgesr.bundle.scales import MAX_DROP_DB, Scales, find_scales, need_scales
from edgesr.checkpoint import Checkpoint
from edgesr.device import DeviceProfile
from edgesr.errors import BadConfig, GateNotMet, MissingExtra, WouldOverwrite
from edgesr.models.find import int8_name, load_network

Precision = Literal["auto", "fp32", "fp16", "int8"]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Bundle:
    """Where a bundle was written, and its manifest."""

    path: Path
    manifest: manifest.Manifest


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
    calib: Path | None = None,
    max_drop_db: float | None = None,
    yes: bool = False,
    log: Log = lambda line: None,
) -> Bundle:
    """Write the bundle of `student` (and `teacher`, None for none) for `target` to `out`.

    `precision` is auto, fp32 (leaves the fp16 files out), fp16 or int8 (has all three). int8
    needs a student that was trained with scales, or photographs to calibrate on in `calib`;
    auto takes int8 where there is one of them and the device has it, else the device's
    precision. int8 may lose `max_drop_db` of PSNR-Y on the photographs (None: 0.1 with trained
    scales, 0.3 with calibrated ones); layers go back to float16 until that holds. `sparsity`
    2:4 asks for a student that has the pattern. `tile` is the side of the fixed input in
    low-resolution pixels; None takes the device's. `photos` is a folder of photographs for
    golden tiles and gates; None takes shipped ones. `log` gets a line for each step. The same
    inputs give the same bytes.

    Raises `GateNotMet` when a file lost more than allowed: the bundle is there, and marked.
    Raises `WouldOverwrite`, `UnknownName`, `BadConfig`, `BadModel`, `BadImage`, `MissingExtra`.
    """
    profile = device.load(target)
    choices.check(profile, precision, sparsity)
    if max_drop_db is not None and not max_drop_db >= 0:
        raise BadConfig(f"max-drop is {max_drop_db}; give 0 dB or more")
    _refuse_foreign_folder(out, yes)
    if find_spec("onnx") is None:
        raise MissingExtra("onnx", "export", "writing ONNX files")
    networks = {"student": load_network(student)}
    sparse = choices.sparsity_of(profile, sparsity, networks["student"].weights)
    scales = _scales(profile, precision, networks["student"], calib, log, model=student)
    chosen = choices.precision_of(profile, precision, scales=scales is not None)
    if teacher is not None:
        networks["teacher"] = load_network(teacher)
    roles = tuple(
        Role(role, network, tile_of(role, network, profile, tile), precision != "fp32")
        for role, network in networks.items()
    )
    if max_drop_db is not None and scales is None:
        raise BadConfig(
            f"--max-drop limits what int8 loses, and this bundle has no int8 (precision {chosen}); "
            "leave it out"
        )
    if max_drop_db is None:
        max_drop_db = MAX_DROP_DB[scales.origin if scales else "calibrated"]
    plan = writing.Plan(
        profile, chosen, sparse, roles, photographs.load(photos), scales, max_drop_db
    )
    log(f"precision {chosen}, 2:4 sparsity {sparse['choice']}: {sparse['why']}")
    with atomic_folder(out) as folder:
        about = writing.fill(folder, plan, log)
    _refuse_missed(about, out)
    return Bundle(out, about)


def _scales(
    profile: DeviceProfile, precision: str, student: Checkpoint, calib: Path | None, log: Log,
    *, model: str | Path,
) -> Scales | None:  # fmt: skip
    """The int8 numbers where int8 is asked for, or possible under auto; None where it is not."""
    wanted = precision == "int8" or (precision == "auto" and "int8" in profile.precisions)
    if not wanted:
        if calib is not None:
            raise BadConfig(
                f"--calib finds int8 scales, but this bundle has no int8: {profile.name} runs "
                f"{', '.join(profile.precisions)}, --precision is {precision}; leave one out"
            )
        return None
    scales = find_scales(student, calib, log)
    if scales is None and precision == "int8":
        raise need_scales(student.graph.name, int8_name(model))
    return scales


def _refuse_foreign_folder(out: Path, yes: bool) -> None:
    """A folder is replaced as a whole, so with -y it must be a bundle or empty."""
    if out.is_dir() and any(out.iterdir()) and not manifest.is_bundle(out):
        raise WouldOverwrite(f"{out} is a folder but no bundle; choose another with -o")
    refuse_overwrite(out, yes)


def _refuse_missed(about: manifest.Manifest, out: Path) -> None:
    missed = [g for g in about.gates if g["failures"]]
    if not missed:
        return
    first = missed[0]
    fix = "that is a fault of EdgeSR or of ONNX Runtime: please report it"
    if "fp16" in first["hop"]:
        fix = "--precision fp32 exports without fp16"
    if "int8" in first["hop"]:
        fix = (
            "train for int8 (edgesr compress, a quantize stage), calibrate on more photographs "
            "(--calib), allow more (--max-drop), or export with --precision fp16"
        )
    raise GateNotMet(
        f"{first['hop']}: {'; '.join(first['failures'])}. The bundle is kept in {out} and "
        f"marked; {fix}"
    )
