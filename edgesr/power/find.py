"""Which meter this machine has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgesr.errors import Impossible
from edgesr.power import ina2xx, ina3221, ina3221x, nvml, pmic, rapl
from edgesr.power.meter import Meter, NoMeter, patiently, sysfs_root
from edgesr.power.together import Together


def find_meter(
    root: Path | None = None,
    total: Sequence[str] | None = None,
    *,
    load_nvml: nvml.Load = nvml.pynvml,
    ask_pmic: pmic.Ask | None = None,
) -> Meter | NoMeter:
    """The best meter below the sysfs folder `root`, or why there is none and what mends it.

    A board's own sensors come first, since they see the whole module; then NVIDIA cards and
    the processor's RAPL, together where both can be read; then the Raspberry Pi's PMIC. A
    meter whose total is known goes before one of single rails.

    `root` is /sys unless EDGESR_SYSFS_ROOT names another folder. `total` is the device
    profile's formula for the board: rails to add up. `load_nvml` gives NVIDIA's binding and
    `ask_pmic` the PMIC's text.
    """
    base = sysfs_root() if root is None else root
    absences: list[NoMeter] = []
    partial: Meter | None = None
    finders: tuple[Callable[[], Meter | None], ...] = (
        lambda: _board(base, total, absences),
        lambda: _desktop(base, load_nvml, absences),
        lambda: _kept(lambda: pmic.find(base, ask_pmic), absences),
    )
    for find in finders:
        meter = find()
        if meter is not None and meter.total:
            return meter
        partial = partial or meter
    return partial or _absence(absences)


def _board(base: Path, total: Sequence[str] | None, absences: list[NoMeter]) -> Meter | None:
    """The module's INA3221 through either driver, and other chips shown beside it."""
    start = len(absences)
    module = _kept(lambda: ina3221.find(base), absences)
    if module is None:
        module = _kept(lambda: ina3221x.find(base), absences)
    other = _kept(lambda: ina2xx.find(base), absences)
    meters = [meter for meter in (module, other) if meter is not None]
    notes = _notes(absences[start:])
    if len(meters) < 2 and total is None and not notes:
        return meters[0] if meters else None
    return Together(meters, meters[0].total if total is None else total, notes) if meters else None


def _desktop(base: Path, load_nvml: nvml.Load, absences: list[NoMeter]) -> Meter | None:
    """Cards and processor; when only one of them can be read, the trace says why."""
    start = len(absences)
    cards = _kept(lambda: nvml.find(base, load_nvml), absences)
    processor = _kept(lambda: rapl.find(base), absences)
    meters = [meter for meter in (processor, cards) if meter is not None]
    if not meters:
        return None
    notes = _notes(absences[start:])
    return Together(meters, notes=notes) if notes or len(meters) > 1 else meters[0]


def _kept(find: Callable[[], Meter | NoMeter], absences: list[NoMeter]) -> Meter | None:
    """What `find` gives, if it can be read; else None, and the reason among `absences`."""
    found = _answering(find)
    if isinstance(found, NoMeter):
        absences.append(found)
        return None
    return found


def _answering(find: Callable[[], Meter | NoMeter]) -> Meter | NoMeter:
    """What `find` gives, if it can be read; a sensor that is there but silent is no meter."""
    try:
        meter = patiently(find)
        if not isinstance(meter, NoMeter):
            patiently(meter.read)
    except Impossible as e:
        return NoMeter(str(e), "read that file by hand; if that fails too, restart", present=True)
    return meter


def _notes(absences: Sequence[NoMeter]) -> dict[str, str]:
    """What is there and was not read, for the report."""
    silent = [f"{a.reason}; {a.fix}" for a in absences if a.present]
    return {"not measured": " | ".join(silent)} if silent else {}


def _absence(absences: Sequence[NoMeter]) -> NoMeter:
    """One reason and one fix out of those of every meter; what is there, but silent, first."""
    silent = [a for a in absences if a.present]
    if silent:
        fixes = dict.fromkeys(a.fix for a in silent)
        return NoMeter("; ".join(a.reason for a in silent), "; ".join(fixes), present=True)
    reasons = ", ".join(dict.fromkeys(a.reason for a in absences))
    return NoMeter(
        f"no power sensor here: {reasons}",
        "run it on the board itself, or on bare metal; virtual machines and containers hide all",
    )
