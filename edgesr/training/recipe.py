"""What a compression run does, as data: TOML → frozen dataclasses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgesr import config, device, resources
from edgesr.errors import BadConfig, UnknownName
from edgesr.graph.spec import Graph


@dataclass(frozen=True)
class StudentSpec:
    """The student at the start; pruning makes it smaller.

    `family` is `plain` (EdgeSR's own: `width`, `depth` and `act` describe it), `srgan` (SRGAN's
    generator with `depth` blocks of `width` channels), or `teacher`: the teacher's
    architecture, its channels narrowed to `budget` by `importance`. `init` says whether
    the last starts from the teacher's remaining weights or from fresh ones. With `grow` a plain
    student that the run starts from grows to `width` and `depth`, computing the same at first.
    """

    family: Literal["plain", "srgan", "teacher"] = "plain"
    width: int = 32
    depth: int = 12
    act: Literal["relu", "leaky_relu", "clip"] = "relu"
    budget: str = ""
    importance: Literal["l1", "taylor", "median"] = "taylor"
    init: Literal["teacher", "fresh"] = "teacher"
    grow: bool = False

    def __post_init__(self) -> None:
        if (self.family == "teacher") != bool(self.budget):
            raise ValueError('budget goes with family = "teacher", and only with it')
        if self.grow and (self.family, self.act) != ("plain", "relu"):
            raise ValueError('grow goes with family = "plain" and act = "relu"')
        if self.budget.replace(" ", "").startswith("ms="):
            raise ValueError("a student's own budget is in macs, params or bytes")
        if not (4 <= self.width <= 256 and 1 <= self.depth <= 64):
            raise ValueError("width must be 4 to 256 and depth 1 to 64")


@dataclass(frozen=True)
class DataSpec:
    """Crops: `patch` low-resolution pixels a side, `batch` of them a step.

    Files matching a glob in `exclude` are not used. Every `holdout`-th of the rest (by
    name) is never trained on: it is what the report measures.
    `limit` trains on that many of them only, spread evenly by name (0: all).
    `cache_teacher` runs the distillation teacher once over all pictures and keeps its
    8-bit outputs, instead of once a step over the crops.

    `degrade` says what the low resolution is: `none`, MATLAB's bicubic, or `web`, blurred,
    resized, noisy and saved as JPEG (`edgesr.training.degrade`); `degrade_seed` draws another
    such set. `truth` says what the pixel, frequency, perceptual and adversarial terms of the
    loss compare with: the `photograph`, or the cached output of the `teacher` in its place.
    """

    patch: int = 48
    batch: int = 8
    exclude: tuple[str, ...] = ()
    holdout: int = 50
    limit: int = 0
    cache_teacher: bool = False
    degrade: Literal["none", "web"] = "none"
    degrade_seed: int = 0
    truth: Literal["photograph", "teacher"] = "photograph"

    def __post_init__(self) -> None:
        if self.patch < 8 or self.batch < 1 or self.holdout < 2:
            raise ValueError("patch must be at least 8, batch 1, holdout 2")
        if self.limit < 0 or self.degrade_seed < 0:
            raise ValueError("limit and degrade_seed must not be negative")
        if self.degrade_seed and self.degrade == "none":
            raise ValueError('degrade_seed does nothing with degrade = "none"')
        if self.truth == "teacher" and not self.cache_teacher:
            raise ValueError('truth = "teacher" needs cache_teacher = true')


@dataclass(frozen=True)
class LossSpec:
    """Weights of the loss terms; see `edgesr.training.losses`.

    `pixel` is the distance to the photograph, `teacher` to the teacher's output; `norm` is
    the distance of these two. `frequency` compares the spectra of output and photograph,
    `feature` matches student and teacher at `hints` places through 1×1 adapters, `affinity`
    the spatial affinities there (FAKD). `perceptual` is VGG16's, `adversarial` that of a
    relativistic U-Net discriminator; these two are for the GAN track.
    """

    norm: Literal["l1", "l2", "charbonnier"] = "l1"
    pixel: float = 1.0
    teacher: float = 0.0
    frequency: float = 0.0
    feature: float = 0.0
    affinity: float = 0.0
    hints: int = 1
    perceptual: float = 0.0
    adversarial: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.pixel, self.teacher, self.frequency, self.feature, self.affinity,
                   self.perceptual, self.adversarial)  # fmt: skip
        if min(weights) < 0 or max(weights) <= 0:
            raise ValueError("loss weights must not be negative, and one of them positive")
        if not 1 <= self.hints <= 8:
            raise ValueError("hints must be 1 to 8")

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's output or features are asked for."""
        return bool(self.teacher or self.needs_features)

    @property
    def needs_features(self) -> bool:
        """Whether the teacher must run in every step."""
        return bool(self.feature or self.affinity)


