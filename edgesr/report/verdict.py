"""Whether the figures may be used, in one sentence of plain words."""

from __future__ import annotations

from typing import Any


def verdict(report: dict[str, Any]) -> tuple[bool, str]:
    """Whether nothing speaks against the run, and the sentence that says what does."""
    validity = report.get("validity")
    if validity is not None and not validity["valid"]:
        reasons = "; ".join(validity["reasons"])
        return False, f"Not valid: {reasons}. The figures are kept; measure again to quote them."
    found = report["checks"]
    names = list(dict.fromkeys(c["name"] for c in found if not c["ok"]))
    if not names:
        return True, f"All {len(found)} checks passed."
    count = sum(not c["ok"] for c in found)
    asks = "asks" if count == 1 else "ask"
    return False, f"{count} of {len(found)} checks {asks} for a look: {', '.join(names)}."
