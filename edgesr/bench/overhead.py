"""What the timing loop itself costs: a network that does nothing, through the same loop."""

from __future__ import annotations

import statistics

from edgesr.bench.order import Turn
from edgesr.bench.timing import Clocks, Lane, run_turn

CALLS, ROUNDS = 100, 5


def overhead_us(clocks: Clocks | None = None) -> float:
    """Microseconds that the loop spends on each call beside the call, its records included.

    Median of five rounds of 100 turns of one call, so that what begins and ends a turn is in
    it too; a few milliseconds in all. Only a small part of it, between the two readings of
    the clock, is inside a call's time; all of it is inside the energy.
    """
    clocks = clocks or Clocks()
    rounds = []
    for _ in range(ROUNDS):
        lane = Lane("nothing", lambda _: None, [None])
        begin = clocks.wall()
        for number in range(CALLS):
            run_turn(lane, Turn(0, number, 0, 1), 0.0, clocks=clocks)
        rounds.append((clocks.wall() - begin) / CALLS)
    return 1e6 * statistics.median(rounds)
