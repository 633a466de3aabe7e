"""Power rails by name: which are wired, and which of them add up to the whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgesr.errors import BadConfig

# Labels as the board's device tree gives them; the first set that fits holds. On AGX Orin
# VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0, so adding it would count it twice. On TX2 the
# carrier's VDD_MUX is a branch beside the module, so it is shown and not added.
_TOTALS: tuple[tuple[str, ...], ...] = (
    ("VDD_IN",),  # Orin Nano, Orin NX, Xavier NX, TX2, TX2 NX: the module's input
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier: no rail feeds another
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # Thor
    ("POM_5V_IN",),  # Nano
    ("VIN",),  # a board that has only a sensor at its input
)
_UNUSED = re.compile(r"(^|[\W_])NC($|[\W_])", re.IGNORECASE)


def is_wired(label: str) -> bool:
    """Whether a channel of this label measures anything; `NC` is not connected."""
    return bool(label) and not _UNUSED.search(label)


def known_total(rails: Iterable[str]) -> tuple[str, ...]:
    """The rails whose sum is the whole input; empty for an unknown set."""
    present = set(rails)
    for total in _TOTALS:
        if set(total) <= present:
            return total
    return ()


def chosen_total(rails: Sequence[str], total: Sequence[str] | None) -> tuple[str, ...]:
    """`total` of a device profile, else what the names tell.

    Raises `BadConfig` when the profile names a rail that this board does not have.
    """
    if total is None:
        return known_total(rails)
    absent = [rail for rail in total if rail not in rails]
    if absent:
        raise BadConfig(f"no power rail {absent} here; this board has {', '.join(rails)}")
    return tuple(total)


def distinct(names: Iterable[str]) -> list[str]:
    """`names`, a repeated one numbered: two chips may carry the same label."""
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            number += 1
            free = f"{name} #{number}"
        found.append(free)
    return found
