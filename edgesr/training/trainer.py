"""The training loop of one leg."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgesr.errors import BadConfig
from edgesr.graph.hint import hint_layer
from edgesr.graph.spec import Graph
from edgesr.training.data import Batch, Batches
from edgesr.training.legs import Leg, learning_rate
from edgesr.training.losses import FeatureAdapter, step_loss
from edgesr.training.net import GraphNet

MAX_SKIPPED = 50  # steps in a row without a finite loss or gradient


@dataclass(frozen=True)
class TrainSpec:
    """What does not change between legs."""

    ema: float
    clip: float
    seed: int
    checkpoint_every: int
    device: str = "cpu"


class Trainer:
    """One leg: network, its moving average, optimiser, and the teacher to follow.

    The decay of the moving average starts low and grows as (1 + t)/(10 + t) up to `spec.ema`,
    so that short legs are not held back by their first weights.
    """

    def __init__(
        self, net: GraphNet, teacher: GraphNet | None, batches: Batches, leg: Leg, spec: TrainSpec
    ) -> None:
        layout = torch.channels_last
        self.net = net.to(spec.device, memory_format=layout)  # type: ignore[call-overload]
        self.teacher = teacher
        self.batches, self.leg, self.spec = batches, leg, spec
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.step = 0
        self.adapter = self._adapter()
        parameters = list(self.net.parameters())
        if self.adapter is not None:
            parameters += list(self.adapter.parameters())
        self.parameters = parameters
        self.optimizer = torch.optim.Adam(parameters, lr=leg.stage.lr, betas=(0.9, 0.99))
        self.hints = (hint_layer(net.graph), hint_layer(teacher.graph) if teacher else "")

    def _adapter(self) -> FeatureAdapter | None:
        if not self.leg.stage.loss.feature:
            return None
        assert self.teacher is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.spec.seed)
            widths = [_width(g, hint_layer(g)) for g in (self.net.graph, self.teacher.graph)]
            return FeatureAdapter(*widths).to(self.spec.device)

    def run(
        self,
        on_step: Callable[[dict[str, Any]], None],
        on_checkpoint: Callable[[], None],
    ) -> None:
        """Train to the end of the leg.

        `on_step` gets step, loss, its terms and the learning rate after each step;
        `on_checkpoint` is called every `checkpoint_every` steps and at the end. Raises
        `BadConfig` when the loss stays not finite: the recipe does not train.
        """
        self.net.train()
        skipped = 0
        while self.step < self.leg.steps:
            event = self.one_step()
            self.step += 1
            on_step(event)
            skipped = skipped + 1 if "skipped" in event else 0
            if skipped == MAX_SKIPPED:
                raise BadConfig(
                    f"{self.leg.name} diverged: the {event['skipped']} in {skipped} steps in a "
                    "row; lower lr in the recipe and start anew"
                )
            if self.step % self.spec.checkpoint_every == 0 or self.step == self.leg.steps:
                on_checkpoint()

    def one_step(self) -> dict[str, Any]:
        """One optimiser step; skipped, and said so, when the loss is not finite."""
        batch = self.batches[self.step]
        lr = learning_rate(self.leg, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss, terms = self._loss(batch)
        event = {"step": self.step, "lr": lr, "loss": float(loss.detach()), **terms}
        if not math.isfinite(event["loss"]):
            return {**event, "skipped": "loss is not finite"}
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.spec.clip)
        if not torch.isfinite(norm):
            return {**event, "skipped": "gradient is not finite"}
        self.optimizer.step()
        self._average()
        return event

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        spec, device = self.leg.stage.loss, self.spec.device
        lr, hr = batch.lr.to(device), batch.hr.to(device)
        keep = (self.hints[0],) if spec.feature else ()
        output, mine = self.net.run(lr, keep)
        target = None if batch.teacher is None else batch.teacher.to(device)
        feature = None
        if spec.feature or (spec.teacher and target is None):
            assert self.teacher is not None
            with torch.no_grad():
                live, theirs = self.teacher.run(lr, (self.hints[1],))
            target = live.clamp(0, 1) if target is None else target
            if self.adapter is not None:
                feature = self.adapter(mine[self.hints[0]], theirs[self.hints[1]])
        return step_loss(spec, output, hr, target, feature)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.spec.ema, (1 + self.step) / (10 + self.step))
        mine = list(self.net.parameters())
        torch._foreach_lerp_(list(self.ema.parameters()), mine, 1 - decay)


def _width(graph: Graph, name: str) -> int:
    return graph.channels[name]
