"""The training loop of one leg."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgesr.errors import BadConfig
from edgesr.training.data import Batch
from edgesr.training.gan import Adversary
from edgesr.training.legs import Leg, learning_rate
from edgesr.training.loader import Loader, Source
from edgesr.training.losses import Made, StepLoss
from edgesr.training.muon import Muon
from edgesr.training.net import GraphNet
from edgesr.training.precision import autocast, in_bf16
from edgesr.training.world import Alone, World

MAX_SKIPPED = 50  # steps in a row without a finite loss or gradient
SGD_MOMENTUM = 0.9


@dataclass(frozen=True)
class TrainSpec:
    """What does not change between legs.

    `rate_factor` multiplies the learning rate (several processes, a larger batch).
    """

    ema: float
    clip: float
    seed: int
    checkpoint_every: int
    device: str = "cpu"
    optimizer: str = "adam"
    precision: str = "auto"
    rate_factor: float = 1.0
    compile: bool = False


class Trainer:
    """One leg: network, its moving average, optimiser, and the teacher to follow.

    The decay of the moving average starts low and grows as (1 + t)/(10 + t) up to `spec.ema`,
    so that short legs are not held back by their first weights. Where `spec.precision` says so,
    the forward pass runs in bfloat16 unless it is quantised (see `edgesr.training.precision`).
    """

    def __init__(
        self,
        net: GraphNet,
        teacher: GraphNet | None,
        batches: Source,
        leg: Leg,
        spec: TrainSpec,
        world: World | None = None,
    ) -> None:
        layout = torch.channels_last
        self.net = net.to(spec.device, memory_format=layout)  # type: ignore[call-overload]
        self.teacher, self.batches, self.leg, self.spec = teacher, batches, leg, spec
        self.world: World = world or Alone()
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.step = 0
        loss, graph = leg.stage.loss, teacher.graph if teacher else None
        # Codes times scales do not survive bfloat16: quantised arithmetic stays in float32.
        self.bf16 = net.quant is None and in_bf16(spec.precision, spec.device)
        made = StepLoss(loss, net.graph, graph, seed=spec.seed, bf16=self.bf16)
        self.losses = made.to(spec.device)
        self.adversary = (
            Adversary(seed=spec.seed, lr=leg.stage.lr, device=spec.device, bf16=self.bf16)
            if loss.adversarial
            else None
        )
        learned = (*self.net.parameters(), *self.losses.parameters())
        self.parameters = [p for p in learned if p.requires_grad]
        self.optimizer = _optimizer(spec.optimizer, self.parameters, leg.stage.lr)
        self.dtype = self.parameters[0].dtype
        self.busy_s = self.waited_s = 0.0
        self._run = torch.compile(self.net.run) if spec.compile else self.net.run

    def run(
        self,
        on_step: Callable[[dict[str, Any]], None],
        on_checkpoint: Callable[[], None],
        *,
        log_every: int = 1,
        advance: Callable[[], None] = lambda: None,
        on_validate: Callable[[], None] = lambda: None,
        validate_every: int = 0,
    ) -> None:
        """Train to the end of the leg.

        `on_step` gets step, learning rate, loss and its terms: after every `log_every`-th
        step, and after each that was skipped; `advance` is called after every step.
        `on_checkpoint` is called every `checkpoint_every` steps and at the end, `on_validate`
        every `validate_every` steps (0: never). Raises `BadConfig` when the loss stays not
        finite: the recipe does not train.
        """
        self.net.train()
        skipped, waited_before = 0, self.waited_s
        with Loader(self.batches, self.step, self.leg.steps) as loader:
            while self.step < self.leg.steps:
                begun = time.perf_counter()
                event = self.one_step(loader.next(), say=self.step % log_every == 0)
                self.step += 1
                self.busy_s += time.perf_counter() - begun
                self.waited_s = waited_before + loader.waited_s
                advance()
                if event:
                    on_step({**event, "waiting": round(self.waiting, 4)})
                skipped = skipped + 1 if "skipped" in event else 0
                if skipped == MAX_SKIPPED:
                    raise BadConfig(
                        f"{self.leg.name} diverged: the {event['skipped']} in {skipped} steps in "
                        "a row; lower lr in the recipe and start anew"
                    )
                if validate_every and self.step % validate_every == 0:
                    on_validate()
                if self.step % self.spec.checkpoint_every == 0 or self.step == self.leg.steps:
                    on_checkpoint()

    @property
    def waiting(self) -> float:
        """Share of the training time that was spent waiting for data."""
        return self.waited_s / self.busy_s if self.busy_s else 0.0

    def one_step(self, batch: Batch, *, say: bool = True) -> dict[str, Any]:
        """One optimiser step; what happened if `say`, or if the step was skipped.

        A step whose loss or gradient is not finite is skipped by all processes together: the
        mean over them is not finite either.
        """
        batch = batch.to(self.spec.device, self.dtype)
        rate = learning_rate(self.leg, self.step) * self.spec.rate_factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        made = self._forward(batch)
        loss, terms = self.losses(made)
        if self.adversary is not None:
            fooled = self.adversary.generator_loss(made.output, batch.hr)
            fooled = self.leg.stage.loss.adversarial * fooled
            loss, terms = loss + fooled, {**terms, "adversarial": fooled.detach()}
        torch.autograd.backward(loss)
        self.world.average_([p.grad for p in self.parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.parameters, self.spec.clip)
        # One look at the device for both: each would wait for the GPU.
        loss_value, norm_value = torch.stack([loss.detach(), norm.to(loss.dtype)]).tolist()
        event: dict[str, Any] = {"step": self.step, "lr": rate}
        if not (math.isfinite(norm_value) and (self.world.size > 1 or math.isfinite(loss_value))):
            what = "gradient" if math.isfinite(loss_value) else "loss"
            return {**event, "skipped": f"{what} is not finite"}
        self.optimizer.step()
        self._average()
        if self.adversary is not None:
            self.adversary.set_rate(rate)
            learned = self.adversary.learn(made.output.detach(), batch.hr, self.world.average_)
            if learned.pop("skipped", 0.0):
                learned["discriminator_skipped"] = 1.0  # the student's own step was not
            terms = {**terms, **{k: torch.as_tensor(v) for k, v in learned.items()}}
        if not say:
            return {}
        values = {name: float(value) for name, value in terms.items()}
        return {**event, **self.world.mean({"loss": loss_value, **values})}

    def _forward(self, batch: Batch) -> Made:
        with autocast(self.spec.device, self.bf16):
            output, mine = self._run(batch.lr, self.losses.student_layers)
        theirs: dict[str, Tensor] = {}
        target = batch.teacher
        if self.losses.teacher_layers or (self.leg.stage.loss.teacher and target is None):
            assert self.teacher is not None
            with torch.no_grad(), autocast(self.spec.device, self.bf16):
                live, theirs = self.teacher.run(batch.lr, self.losses.teacher_layers)
            target = live.float().clamp(0, 1) if target is None else target
        if self.bf16:
            output = output.float()
            mine = {name: t.float() for name, t in mine.items()}
            theirs = {name: t.float() for name, t in theirs.items()}
        return Made(output, batch.hr, target, mine, theirs)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.spec.ema, (1 + self.step) / (10 + self.step))
        mine = list(self.net.parameters())
        torch._foreach_lerp_(list(self.ema.parameters()), mine, 1 - decay)


def _optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=SGD_MOMENTUM)
    if name == "muon":
        return Muon(parameters, lr)
    return torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99))
