"""Who runs when: mirrored turns, so that a slow drift of the machine hits all networks alike.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """The `number`-th turn of the run: `lane` runs for `shares` parts of the time."""

    repetition: int
    number: int
    lane: int
    shares: int


def mirrored(lanes: int, repetitions: int, centre: int = 0) -> list[Turn]:
    """Each repetition reads the same forwards and backwards: B A A B, for three B C A A C B.

    Then the mean time at which a lane ran is the middle of the repetition for every lane, and
    what grows linearly with time cancels in each single repetition, whatever their number.
    The two turns of lane `centre` touch, so they are one of twice the length: where one call
    takes longer than a turn, that lane makes one call a repetition and the others two.
    """
    outer = [lane for lane in range(lanes) if lane != centre]
    row = [*((lane, 1) for lane in outer), (centre, 2), *((lane, 1) for lane in outer[::-1])]
    return [
        Turn(repetition, repetition * len(row) + place, lane, shares)
        for repetition in range(repetitions)
        for place, (lane, shares) in enumerate(row)
    ]
