"""What a leg takes away before it trains: channels, weights, or bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadConfig
from edgesr.pruning.budget import Budget, parse_budget
from edgesr.pruning.channels import prune_to
from edgesr.pruning.latency import LatencyTable
from edgesr.pruning.magnitude import cubic_keep, prune_magnitude
from edgesr.pruning.two_four import prune_two_four
from edgesr.runtime.calibrate import post_training
from edgesr.sparsity import nonzeros
from edgesr.training.data import Pack, cache_root
from edgesr.training.recipe import Recipe, Stage
from edgesr.training.setup import Run
from edgesr.training.start import Trained
from edgesr.training.taylor import sensitivity

CALIBRATION_PICTURES = 16


def reduced(run: Run, index: int, trained: Trained) -> tuple[Trained, str]:
    """`trained` after what leg `index` takes away, and a note about it for the terminal.

    Process 0 decides; the others get its answer.
    """
    leg = run.legs[index]
    if not leg.reduces:
        return trained, ""
    if run.world.rank != 0:
        answer: tuple[Trained, str] = run.world.broadcast(None)
        return answer
    if leg.stage.kind == "quantize":
        after = _quantized(run.pack, leg.stage, trained)
        high = ", ".join(leg.stage.high) or "nothing"
        return _tell(run, after, f", int8 with {leg.stage.bits}-bit weights, fp32: {high}")
    how: Callable[[Run, int, Trained], tuple[Trained, str]] = {
        "channels": _narrowed,
        "magnitude": _thinned,
        "2:4": _two_of_four,
    }[leg.stage.method]
    return _tell(run, *how(run, index, trained))


def _tell(run: Run, trained: Trained, note: str) -> tuple[Trained, str]:
    run.world.broadcast((trained, note))
    return trained, note


def budget_of(recipe: Recipe, threads: int) -> Budget | None:
    """The recipe's budget; one in ms measures layers on this machine as it is asked."""
    if not recipe.budget:
        return None
    table = LatencyTable(cache_root() / "latency", threads=threads)
    return parse_budget(recipe.budget, latency=table.cost)


def limit_of(run: Run, budget: Budget) -> float:
    """What the budget allows, for this run's teacher."""
    if run.teacher is None:
        raise BadConfig("a budget is a share of a teacher; use edgesr compress")
    return budget.limit(run.teacher.graph)


def _narrowed(run: Run, index: int, trained: Trained) -> tuple[Trained, str]:
    stage, leg = run.legs[index].stage, run.legs[index]
    budget = budget_of(run.recipe, run.request.threads)
    assert budget is not None and leg.shrink is not None
    now, limit = budget.cost(trained.graph), limit_of(run, budget)
    # Its share of the way that is left, so that the last round arrives.
    left = stage.rounds - round(leg.shrink * stage.rounds) + 1
    target = max(limit, now + (limit - now) / left)
    d, taylor = run.recipe.data, None
    if stage.importance == "taylor":
        taylor = sensitivity(
            trained.graph, trained.weights, run.pack, patch=d.patch, batch=d.batch, seed=index
        )
    pruned = prune_to(
        trained.graph,
        trained.weights,
        cost=budget.cost,
        target=target,
        widths=run.recipe.widths_for(trained.graph),
        importance=stage.importance,
        sensitivity=taylor,
    )
    after = budget.cost(pruned.graph)
    _log(run, index, widths=[list(c) for c in pruned.widths], cost=after)
    note = f", {budget.show(now)} → {budget.show(after)} (budget {budget.show(limit)})"
    return Trained(pruned.graph, pruned.weights, trained.keeps_zeros), note


def _thinned(run: Run, index: int, trained: Trained) -> tuple[Trained, str]:
    leg = run.legs[index]
    assert leg.shrink is not None
    keep = cubic_keep(leg.stage.keep, leg.shrink)
    weights = prune_magnitude(trained.weights, trained.graph, keep)
    left = nonzeros(weights)
    _log(run, index, keep=keep, nonzeros=left)
    note = f", {nonzeros(trained.weights):,} → {left:,} non-zeros"
    return Trained(trained.graph, weights, keeps_zeros=True), note


def _two_of_four(run: Run, index: int, trained: Trained) -> tuple[Trained, str]:
    """Two of four, the layers that lose least first; the channel order is found in round 1."""
    leg = run.legs[index]
    assert leg.shrink is not None
    first = round(leg.shrink * leg.stage.rounds) == 1
    done = prune_two_four(
        trained.graph, trained.weights, seed=run.recipe.seed, search=first, share=leg.shrink
    )
    before, after = done.kept_share_before, done.kept_share_after
    _log(run, index, layers=done.layers, dense=done.dense, kept=after, kept_without_search=before)
    note = (
        f", 2:4 in {len(done.layers)} of {len(done.eligible)} layers that allow it; {after:.1%} of "
        f"the magnitude stays ({before:.1%} before the channels were reordered)"
    )
    return Trained(trained.graph, done.weights, keeps_zeros=True), note


def _quantized(pack: Pack, stage: Stage, trained: Trained) -> Trained:
    spec = post_training(
        trained.graph, trained.weights, calibration(pack), bits=stage.bits, high=stage.high
    )
    return Trained(trained.graph, trained.weights, trained.keeps_zeros, spec)


def calibration(pack: Pack) -> list[NDArray[np.uint8]]:
    """Low-resolution pictures (HWC uint8 RGB) to find activation ranges on, spread evenly."""
    step = max(1, len(pack.entries) // CALIBRATION_PICTURES)
    return [pack.lr(entry) for entry in pack.entries[::step][:CALIBRATION_PICTURES]]


def _log(run: Run, index: int, **facts: Any) -> None:
    run.folder.log({"event": "pruned", "leg": index, **facts})
