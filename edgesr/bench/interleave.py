"""All networks in mirrored turns, with the progress of it on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgesr.bench.order import mirrored
from edgesr.bench.timing import Clocks, Lane, run_paced_turn, run_turn
from edgesr.progress import progress


@dataclass(frozen=True)
class Plan:
    """How long all lanes together run, in how many repetitions, and how.

    `centre` is the number of the lane that stands in the middle: the slowest, since it then
    makes one call a repetition where the budget is short. `fps` None: back to back. `fill`:
    see `run_turn`.
    """

    duration_s: float
    repetitions: int
    centre: int = 0
    fps: float | None = None
    fill: bool = False


def interleave(lanes: Sequence[Lane], plan: Plan, clocks: Clocks, label: str) -> None:
    """Time `lanes`, each for the same share of the time; their samples grow."""
    order = mirrored(len(lanes), plan.repetitions, plan.centre)
    share_s = plan.duration_s / sum(turn.shares for turn in order)
    with progress(len(order), label) as bar:
        for turn in order:
            lane = lanes[turn.lane]
            bar.note(lane.name)
            seconds = share_s * turn.shares
            if plan.fps is None:
                run_turn(lane, turn, seconds, fill=plan.fill, clocks=clocks)
            else:
                run_paced_turn(lane, turn, seconds, plan.fps, clocks=clocks)
            bar.advance()
