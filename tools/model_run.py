"""What a finished run folder of `edgesr compress` says about the model that came of it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from edgesr import checkpoint, config, machine
from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig, BadModel
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.models import cards
from edgesr.models.cards import Source, TrainingRun
from edgesr.models.table import TEACHERS
from edgesr.training import data
from edgesr.training.recipe import Recipe
from edgesr.training.run import Request, RunFolder, data_manifest, weights_hash

INT8_FILE = "student.int8.ort.onnx"
_LEG_KEYS = ("leg", "kind", "method", "steps", "psnr_y", "ssim_y", "psnr_rgb")
# What of a CPU decides how fast it trains, as /proc/cpuinfo calls it and as people do.
_FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_bf16": "avx512_bf16",
    "avx512_vnni": "avx512_vnni",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "NEON",
    "bf16": "bf16",
    "i8mm": "i8mm",
}


@dataclass(frozen=True)
class FinishedRun:
    """A run folder that is done: what was asked, what came out, and its report."""

    folder: Path
    recipe: Recipe
    request: Request
    inputs: dict[str, Any]
    student: Checkpoint
    report: dict[str, Any]

    @property
    def weights_hash(self) -> str:
        """Of the student: what a run that starts from it keeps as the hash of its start."""
        return weights_hash(self.student.weights)


def open_run(folder: Path) -> FinishedRun:
    """The finished run in `folder`.

    Raises `BadConfig` for another folder, and `BadModel` when the run is not done, has missed
    its gate or budget, or its student was put there by something else.
    """
    recipe, request, inputs = RunFolder(folder).reopen()
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        missed, conditions = report["missed"], report["conditions"]
    except FileNotFoundError as e:
        raise BadModel(f"{folder}: not done yet; edgesr compress --resume {folder}") from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadModel(f"{folder}: its report.json cannot be read; train it again") from e
    if missed:
        raise BadModel(f"{folder}: it missed its gate ({missed}); a bundled model may not")
    if conditions.get("seconds", 0.0) <= 0.0:
        raise BadModel(f"{folder}: its report has no training time")
    student = checkpoint.load(folder / "student.safetensors")
    if student.lineage.get("data") != inputs["data"]:
        raise BadModel(f"{folder}: its student.safetensors is not of this run")
    return FinishedRun(folder, recipe, request, inputs, student, report)


def check_chain(runs: Sequence[FinishedRun], past: str | None = None) -> None:
    """Raise `BadModel` unless each run began from the one before.

    The first began anew, or from the bundled model whose weights have the hash `past`.
    """
    before: FinishedRun | None = None
    for run in runs:
        start = run.inputs.get("student")
        if before is None and start != past:
            raise BadModel(
                f"{run.folder} started from another network ({run.request.student}), of whose data "
                "nothing is known here: give the run that made it with --earlier"
            )
        if before is not None and start != before.weights_hash:
            raise BadModel(f"{run.folder} did not start from the student of {before.folder}")
        before = run


def int8_file(run: FinishedRun, parent: FinishedRun) -> bytes:
    """The int8 ONNX file, in ONNX Runtime's form, of a run that quantised `parent`'s student.

    Raises `BadModel` when it did not, or the file is not that of the run's own scales.
    """
    if run.student.quant is None:
        raise BadModel(f"{run.folder}: its student is not int8; it needs a quantize stage")
    if run.inputs.get("student") != parent.weights_hash:
        raise BadModel(
            f"{run.folder}: its int8 network was not made from the student of {parent.folder}; "
            f"train it with --student {parent.folder}"
        )
    if run.student.graph != parent.student.graph:
        raise BadModel(f"{run.folder}: its network is another than that of {parent.folder}")
    path = run.folder / INT8_FILE
    written = path.read_bytes() if path.is_file() else b""
    made = to_onnx_int8(run.student.graph, run.student.weights, run.student.quant, form="ort")
    if written != made:
        raise BadModel(f"{path} is missing or not what the student's scales give; train it again")
    return written


def trained_on(
    run: FinishedRun, sources: Sequence[Mapping[str, Any]], folder: Path | None = None
) -> tuple[Source, ...]:
    """The credited sources of the pictures of a run, with the tiles it used of each.

    `folder` is where the pictures are now, by default where the run read them. Raises `BadConfig`
    when they are not those of the run, or some of them have no line in `sources`.
    """
    folder = folder or Path(run.request.data)
    paths = data.photographs(folder, run.recipe.data.exclude)
    train, held = data.split(paths, run.recipe.data.holdout)
    used = {*data.spread(train, run.recipe.data.limit), *held}
    names = [p.name for p in paths if p in used]
    if data_manifest([p for p in paths if p in used]) != run.inputs["data"]:
        raise BadConfig(
            f"the pictures in {folder} are not those that {run.folder} was trained on; give their "
            "folder with --data"
        )
    globs = [str(s["files"]) for s in sources]
    tiles = Counter(next((g for g in globs if fnmatch(name, g)), None) for name in names)
    if tiles[None]:
        first = next(n for n in names if not any(fnmatch(n, g) for g in globs))
        raise BadConfig(
            f"{tiles[None]} of {len(names)} training pictures have no credit, {first} the first; "
            "leave them out of the training, or add their source and licence to the file of "
            "--credits"
        )
    return tuple(
        Source(s["source"], s["licence"], min(s["pictures"], tiles[s["files"]]), tiles[s["files"]])
        for s in sources
        if tiles[s["files"]]
    )


def teacher_credits(run: FinishedRun, box: Path) -> tuple[str, ...]:
    """The credits of the distillation teacher; none for a run without one.

    A teacher out of `box` hands on those of its own teachers. Raises `BadConfig` for a teacher that
    is not known by name: it has no line that credits it.
    """
    if not run.request.teacher:
        return ()
    card = box / f"{run.request.teacher}.json"
    if card.is_file() and card.parent == box:
        credits = cards.loads(card.read_text(encoding="utf-8"), card.name).credits
        return (f"{run.request.teacher}: EdgeSR's own, bundled; see its card", *credits)
    for teacher in TEACHERS:
        if teacher.name == run.request.teacher and teacher.credit:
            return (f"{teacher.name}: {teacher.credit}",)
    raise BadConfig(
        f"{run.folder}: its teacher '{Path(run.request.teacher).name}' has no credit; a bundled "
        "model follows a teacher of edgesr/models/table.py"
    )


def training_run(
    run: FinishedRun, form: Literal["fp32", "int8"], start: str, hardware: str
) -> TrainingRun:
    """What the card keeps of a run; `hardware` overrides what is found on this machine."""
    legs = run.report["legs"]
    return TrainingRun(
        form=form,
        recipe=json.loads(json.dumps(dataclasses.asdict(run.recipe))),
        teacher=run.request.teacher,
        start=start,
        steps=sum(int(leg["steps"]) for leg in legs),
        hours=round(float(run.report["conditions"]["seconds"]) / 3600.0, 4),
        hardware=hardware or hardware_of(run.report["conditions"]),
        versions=dict(run.report["conditions"]["versions"]),
        legs=tuple({k: leg[k] for k in _LEG_KEYS if leg.get(k) not in (None, "")} for leg in legs),
    )


def hardware_of(conditions: Mapping[str, Any], root: Path = Path("/")) -> str:
    """The machine of a run in plain words: cores, processor, what it multiplies with, threads.

    `root` holds `proc/cpuinfo`. Raises `BadConfig` where this is not the machine of the run.
    """
    here = machine.processor(root)
    if conditions["device"] != "cpu" or conditions["processor"] != (here or os.uname().machine):
        raise BadConfig(
            f"the run was on {conditions['device']}, {conditions['processor']}, and this machine "
            f"is {here or 'another'}: say what it ran on with --hardware"
        )
    cores = len(os.sched_getaffinity(0))
    flags = ", ".join(word for flag, word in _FLAGS.items() if flag in _cpu_flags(root))
    threads, processes = conditions["threads"], conditions["processes"]
    work = f"{threads} {'thread' if threads == 1 else 'threads'}"
    if processes > 1:
        work = f"{processes} processes of {work}"
    core = f"{cores} {'core' if cores == 1 else 'cores'}"
    return f"{work} of a machine with {core} ({here}{f': {flags}' if flags else ''})"


def _cpu_flags(root: Path) -> set[str]:
    for line in (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def read_sources(path: Path) -> list[dict[str, Any]]:
    """The credited sources: JSON, each with `files` (a glob), `source`, `pictures`, `licence`.

    Raises `BadConfig` for anything else.
    """
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))
        for source in sources:
            config.from_dict(_Credit, source, str(path))
    except (OSError, ValueError, TypeError) as e:
        raise BadConfig(f"{path}: no list of training sources ({e})") from e
    return list(sources)


@dataclass(frozen=True)
class _Credit:
    files: str
    source: str
    pictures: int
    licence: str
