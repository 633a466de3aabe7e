"""The stages of a recipe as a flat list of legs, fixed before the first step.

A leg trains one network for a number of steps; a pruning leg first makes it smaller. Since
the list is computed once from the recipe and kept in the run folder, a resumed run knows
exactly where it is: (leg, step).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgesr.training.recipe import Recipe, Stage


@dataclass(frozen=True)
class Leg:
    """One round of one stage. `shrink` is how far to go to the budget, None: not at all."""

    name: str
    stage: Stage
    steps: int
    shrink: float | None = None


def legs_of(recipe: Recipe) -> tuple[Leg, ...]:
    """The legs of a recipe in order."""
    legs = []
    for number, stage in enumerate(recipe.stages):
        if stage.kind != "prune":
            legs.append(Leg(f"{number}-{stage.kind}", stage, stage.steps))
            continue
        for r in range(stage.rounds):
            steps = stage.steps * (r + 1) // stage.rounds - stage.steps * r // stage.rounds
            name = f"{number}-prune-{r + 1}of{stage.rounds}"
            legs.append(Leg(name, stage, max(1, steps), (r + 1) / stage.rounds))
    return tuple(legs)


def learning_rate(leg: Leg, step: int) -> float:
    """Linear warm-up, then a cosine from `lr` to `lr_end`, for step 0 … steps − 1."""
    stage = leg.stage
    warmup = min(stage.warmup, leg.steps // 10)
    if step < warmup:
        return stage.lr * (step + 1) / warmup
    along = (step - warmup) / max(1, leg.steps - warmup)
    return stage.lr_end + 0.5 * (stage.lr - stage.lr_end) * (1 + math.cos(math.pi * along))


def scale_steps(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with every stage's steps multiplied; at least 10 a round."""
    stages = tuple(
        replace(s, steps=max(10 * s.rounds, round(s.steps * factor))) for s in recipe.stages
    )
    return replace(recipe, stages=stages)
