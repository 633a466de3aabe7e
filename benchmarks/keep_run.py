"""Keep what a figure came from: a run's recipe, log and report, and its student on the test sets.

    python benchmarks/keep_run.py RUN NAME --eval DIR [--before MODEL]

writes `results/runs/NAME/`: `recipe.toml`, `log.jsonl`, `report.json`, and `measured.json` with
Y-PSNR (dB) and SSIM of the student, both its int8 forms where it has them, and of the network
before. Nothing in there names a path.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from edgesr import atomic, checkpoint, sparsity
from edgesr.checkpoint import Checkpoint
from edgesr.graph import counts
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.models.find import load_network
from edgesr.training.validate import network_upscaler, quality, runtime_upscaler, test_set

SETS = ("Set5", "Set14", "B100")
KEPT = ("recipe.toml", "log.jsonl", "report.json")


def main() -> None:
    """Measure, then copy."""
    args = _arguments()
    folder = Path(__file__).parent / "results" / "runs" / args.name
    student = checkpoint.load(args.run / "student.safetensors")
    record: dict[str, Any] = {"student": _facts(student, args)}
    if args.before:
        record["before"] = {"name": Path(args.before).stem}
        record["before"] |= _facts(load_network(args.before), args)
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(args.run / name, folder / name)
    text = json.dumps(record, indent=1) + "\n"
    atomic.write_text(folder / "measured.json", text)
    print(text)


def _facts(net: Checkpoint, args: argparse.Namespace) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "params": counts.parameters(net.graph),
        "nonzeros": sparsity.nonzeros(net.weights),
        "macs_per_pixel": counts.macs_per_pixel(net.graph),
        "pattern": sparsity.pattern(net.weights),
        "bytes_dense": sparsity.dense_bytes(net.weights),
        "bytes_coded": sparsity.coded_bytes(net.weights),
    }
    upscalers = {"fp32": network_upscaler(net.graph, net.weights, threads=args.threads)}
    if net.quant is not None:
        for form in ("trt", "ort"):
            model = to_onnx_int8(net.graph, net.weights, net.quant, form=form)
            upscalers[f"int8_{form}"] = runtime_upscaler(
                model, threads=args.threads, optimize=form == "ort"
            )
    for name in SETS:
        pairs = test_set(args.eval / name, net.graph.scale)
        for form, upscale in upscalers.items():
            found = quality(upscale, pairs)
            facts.setdefault(form, {})[name] = {k: round(v, 4) for k, v in found.items()}
    return facts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("name", help="of the record")
    parser.add_argument("--eval", type=Path, required=True, help="folder of the test sets")
    parser.add_argument("--before", help="the network that the run started from")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
