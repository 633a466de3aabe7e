"""What each loss adds: one small student, trained for equal steps with each loss in turn.

    python benchmarks/ablation.py --data PHOTOGRAPHS --eval SETS --steps 4000 --seeds 3

Every row adds one loss to the same base, the L1 distance to the photograph; the last row has
all that helped. Seed for seed the rows start from the same weights and see the same crops.
Each run's PSNR-Y on Set14 and B100 goes into the record as soon as it is known; started again,
the script goes on where it stopped. A loss helped when it gained over the base, on the mean of
both sets, for every seed. The teacher's weight is the presets'; the others were
chosen once, not tuned, so that a term is about as large as the L1 term of a trained student
(0.015 to 0.02): another weight may give another answer.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesr import atomic
from edgesr.bench.conditions import conditions
from edgesr.compress import compress, resume
from edgesr.errors import BadConfig, EdgeSRError
from edgesr.evaluate import evaluate, find_pairs
from edgesr.models.find import onnx_of
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.recipe import DataSpec, LossSpec, Recipe, Stage, StudentSpec
from edgesr.training.run import MANIFEST, Request, RunFolder, versions

BASE = "pixel L1"
ALL = "all that helped"
# What each row changes in LossSpec(); FAKD is the affinity's paper.
ADDED: dict[str, dict[str, Any]] = {
    BASE: {},
    "Charbonnier": {"norm": "charbonnier"},
    "+ teacher output": {"teacher": 0.5},
    "+ frequency": {"frequency": 1.0},
    "+ feature, 1 hint": {"feature": 0.02, "hints": 1},
    "+ feature, 3 hints": {"feature": 0.02, "hints": 3},
    "+ affinity": {"affinity": 0.05, "hints": 3},
}
SETS = ("Set14", "B100")
RESULT = Path(__file__).parent / "results" / "ablation-2026-11.json"


def base_recipe(steps: int, patch: int, batch: int) -> Recipe:
    """The recipe that all rows share but for the loss and the seed."""
    stage = Stage("distill", steps, lr=1e-3, lr_end=1e-5, warmup=min(100, steps // 10))
    return Recipe(
        name="ablation",
        student=StudentSpec(width=16, depth=8),
        data=DataSpec(patch=patch, batch=batch, exclude=("bsds_*",), cache_teacher=True),
        stages=(stage,),
    )


@dataclass(frozen=True)
class Job:
    """What the command line asked for."""

    request: Request
    base: Recipe
    sets: Path
    seeds: int
    runs: Path
    out: Path


def main() -> int:
    """Run what the record lacks, write it, print the table."""
    job = arguments()
    try:
        for name in SETS:
            find_pairs(job.sets / name, job.base.scale)  # before hours of training
        record = open_record(job)
        for seed in range(job.seeds):
            for row in ADDED:
                run_once(job, record, row, ADDED[row], seed)
        together = all_that_helped(record["runs"], job.seeds)
        for seed in range(job.seeds if together else 0):
            run_once(job, record, ALL, together, seed)
    except EdgeSRError as e:
        sys.stderr.write(f"{e}\n")
        return e.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130
    print("\n".join(table(record["runs"])))
    return 0


def arguments() -> Job:
    """The command line as a `Job`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder of photographs to train on")
    parser.add_argument("--eval", required=True, type=Path, help="folder with Set14 and B100")
    parser.add_argument("--steps", type=int, default=4000, help="of every run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of every row")
    parser.add_argument("--patch", type=int, default=32, help="low-resolution pixels a side")
    parser.add_argument("--batch", type=int, default=16, help="crops a step")
    parser.add_argument("--teacher", default="span")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="run folders")
    parser.add_argument("-o", "--out", type=Path, default=RESULT, help="the record")
    args = parser.parse_args()
    if min(args.steps, args.seeds) < 1:
        parser.error("--steps and --seeds must be at least 1")
    request = Request(args.teacher, args.data, device=args.device, threads=args.threads)
    base = base_recipe(args.steps, args.patch, args.batch)
    return Job(request, base, args.eval, args.seeds, args.runs, args.out)


def open_record(job: Job) -> dict[str, Any]:
    """The record of earlier runs, or a new one. `BadConfig` if it is of another experiment."""
    fresh = {
        "schema": "edgesr.ablation/1",
        "teacher": Path(job.request.teacher).name,
        "device": job.request.device,
        "recipe": plain(dataclasses.asdict(job.base)),
        "data": None,
        "commit": commit(),
        "versions": versions(),
        "machine": conditions(),
        "runs": [],
    }
    if not job.out.is_file():
        return fresh
    try:
        record: dict[str, Any] = json.loads(job.out.read_text(encoding="utf-8"))
        same = all(record[key] == fresh[key] for key in ("schema", "teacher", "device", "recipe"))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadConfig(f"{job.out} is not a record of this script; choose another --out") from e
    if not same:
        raise BadConfig(
            f"{job.out} is of other steps, crops, teacher or device; choose another --out"
        )
    return record


