"""How much of a step's speed the trainer gives away: loader, logging, moving average, and all.

Two trainers of the same network take turns in one process: one trains as `edgesr compress` does
(crops cut from the photographs, loss and rate logged), the other repeats its step on one batch
that lies in memory. Blocks are interleaved, and the medians of their times compared.

    python benchmarks/trainer_speed.py --data DIR --width 32 --depth 14 --out FILE
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from edgesr import atomic, machine
from edgesr.models.student import student
from edgesr.training import data
from edgesr.training.legs import Leg
from edgesr.training.recipe import LossSpec, Stage
from edgesr.training.run import RunFolder
from edgesr.training.start import fresh_student
from edgesr.training.trainer import Trainer, TrainSpec


def main() -> None:
    """Measure, print and keep the record."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    paths = data.photographs(args.data, ["bsds_*"])
    pack = data.open_pack(data.split(paths, 50)[0], 4)
    batches = data.Batches(pack, patch=args.patch, batch=args.batch, seed=0, teacher=False)
    whole, step_only = (_trainer(args, batches) for _ in range(2))
    one = batches[0]
    log = RunFolder(args.out.with_suffix(".log"))
    log.path.mkdir(parents=True, exist_ok=True)
    times: dict[str, list[float]] = {"trainer": [], "in_memory": []}
    for block in range(-1, args.rounds):
        begun = time.perf_counter()
        steps = whole.step + args.steps
        whole.leg = dataclasses.replace(whole.leg, steps=steps)
        whole.run(log.log, lambda: None, log_every=20)
        middle = time.perf_counter()
        for _ in range(args.steps):
            step_only.one_step(one, say=False)
        ended = time.perf_counter()
        if block >= 0:  # the first is a warm-up
            times["trainer"].append((middle - begun) / args.steps)
            times["in_memory"].append((ended - middle) / args.steps)
    medians = {name: statistics.median(values) for name, values in times.items()}
    record = {
        "what": "seconds of one step, medians over interleaved blocks",
        "network": f"{args.width} channels, {args.depth} body layers, re-parameterised",
        "batch": args.batch,
        "patch": args.patch,
        "threads": args.threads,
        "steps_per_block": args.steps,
        "blocks": args.rounds,
        "seconds": {k: [round(v, 5) for v in vs] for k, vs in times.items()},
        "median_seconds": {k: round(v, 5) for k, v in medians.items()},
        "ratio_of_speeds": round(medians["in_memory"] / medians["trainer"], 4),
        "share_waiting_for_data": round(whole.waiting, 5),
        "processor": machine.processor(Path("/")),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(record, indent=1))
    atomic.write_text(args.out, json.dumps(record, indent=1) + "\n")


def _trainer(args: argparse.Namespace, batches: data.Batches) -> Trainer:
    net = fresh_student(student(args.width, args.depth), rep=True, seed=0)
    stage = Stage("finetune", args.steps, loss=LossSpec(norm="l1"))
    spec = TrainSpec(ema=0.999, clip=1.0, seed=0, checkpoint_every=10**9)
    return Trainer(net, None, batches, Leg("speed", stage, args.steps), spec)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--out", type=Path, required=True, help="JSON record")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--depth", type=int, default=14)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=40, help="steps a block")
    parser.add_argument("--rounds", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
