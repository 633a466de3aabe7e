"""`macs=25%` and its kin: what must remain."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from edgesr.errors import BadConfig
from edgesr.graph import counts
from edgesr.graph.spec import Graph

_COUNTED: dict[str, Callable[[Graph], int]] = {
    "macs": counts.macs_per_pixel,
    "params": counts.parameters,
    "bytes": lambda graph: 4 * counts.parameters(graph),
}
_MS = "ms"
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Budget:
    """An upper bound on a cost of a graph.

    `kind` is `macs` (per low-resolution pixel), `params`, `bytes` (fp32 weights), or `ms` (a
    180×320 picture on this machine). The first three are counted; the last asks `latency`,
    normally `LatencyTable.cost`.
    """

    kind: str
    share: float | None
    amount: float | None
    latency: Callable[[Graph], float] | None = None

    def cost(self, graph: Graph) -> float:
        """What `graph` costs, in this budget's kind: whole numbers, or milliseconds."""
        if self.kind != _MS:
            return _COUNTED[self.kind](graph)
        assert self.latency is not None, "a budget in ms needs a latency table"
        return self.latency(graph)

    def limit(self, teacher: Graph) -> float:
        """The bound: a share of what `teacher` costs, or an absolute number."""
        if self.share is not None:
            bound = self.share * self.cost(teacher)
        else:
            assert self.amount is not None
            bound = self.amount
        return bound if self.kind == _MS else int(bound)

    def show(self, cost: float) -> str:
        """A cost of this kind for people: `1,234 params` or `12.3 ms`."""
        return f"{cost:.1f} ms" if self.kind == _MS else f"{cost:,.0f} {self.kind}"


def parse_budget(text: str, *, latency: Callable[[Graph], float] | None = None) -> Budget:
    """`macs=25%` (of the teacher's), `params=50k`, `bytes=300k`, `ms=40`. Raises `BadConfig`.

    `latency` tells the milliseconds of a graph; other budgets do without.
    """
    kinds = (*_COUNTED, _MS)
    match = re.fullmatch(r"(\w+)=([0-9.]+)(%|[kKmMgG]?)", text.replace(" ", ""))
    if not match or match[1] not in kinds:
        raise BadConfig(f"budget '{text}' is not understood; write KIND=25% or KIND=50k, "
                        f"KIND one of {', '.join(kinds)}")  # fmt: skip
    kind, digits, unit = match[1], match[2], match[3].lower()
    try:
        number = float(digits)
    except ValueError as e:
        raise BadConfig(f"budget '{text}': '{digits}' is not a number") from e
    if number <= 0:
        raise BadConfig(f"budget '{text}' must be positive")
    if kind == _MS and unit not in ("", "%"):
        raise BadConfig(f"budget '{text}': milliseconds take no '{match[3]}'; write ms={digits}")
    if unit == "%":
        return Budget(kind, number / 100, None, latency)
    return Budget(kind, None, number * _UNITS[unit], latency)