def run_once(job: Job, record: dict[str, Any], row: str, added: dict[str, Any], seed: int) -> None:
    """Train and measure one row with one seed, unless the record has it; then write it."""
    if find(record["runs"], row, seed, added):
        return
    # A row of an earlier answer to what helped is none any more.
    record["runs"] = [r for r in record["runs"] if (r["row"], r["seed"]) != (row, seed)]
    loss = LossSpec(**added)
    stages = tuple(dataclasses.replace(s, loss=loss) for s in job.base.stages)
    recipe = dataclasses.replace(job.base, stages=stages, seed=seed)
    sys.stderr.write(f"{row}, seed {seed}: {recipe.stages[0].steps} steps\n")
    # The combination's name tells what is in it: it may change as seeds are added.
    words = re.findall(r"\w+", " ".join([row, *added]) if row == ALL else row)
    name = "-".join([*words, f"seed{seed}"]).lower()
    folder = train(job.runs / name, recipe, job.request)
    data = folder.reopen()[2]["data"]
    if record["data"] not in (None, data):
        raise BadConfig(f"the photographs are not those of {job.out}; choose another --out")
    record["data"] = data
    scores = {name: psnr_y(folder.student, job.sets / name) for name in SETS}
    leg = json.loads((folder.path / "report.json").read_text(encoding="utf-8"))["legs"][0]
    speed = leg["timing"]["steps_per_s"]
    record["runs"].append(
        {"row": row, "seed": seed, "added": added, "psnr_y_db": scores, "steps_per_s": speed}
    )
    atomic.write_text(job.out, json.dumps(record, indent=1) + "\n")


def find(
    runs: Iterable[dict[str, Any]], row: str, seed: int, added: dict[str, Any]
) -> dict[str, Any] | None:
    """That run of the record, or None."""
    wanted = (row, seed, added)
    return next((r for r in runs if (r["row"], r["seed"], r["added"]) == wanted), None)


def train(path: Path, recipe: Recipe, request: Request) -> RunFolder:
    """The finished run of `recipe` in `path`: begun, gone on with, or found."""
    folder = RunFolder(path)
    if not (path / MANIFEST).is_file():
        compress(recipe, request, path, say=say)
        return folder
    if folder.reopen()[0] != recipe:
        raise BadConfig(f"{path} is a run of another recipe; choose another --runs")
    if folder.missed() is None:
        resume(path, say=say)
    return folder


def psnr_y(student: Path, pictures: Path) -> float:
    """Mean PSNR-Y (dB) of `student` on an evaluation set, by `edgesr evaluate`'s convention."""
    with closing(OrtRuntime(onnx_of(student))) as runtime:
        return round(evaluate(pictures, runtime).mean.psnr_y, 4)


def gains(runs: Sequence[dict[str, Any]], row: str) -> list[float]:
    """Seed by seed, the dB that `row` has over the base on the mean of both sets."""
    score = {(r["row"], r["seed"]): statistics.mean(r["psnr_y_db"].values()) for r in runs}
    seeds = sorted(seed for name, seed in score if name == row and (BASE, seed) in score)
    return [score[row, seed] - score[BASE, seed] for seed in seeds]


def all_that_helped(runs: Sequence[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """The changes of all rows that gained for every seed; of two with one loss, the better."""
    runs = [r for r in runs if r["seed"] < seeds]
    helped = [row for row in ADDED if row != BASE and min(gains(runs, row)) > 0]
    changes: dict[str, Any] = {}
    # The best comes last, so that its number of hints is the one that stays.
    for row in sorted(helped, key=lambda row: statistics.mean(gains(runs, row))):
        changes |= ADDED[row]
    return changes


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Mean over the seeds of every row in Markdown; ± is the spread of the gain between seeds."""
    lines = [
        f"| loss | {SETS[0]} dB | {SETS[1]} dB | gain dB, ± over seeds | seeds | steps/s |",
        "|---|---|---|---|---|---|",
    ]
    for row in (*ADDED, ALL):
        mine = [r for r in runs if r["row"] == row]
        if not mine:
            lines += [f"| {row} | none helped for every seed | | | | |"] if row == ALL else []
            continue
        sets = [statistics.mean(r["psnr_y_db"][name] for r in mine) for name in SETS]
        gain = gains(runs, row)
        spread = f" ± {statistics.stdev(gain):.3f}" if len(gain) > 1 else ""
        shown = "" if row == BASE else f"{statistics.mean(gain):+.3f}{spread}"
        speed = statistics.median(r["steps_per_s"] for r in mine)
        lines.append(
            f"| {row} | {sets[0]:.2f} | {sets[1]:.2f} | {shown} | {len(mine)} | {speed:.2f} |"
        )
    together = next((r["added"] for r in runs if r["row"] == ALL), None)
    return [*lines, f"\n{ALL}: {together}"] if together else lines


def commit() -> str:
    """The commit that this script is of; `+` when files were changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def plain(x: Any) -> Any:
    """As JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(x))


def say(text: str) -> None:
    """What a run tells, on stderr."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
