"""The events of a run in TensorBoard's own reader, and nothing at all without the package."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgesr.training import tensorboard
from edgesr.training.tensorboard import Events

LEGS = (("0-distill", 100), ("1-prune-1of1", 50))
needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="needs tensorboard: pip install tensorboard"
)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: (step, value) by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(e.step, round(e.value, 6)) for e in found.Scalars(tag)] for tag in tags}


def step(leg: int, at: int, loss: float) -> dict[str, object]:
    return {"event": "step", "leg": leg, "step": at, "lr": 0.5, "loss": loss, "pixel": loss / 2}


@needs_tensorboard
def test_events_are_scalars_over_the_steps_of_the_whole_run(tmp_path: Path) -> None:
    events = Events(tmp_path, LEGS)
    assert events.active
    events.add({"event": "leg", "leg": 0, "name": "0-distill", "steps": 100})
    events.add({**step(0, 20, 0.25), "wait_s": 0.125, "skipped": "loss is not finite"})
    events.add(step(1, 20, 0.5))
    events.add({"event": "validated", "leg": 1, "step": 30, "psnr_y": 28.0})
    events.add({"event": "measured", "leg": "0-distill", "steps": 100, "psnr_y": 27.5, "params": 9})
    events.add({"event": "resumed", "leg": 1, "step": 20})
    events.close()
    events.add(step(1, 40, 0.5))  # closed: nothing happens
    assert scalars(tmp_path) == {
        "loss/loss": [(20, 0.25), (120, 0.5)],
        "loss/pixel": [(20, 0.125), (120, 0.25)],
        "train/lr": [(20, 0.5), (120, 0.5)],
        "train/wait_s": [(20, 0.125)],
        "validated/psnr_y": [(130, 28.0)],
        "measured/psnr_y": [(100, 27.5)],
        "measured/params": [(100, 9.0)],
    }


@needs_tensorboard
def test_a_resumed_run_appends_and_hides_what_is_done_again(tmp_path: Path) -> None:
    first = Events(tmp_path, LEGS)
    for leg, at in ((0, 0), (0, 80), (1, 10), (1, 20)):
        first.add(step(leg, at, 0.5))
    first.close()
    # Another process goes on: its file is named after the second in which it starts and the
    # process, which in this test is the same.
    for path in tmp_path.iterdir():
        path.rename(path.with_name(path.name.replace("tfevents.", "tfevents.0")))
    second = Events(tmp_path, LEGS, start=(1, 10))
    second.add(step(1, 10, 0.25))
    second.close()
    assert scalars(tmp_path)["loss/loss"] == [(0, 0.5), (80, 0.5), (110, 0.25)]


def test_without_the_package_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it would raise
    events = Events(tmp_path / "tb", LEGS, start=(1, 10))
    assert not events.active
    events.add(step(0, 20, 0.25))
    events.close()
    assert not list(tmp_path.iterdir())
