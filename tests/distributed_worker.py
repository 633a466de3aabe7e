"""What `test_distributed.py` runs in each of two processes, and in one alone to compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from edgesr.models.student import student
from edgesr.training import data
from edgesr.training.legs import Leg
from edgesr.training.net import GraphNet
from edgesr.training.recipe import LossSpec, Stage
from edgesr.training.trainer import Trainer, TrainSpec
from edgesr.training.world import World, open_world

STEPS = 20
LOSS = LossSpec(norm="charbonnier", pixel=1.0, frequency=0.1)


def train(photos: Path, world: World, *, batch: int) -> tuple[GraphNet, list[dict[str, Any]]]:
    """20 SGD steps in float64 of a fixed net; the net and what each step said."""
    torch.manual_seed(7)
    net = GraphNet(student(width=8, depth=2, act="relu")).double()
    stage = Stage("distill", steps=STEPS, lr=1e-2, lr_end=1e-3, warmup=2, loss=LOSS)
    pack = data.open_pack(data.photographs(photos), 4)
    batches = data.Batches(
        pack, patch=12, batch=batch, seed=5, teacher=False, rank=world.rank, size=world.size
    )
    spec = TrainSpec(ema=0.9, clip=0.5, seed=0, checkpoint_every=1000, optimizer="sgd")
    trainer = Trainer(net, None, batches, Leg("0-distill", stage, STEPS), spec, world)
    events: list[dict[str, Any]] = []
    trainer.run(events.append, lambda: None)
    return trainer.net, events


def ask_the_others(world: World) -> dict[str, Any]:
    """Each thing that a world can be asked, with answers that the test knows by hand."""
    rank = world.rank
    picture = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    tensors = [
        picture * (rank + 1),
        torch.tensor([1.0, 3.0][rank : rank + 1], dtype=torch.float64),
        torch.tensor([float("nan") if rank else 1.0, 1.0]),
    ]
    assert not tensors[0].is_contiguous()
    world.average_(tensors)
    world.average_([])
    answers = {
        "local_rank": world.local_rank,
        "channels_last": bool(torch.equal(tensors[0], picture * 1.5)),
        "float64": tensors[1].tolist(),
        "nan_reaches_all": torch.isnan(tensors[2]).tolist(),
        "mean": world.mean({"b": rank + 0.25, "a": 4.0}),
        "broadcast": world.broadcast({"from": rank} if rank == 0 else None),
        "tensor": world.broadcast(torch.full((2,), float(rank))).tolist(),
        "nobody": world.mean({}),
    }
    world.barrier()
    return answers


def main() -> None:
    """`distributed_worker.py PHOTOS OUT`."""
    photos, out = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    world = open_world()
    answers = ask_the_others(world)
    net, events = train(photos, world, batch=8)
    torch.save(net.state_dict(), out / f"rank{world.rank}.pt")
    crops = data.Batches(
        data.open_pack(data.photographs(photos), 4), patch=12, batch=8, seed=5, teacher=False,
        rank=world.rank, size=world.size,
    )[0].lr  # fmt: skip
    torch.save(crops, out / f"crops{world.rank}.pt")
    facts = {"rank": world.rank, "size": world.size, "answers": answers, "events": events}
    (out / f"rank{world.rank}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
