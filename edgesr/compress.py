"""`edgesr compress`: a large generator in, a student that fits out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgesr import atomic, checkpoint
from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig, GateNotMet
from edgesr.graph import counts
from edgesr.graph.spec import Graph, Weights
from edgesr.progress import progress
from edgesr.pruning.budget import Budget, parse_budget
from edgesr.pruning.channels import prune_to
from edgesr.report import run as run_report
from edgesr.training.legs import Leg, last_within_drop, legs_of, scale_steps
from edgesr.training.net import GraphNet
from edgesr.training.recipe import Recipe, load_recipe, need_prune_stage
from edgesr.training.run import Request, RunFolder
from edgesr.training.setup import Run, first_net, prepare
from edgesr.training.start import continued_student
from edgesr.training.state import RunState, load_state, save_state
from edgesr.training.trainer import Trainer
from edgesr.training.validate import (
    bicubic_upscaler,
    network_upscaler,
    quality,
)

LOG_EVERY = 20
PROBE_STEPS = 6


@dataclass(frozen=True)
class Result:
    """Where the student is and what is known about it."""

    student: Path
    report: dict[str, Any]


def load_recipe_for(name_or_path: str, *, budget: str = "", seed: int | None = None) -> Recipe:
    """A preset or recipe file with the user's own budget and seed in place of its own."""
    recipe = load_recipe(name_or_path)
    recipe = dataclasses.replace(recipe, budget=budget or recipe.budget)
    if recipe.budget:
        parse_budget(recipe.budget)
        need_prune_stage(recipe, "a budget")
    return recipe if seed is None else dataclasses.replace(recipe, seed=seed)


