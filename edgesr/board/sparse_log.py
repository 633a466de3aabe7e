"""What TensorRT's log says about 2:4 kernels: how many layers could, how many do.

Up to 9 it lists names, 10 and later may count instead:

    (Sparsity) Layers eligible for sparse math: Conv_2 + Relu_3, Conv_4
    (Sparsity) TRT inference plan picked sparse implementation for layers: Conv_4
    (Sparsity) Found 2 layer(s) eligible to use sparse tactics
    (Sparsity) Chose 1 layer(s) using sparse tactics

Source: logs in NVIDIA/TensorRT issues 1403, 2169 and 4056 (8.x), public build logs (10.x).
"""

import re
from typing import Dict, Iterable, Optional

_LISTED = re.compile(
    r"\(Sparsity\) (?:Layers (eligible) for sparse math"
    r"|TRT inference plan (picked) sparse implementation for layers):(.*)"
)
_COUNTED = re.compile(
    r"\(Sparsity\) (?:(Found) (\d+) layer\(s\) eligible|(Chose) (\d+) layer\(s\))[^:]*(?::(.*))?"
)


class SparseLayers:
    """Collects the lines of one build; `eligible` and `picked` are None until one was seen."""

    def __init__(self) -> None:
        self.eligible: Optional[int] = None
        self.picked: Optional[int] = None
        self.names = ""

    def read(self, line: str) -> None:
        """Take what a line of the log says, if it says anything."""
        listed = _LISTED.search(line)
        if listed:
            names = [name for name in listed.group(3).split(", ") if name.strip()]
            self._set("eligible" if listed.group(1) else "picked", len(names), listed.group(3))
            return
        counted = _COUNTED.search(line)
        if counted:
            count = int(counted.group(2) or counted.group(4))
            kind = "eligible" if counted.group(1) else "picked"
            self._set(kind, count, counted.group(5) or "")

    def _set(self, kind: str, count: int, names: str) -> None:
        setattr(self, kind, count)
        if kind == "picked":
            self.names = names.strip()

    def facts(self) -> Optional[Dict[str, object]]:
        """`eligible`, `picked` and the `names` that were picked; None if the log was silent."""
        if self.eligible is None and self.picked is None:
            return None
        return {"eligible": self.eligible, "picked": self.picked, "names": self.names}

    def words(self) -> str:
        """For the terminal."""
        if self.eligible is None and self.picked is None:
            return "2:4: TensorRT's log says nothing about sparse layers"
        known = ["?" if n is None else str(n) for n in (self.eligible, self.picked)]
        return "2:4: eligible {}, picked {}{}".format(
            known[0], known[1], " (dense kernels were faster)" if known[1] == "0" else ""
        )


def from_lines(lines: Iterable[str]) -> SparseLayers:
    """What a whole log says."""
    found = SparseLayers()
    for line in lines:
        found.read(line)
    return found
