"""`macs=25%` and its kin: what must remain."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from edgesr.errors import BadConfig
from edgesr.graph import counts
from edgesr.graph.spec import Graph

_COSTS: dict[str, Callable[[Graph], int]] = {
    "macs": counts.macs_per_pixel,
    "params": counts.parameters,
    "bytes": lambda graph: 4 * counts.parameters(graph),
}
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Budget:
    """An upper bound on a cost that is counted from the graph.

    `kind` is `macs` (per low-resolution pixel), `params`, or `bytes` (fp32 weights).
    """

    kind: str
    share: float | None
    amount: float | None

    def cost(self, graph: Graph) -> int:
        """What `graph` costs, in this budget's kind."""
        return _COSTS[self.kind](graph)

    def limit(self, teacher: Graph) -> int:
        """The bound: a share of what `teacher` costs, or an absolute number."""
        if self.share is not None:
            return int(self.share * self.cost(teacher))
        assert self.amount is not None
        return int(self.amount)


def parse_budget(text: str) -> Budget:
    """`macs=25%` (of the teacher's), `params=50k`, `bytes=300k`. Raises `BadConfig`."""
    match = re.fullmatch(r"(\w+)=([0-9.]+)(%|[kKmMgG]?)", text.replace(" ", ""))
    kinds = ", ".join(_COSTS)
    if not match or match[1] not in _COSTS:
        raise BadConfig(f"budget '{text}' is not understood; write KIND=25% or KIND=50k, "
                        f"KIND one of {kinds}")  # fmt: skip
    try:
        number = float(match[2])
    except ValueError as e:
        raise BadConfig(f"budget '{text}': '{match[2]}' is not a number") from e
    if number <= 0:
        raise BadConfig(f"budget '{text}' must be positive")
    if match[3] == "%":
        return Budget(match[1], number / 100, None)
    return Budget(match[1], None, number * _UNITS[match[3].lower()])