def compress(
    recipe: Recipe,
    request: Request,
    out: Path,
    *,
    max_minutes: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Run a recipe from the start.

    `out` is the run folder, which must not hold a run. `max_minutes` shortens the stages
    by one common factor, measured on this machine and recorded in the run's recipe.
    Raises `GateNotMet` (after writing the best student and the report) when the budget or
    `max_drop` is missed.
    """
    started = time.monotonic()
    if request.max_drop is not None:
        need_prune_stage(recipe, "--max-drop")
    threads = request.threads or torch.get_num_threads()
    request = dataclasses.replace(request, threads=threads)
    folder = RunFolder(out)
    folder.check_free()
    run = prepare(folder, recipe, request, None, say)
    if max_minutes is not None:
        recipe = _fit_minutes(run, max_minutes, time.monotonic() - started, say)
        run = dataclasses.replace(run, recipe=recipe)
    folder.create(recipe, request, run.inputs)
    return _carry_on(run, None, say)


def resume(out: Path, *, say: Callable[[str], None] = lambda text: None) -> Result:
    """Go on with an interrupted run; on CPU the result is bit-identical to an uninterrupted one.

    Raises `BadConfig` if the pictures or the teacher are no longer the same or the recipe does
    not fit the checkpoint, and `GateNotMet` as `compress` does.
    """
    folder = RunFolder(out)
    recipe, request, inputs = folder.reopen()
    run = prepare(folder, recipe, request, inputs, say)
    state = load_state(folder.checkpoints)
    if state is None:
        say("no checkpoint yet: starting from the first step")
    else:
        say(f"resuming at leg {state.leg + 1}, step {state.step}")
    at = {"leg": state.leg, "step": state.step} if state else {"leg": 0, "step": 0}
    folder.log({"event": "resumed", **at})
    return _carry_on(run, state, say)


def _fit_minutes(run: Run, minutes: float, spent_s: float, say: Callable[[str], None]) -> Recipe:
    legs = legs_of(run.recipe)
    net = first_net(run)
    need_s = 0.0
    for stage in run.recipe.stages:
        index = next(i for i, leg in enumerate(legs) if leg.stage is stage)
        leg = dataclasses.replace(legs[index], steps=stage.steps)
        trainer = Trainer(net, run.teacher_net, run.batches(index, leg), leg, run.spec)
        trainer.one_step()
        begun = time.perf_counter()
        for _ in range(PROBE_STEPS):
            trainer.one_step()
        need_s += (time.perf_counter() - begun) / PROBE_STEPS * stage.steps
    # A tenth is kept for measuring after each leg and for the report.
    room_s = max(1.0, minutes * 60 * 0.9 - spent_s)
    factor = min(1.0, room_s / need_s)
    fitted = scale_steps(run.recipe, factor) if factor < 1 else run.recipe
    total = sum(s.steps for s in fitted.stages)
    say(f"{minutes:g} minutes allow {total} steps ({factor:.0%} of the recipe)")
    return fitted


def _carry_on(run: Run, state: RunState | None, say: Callable[[str], None]) -> Result:
    legs = legs_of(run.recipe)
    history: list[dict[str, Any]] = list(state.history) if state else []
    if [h["leg"] for h in history] != [leg.name for leg in legs[: len(history)]]:
        raise _recipe_changed(run)
    budget = parse_budget(run.recipe.budget) if run.recipe.budget else None
    trained: tuple[Graph, Weights] | None = None
    for index, leg in enumerate(legs):
        if state and index < state.leg:
            continue
        if state and index == state.leg:
            trainer = _restored(run, state, index, leg)
        else:
            net, note = _net_for(run, index, leg, trained, budget)
            say(f"leg {index + 1}/{len(legs)} {leg.name}: {leg.steps} steps{note}")
            trainer = Trainer(net, run.teacher_net, run.batches(index, leg), leg, run.spec)
        trained = _train(run, trainer, index, history)
        if len(history) <= index:
            history.append(_measure(run, index, leg, trained))
            say(f"  held-out PSNR-Y {history[-1]['psnr_y']:.2f} dB")
            _save(run, trainer, index, history)
    return _finish(run, legs, history, budget, say)


def _net_for(
    run: Run, index: int, leg: Leg, trained: tuple[Graph, Weights] | None, budget: Budget | None
) -> tuple[GraphNet, str]:
    if trained is None:
        return first_net(run), ""
    graph, weights = trained
    note = ""
    if leg.shrink is not None:
        assert budget is not None
        now, limit = budget.cost(graph), budget.limit(run.teacher.graph)
        # Where this leg should arrive: its share of the way from the unpruned student.
        first = budget.cost(first_net(run).graph)
        target = max(limit, int(first + (limit - first) * leg.shrink))
        pruned = prune_to(graph, weights, cost=budget.cost, target=target, widths=run.recipe.widths)
        graph, weights = pruned.graph, pruned.weights
        after = budget.cost(graph)
        note = f", {budget.kind} {now:,} → {after:,} (budget {limit:,})"
        changes = [list(c) for c in pruned.widths]
        run.folder.log({"event": "pruned", "leg": index, "widths": changes, "cost": after})
    seed = run.recipe.seed * 1000 + index
    net = continued_student(graph, weights, rep=run.recipe.reparameterize, seed=seed)
    return net, note


def _restored(run: Run, state: RunState, index: int, leg: Leg) -> Trainer:
    net = GraphNet(Graph.from_json(state.graph_json), rep=run.recipe.reparameterize)
    try:
        net.load_state_dict(state.net)
        trainer = Trainer(net, run.teacher_net, run.batches(index, leg), leg, run.spec)
        trainer.ema.load_state_dict(state.ema)
        trainer.optimizer.load_state_dict(state.optimizer)
        if trainer.adapter is not None:
            trainer.adapter.load_state_dict(state.adapter)
    except (RuntimeError, ValueError) as e:
        raise _recipe_changed(run) from e
    trainer.step = state.step
    return trainer


def _recipe_changed(run: Run) -> BadConfig:
    return BadConfig(
        f"cannot resume {run.folder.path}: its recipe.toml does not fit its checkpoint; put it "
        "back as it was, or start anew with another --out"
    )


def _train(
    run: Run, trainer: Trainer, index: int, history: list[dict[str, Any]]
) -> tuple[Graph, Weights]:
    with progress(trainer.leg.steps, trainer.leg.name, begun=trainer.step) as bar:

        def on_step(event: dict[str, Any]) -> None:
            bar.advance()
            if event["step"] % LOG_EVERY == 0 or "skipped" in event:
                run.folder.log({"event": "step", "leg": index, **event})

        trainer.run(on_step, lambda: _save(run, trainer, index, history))
    return trainer.net.graph, trainer.ema.weights()


def _save(run: Run, trainer: Trainer, index: int, history: list[dict[str, Any]]) -> None:
    state = RunState(
        leg=index,
        step=trainer.step,
        graph_json=trainer.net.graph.to_json(),
        net=trainer.net.state_dict(),
        ema=trainer.ema.state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        adapter=trainer.adapter.state_dict() if trainer.adapter is not None else {},
        history=list(history),
    )
    save_state(state, run.folder.checkpoints)


def _measure(run: Run, index: int, leg: Leg, trained: tuple[Graph, Weights]) -> dict[str, Any]:
    graph, weights = trained
    upscale = network_upscaler(graph, weights, threads=run.request.threads)
    result = {
        "leg": leg.name,
        "steps": leg.steps,
        "params": counts.parameters(graph),
        "macs_per_pixel": counts.macs_per_pixel(graph),
        **quality(upscale, run.pairs),
    }
    saved = Checkpoint(graph, weights, _lineage(run), {"held_out": result})
    checkpoint.save(run.folder.leg_checkpoint(index), saved)
    run.folder.log({"event": "measured", **result})
    return result


def _lineage(run: Run) -> dict[str, Any]:
    return {
        "parent": run.inputs["teacher"],
        "teacher": Path(run.request.teacher).name,
        "data": run.inputs["data"],
        **({"start": run.inputs["student"]} if run.start else {}),
        "recipe": dataclasses.asdict(run.recipe),
    }


def _finish(
    run: Run,
    legs: tuple[Leg, ...],
    history: list[dict[str, Any]],
    budget: Budget | None,
    say: Callable[[str], None],
) -> Result:
    chosen, missed = _choose(run, legs, history, budget)
    best = checkpoint.load(run.folder.leg_checkpoint(chosen))
    checkpoint.save(run.folder.student, best)
    say("measuring the teacher and bicubic on the held-out photographs")
    teacher = run.teacher
    teacher_quality: dict[str, float | None] = {"psnr_y": None, "ssim_y": None}
    if not teacher.lineage.get("untrained"):
        upscale = network_upscaler(teacher.graph, teacher.weights, threads=run.request.threads)
        teacher_quality.update(quality(upscale, run.pairs))
    report = run_report.build(
        name=run.recipe.name,
        legs=history,
        chosen=chosen,
        missed=missed,
        budget=run.recipe.budget,
        student={**history[chosen], "bytes": run.folder.student.stat().st_size},
        teacher={
            "name": Path(run.request.teacher).name,
            "params": counts.parameters(teacher.graph),
            "macs_per_pixel": counts.macs_per_pixel(teacher.graph),
            **teacher_quality,
        },
        bicubic=quality(bicubic_upscaler(run.recipe.scale), run.pairs),
        held_out=[p.name for p in run.pairs],
    )
    for suffix, text in run_report.render(report).items():
        atomic.write_text(run.folder.path / f"report.{suffix}", text)
    run.folder.log({"event": "done", "student": history[chosen]})
    if missed:
        raise GateNotMet(f"{missed}; the best so far is {run.folder.student}")
    return Result(run.folder.student, report)


def _choose(
    run: Run, legs: tuple[Leg, ...], history: list[dict[str, Any]], budget: Budget | None
) -> tuple[int, str]:
    """The leg whose student is the result, and what it misses ('' when nothing)."""
    chosen, missed = last_within_drop(legs, [h["psnr_y"] for h in history], run.request.max_drop)
    if not missed and budget is not None:
        cost = budget.cost(checkpoint.load(run.folder.leg_checkpoint(chosen)).graph)
        limit = budget.limit(run.teacher.graph)
        if cost > limit:
            missed = (
                f"{budget.kind} {cost:,} is over the budget of {limit:,}: every layer is at "
                "its narrowest width"
            )
    return chosen, missed
