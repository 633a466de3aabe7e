"""The `paper` preset end to end, against a student trained from scratch with the same steps.

For each seed two runs of one architecture (the teacher narrowed to 60 % of its parameters): one
distilled as the preset does it, starting from the teacher's remaining weights; one from fresh
weights on the photographs alone. Both are then pruned to 82 % non-zeros. A run that is there is
not made again, one that was interrupted goes on.

    python benchmarks/paper.py --teacher srgan.safetensors --data DIR --eval DIR --out DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from edgesr import atomic, checkpoint, sparsity
from edgesr.checkpoint import Checkpoint
from edgesr.compress import compress, resume
from edgesr.evaluate import find_pairs
from edgesr.graph import counts
from edgesr.models.find import load_network
from edgesr.training.recipe import Recipe, load_recipe
from edgesr.training.run import Request
from edgesr.training.validate import network_upscaler, quality, test_set

SETS = ("Set5", "Set14")
KINDS = ("distilled", "scratch")


def main() -> None:
    """Run what is missing, then write and print the record."""
    args = _arguments()
    for name in SETS:
        find_pairs(args.eval / name, 4)  # before hours of training
    teacher = load_network(str(args.teacher))
    record: dict[str, Any] = {
        "what": "Y-PSNR (dB) and SSIM; sizes counted; same steps for both kinds",
        "steps": {"first stage": args.distill, "pruning": args.prune},
        "teacher": _facts(teacher, args),
        "runs": [],
    }
    for seed in range(args.seeds):
        for kind in args.kinds:
            folder = args.out / f"{kind}-{seed}"
            _run(folder, _recipe(kind, seed, args), args)
            legs = json.loads((folder / "report.json").read_text())["legs"]
            steps = [(legs[0]["leg"], "leg-0"), (legs[-1]["leg"], f"leg-{len(legs) - 1}")]
            for name, file in steps:
                net = checkpoint.load(folder / "checkpoints" / f"{file}.safetensors")
                record["runs"].append(
                    {"kind": kind, "seed": seed, "after": name, **_facts(net, args)}
                )
            _summary(record)
            atomic.write_text(args.record, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["summary"], indent=1))


def _recipe(kind: str, seed: int, args: argparse.Namespace) -> Recipe:
    recipe = load_recipe("paper")
    steps = {"distill": args.distill, "prune": args.prune}
    stages = []
    for stage in recipe.stages:
        loss = stage.loss
        if kind == "scratch":
            loss = dataclasses.replace(loss, teacher=0.0)
        stages.append(
            dataclasses.replace(
                stage, steps=steps[stage.kind], rounds=min(stage.rounds, args.rounds), loss=loss
            )
        )
    student = recipe.student
    if kind == "scratch":
        student = dataclasses.replace(student, init="fresh")
    return dataclasses.replace(
        recipe,
        stages=tuple(stages),
        student=student,
        data=dataclasses.replace(recipe.data, cache_teacher=not args.live),
        seed=seed,
        validate_every=0,
    )


def _run(folder: Path, recipe: Recipe, args: argparse.Namespace) -> None:
    def say(text: str) -> None:
        print(f"{folder.name}: {text}", file=sys.stderr, flush=True)

    if (folder / "report.json").is_file():
        return
    if (folder / "manifest.json").is_file():
        resume(folder, say=say)
        return
    request = Request(str(args.teacher.resolve()), str(args.data.resolve()), threads=args.threads)
    compress(recipe, request, folder, say=say)


def _facts(net: Checkpoint, args: argparse.Namespace) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "params": counts.parameters(net.graph),
        "nonzeros": sparsity.nonzeros(net.weights),
        "macs_per_pixel": counts.macs_per_pixel(net.graph),
        "bytes_dense": sparsity.dense_bytes(net.weights),
        "bytes_coded": sparsity.coded_bytes(net.weights),
    }
    upscale = network_upscaler(net.graph, net.weights, threads=args.threads)
    for name in SETS:
        found = quality(upscale, test_set(args.eval / name, 4))
        facts[name] = {key: round(value, 4) for key, value in found.items()}
    return facts


def _summary(record: dict[str, Any]) -> None:
    """Mean and range over the seeds of what came last, against the teacher."""
    summary: dict[str, Any] = {"teacher": {s: record["teacher"][s]["psnr_y"] for s in SETS}}
    for kind in KINDS:
        last = [r for r in record["runs"] if r["kind"] == kind and "prune" in r["after"]]
        for name in SETS:
            values = [r[name]["psnr_y"] for r in last]
            if values:
                summary.setdefault(kind, {})[name] = {
                    "mean": round(statistics.fmean(values), 3),
                    "least": min(values),
                    "most": max(values),
                    "seeds": len(values),
                }
    record["summary"] = summary


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--eval", type=Path, required=True, help="folder of Set5 and Set14")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--record", type=Path, required=True, help="JSON record")
    parser.add_argument("--distill", type=int, default=10000, help="steps of the first stage")
    parser.add_argument("--prune", type=int, default=4000, help="steps of healing in all")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--live",
        action="store_true",
        help="run the teacher in each step, not once over all photographs: for few steps",
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