_OF_METHOD = {"channels": {"importance"}, "magnitude": {"keep"}, "2:4": set[str]()}
_OF_SOME_KIND = {"method", "rounds", "importance", "keep", "bits", "high"}


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own budget of steps.

    `prune` goes to its goal in `rounds` and heals for `steps` / `rounds` steps after each:
    `channels` removes channels to the recipe's budget, ranked by `importance`; `magnitude`
    leaves the largest `keep` of all weights (1 = all) along a cubic schedule; `2:4` leaves
    two of four, after a search for the channel order that keeps most. `quantize` trains with
    int8 activations and weights of `bits` bits, `high` naming what stays fp32. `gan` trains
    against a discriminator. The learning rate warms up over `warmup` steps (a tenth of the
    round at most) and falls along a cosine from `lr` to `lr_end`, anew in every round. `batch`
    and `patch` replace those of `[data]` when they are not 0. A key that does nothing in a kind
    of stage is refused there.
    """

    kind: Literal["distill", "prune", "finetune", "gan", "quantize"]
    steps: int
    lr: float = 1e-3
    lr_end: float = 1e-6
    warmup: int = 100
    loss: LossSpec = LossSpec()
    method: Literal["channels", "magnitude", "2:4"] = "channels"
    importance: Literal["l1", "taylor", "median"] = "l1"
    keep: float = 0.82
    rounds: int = 1
    bits: Literal[7, 8] = 8
    high: tuple[str, ...] = ("head", "tail")
    batch: int = 0
    patch: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rounds < 1 or not 0 <= self.lr_end <= self.lr:
            raise ValueError("steps and rounds must be positive and 0 <= lr_end <= lr")
        if self.warmup < 0 or self.batch < 0 or (self.patch and self.patch < 8):
            raise ValueError("warmup and batch must not be negative, and patch at least 8")
        if not 0 < self.keep < 1:
            raise ValueError("keep is the share of weights that stay: between 0 and 1")
        if bool(self.loss.adversarial) != (self.kind == "gan"):
            raise ValueError('an adversarial loss goes with kind = "gan", and only with it')
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Raise ValueError for a key that was set and does nothing in this kind of stage."""
        used = {
            "prune": {"method", "rounds", *_OF_METHOD[self.method]},
            "quantize": {"bits", "high"},
        }.get(self.kind, set())
        for field in dataclasses.fields(self):
            if field.name in _OF_SOME_KIND - used and getattr(self, field.name) != field.default:
                what = f"{self.kind} stage" + (f" by {self.method}" if used else "")
                raise ValueError(f"{field.name} does nothing in a {what}; leave it out")

    @property
    def prunes_channels(self) -> bool:
        """Whether this stage makes layers narrower."""
        return self.kind == "prune" and self.method == "channels"


@dataclass(frozen=True)
class Recipe:
    """A whole run: the student, the data, and the stages in order.

    Pruned layers get a width that `target` (a device of `edgesr devices`) runs well, or one of
    `widths` where these are given. `optimizer` `muon` needs fewer steps than `adam` at the same or
    a slightly higher rate. `precision` is that of the forward pass: `bf16` where the hardware
    multiplies bfloat16, else fp32; `auto` means bf16 on a GPU only. `lr_scaling` is what several
    processes do to the learning rate: with N of them the batch is N times larger, and the rate
    √N (`sqrt`, Adam's), N (`linear`, SGD's) times, or left alone (`none`). Every `validate_every`
    steps the held-out pictures are measured, for the curve; 0: at the ends of the legs only. A
    teacher below `teacher_floor_db` on Set5 is called undertrained in the report.
    """

    name: str
    stages: tuple[Stage, ...]
    student: StudentSpec = StudentSpec()
    data: DataSpec = DataSpec()
    scale: int = 4
    reparameterize: bool = True
    ema: float = 0.999
    clip: float = 1.0
    optimizer: Literal["adam", "muon", "sgd"] = "adam"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    lr_scaling: Literal["sqrt", "linear", "none"] = "sqrt"
    validate_every: int = 0
    budget: str = ""
    target: str = "cpu"
    widths: tuple[int, ...] = ()
    checkpoint_every: int = 500
    teacher_floor_db: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a recipe needs at least one [[stages]]")
        if any(s.prunes_channels for s in self.stages) and not self.budget:
            raise ValueError('pruning channels needs a budget, for example budget = "macs=50%"')
        kinds = [s.kind for s in self.stages]
        if "quantize" in kinds[:-1]:
            raise ValueError("quantize can only be the last stage")
        if self.breaks_two_four(False):
            raise ValueError("pruning channels after 2:4 would break its pattern: do it before")
        if not 0 <= self.ema < 1 or self.checkpoint_every < 1:
            raise ValueError("ema must be in [0, 1) and checkpoint_every positive")
        if not self.clip > 0 or not 2 <= self.scale <= 8 or not 0 <= self.seed < 2**32:
            raise ValueError("clip must be positive, scale 2 to 8 and seed 0 to 2^32 - 1")
        if self.student.family == "srgan" and self.scale not in (2, 4, 8):
            raise ValueError('family = "srgan" doubles the size: scale must be 2, 4 or 8')
        if self.widths and min(self.widths) < 1:
            raise ValueError("widths must be positive")

    def breaks_two_four(self, begins: bool) -> bool:
        """Whether channels go from a network that is 2:4 by then; `begins`: from the start."""
        for stage in self.stages:
            if begins and stage.prunes_channels:
                return True
            begins = begins or (stage.kind == "prune" and stage.method == "2:4")
        return False

    def widths_for(self, graph: Graph) -> tuple[int, ...]:
        """The widths that the layers of `graph` may be narrowed to, ascending.

        Raises `UnknownName` for a `target` that there is no device of.
        """
        if self.widths:
            return tuple(sorted(self.widths))
        int8 = any(stage.kind == "quantize" for stage in self.stages)
        return device.load(self.target).widths_up_to(max(graph.channels.values()), int8=int8)


def need_prune_stage(recipe: Recipe, what: str, *, channels: bool = False) -> None:
    """Raise `BadConfig` when nothing in `recipe` prunes (`channels`), so `what` does nothing."""
    if not any(s.prunes_channels if channels else s.kind == "prune" for s in recipe.stages):
        kind = ' with method = "channels"' if channels else ""
        raise BadConfig(
            f"recipe '{recipe.name}' has no prune stage{kind}, so {what} has nothing to act on; "
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
