"""What Muon and bfloat16 bring: one student, trained for equal steps each way.

    python benchmarks/optimizers.py --data PHOTOGRAPHS --eval SETS --steps 1500 --seeds 2

Seed for seed all rows start from the same weights and see the same crops. The learning rates were
chosen once, by the held-out photographs, at 600 steps: Adam 1e-3, Muon 2e-3. Each run's PSNR-Y on
Set14 and B100 goes into the record as soon as it is known; started again, the script goes on where
it stopped. On a CPU without bfloat16 the rows that ask for it are refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from ablation import SETS, commit, plain, psnr_y, say, train

from edgesr import atomic
from edgesr.bench.conditions import conditions
from edgesr.errors import BadConfig, EdgeSRError, Impossible
from edgesr.evaluate import find_pairs
from edgesr.training.precision import cpu_has_bf16
from edgesr.training.recipe import DataSpec, LossSpec, Recipe, Stage, StudentSpec
from edgesr.training.run import Request, versions

ROWS: dict[str, dict[str, Any]] = {
    "Adam, float32": {"optimizer": "adam", "precision": "fp32", "lr": 1e-3},
    "Adam, bfloat16": {"optimizer": "adam", "precision": "bf16", "lr": 1e-3},
    "Muon, float32": {"optimizer": "muon", "precision": "fp32", "lr": 2e-3},
    "Muon, bfloat16": {"optimizer": "muon", "precision": "bf16", "lr": 2e-3},
}
RESULT = Path(__file__).parent / "results" / "optimizers-2026-11.json"


def main() -> int:
    """Run what the record lacks, write it, print the table."""
    args = arguments()
    request = Request(args.teacher, args.data, device=args.device, threads=args.threads)
    try:
        if args.device == "cpu" and not cpu_has_bf16():
            raise Impossible("this CPU has no bfloat16 arithmetic: nothing to compare")
        for name in SETS:
            find_pairs(args.eval / name, 4)
        record = open_record(args)
        for seed in range(args.seeds):
            for row in ROWS:
                run_once(args, request, record, row, seed)
    except EdgeSRError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130
    print("\n".join(table(record["runs"])))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder of photographs to train on")
    parser.add_argument("--eval", required=True, type=Path, help="folder with Set14 and B100")
    parser.add_argument("--steps", type=int, default=1500, help="of every run")
    parser.add_argument("--seeds", type=int, default=2, help="runs of every row")
    parser.add_argument("--teacher", default="span")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--runs", type=Path, default=Path("runs/optimizers"), help="run folders")
    parser.add_argument("-o", "--out", type=Path, default=RESULT, help="the record")
    args = parser.parse_args()
    if min(args.steps, args.seeds) < 1:
        parser.error("--steps and --seeds must be at least 1")
    return args


def recipe(row: str, steps: int, seed: int) -> Recipe:
    """That row's recipe: a student of 32 channels × 6, 8 crops of 32×32 a step."""
    way = ROWS[row]
    loss = LossSpec(pixel=1.0, teacher=0.5, frequency=1.0)
    stage = Stage("distill", steps, lr=way["lr"], lr_end=way["lr"] / 50, loss=loss)
    return Recipe(
        name="optimizers",
        student=StudentSpec(width=32, depth=6),
        data=DataSpec(patch=32, batch=8, exclude=("bsds_*",), cache_teacher=True),
        stages=(stage,),
        optimizer=way["optimizer"],
        precision=way["precision"],
        seed=seed,
    )


def open_record(args: argparse.Namespace) -> dict[str, Any]:
    """The record of earlier runs, or a new one. `BadConfig` if it is of another experiment."""
    fresh = {
        "schema": "edgesr.optimizers/1",
        "recipes": {r: plain(dataclasses.asdict(recipe(r, args.steps, 0))) for r in ROWS},
        "commit": commit(),
        "versions": versions(),
        "machine": conditions(),
        "runs": [],
    }
    if not args.out.is_file():
        return fresh
    record: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8"))
    if record.get("recipes") != fresh["recipes"]:
        raise BadConfig(f"{args.out} is of other recipes; choose another --out")
    return record


def run_once(
    args: argparse.Namespace, request: Request, record: dict[str, Any], row: str, seed: int
) -> None:
    """Train and measure one row with one seed, unless the record has it; then write it."""
    if any((r["row"], r["seed"]) == (row, seed) for r in record["runs"]):
        return
    sys.stderr.write(f"{row}, seed {seed}: {args.steps} steps\n")
    name = "-".join([*re.findall(r"\w+", row.lower()), f"seed{seed}"])
    folder = train(args.runs / name, recipe(row, args.steps, seed), request)
    scores = {name: psnr_y(folder.student, args.eval / name) for name in SETS}
    report = json.loads((folder.path / "report.json").read_text(encoding="utf-8"))
    leg = report["legs"][0]
    record["runs"].append(
        {
            "row": row,
            "seed": seed,
            "held_out_psnr_y_db": leg["psnr_y"],
            "psnr_y_db": scores,
            "steps_per_s": leg["timing"]["steps_per_s"],
        }
    )
    atomic.write_text(args.out, json.dumps(record, indent=1) + "\n")
    say(f"{row}, seed {seed}: {scores}")


def table(runs: list[dict[str, Any]]) -> list[str]:
    """Means over the seeds in Markdown."""
    lines = [f"| | {SETS[0]} dB | {SETS[1]} dB | held out dB | steps/s |", "|---|---|---|---|---|"]
    for row in ROWS:
        mine = [r for r in runs if r["row"] == row]
        if mine:
            sets = [statistics.mean(r["psnr_y_db"][name] for r in mine) for name in SETS]
            held = statistics.mean(r["held_out_psnr_y_db"] for r in mine)
            speed = statistics.median(r["steps_per_s"] for r in mine)
            lines.append(f"| {row} | {sets[0]:.2f} | {sets[1]:.2f} | {held:.2f} | {speed:.1f} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
