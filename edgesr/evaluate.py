"""`evaluate`: how near a network, or bicubic resizing, comes to the original pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr import metrics
from edgesr.errors import BadImage, MissingExtra
from edgesr.extras import need_torch
from edgesr.image import load_folder, read_rgb8
from edgesr.resize import downscale_bicubic, upscale_bicubic
from edgesr.tiling import upscale_tiles

if TYPE_CHECKING:
    from edgesr.runtime.base import Runtime

# The distance of an original and a result, HWC uint8 RGB; None where it is not defined.
Distance: TypeAlias = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float | None]


@dataclass(frozen=True)
class Scores:
    """PSNR in dB (`inf` for equal pictures) and SSIM, on luma and on RGB."""

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float


@dataclass(frozen=True)
class Row:
    """The scores of one picture; `width` and `height` are those of the original.

    `lpips` is None where it was not asked for, or where the picture is too small for it.
    """

    name: str
    width: int
    height: int
    scores: Scores
    lpips: float | None = None


@dataclass(frozen=True)
class Seen:
    """One picture of an evaluation, number `number` (from 0) of `count`.

    `hr` is the original, `lr` what was enlarged, `sr` what it became: HWC uint8 RGB.
    """

    number: int
    count: int
    name: str
    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]
    sr: NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluation:
    """Scores picture by picture and their means."""

    model: str
    scale: int
    rows: tuple[Row, ...]
    mean: Scores
    convention: str = metrics.CONVENTION
    perceptual: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json`; an infinite PSNR is null, `lpips` is there if asked for."""
        rows = [
            {
                "name": r.name,
                "width": r.width,
                "height": r.height,
                **_plain(r.scores),
                **({"lpips": r.lpips} if self.perceptual else {}),
            }
            for r in self.rows
        ]
        return {
            "model": self.model,
            "scale": self.scale,
            "convention": self.convention,
            "pictures": rows,
            "mean": _plain(self.mean),
        }


def evaluate(
    data: Path,
    runtime: Runtime | None,
    *,
    scale: int = 4,
    limit: int | None = None,
    tile: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_picture: Callable[[Seen], None] | None = None,
    lpips: Distance | None = None,
) -> Evaluation:
    """Score `runtime` (None: bicubic, `scale` times larger) on the pictures in `data`.

    `data` holds originals, from which LR pictures are made, or the subfolders `HR` and
    `LRx4` (its scale) with files of the same names, which are used. `limit` takes the first
    N. Sides are cut to multiples of the scale. `on_picture` sees each picture after it was
    scored; `lpips` (see `find_lpips`) is measured too where given. Raises `BadImage` for
    pictures that are missing, damaged, too small (SSIM needs 19x19) or do not match.
    """
    scale = runtime.scale if runtime is not None else scale
    pairs = find_pairs(data, scale)[:limit]
    rows = []
    for done, (hr_path, lr_path) in enumerate(pairs, start=1):
        hr, lr = _load(hr_path, lr_path, scale)
        sr = upscale_bicubic(lr, scale) if runtime is None else upscale_tiles(lr, runtime, tile)
        try:
            scores, far = score(hr, sr), None if lpips is None else lpips(hr, sr)
        except BadImage as e:
            raise BadImage(f"{hr_path}: {e}") from e
        rows.append(Row(hr_path.name, hr.shape[1], hr.shape[0], scores, far))
        if on_picture is not None:
            on_picture(Seen(done - 1, len(pairs), hr_path.name, hr, lr, sr))
        if on_progress is not None:
            on_progress(done, len(pairs))
    name = runtime.name if runtime is not None else "bicubic"
    mean = _mean([r.scores for r in rows])
    return Evaluation(name, scale, tuple(rows), mean, perceptual=lpips is not None)


def find_lpips() -> tuple[Distance | None, str]:
    """LPIPS 0.1 on AlexNet (lower is nearer), or None and why this machine cannot measure it.

    The distance is None for pictures with a side under 32 pixels. Loads torch: not before timing.
    """
    try:
        need_torch("LPIPS")
    except MissingExtra as e:
        return None, str(e)
    from edgesr.training.lpips import MIN_SIDE, lpips, why_not

    def distance(hr: NDArray[np.uint8], sr: NDArray[np.uint8]) -> float | None:
        return lpips(hr, sr) if min(hr.shape[:2]) >= MIN_SIDE else None

    reason = why_not()
    return (None, reason) if reason else (distance, "")


def score(hr: NDArray[np.uint8], sr: NDArray[np.uint8]) -> Scores:
    """The four scores of `sr` against `hr`, both HWC uint8 RGB of one shape."""
    return Scores(
        psnr_y=metrics.psnr_y(hr, sr),
        ssim_y=metrics.ssim_y(hr, sr),
        psnr_rgb=metrics.psnr_rgb(hr, sr),
        ssim_rgb=metrics.ssim_rgb(hr, sr),
    )


def find_pairs(data: Path, scale: int) -> list[tuple[Path, Path | None]]:
    """Originals with their LR pictures; None where LR is to be made. `BadImage` if LR lacks."""
    hr_folder, lr_folder = data / "HR", data / f"LRx{scale}"
    if not (hr_folder.is_dir() and lr_folder.is_dir()):
        return [(p, None) for p in load_folder(hr_folder if hr_folder.is_dir() else data)]
    small = {p.stem: p for p in load_folder(lr_folder)}
    large = load_folder(hr_folder)
    for p in large:
        if p.stem not in small:
            raise BadImage(f"{p}: no picture of that name in {lr_folder}")
    return [(p, small[p.stem]) for p in large]


def _load(
    hr_path: Path, lr_path: Path | None, scale: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    hr = read_rgb8(hr_path)
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if min(height, width) == 0:
        raise BadImage(f"{hr_path}: {hr.shape[1]}x{hr.shape[0]} is too small for scale {scale}")
    hr = hr[: height * scale, : width * scale]
    if lr_path is None:
        return hr, downscale_bicubic(hr, scale)
    lr = read_rgb8(lr_path)
    if lr.shape != (height, width, 3):
        want = f"{width}x{height}"
        raise BadImage(f"{lr_path}: is {lr.shape[1]}x{lr.shape[0]}, the original asks for {want}")
    return hr, lr


def _mean(scores: list[Scores]) -> Scores:
    names = [f.name for f in fields(Scores)]
    return Scores(**{n: math.fsum(getattr(s, n) for s in scores) / len(scores) for n in names})


def _plain(scores: Scores) -> dict[str, float | None]:
    values = {f.name: getattr(scores, f.name) for f in fields(scores)}
    return {n: v if math.isfinite(v) else None for n, v in values.items()}
