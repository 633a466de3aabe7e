"""Over-current: what the sensor itself says of it, and what its readings say.

An INA3221 has two limits of current a channel, `max` (warning) and `crit` (critical). Its
alarm flags are one register that reading clears, for all channels at once (data sheet
SBOS576, Mask/Enable): a flag may be lost, so the highest current read is held against the
limits as well. Read them through the trace's conditions only, and not by another way between.
"""

from __future__ import annotations

from edgesr.power.meter import Trace

_KINDS = (("crit", "critical"), ("max", "warning"))


def alarms(trace: Trace) -> tuple[str, ...]:
    """One sentence for each rail that went over its limit of current while `trace` ran.

    Empty where nothing happened, and where the sensor has no limits.
    """
    found = (_alarm(trace, rail) for rail in trace.rails)
    return tuple(sentence for sentence in found if sentence)


def _alarm(trace: Trace, rail: str) -> str:
    before, after = trace.conditions, trace.conditions_after
    highest = _number(after.get(f"{rail}/highest"))
    for kind, word in _KINDS:
        limit = _number(after.get(f"{rail}/{kind}"))
        flag = after.get(f"{rail}/{kind}_alarm") == "1"
        over = highest is not None and limit is not None and highest > limit
        if flag or over:
            already = before.get(f"{rail}/{kind}_alarm") == "1"
            when = "before and during" if already else "during"
            figures = "" if limit is None else f", {limit:.0f} mA"
            figures += f"; highest reading {highest:.0f} mA" if highest is not None else ""
            return f"over-current alarm on {rail} {when} the run ({word} limit{figures})"
    return ""


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
