"""From the samples of a record to its figures: medians and ratios."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from edgesr.errors import BadConfig

SCHEMA = "edgesr.peers/1"
CLOCKS = ("cpu", "wall")


def read(path: Path) -> dict[str, Any]:
    """The record in `path`. Raises `BadConfig` for anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema = record["schema"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadConfig(f"{path}: not a record of benchmarks.peers.measure ({e})") from e
    if schema != SCHEMA:
        raise BadConfig(f"{path}: schema {schema} is not known; measure again ({SCHEMA})")
    return dict(record)


def add_figures(record: dict[str, Any]) -> dict[str, Any]:
    """The record with `figures` in each network, and `ratio_to_avx2`, from the samples alone.

    `cpu_ms` and `wall_ms` are medians over rounds of the median in a round; `ratio_cpu` and
    `ratio_wall` say how many times the generator's such figure is larger; the ranges are
    the smallest and largest of such ratios within one round. `ratio_to_avx2` is the median, over
    the peers that were timed on both machines, of this machine's ratio over the cited one.
    """
    networks = record["networks"]
    generator = next(n for n in networks if n["group"] == "baseline")
    base = {clock: _by_round(generator, f"{clock}_ms") for clock in CLOCKS}
    done = []
    for net in networks:
        figures: dict[str, Any] = {}
        for clock in CLOCKS:
            mine = _by_round(net, f"{clock}_ms")
            each = [base[clock][number] / mine[number] for number in mine]
            figures[f"{clock}_ms"] = round(_median(mine), 3)
            figures[f"ratio_{clock}"] = round(_median(base[clock]) / _median(mine), 3)
            figures[f"ratio_{clock}_range"] = [round(min(each), 3), round(max(each), 3)]
        done.append({**net, "figures": figures})
    both = [
        n["figures"]["ratio_cpu"] / n["ratio_avx2"]
        for n in done
        if n["group"] == "peer" and n["ratio_avx2"]
    ]
    factor = round(statistics.median(both), 3) if both else None
    return {**record, "networks": done, "ratio_to_avx2": factor, "timed_on_both": len(both)}


def _by_round(net: dict[str, Any], clock: str) -> dict[int, float]:
    rounds: dict[int, list[float]] = {}
    for number, value in zip(net["samples"]["round"], net["samples"][clock], strict=True):
        rounds.setdefault(number, []).append(value)
    return {number: statistics.median(values) for number, values in rounds.items()}


def _median(by_round: dict[int, float]) -> float:
    return statistics.median(by_round.values())
