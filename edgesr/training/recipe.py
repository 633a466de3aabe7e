"""What a compression run does, as data: TOML → frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgesr import config, resources
from edgesr.errors import BadConfig, UnknownName


@dataclass(frozen=True)
class StudentSpec:
    """The student at the start; pruning makes it smaller."""

    width: int = 32
    depth: int = 12
    act: Literal["relu", "leaky_relu", "clip"] = "relu"

    def __post_init__(self) -> None:
        if not (4 <= self.width <= 256 and 1 <= self.depth <= 64):
            raise ValueError("width must be 4 to 256 and depth 1 to 64")


@dataclass(frozen=True)
class DataSpec:
    """Crops: `patch` low-resolution pixels a side, `batch` of them a step.

    Files matching a glob in `exclude` are not used. Every `holdout`-th of the rest (by
    name) is never trained on: it is what the report measures.
    `cache_teacher` runs the distillation teacher once over all pictures and keeps its
    8-bit outputs, instead of once a step over the crops.
    """

    patch: int = 48
    batch: int = 8
    exclude: tuple[str, ...] = ()
    holdout: int = 50
    cache_teacher: bool = False

    def __post_init__(self) -> None:
        if self.patch < 8 or self.batch < 1 or self.holdout < 2:
            raise ValueError("patch must be at least 8, batch 1, holdout 2")


@dataclass(frozen=True)
class LossSpec:
    """Weights of the loss terms; see `edgesr.training.losses`.

    `pixel` is the distance to the photograph, `teacher` to the teacher's output, `feature`
    between the features through a 1×1 adapter; `norm` is the distance of the first two.
    """

    norm: Literal["l1", "l2", "charbonnier"] = "l1"
    pixel: float = 1.0
    teacher: float = 0.0
    feature: float = 0.0

    def __post_init__(self) -> None:
        if min(self.pixel, self.teacher, self.feature) < 0 or self.pixel + self.teacher <= 0:
            raise ValueError("loss weights must not be negative, and pixel or teacher positive")


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own budget of steps.

    `prune` removes channels in `rounds` equal parts of the way to the budget and heals for
    `steps` / `rounds` steps after each. The learning rate warms up over `warmup` steps
    and falls along a cosine from `lr` to `lr_end`, anew in every round.
    """

    kind: Literal["distill", "prune", "finetune"]
    steps: int
    lr: float = 1e-3
    lr_end: float = 1e-6
    warmup: int = 100
    loss: LossSpec = LossSpec()
    method: Literal["channels"] = "channels"
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rounds < 1 or not 0 <= self.lr_end <= self.lr:
            raise ValueError("steps and rounds must be positive and 0 <= lr_end <= lr")
        if self.warmup < 0:
            raise ValueError("warmup must not be negative")


@dataclass(frozen=True)
class Recipe:
    """A whole run: the student, the data, and the stages in order."""

    name: str
    stages: tuple[Stage, ...]
    student: StudentSpec = StudentSpec()
    data: DataSpec = DataSpec()
    scale: int = 4
    reparameterize: bool = True
    ema: float = 0.999
    clip: float = 1.0
    budget: str = ""
    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a recipe needs at least one [[stages]]")
        if any(s.kind == "prune" for s in self.stages) and not self.budget:
            raise ValueError('a prune stage needs a budget, for example budget = "macs=50%"')
        if self.stages[0].kind == "prune":
            raise ValueError("the first stage cannot be prune: train the student before")
        if not 0 <= self.ema < 1 or self.checkpoint_every < 1:
            raise ValueError("ema must be in [0, 1) and checkpoint_every positive")
        if not self.clip > 0 or not 2 <= self.scale <= 8 or not 0 <= self.seed < 2**32:
            raise ValueError("clip must be positive, scale 2 to 8 and seed 0 to 2^32 - 1")
        if not self.widths or min(self.widths) < 1:
            raise ValueError("widths must be positive, and at least one of them")


def need_prune_stage(recipe: Recipe, what: str) -> None:
    """Raise `BadConfig` when nothing in `recipe` prunes, so `what` would do nothing."""
    if not any(s.kind == "prune" for s in recipe.stages):
        raise BadConfig(
            f"recipe '{recipe.name}' has no prune stage, so {what} has nothing to act on; "
            "take --preset smoke, or a recipe of your own with one"
        )


def preset_names() -> list[str]:
    """Names of the presets that ship."""
    return sorted(p.stem for p in resources.presets().glob("*.toml"))


def load_recipe(name_or_path: str) -> Recipe:
    """A preset by name, or a recipe file by path ending in .toml."""
    if name_or_path.endswith(".toml"):
        return config.load(Recipe, Path(name_or_path))
    if name_or_path not in preset_names():
        raise UnknownName("preset", name_or_path, preset_names(), "A recipe file ends in .toml.")
    return config.load(Recipe, resources.presets() / f"{name_or_path}.toml")
