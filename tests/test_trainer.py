"""The loop of one leg: steps that are skipped, time spent waiting, and that it learns."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import pytest
import torch

from edgesr.models.student import student
from edgesr.training.data import Batch
from edgesr.training.legs import Leg, learning_rate
from edgesr.training.net import GraphNet
from edgesr.training.recipe import LossSpec, Stage
from edgesr.training.start import fresh_student
from edgesr.training.trainer import Trainer, TrainSpec


class Crops:
    """Smooth pictures of 8×8 and 32×32, a function of the step; some bad, some late."""

    def __init__(self, bad: tuple[int, ...] = (), late_s: float = 0.0) -> None:
        self.bad, self.late_s = bad, late_s

    def __getitem__(self, step: int) -> Batch:
        time.sleep(self.late_s)
        rng = np.random.default_rng(step % 4)
        lr = torch.from_numpy(rng.random((2, 3, 8, 8), np.float32))
        hr = torch.nn.functional.interpolate(lr, scale_factor=4, mode="bilinear")
        if step in self.bad:
            hr = hr.clone()
            hr[0, 0, 5, 5] = float("nan")
        return Batch(lr, hr, None)


def trainer_of(batches: Crops, steps: int, width: int = 8, **stage: Any) -> Trainer:
    net = fresh_student(student(width, 2), rep=True, seed=0)
    leg = Leg("0-finetune", Stage("finetune", steps, **stage), steps)
    return Trainer(net, None, batches, leg, TrainSpec(0.9, 1.0, 0, 1000))


def all_of(trainer: Trainer) -> dict[str, Any]:
    parts = {"net": trainer.net, "ema": trainer.ema, "optimizer": trainer.optimizer}
    return copy.deepcopy({name: part.state_dict() for name, part in parts.items()})


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


def without_rate(state: dict[str, Any]) -> dict[str, Any]:
    for group in state["optimizer"]["param_groups"]:
        del group["lr"]  # the schedule's, whatever becomes of the step
    return state


def test_a_bad_batch_is_skipped_and_logged_and_the_run_goes_on() -> None:
    events: list[dict[str, Any]] = []
    states: list[dict[str, Any]] = []
    trainer = trainer_of(Crops(bad=(3,)), 7)
    trainer.run(events.append, lambda: None, log_every=100,
                advance=lambda: states.append(without_rate(all_of(trainer))))  # fmt: skip
    assert [e["step"] for e in events] == [0, 3]  # skipped ones are told out of turn
    assert events[1]["skipped"] == "loss is not finite"
    assert "loss" not in events[1]
    # Whatever a step moves was left alone by this one: weights, average, Adam's memory.
    assert equal(states[2], states[3])
    assert not any(equal(states[i], states[i + 1]) for i in (0, 1, 3, 4, 5))
    assert all(torch.isfinite(p).all() for p in trainer.net.parameters())
    assert trainer.step == 7


def test_a_gradient_that_is_not_finite_is_skipped_too() -> None:
    trainer = trainer_of(Crops(), 3)
    weight = next(iter(trainer.net.parameters()))
    handle = weight.register_hook(lambda gradient: gradient * float("inf"))
    before = without_rate(all_of(trainer))
    event = trainer.one_step(Crops()[0])
    assert event["skipped"] == "gradient is not finite"
    assert equal(without_rate(all_of(trainer)), before)
    handle.remove()
    assert trainer.one_step(Crops()[0])["loss"] > 0
    assert not equal(without_rate(all_of(trainer)), before)


def test_the_log_has_the_share_of_time_spent_waiting_for_data() -> None:
    steps, spent_s = 12, 0.0

    def waiting(late_s: float) -> float:
        nonlocal spent_s
        events: list[dict[str, Any]] = []
        trainer = trainer_of(Crops(late_s=late_s), steps, width=16)
        trainer.run(events.append, lambda: None)
        assert events[-1]["waiting"] == round(trainer.waiting, 4)
        assert trainer.waiting == trainer.waited_s / trainer.busy_s
        assert 0 <= trainer.waiting <= 1
        spent_s = trainer.busy_s
        return trainer.waiting

    fed = waiting(0.0)
    # A batch that takes as long as five steps: four fifths of the time are spent waiting.
    starved = waiting(5 * spent_s / steps)
    assert starved > 0.3
    assert fed < 0.5 * starved


def test_events_say_the_rate_of_the_schedule_and_the_terms_of_the_loss() -> None:
    events: list[dict[str, Any]] = []
    loss = LossSpec(pixel=2.0, frequency=0.1)
    trainer = trainer_of(Crops(), 40, lr=1e-2, warmup=4, loss=loss)
    trainer.run(events.append, lambda: None, log_every=3)
    assert [e["step"] for e in events] == list(range(0, 40, 3))
    for event in events:
        assert event["lr"] == learning_rate(trainer.leg, event["step"])
        assert event["loss"] == pytest.approx(event["pixel"] + event["frequency"], rel=1e-5)


def test_it_learns_what_can_be_learnt() -> None:
    losses: list[float] = []
    trainer = trainer_of(Crops(), 100, lr=1e-2, warmup=5)
    trainer.run(lambda event: losses.append(event["loss"]), lambda: None)
    # Bilinear upsampling of four pictures: a linear map, which the network can come near to.
    first, last = np.mean(losses[:4]), np.mean(losses[-4:])
    assert last < 0.5 * first
    plain = GraphNet(trainer.ema.graph)
    plain.load_weights(trainer.ema.weights())
    with torch.no_grad():
        gap = np.mean([(plain(Crops()[i].lr) - Crops()[i].hr).abs().mean() for i in range(4)])
    assert gap < 0.6 * first  # the average too, folded


def test_checkpoints_and_validations_come_at_their_steps() -> None:
    calls: list[tuple[str, int]] = []
    net = fresh_student(student(4, 1), rep=False, seed=0)
    spec = TrainSpec(0.9, 1.0, 0, checkpoint_every=4)
    trainer = Trainer(net, None, Crops(), Leg("0-x", Stage("finetune", 10), 10), spec)
    trainer.run(
        lambda event: None,
        lambda: calls.append(("keep", trainer.step)),
        on_validate=lambda: calls.append(("validate", trainer.step)),
        validate_every=5,
    )
    assert calls == [("keep", 4), ("validate", 5), ("keep", 8), ("validate", 10), ("keep", 10)]


def test_weights_and_batches_are_channels_last() -> None:
    trainer = trainer_of(Crops(), 1)
    kernels = [p for p in trainer.net.parameters() if p.ndim == 4 and p.shape[1] > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)
