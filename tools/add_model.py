"""Put a trained student into the box: `edgesr/models/zoo/NAME.*`.

    python tools/add_model.py runs/balanced NAME --about "…" --eval DIR

Reads the run folder's student.safetensors and report.json, writes NAME.safetensors,
NAME.fp32.onnx (dynamic shape) and the card NAME.json with counts, lineage and the PSNR and
SSIM measured now, through ONNX Runtime, on the evaluation sets in DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from edgesr import checkpoint, resources
from edgesr.checkpoint import Checkpoint
from edgesr.evaluate import evaluate
from edgesr.graph import counts
from edgesr.graph.onnx import to_onnx
from edgesr.graph.reach import halo
from edgesr.metrics import CONVENTION
from edgesr.runtime.ort import OrtRuntime

# Width and height of the input at which `edgesr models` states MACs.
STATED = (320, 180)


def main() -> None:
    """Parse the command line and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--about", required=True)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--credits", type=Path, help="JSON list of training sources")
    parser.add_argument("--note", action="append", default=[], help="anything out of the ordinary")
    args = parser.parse_args()
    trained = checkpoint.load(args.run / "student.safetensors")
    onnx_bytes = to_onnx(trained.graph, trained.weights)
    quality = measure(onnx_bytes, args.eval)
    box = resources.zoo()
    lineage = {k: v for k, v in trained.lineage.items() if k != "recipe"}
    card = {
        "name": args.name,
        "about": args.about,
        "params": counts.parameters(trained.graph),
        "macs_320x180": counts.macs(trained.graph, STATED[1], STATED[0]),
        "halo": halo(trained.graph),
        "scale": trained.graph.scale,
        "quality": quality,
        "convention": CONVENTION,
        "lineage": lineage,
        "training": json.loads((args.run / "report.json").read_text())["legs"],
        "notes": args.note,
        "trained_on": json.loads(args.credits.read_text()) if args.credits else [],
    }
    metrics = {"quality": quality}
    checkpoint.save(
        box / f"{args.name}.safetensors",
        Checkpoint(trained.graph, trained.weights, trained.lineage, metrics),
    )
    (box / f"{args.name}.fp32.onnx").write_bytes(onnx_bytes)
    card["sha256"] = {
        suffix: hashlib.sha256((box / f"{args.name}.{suffix}").read_bytes()).hexdigest()
        for suffix in ("safetensors", "fp32.onnx")
    }
    (box / f"{args.name}.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    for dataset, values in quality.items():
        print(dataset, values)


def measure(onnx_bytes: bytes, folder: Path) -> dict[str, dict[str, float]]:
    """Mean PSNR (dB) and SSIM of the network and of bicubic on each set in `folder`."""
    runtime = OrtRuntime(onnx_bytes)
    quality = {}
    for dataset in sorted(p for p in folder.iterdir() if p.is_dir()):
        ours, bicubic = evaluate(dataset, runtime).mean, evaluate(dataset, None).mean
        quality[dataset.name] = {
            "psnr_y": round(ours.psnr_y, 3),
            "ssim_y": round(ours.ssim_y, 4),
            "bicubic_psnr_y": round(bicubic.psnr_y, 3),
        }
    return quality


if __name__ == "__main__":
    main()
