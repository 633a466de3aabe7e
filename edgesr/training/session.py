"""A run from the outside: begun, shortened to fit, joined by other processes, resumed, ended."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgesr.errors import GateNotMet, Impossible, WorkersFailed
from edgesr.training.engine import Commit, carry_on
from edgesr.training.launch import launch
from edgesr.training.legs import scale_steps
from edgesr.training.outcome import finish
from edgesr.training.recipe import Recipe
from edgesr.training.run import Request, RunFolder
from edgesr.training.setup import Run, prepare, with_recipe
from edgesr.training.state import RunState, load_state
from edgesr.training.worker import LAUNCHED
from edgesr.training.world import Alone, World, open_world, under_horovod

PROBE_STEPS = 6
JOIN_S = 600.0  # how long a worker waits for the run folder that worker 0 makes

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """Where the student is and what is known about it."""

    student: Path
    folder: RunFolder


def begin(
    recipe: Recipe,
    request: Request,
    out: Path,
    *,
    max_minutes: float | None = None,
    say: Say = lambda text: None,
) -> Result:
    """Run a recipe from the start, in the run folder `out`, which must not hold a run.

    `max_minutes` shortens the stages by one common factor, measured on this machine and
    recorded in the run's recipe. With `request.processes` or `hosts` the folder is made here
    and the training done by workers that Horovod starts. Raises `GateNotMet` (after writing the
    best student and the report) when the budget or `max_drop` is missed.
    """
    started = time.monotonic()
    folder = RunFolder(out)
    if under_horovod():
        return _together(folder, recipe, request, max_minutes, say)
    folder.check_free()
    mine = _with_threads(request)
    if _distributed(request):
        # The workers have the GPUs; here the pictures are read and the inputs checked.
        mine = dataclasses.replace(mine, device="cpu")
    run = prepare(folder, recipe, mine, None, say, Alone())
    if max_minutes is not None:
        recipe = _fit_minutes(run, max_minutes, time.monotonic() - started, say)
        run = with_recipe(run, recipe)
    if _distributed(request):
        inputs = run.inputs
        del run  # the networks are not needed while the workers train
        folder.create(recipe, request, inputs)
        return _launched(folder, request)
    folder.create(recipe, mine, run.inputs)
    with folder.alone():
        return _carry_on(run, None, say)


def resume(
    out: Path, *, processes: int | None = None, hosts: str | None = None,
    say: Say = lambda text: None,
) -> Result:  # fmt: skip
    """Go on with an interrupted run.

    On CPU with one process the result is bit-identical to an uninterrupted run's. Raises
    `BadConfig` if the pictures or the teacher are no longer the same or the recipe does not fit
    the checkpoint, and `GateNotMet` as `begin` does.
    """
    folder = RunFolder(out)
    recipe, request, inputs = folder.reopen()
    if processes is not None or hosts is not None:
        # Threads are shared anew among the processes.
        request = dataclasses.replace(
            request, processes=processes or 1, hosts=hosts or "", threads=0
        )
    if _distributed(request) and not under_horovod():
        return _launched(folder, request)
    return _rejoin(folder, recipe, request, inputs, open_world(), say)


def _with_threads(request: Request) -> Request:
    """`request` with the threads of this process where none were asked for.

    Our launcher gives each worker its share of the cores, as torch sees them; a horovodrun of
    the user's does not.
    """
    threads = request.threads or torch.get_num_threads()
    if not request.threads and under_horovod() and LAUNCHED not in os.environ:
        threads = max(1, threads // int(os.environ.get("HOROVOD_LOCAL_SIZE", "1")))
    return dataclasses.replace(request, threads=threads)


def _distributed(request: Request) -> bool:
    return request.processes > 1 or bool(request.hosts)


def _launched(folder: RunFolder, request: Request) -> Result:
    arguments = [request.verb, "--resume", str(folder.path.absolute())]
    with folder.alone():
        code = launch(
            arguments,
            np=request.processes if not request.hosts else None,
            hosts=request.hosts or None,
            workdir=folder.path / "workers",
        )
    if code == 130:
        raise KeyboardInterrupt
    said = folder.path / "workers"
    if code == Impossible.exit_code:
        raise Impossible(f"the workers cannot work here; what they said is in {said}")
    missed = folder.missed()
    if missed is None or code not in (0, GateNotMet.exit_code):
        raise WorkersFailed(
            f"the workers ended with exit code {code}; what they said is in {said}, and "
            f"edgesr {request.verb} --resume {folder.path} goes on"
        )
    return _ended(folder, missed)


def _together(
    folder: RunFolder, recipe: Recipe, request: Request, max_minutes: float | None, say: Say
) -> Result:
    """A worker of a horovodrun that the user started: worker 0 makes the folder, all join."""
    world = open_world()
    if world.rank == 0:
        folder.check_free()
        run = prepare(folder, recipe, _with_threads(request), None, say, world)
        if max_minutes is not None:
            alone = dataclasses.replace(run, world=Alone())
            recipe = _fit_minutes(alone, max_minutes, 0.0, say)
        folder.create(recipe, request, run.inputs)
    elif not folder.appears_within(JOIN_S):
        raise WorkersFailed(
            f"worker {world.rank} sees no {folder.path}; all hosts need it at the same path"
        )
    recipe, request, inputs = folder.reopen()
    return _rejoin(folder, recipe, request, inputs, world, say)


def _rejoin(
    folder: RunFolder, recipe: Recipe, request: Request, inputs: dict[str, Any], world: World,
    say: Say,
) -> Result:  # fmt: skip
    first = world.rank == 0
    speak = say if first else (lambda text: None)
    # Our launcher holds the lock for all of its workers.
    locks = first and LAUNCHED not in os.environ
    with folder.alone() if locks else nullcontext():
        if first:
            folder.sweep()
        run = prepare(folder, recipe, _with_threads(request), inputs, speak, world)
        state = load_state(folder.checkpoints) if first else None
        if first and folder.begun():
            _say_resumed(folder, state, say)
        # With `say` itself: whoever becomes worker 0 after a loss speaks from then on.
        return _carry_on(run, state, say)


def _say_resumed(folder: RunFolder, state: RunState | None, say: Say) -> None:
    leg, step = (state.leg, state.step) if state else (0, 0)
    if state is None:
        say("no checkpoint yet: starting from the first step")
    else:
        say(f"resuming at leg {leg + 1}, step {step}")
    folder.log({"event": "resumed", "leg": leg, "step": step})
    if changed := folder.other_versions():
        say(f"not bit for bit as it would have been: {'; '.join(changed)}")


def _carry_on(run: Run, state: RunState | None, say: Say) -> Result:
    def attempt(state: RunState | None, commit: Commit) -> str:
        lead = run.world.rank == 0
        history = carry_on(run, state, commit, say if lead else (lambda text: None))
        if not lead:
            return ""
        say("measuring the teacher and bicubic on the held-out photographs")
        return finish(run, history)

    def changed(event: dict[str, Any]) -> None:
        run.folder.log(event)
        say(f"workers: {event['from']} became {event['to']}; going on from leg "
            f"{event['leg'] + 1}, step {event['step']}")  # fmt: skip

    missed = run.world.run(attempt, state, changed)
    return _ended(run.folder, missed)


def speaks() -> bool:
    """Whether this process tells the user how the run ended: one of them does."""
    return LAUNCHED not in os.environ and os.environ.get("HOROVOD_RANK", "0") == "0"


def _ended(folder: RunFolder, missed: str) -> Result:
    if missed and speaks():
        raise GateNotMet(f"{missed}; the best so far is {folder.student}")
    return Result(folder.student, folder)


def _fit_minutes(run: Run, minutes: float, spent_s: float, say: Say) -> Recipe:
    need_s = 0.0
    net = run.first()[0]
    for stage in run.recipe.stages:
        index = next(i for i, leg in enumerate(run.legs) if leg.stage is stage and leg.steps)
        trainer = run.trainer(net, index)
        batches = [trainer.batches[i] for i in range(2)]
        trainer.one_step(batches[0])
        begun = time.perf_counter()
        for i in range(PROBE_STEPS):
            trainer.one_step(batches[i % 2])
        need_s += (time.perf_counter() - begun) / PROBE_STEPS * stage.steps
    # A tenth is kept for measuring after each leg and for the report.
    room_s = max(1.0, minutes * 60 * 0.9 - spent_s)
    factor = min(1.0, room_s / need_s)
    fitted = scale_steps(run.recipe, factor) if factor < 1 else run.recipe
    total = sum(s.steps for s in fitted.stages)
    say(f"{minutes:g} minutes allow {total} steps ({factor:.0%} of the recipe)")
    return fitted
