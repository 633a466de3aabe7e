"""Which meter this machine has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgesr.errors import Impossible
from edgesr.power import ina3221, rapl
from edgesr.power.meter import Meter, NoMeter, sysfs_root


def find_meter(root: Path | None = None, total: Sequence[str] | None = None) -> Meter | NoMeter:
    """The best meter below the sysfs folder `root`, or why there is none and what mends it.

    A board's INA3221 comes first, since it sees the whole module; then the processor's RAPL.
    `root` is /sys unless EDGESR_SYSFS_ROOT names another folder. `total` is the device
    profile's formula for the board: rails to add up.
    """
    base = sysfs_root() if root is None else root
    board = _answering(lambda: ina3221.find(base, total))
    if not isinstance(board, NoMeter):
        return board
    processor = _answering(lambda: rapl.find(base))
    if not isinstance(processor, NoMeter):
        return processor
    for absence in (board, processor):
        if absence.present:
            return absence
    return NoMeter(
        f"no power sensor here: {board.reason}, {processor.reason}",
        "run it on the board itself, or on bare metal; virtual machines and containers hide both",
    )


def _answering(find: Callable[[], Meter | NoMeter]) -> Meter | NoMeter:
    """What `find` gives, if it can be read; a sensor that is there but silent is no meter."""
    try:
        meter = find()
        if not isinstance(meter, NoMeter):
            meter.read()
    except Impossible as e:
        return NoMeter(str(e), "read that file by hand; if that fails too, restart", present=True)
    return meter
