"""How a run ends: which student is the result, and the report about it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgesr import atomic, checkpoint, machine
from edgesr.errors import BadImage
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.report import run as run_report
from edgesr.report.crops import Pixels, sheets, telling_crops
from edgesr.report.run_curves import curves_of
from edgesr.sparsity import FEW_ZEROS, ZEROS_SENTENCE
from edgesr.training.legs import last_within_drop, rate_factor
from edgesr.training.lpips import why_not
from edgesr.training.measure import SIZE, cpu_ms, measures_lpips, sizes
from edgesr.training.reduce import budget_of, limit_of
from edgesr.training.run import versions
from edgesr.training.setup import Run
from edgesr.training.validate import (
    Picture,
    bicubic_upscaler,
    network_upscaler,
    quality,
    student_upscaler,
    test_set,
)

History = Sequence[Mapping[str, Any]]


def finish(run: Run, history: History) -> str:
    """Write the result and its report into the run folder; what was missed, '' when nothing."""
    chosen, missed = choose(run, history)
    best = checkpoint.load(run.folder.leg_checkpoint(chosen))
    checkpoint.save(run.folder.student, best)
    if best.quant is not None:
        for form in ("ort", "trt"):
            data = to_onnx_int8(best.graph, best.weights, best.quant, form=form)
            atomic.write_bytes(run.folder.path / f"student.int8.{form}.onnx", data)
    crops = telling_crops(_pictures(run, best))
    lines = run.folder.log_lines()
    bicubic = bicubic_upscaler(run.recipe.scale)
    teacher, said = _teacher(run)
    report = run_report.build(
        name=run.recipe.name,
        legs=history,
        chosen=chosen,
        missed=missed,
        budget=run.recipe.budget,
        student=history[chosen],
        teacher=teacher,
        bicubic=quality(bicubic, run.pairs, perceptual=measures_lpips(run)),
        held_out=[p.name for p in run.pairs],
        curves=curves_of(lines),
        crops=crops,
        notes=[*_notes(run, history, lines), *said],
        conditions=_conditions(run, history),
    )
    for name, data in sheets(crops).items():
        atomic.write_bytes(run.folder.path / name, data)
    for suffix, text in run_report.render(report, crops).items():
        atomic.write_text(run.folder.path / f"report.{suffix}", text)
    run.folder.log({"event": "done", "chosen": history[chosen]["leg"], "missed": missed})
    return missed


def choose(run: Run, history: History) -> tuple[int, str]:
    """The leg whose student is the result, and what it misses ('' when nothing)."""
    psnr = [float(h["psnr_y"]) for h in history]
    chosen, missed = last_within_drop(run.legs, psnr, run.request.max_drop)
    budget = budget_of(run.recipe, run.request.threads)
    if not missed and budget is not None:
        cost = budget.cost(checkpoint.load(run.folder.leg_checkpoint(chosen)).graph)
        limit = limit_of(run, budget)
        if cost > limit:
            missed = (
                f"{budget.show(cost)} is over the budget of {budget.show(limit)}: every layer is "
                "at its narrowest width"
            )
    return chosen, missed


def _teacher(run: Run) -> tuple[dict[str, Any] | None, list[str]]:
    """What the report says about the teacher, and notes on what could not be measured."""
    teacher = run.teacher
    if teacher is None:
        return None, []
    facts: dict[str, Any] = {
        "name": Path(run.request.teacher).name,
        **sizes(teacher.graph, teacher.weights),
        "psnr_y": None,
        "ssim_y": None,
        "undertrained": None,
    }
    threads = run.request.threads
    facts["timing"] = {
        "cpu_ms": cpu_ms(to_onnx(teacher.graph, teacher.weights, shape=SIZE), threads)
    }
    if teacher.lineage.get("untrained"):
        return facts, []
    upscale = network_upscaler(teacher.graph, teacher.weights, threads=threads)
    facts |= quality(upscale, run.pairs, perceptual=measures_lpips(run))
    floor = run.recipe.teacher_floor_db
    if not floor:
        return facts, []
    facts["set5_floor_db"] = floor
    psnr, problem = _on_set5(upscale, run.recipe.scale)
    if psnr is not None:
        facts |= {"set5_psnr_y": psnr, "undertrained": psnr < floor}
    return facts, [problem] if problem else []


def _on_set5(upscale: Callable[[Picture], Picture], scale: int) -> tuple[float | None, str]:
    """PSNR-Y (dB) on Set5, None without it; and what is wrong with its pictures, '' if nothing.

    A run of hours ends here: a damaged picture of the test set must not cost its report.
    """
    sets = os.environ.get("EDGESR_EVAL_DIR")
    try:
        pairs = test_set(Path(sets) / "Set5", scale) if sets else []
        return (quality(upscale, pairs)["psnr_y"] if pairs else None), ""
    except BadImage as e:
        return None, f"Set5 was not measured: {e}."


def _pictures(
    run: Run, best: checkpoint.Checkpoint
) -> Iterator[tuple[str, dict[str, Pixels], Pixels]]:
    threads = run.request.threads
    student = student_upscaler(best.graph, best.weights, best.quant, threads=threads)
    bicubic, teacher = bicubic_upscaler(run.recipe.scale), None
    if run.teacher is not None and not run.teacher.lineage.get("untrained"):
        teacher = network_upscaler(run.teacher.graph, run.teacher.weights, threads=threads)
    for pair in run.pairs:
        outputs = {"student": student(pair.lr), "bicubic": bicubic(pair.lr)}
        if teacher is not None:
            outputs["teacher"] = teacher(pair.lr)
        yield pair.name, outputs, pair.hr


def _notes(run: Run, history: History, lines: Sequence[str]) -> list[str]:
    notes = []
    if any(h["nonzeros"] < (1 - FEW_ZEROS) * h["params"] for h in history):
        notes.append(ZEROS_SENTENCE)
    if any(leg.stage.kind == "gan" for leg in run.legs) and (reason := why_not()):
        notes.append(f"LPIPS was not measured: {reason}.")
    if run.skipped:
        notes.append(
            f"{len(run.skipped)} pictures were left out, since they cannot be read: "
            + "; ".join(run.skipped)
        )
    for event in _events(lines, "workers"):
        notes.append(
            f"Workers: {event['from']} became {event['to']} in leg {event['leg'] + 1}, at step "
            f"{event['step']}; the effective batch changed with them."
        )
    # By place, since a resumed run may have done a step twice.
    steps = _events(lines, "step")
    skipped = {(e["leg"], e["step"]) for e in steps if "skipped" in e}
    if skipped:
        notes.append(f"{len(skipped)} steps were skipped: their loss or gradient was not finite.")
    return notes


def _events(lines: Sequence[str], kind: str) -> Iterator[dict[str, Any]]:
    """The events of one kind in log.jsonl; a torn line is passed over."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") == kind:
            yield event


def _conditions(run: Run, history: History) -> dict[str, Any]:
    d, world = run.recipe.data, run.world
    waits = [h["timing"]["data_wait"] for h in history if h["steps"]]
    return {
        "processor": machine.processor(Path("/")) or platform.machine(),
        "device": run.request.device,
        "threads": run.request.threads,
        "versions": versions(),
        "processes": world.size,
        "effective_batch": d.batch * world.size,
        "lr_scaling": run.recipe.lr_scaling,
        "lr_factor": rate_factor(run.recipe, world.size),
        "seconds": round(float(np.sum([h["timing"]["seconds"] for h in history])), 1),
        "data_wait": max(waits, default=0.0),
    }
