"""Crops side by side: what the figures of a report look like."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr import image, metrics
from edgesr.errors import BadImage

Pixels: TypeAlias = NDArray[np.uint8]
TRUTH = "ground truth"
ORDER = ("teacher", "student", TRUTH, "bicubic")
MOST = 4  # pictures in a report
SIDE = 96  # pixels of a crop
_SMALL = 160  # crops up to this side are shown twice as large
_BAR, _GAP = 24, 6  # height of the labels and distance of the panels, pixels


@dataclass(frozen=True)
class Crop:
    """One place of one picture: `panels` are HWC uint8 of one size, by what they show.

    `psnr_y` (dB) is of this crop against the photograph, without a border shaved; None where
    they are equal. `telling` is the mean difference of student and bicubic, in levels.
    """

    name: str
    file: str
    y: int
    x: int
    panels: Mapping[str, Pixels]
    psnr_y: Mapping[str, float | None]
    telling: float

    def record(self) -> dict[str, Any]:
        """What report.json keeps of it: all but the pixels."""
        height, width = self.panels[TRUTH].shape[:2]
        place = {"x": self.x, "y": self.y, "width": width, "height": height}
        return {"name": self.name, "file": self.file, **place, "psnr_y": dict(self.psnr_y)}


def pick_crop(outputs: Mapping[str, Pixels], hr: Pixels, side: int = SIDE) -> tuple[int, int]:
    """The (y, x) of the square where `student` and `bicubic` differ most, for good or ill.

    All are HWC uint8 RGB of one size; the difference is the sum of absolute differences over
    pixels and channels. The border of 4 pixels that PSNR leaves out is avoided where the picture
    is large enough; of equal places the first in reading order is taken. A picture smaller than
    `side` is taken whole: 0 on that axis. Raises `BadImage` for other shapes or types.
    """
    for pixels in (*outputs.values(), hr):
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape != hr.shape:
            raise BadImage(f"crops need 8-bit HWC pictures of one size, not {pixels.shape}")
    student, bicubic = (outputs[k].astype(np.int64) for k in ("student", "bicubic"))
    difference = np.abs(student - bicubic).sum(axis=2)
    (top, height), (left, width) = (_inside(length, side) for length in hr.shape[:2])
    inside = difference[top : top + height, left : left + width]
    # sums[y, x] is the sum over the rectangle from the corner to there (Crow, SIGGRAPH 1984).
    sums = np.pad(inside, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    h, w = min(side, height), min(side, width)
    squares = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    y, x = np.unravel_index(int(squares.argmax()), squares.shape)
    return top + int(y), left + int(x)


def _inside(length: int, side: int) -> tuple[int, int]:
    """Start and length of what a square of `side` may lie in."""
    border = metrics.BORDER if length >= side + 2 * metrics.BORDER else 0
    return border, length - 2 * border


def telling_crops(
    pictures: Iterable[tuple[str, Mapping[str, Pixels], Pixels]],
    *,
    side: int = SIDE,
    most: int = MOST,
) -> list[Crop]:
    """The crops of at most `most` pictures, those where student and bicubic differ most there.

    A picture is its name, the outputs (`student`, `bicubic` and, unless it is untrained,
    `teacher`) and the photograph, HWC uint8 RGB of one size. In order of difference.
    """
    found = [_crop(name, outputs, hr, side) for name, outputs, hr in pictures]
    found.sort(key=lambda crop: (-crop.telling, crop.name))
    return _named(found[:most])


def _crop(name: str, outputs: Mapping[str, Pixels], hr: Pixels, side: int) -> Crop:
    y, x = pick_crop(outputs, hr, side)
    shown = {**outputs, TRUTH: hr}
    # A copy: a view would keep the whole picture in memory.
    panels = {k: shown[k][y : y + side, x : x + side].copy() for k in ORDER if k in shown}
    psnr = {k: metrics.psnr_y(p, panels[TRUTH], border=0) for k, p in panels.items() if k != TRUTH}
    apart = panels["student"].astype(float) - panels["bicubic"]
    known = {k: v if math.isfinite(v) else None for k, v in psnr.items()}
    return Crop(name, "", y, x, panels, known, float(np.abs(apart).mean()))


def _named(crops: Sequence[Crop]) -> list[Crop]:
    """With a file each, named after the picture in letters that are harmless in a link."""
    taken: set[str] = set()
    named = []
    for crop in crops:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(crop.name).stem).strip("._") or "picture"
        stem = next(s for s in _variants(stem, len(taken) + 1) if s.lower() not in taken)
        taken.add(stem.lower())
        named.append(replace(crop, file=f"crops/{stem}.png"))
    return named


def _variants(stem: str, tries: int) -> list[str]:
    return [stem, *(f"{stem}-{k}" for k in range(2, tries + 2))]


def label(crop: Crop, panel: str) -> str:
    """What stands at a panel: `student 28.31 dB`."""
    psnr = crop.psnr_y.get(panel)
    return panel if psnr is None else f"{panel} {psnr:.2f} dB"


def png(pixels: Pixels) -> bytes:
    """HWC uint8 RGB as PNG, without loss."""
    return image.encode(image.Picture(pixels), Path("crop.png"))


def sheet(crop: Crop) -> bytes:
    """The panels side by side with their labels, as PNG; small ones twice as large."""
    from PIL import Image, ImageDraw, ImageFont

    factor = 2 if max(crop.panels[TRUTH].shape) <= _SMALL else 1
    panels = {k: p.repeat(factor, 0).repeat(factor, 1) for k, p in crop.panels.items()}
    height, width = next(iter(panels.values())).shape[:2]
    step = max(width, 180) + _GAP  # room for the label
    canvas = Image.new("RGB", (step * len(panels) - _GAP, height + _BAR), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    for k, (name, pixels) in enumerate(panels.items()):
        draw.text((k * step + 2, 3), label(crop, name), "black", font)
        canvas.paste(Image.fromarray(pixels), (k * step, _BAR))
    return png(np.asarray(canvas))


def sheets(crops: Iterable[Crop]) -> dict[str, bytes]:
    """The files that belong beside a report: path below the run folder, content."""
    return {crop.file: sheet(crop) for crop in crops}
