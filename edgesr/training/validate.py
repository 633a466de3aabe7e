"""How good a network is on the photographs that were held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesr import image, metrics, resize
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import Graph, Weights
from edgesr.runtime.ort import OrtRuntime

Picture = NDArray[np.uint8]
MAX_PICTURES = 12
MAX_SIDE = 640


@dataclass(frozen=True)
class Pair:
    """One held-out picture: low resolution and photograph, HWC uint8 RGB."""

    name: str
    lr: Picture
    hr: Picture


def held_out(paths: Sequence[Path], scale: int) -> list[Pair]:
    """At most 12 pictures, spread evenly, each cropped in its middle to 640 pixels a side."""
    step = max(1, len(paths) / MAX_PICTURES)
    chosen = [paths[int(i * step)] for i in range(min(len(paths), MAX_PICTURES))]
    pairs = []
    for path in chosen:
        hr = image.read_rgb8(path)
        height, width = (min(side, MAX_SIDE) // scale * scale for side in hr.shape[:2])
        y, x = (hr.shape[0] - height) // 2, (hr.shape[1] - width) // 2
        hr = np.ascontiguousarray(hr[y : y + height, x : x + width])
        pairs.append(Pair(path.name, resize.downscale_bicubic(hr, scale), hr))
    return pairs


def quality(upscale: Callable[[Picture], Picture], pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM on BT.601 Y, border 4 shaved, over the held-out pictures."""
    outputs = [(upscale(p.lr), p.hr) for p in pairs]
    return {
        "psnr_y": float(np.mean([metrics.psnr_y(a, b) for a, b in outputs])),
        "ssim_y": float(np.mean([metrics.ssim_y(a, b) for a, b in outputs])),
    }


def network_upscaler(graph: Graph, weights: Weights) -> Callable[[Picture], Picture]:
    """HWC uint8 → HWC uint8 through the exported network: what a user will run."""
    runtime = OrtRuntime(to_onnx(graph, weights))

    def upscale(lr: Picture) -> Picture:
        batch = lr.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        output = runtime.run(batch)[0].transpose(1, 2, 0)
        pixels: Picture = np.rint(np.clip(output, 0, 1) * 255).astype(np.uint8)
        return pixels

    return upscale


def bicubic_upscaler(scale: int) -> Callable[[Picture], Picture]:
    """Plain bicubic, the baseline."""
    return lambda lr: resize.upscale_bicubic(lr, scale)
