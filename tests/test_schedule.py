"""Legs, learning rates, the quality gate, the moving average, and runs that diverge."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from edgesr.models.student import student
from edgesr.training.legs import last_within_drop, learning_rate, legs_of, scale_steps
from edgesr.training.recipe import Recipe, Stage


def test_the_gate_on_quality_goes_back_to_the_last_student_that_passes() -> None:
    recipe = Recipe("r", (Stage("distill", 10), Stage("prune", 9, rounds=3)), budget="macs=50%")
    legs = legs_of(recipe)
    psnr = [30.0, 29.95, 29.9, 29.5]
    assert last_within_drop(legs, psnr, 0.11) == (2, "1-prune-3of3 loses 0.50 dB against the "
                                                  "student before it, more than the 0.11 dB "
                                                  "allowed")  # fmt: skip
    assert last_within_drop(legs, psnr, 0.01)[0] == 0
    assert last_within_drop(legs, psnr, 0.51) == (3, "")
    assert last_within_drop(legs, psnr, None) == (3, "")
    assert last_within_drop(legs, [30.0, 30.1, 29.0, 30.2], 0.0) == (3, "")


def test_the_gate_starts_from_the_network_before_anything_was_taken_away() -> None:
    stages = (Stage("distill", 10), Stage("distill", 10), Stage("prune", 9, method="2:4"),
              Stage("quantize", 5))  # fmt: skip
    legs = legs_of(Recipe("r", stages))
    assert [leg.reduces for leg in legs] == [False, False, True, True]
    psnr = [29.0, 30.0, 29.95, 29.8]  # the first leg's figure is no yardstick
    assert last_within_drop(legs, psnr, 0.1)[0] == 2
    assert last_within_drop(legs, psnr, 0.01)[0] == 1
    from_trained = legs_of(Recipe("r", stages[2:]), from_trained=True)
    assert [(leg.name, leg.steps, leg.reduces) for leg in from_trained] == [
        ("start", 0, False), ("0-prune-1of1", 9, True), ("1-quantize", 5, True)]  # fmt: skip
    assert last_within_drop(from_trained, [30.0, 29.95, 29.8], 0.01)[0] == 0


def test_legs_split_the_steps_and_schedules_start_warm_and_end_low() -> None:
    prune = Stage("prune", 10, rounds=3, lr=1.0, lr_end=0.1, warmup=0)
    recipe = Recipe("r", (Stage("distill", 100, lr=1.0, lr_end=0.0, warmup=10), prune),
                    budget="macs=50%")  # fmt: skip
    legs = legs_of(recipe)
    assert [leg.steps for leg in legs] == [100, 3, 3, 4]
    assert [leg.shrink for leg in legs] == [None, 1 / 3, 2 / 3, 1.0]
    rates = [learning_rate(legs[0], s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.5)  # half-way along the cosine
    assert rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert [s.steps for s in scale_steps(recipe, 0.5).stages] == [50, 10]  # never more
    long = Recipe("r", (Stage("distill", 100), Stage("prune", 90, rounds=3)), budget="macs=5%")
    assert [s.steps for s in scale_steps(long, 0.04).stages] == [10, 30]  # 10 a round


def test_a_run_that_diverged_stops_and_says_so(tmp_path: Path, photograph, monkeypatch) -> None:
    import torch

    from edgesr.errors import BadConfig
    from edgesr.training import data
    from edgesr.training.start import fresh_student
    from edgesr.training.trainer import MAX_SKIPPED, Trainer, TrainSpec

    monkeypatch.setenv("EDGESR_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), photograph("coffee")[:64, :64])
    pack = data.open_pack([tmp_path / "a.png"], 4)
    batches = data.Batches(pack, patch=8, batch=1, seed=0, teacher=False)
    net = fresh_student(student(4, 1), rep=False, seed=0)
    leg = legs_of(Recipe("r", (Stage("distill", 1000),)))[0]
    trainer = Trainer(net, None, batches, leg, TrainSpec(0.5, 1.0, 0, 100))
    with torch.no_grad():
        net.layers["head"].weight.fill_(float("inf"))
    events: list[dict[str, object]] = []
    with pytest.raises(BadConfig, match="diverged: the loss is not finite in 50 steps"):
        trainer.run(events.append, lambda: pytest.fail("must not keep a broken network"))
    assert len(events) == MAX_SKIPPED
    assert all(e["skipped"] for e in events)


def test_the_moving_average_follows_the_formula(tmp_path: Path, photograph, monkeypatch) -> None:
    import torch

    from edgesr.training import data
    from edgesr.training.start import fresh_student
    from edgesr.training.trainer import Trainer, TrainSpec

    monkeypatch.setenv("EDGESR_CACHE", str(tmp_path / "cache"))
    cv2.imwrite(str(tmp_path / "a.png"), photograph("coffee")[:64, :64])
    pack = data.open_pack([tmp_path / "a.png"], 4)
    batches = data.Batches(pack, patch=8, batch=1, seed=0, teacher=False)
    net = fresh_student(student(4, 1), rep=False, seed=0)
    leg = legs_of(Recipe("r", (Stage("distill", 5),)))[0]
    trainer = Trainer(net, None, batches, leg, TrainSpec(0.5, 1.0, 0, 100))
    expected = net.layers["head"].weight.detach().clone()
    for step in range(5):
        trainer.one_step(batches[step])
        trainer.step += 1
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net.layers["head"].weight.detach()
    assert torch.allclose(trainer.ema.layers["head"].weight, expected, atol=1e-7)
