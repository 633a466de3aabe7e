"""The stages of a recipe as a flat list of legs, fixed before the first step.

A leg trains one network for a number of steps; a pruning leg first makes it smaller. Since
the list is computed once from the recipe and kept in the run folder, a resumed run knows
exactly where it is: (leg, step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgesr.training.recipe import Recipe, Stage


@dataclass(frozen=True)
class Leg:
    """One round of one stage. `shrink` is how far to go to the goal, None: not at all.

    A leg without steps only measures the network that a run starts from.
    """

    name: str
    stage: Stage
    steps: int
    shrink: float | None = None

    @property
    def reduces(self) -> bool:
        """Whether this leg takes something away: channels, weights or bits."""
        return self.stage.kind in ("prune", "quantize") and self.steps > 0


def legs_of(recipe: Recipe, *, from_trained: bool = False) -> tuple[Leg, ...]:
    """The legs of a recipe in order; `from_trained` first measures what it starts from."""
    legs = [Leg("start", recipe.stages[0], 0)] if from_trained else []
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


def rate_factor(recipe: Recipe, processes: int) -> float:
    """What `processes` times the batch does to the learning rate.

    N for SGD (Goyal et al., 2017), √N for Adam (Krizhevsky, 2014; Malladi et al., NeurIPS 2022).
    """
    return {"none": 1.0, "sqrt": math.sqrt(processes), "linear": float(processes)}[
        recipe.lr_scaling
    ]


def scale_steps(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with every stage's steps multiplied by `factor`, at most 1.

    A stage keeps at least 10 steps a round, or what it has where that is less.
    """
    stages = tuple(
        replace(s, steps=min(s.steps, max(10 * s.rounds, round(s.steps * factor))))
        for s in recipe.stages
    )
    return replace(recipe, stages=stages)


def last_within_drop(
    legs: Sequence[Leg], psnr_y_db: Sequence[float], max_drop_db: float | None
) -> tuple[int, str]:
    """The last leg that lost at most `max_drop_db` against the student before it lost anything.

    With it a sentence about the leg that lost more, '' when it is the final one that is
    taken. Without a limit, or a leg to compare with, that is always so.
    """
    final = len(psnr_y_db) - 1
    first = next((i for i, leg in enumerate(legs) if leg.reduces), 0)
    if max_drop_db is None or first == 0:
        return final, ""
    drops = [psnr_y_db[first - 1] - p for p in psnr_y_db]
    if drops[final] <= max_drop_db:
        return final, ""
    chosen = max(i for i in range(first - 1, final) if drops[i] <= max_drop_db)
    return chosen, (
        f"{legs[final].name} loses {drops[final]:.2f} dB against the student before it, more "
        f"than the {max_drop_db:g} dB allowed"
    )
