"""How good a network is on the photographs that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesr import image, metrics, resize
from edgesr.errors import BadImage
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import Graph, Weights
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
from edgesr.training.lpips import lpips

Picture = NDArray[np.uint8]
MAX_PICTURES = 12
MAX_SIDE = 640
MIN_SIDE = 32


@dataclass(frozen=True)
class Pair:
    """One held-out picture: low resolution and photograph, HWC uint8 RGB."""

    name: str
    lr: Picture
    hr: Picture


def held_out(paths: Sequence[Path], scale: int) -> tuple[list[Pair], list[str]]:
    """At most 12 pictures, spread evenly, each cropped in its middle to 640 pixels a side.

    With them a line about each that cannot be read.

    Left out are those smaller than 32 pixels a side, and those that bicubic restores without
    an error (a flat colour): PSNR says nothing there. Raises `BadImage` when none is left.
    """
    step = max(1, len(paths) / MAX_PICTURES)
    chosen = [paths[int(i * step)] for i in range(min(len(paths), MAX_PICTURES))]
    pairs, unread = [], []
    for path in chosen:
        try:
            hr = image.read_rgb8(path)
        except BadImage as e:
            unread.append(str(e).replace(str(path), path.name))
            continue
        height, width = (min(side, MAX_SIDE) // scale * scale for side in hr.shape[:2])
        if min(height, width) < MIN_SIDE:
            continue
        y, x = (hr.shape[0] - height) // 2, (hr.shape[1] - width) // 2
        hr = np.ascontiguousarray(hr[y : y + height, x : x + width])
        lr = resize.downscale_bicubic(hr, scale)
        if not np.array_equal(resize.upscale_bicubic(lr, scale), hr):
            pairs.append(Pair(path.name, lr, hr))
    if not pairs:
        names = ", ".join(p.name for p in chosen[:3])
        raise BadImage(
            f"nothing to measure on: each photograph held out ({names}) is smaller than "
            f"{MIN_SIDE} pixels a side, of one colour or damaged"
        )
    return pairs, unread


def test_set(folder: Path, scale: int) -> list[Pair]:
    """The pairs of a test set (`HR/` and `LRx4/` with the same names); none if it is not there.

    Raises `BadImage` when a picture of it is missing or damaged.
    """
    low = folder / f"LRx{scale}"
    if not ((folder / "HR").is_dir() and low.is_dir()):
        return []
    pairs = []
    for path in image.load_folder(folder / "HR"):
        hr, lr = image.read_rgb8(path), image.read_rgb8(low / path.name)
        height, width = lr.shape[0] * scale, lr.shape[1] * scale
        pairs.append(Pair(path.name, lr, np.ascontiguousarray(hr[:height, :width])))
    return pairs


def quality(
    upscale: Callable[[Picture], Picture], pairs: Sequence[Pair], *, perceptual: bool = False
) -> dict[str, float]:
    """Means over the pictures: `psnr_y` and `psnr_rgb` (dB), `ssim_y`, border 4 shaved.

    With `perceptual` also `lpips` (AlexNet, whole pictures, lower is better), which needs its
    packaged weights. Raises `BadImage` where there are no pictures: that has no mean.
    """
    if not pairs:
        raise BadImage("nothing to measure on: there are no pictures in the test set")
    measures: dict[str, Callable[[Picture, Picture], float]] = {
        "psnr_y": metrics.psnr_y,
        "ssim_y": metrics.ssim_y,
        "psnr_rgb": metrics.psnr_rgb,
    }
    if perceptual:
        measures["lpips"] = lpips
    outputs = [(upscale(p.lr), p.hr) for p in pairs]
    return {
        name: float(np.mean([distance(a, b) for a, b in outputs]))
        for name, distance in measures.items()
    }


def network_upscaler(
    graph: Graph, weights: Weights, *, threads: int
) -> Callable[[Picture], Picture]:
    """HWC uint8 → HWC uint8 through the exported network: what a user will run.

    Large pictures go through in tiles, so that memory does not grow with them.
    """
    return runtime_upscaler(to_onnx(graph, weights), threads=threads)


def student_upscaler(
    graph: Graph, weights: Weights, quant: QuantSpec | None, *, threads: int
) -> Callable[[Picture], Picture]:
    """As `network_upscaler`, but of a quantised network its int8 form for ONNX Runtime."""
    if quant is None:
        return network_upscaler(graph, weights, threads=threads)
    return runtime_upscaler(to_onnx_int8(graph, weights, quant, form="ort"), threads=threads)


def runtime_upscaler(
    model: bytes, *, threads: int, optimize: bool = True
) -> Callable[[Picture], Picture]:
    """HWC uint8 → HWC uint8 through the bytes of an ONNX file.

    Without `optimize` every node runs as written: TensorRT's int8 form must, for the optimiser
    turns a part of it into signed int8 convolutions, which saturate on AVX2.
    """
    runtime = OrtRuntime(model, threads=threads, optimize=optimize)
    return lambda lr: upscale_tiles(lr, runtime)


def bicubic_upscaler(scale: int) -> Callable[[Picture], Picture]:
    """Plain bicubic, the baseline."""
    return lambda lr: resize.upscale_bicubic(lr, scale)
