"""From the first leg of a run, or from where it stopped, to the last."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch

from edgesr.errors import BadConfig
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Graph
from edgesr.progress import progress
from edgesr.training.measure import measure, validate
from edgesr.training.reduce import reduced
from edgesr.training.setup import Run
from edgesr.training.start import Trained, continued_student
from edgesr.training.state import RunState, save_state
from edgesr.training.tensorboard import Events
from edgesr.training.trainer import Trainer

LOG_EVERY = 20

Say = Callable[[str], None]
Commit = Callable[[RunState], None]
History = list[dict[str, Any]]


class _Progress:
    """A run under way: what is done, and whom to tell. Only process 0 writes and speaks."""

    def __init__(self, run: Run, state: RunState | None, commit: Commit, say: Say) -> None:
        self.run, self.commit, self.say = run, commit, say
        self.history: History = list(state.history) if state else []
        self.lead = run.world.rank == 0
        self.begun = time.monotonic()
        start = (state.leg, state.step) if state else None
        legs = [(leg.name, leg.steps) for leg in run.legs]
        self.events = Events(run.folder.path / "tensorboard", legs, start) if self.lead else None

    @property
    def seconds(self) -> float:
        """Spent on the leg, by earlier processes too."""
        return time.monotonic() - self.begun

    def log(self, event: dict[str, Any]) -> None:
        """One event for log.jsonl and TensorBoard."""
        if self.events is not None:
            self.run.folder.log(event)
            self.events.add(event)

    def close(self) -> None:
        """Write what is left."""
        if self.events is not None:
            self.events.close()


def carry_on(run: Run, state: RunState | None, commit: Commit, say: Say) -> History:
    """Train what is left to train; the measurements of all legs, in order.

    `state` is where an earlier run stopped. `commit` gets a state every `checkpoint_every`
    steps, after it was written to the run folder. Raises `BadConfig` when `state` is not of
    this recipe.
    """
    going = _Progress(run, state, commit, say)
    history = going.history
    if [h["leg"] for h in history] != [leg.name for leg in run.legs[: len(history)]]:
        raise recipe_changed(run)
    try:
        _all_legs(going, state)
    finally:
        going.close()
    return history


def _all_legs(going: _Progress, state: RunState | None) -> None:
    run, history = going.run, going.history
    trained: Trained | None = None
    for index, leg in enumerate(run.legs):
        if state and index < state.leg:
            continue
        going.begun = time.monotonic()
        if state and index == state.leg:
            trainer = _restored(run, state, index)
            going.begun -= state.seconds
        else:
            trainer = _begin(going, index, trained)
        trained = _train(going, trainer, index) if leg.steps else run.first()[1]
        if len(history) <= index:
            result = None
            if going.lead:
                result = measure(run, index, trained, trainer.waiting, going.seconds)
            history.append(run.world.broadcast(result))
            going.log({"event": "measured", **history[-1]})
            going.say(f"  held-out PSNR-Y {history[-1]['psnr_y']:.2f} dB")
            _keep(going, trainer, index)


def _begin(going: _Progress, index: int, trained: Trained | None) -> Trainer:
    run, leg = going.run, going.run.legs[index]
    if trained is None and not leg.reduces:
        net, note = run.first()[0], ""
    else:
        smaller, note = reduced(run, index, trained or run.first()[1])
        seed = run.recipe.seed * 1000 + index
        net = continued_student(smaller, rep=run.recipe.reparameterize, seed=seed)
    going.log({"event": "leg", "leg": index, "name": leg.name, "steps": leg.steps})
    going.say(f"leg {index + 1}/{len(run.legs)} {leg.name}: {leg.steps} steps{note}")
    return run.trainer(net, index)


def _restored(run: Run, state: RunState, index: int) -> Trainer:
    graph = Graph.from_json(state.graph_json)
    quant = QuantSpec.from_json(json.loads(state.quant)) if state.quant else None
    weights = _zeros(graph) if run.legs[index].steps else run.first()[1].weights
    blank = Trained(graph, weights, state.masked, quant)
    net = continued_student(blank, rep=run.recipe.reparameterize, seed=0)
    try:
        net.load_state_dict(state.net)
        trainer = run.trainer(net, index)
        trainer.ema.load_state_dict(state.ema)
        trainer.optimizer.load_state_dict(state.optimizer)
        trainer.losses.load_state_dict(state.losses)
        if trainer.adversary is not None:
            trainer.adversary.load_state_dict(state.adversary)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, KeyError) as e:
        raise recipe_changed(run) from e
    trainer.step = state.step
    trainer.busy_s, trainer.waited_s = state.busy_s, state.waited_s
    return trainer


def _zeros(graph: Graph) -> dict[str, Any]:
    import numpy as np

    return {name: np.zeros(shape, np.float32) for name, shape in graph.weight_shapes().items()}


def recipe_changed(run: Run) -> BadConfig:
    """The error of a run folder whose recipe is not that of its checkpoint."""
    return BadConfig(
        f"cannot resume {run.folder.path}: its recipe.toml does not fit its checkpoint; put it "
        "back as it was, or start anew with another --out"
    )


def _train(going: _Progress, trainer: Trainer, index: int) -> Trained:
    leg, every = trainer.leg, going.run.recipe.validate_every
    with progress(leg.steps, leg.name, begun=trainer.step, quiet=not going.lead) as bar:

        def on_step(event: dict[str, Any]) -> None:
            going.log({"event": "step", "leg": index, **event})

        def on_validate() -> None:
            if going.lead:
                psnr = validate(going.run, trained_of(trainer))
                going.log({"event": "validated", "leg": index, "step": trainer.step - 1,
                           "psnr_y": psnr})  # fmt: skip
                bar.note(f"{psnr:.2f} dB")

        trainer.run(
            on_step,
            lambda: _keep(going, trainer, index),
            log_every=LOG_EVERY,
            advance=bar.advance,
            on_validate=on_validate,
            validate_every=every,
        )
    return trained_of(trainer)


def trained_of(trainer: Trainer) -> Trained:
    """What a trainer has so far: the moving average, branches folded."""
    ema = trainer.ema
    quant = ema.quant.spec() if ema.quant is not None else None
    return Trained(ema.graph, ema.weights(), ema.masked, quant)


def _keep(going: _Progress, trainer: Trainer, index: int) -> None:
    quant = trainer.net.quant
    state = RunState(
        leg=index,
        step=trainer.step,
        graph_json=trainer.net.graph.to_json(),
        masked=trainer.net.masked,
        quant=json.dumps(quant.spec().to_json()) if quant is not None else "",
        net=trainer.net.state_dict(),
        ema=trainer.ema.state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        losses=trainer.losses.state_dict(),
        adversary=trainer.adversary.state_dict() if trainer.adversary is not None else {},
        seconds=going.seconds,
        busy_s=trainer.busy_s,
        waited_s=trainer.waited_s,
        history=list(going.history),
    )
    if going.lead:
        save_state(state, going.run.folder.checkpoints)
    going.commit(state)
