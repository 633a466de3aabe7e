"""`edgesr compress`: a large generator in, a student that fits out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from edgesr.errors import BadConfig
from edgesr.pruning.budget import parse_budget
from edgesr.training import session
from edgesr.training.recipe import Recipe, load_recipe, need_prune_stage
from edgesr.training.run import Request
from edgesr.training.session import Result

__all__ = ["Result", "compress", "load_recipe_for", "resume"]

resume = session.resume


def load_recipe_for(name_or_path: str, *, budget: str = "", seed: int | None = None) -> Recipe:
    """A preset or recipe file with the user's own budget and seed in place of its own."""
    recipe = load_recipe(name_or_path)
    recipe = dataclasses.replace(recipe, budget=budget or recipe.budget)
    if recipe.budget:
        parse_budget(recipe.budget)
        need_prune_stage(recipe, "a budget", channels=True)
    return recipe if seed is None else dataclasses.replace(recipe, seed=seed)


def compress(
    recipe: Recipe,
    request: Request,
    out: Path,
    *,
    max_minutes: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Distil, prune and quantise as `recipe` says; see `session.begin`."""
    if not request.teacher:
        raise BadConfig("compress needs a teacher; edgesr train goes without one")
    if request.max_drop is not None and all(s.kind != "quantize" for s in recipe.stages):
        need_prune_stage(recipe, "--max-drop")
    return session.begin(recipe, request, out, max_minutes=max_minutes, say=say)
