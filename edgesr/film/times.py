"""Times that rise, also where a film's own do not."""

from __future__ import annotations

from fractions import Fraction

_JUMP_S = 1  # a step back of more than this is a new start of the clock, not a slip


class Clock:
    """Mends one stream's times, given in ticks of `time_base` in the order they are stored.

    A time that is missing or slips back becomes the next one free. After a jump back (films
    glued together, a broadcast's clock set anew) all times are moved to go on without a gap.
    `strict` forbids that two are the same. `slips` and `jumps` count.
    """

    def __init__(self, time_base: Fraction, strict: bool = True) -> None:
        self._jump = int(_JUMP_S / time_base)
        self._step = 1 if strict else 0
        self._last: int | None = None
        self._due = 0
        self._moved = 0
        self.slips = 0
        self.jumps = 0

    @property
    def own(self) -> bool:
        """Whether all times so far were the film's own."""
        return not (self.slips or self.jumps)

    def mend(self, time: int | None, length: int) -> int:
        """The time to use for one that lasts `length` ticks."""
        mended = self._due if time is None else time + self._moved
        if time is None:
            self.slips += 1
        if self._last is not None and mended < self._last + self._step:
            if time is not None and self._last - mended > self._jump:
                self.jumps += 1
                mended = max(self._due, self._last + self._step)
                self._moved = mended - time
            else:
                self.slips += time is not None
                mended = self._last + self._step
        self._last, self._due = mended, mended + length
        return mended
