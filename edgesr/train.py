"""`edgesr train`: a generator from photographs alone, without a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from edgesr.training import session
from edgesr.training.recipe import Recipe
from edgesr.training.run import Request
from edgesr.training.session import Result

__all__ = ["Result", "resume", "train"]

resume = session.resume


def train(
    recipe: Recipe,
    request: Request,
    out: Path,
    *,
    max_minutes: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Train as `recipe` says; see `session.begin`.

    SRGAN's own order (Ledig et al., CVPR 2017) is a PSNR phase and then a GAN phase from its
    result. Raises `BadConfig` for a recipe that follows a teacher.
    """
    request = dataclasses.replace(request, teacher="", verb="train")
    return session.begin(recipe, request, out, max_minutes=max_minutes, say=say)
