"""What `test_elastic.py` runs to see a worker join: counts steps, 20 of them in company."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgesr.training.world import open_world

LIMIT = 4000  # steps alone before it gives up


@dataclass
class State:
    leg: int
    step: int
    total: torch.Tensor
    together: int


def main() -> None:
    """`elastic_worker.py OUT`: the first worker opens OUT/more, which lets another one in."""
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    world = open_world()
    first = world.rank
    starts: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []

    def start(state: State | None, commit: Any) -> State:
        now = state or State(0, 0, torch.zeros(1, dtype=torch.float64), 0)
        starts.append({"step": now.step, "total": now.total.item(), "size": world.size})
        while now.together < 20 and now.step < LIMIT:
            mine = torch.tensor([float(world.rank + 1)], dtype=torch.float64)
            world.average_([mine])
            now.total += mine
            now.step += 1
            now.together += world.size > 1
            time.sleep(0.02)
            if now.step % 5 == 0:
                (out / "more").touch()
                commit(now)
        return now

    end = world.run(start, None, changes.append)
    facts = {"starts": starts, "changes": changes, "rank": world.rank, "step": end.step,
             "total": end.total.item(), "together": end.together}  # fmt: skip
    (out / f"worker{first}-{world.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
