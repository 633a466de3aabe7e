"""Two times beside that of the network's call: of a whole picture, and from file to file.

whole call    HWC uint8 RGB in memory → HWC uint8 RGB, four times larger: conversion, the choice
              of tiles, the network, rounding
file to file  a PNG is decoded, the whole call, a PNG is encoded and written

Both through the code of `edgesr upscale`, which the caller hands in.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesr import image
from edgesr.bench.frames import Frames
from edgesr.bench.interleave import Plan, interleave
from edgesr.bench.timing import Clocks, Lane
from edgesr.errors import EdgeSRError
from edgesr.runtime.base import Runtime


class PictureCall(Protocol):
    """`pixels` (HWC uint8 RGB) through `runtime`; the larger picture, HWC uint8 RGB."""

    def __call__(self, pixels: NDArray[Any], runtime: Runtime, /) -> NDArray[Any]:
        """The larger picture."""
        ...


class FileCall(Protocol):
    """The picture in the first file through `runtime` into the second, which it overwrites."""

    def __call__(self, source: Path, runtime: Runtime, out: Path, /) -> object:
        """Write the larger picture."""
        ...


@dataclass(frozen=True)
class Upscale:
    """What `edgesr upscale` does with one picture, in memory and from file to file."""

    picture: PictureCall
    file: FileCall


def whole_times(
    runtimes: Sequence[tuple[str, Runtime]],
    frames: Frames,
    upscale: Upscale,
    plan: Plan,
    clocks: Clocks,
    origin_s: float,
) -> list[dict[str, Any]]:
    """`whole` and `file` for each of the named runtimes: columns as those of `samples`.

    Each is called once untimed, then in turns after `plan`; a network that fails there gets
    `{"missing": why}`. The files are in a folder of their own that is gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="edgesr-bench-") as folder:
        sources = _written(frames, Path(folder))
        target = Path(folder) / "out.png"
        whole = [Lane(n, _picture(upscale, r), frames.pictures) for n, r in runtimes]
        files = [Lane(n, _file(upscale, r, target), sources) for n, r in runtimes]
        both = [
            _timed(lanes, plan, clocks, origin_s, label)
            for lanes, label in ((whole, "whole call"), (files, "file to file"))
        ]
    return [{"whole": w, "file": f} for w, f in zip(*both, strict=True)]


def _timed(
    lanes: list[Lane], plan: Plan, clocks: Clocks, origin_s: float, label: str
) -> list[dict[str, Any]]:
    failed: dict[int, str] = {}
    for number, lane in enumerate(lanes):
        try:
            lane.call()
        except EdgeSRError as e:
            failed[number] = str(e)
    able = [number for number in range(len(lanes)) if number not in failed]
    if able:
        centre = able.index(plan.centre) if plan.centre in able else 0
        running = [lanes[number] for number in able]
        interleave(running, replace(plan, centre=centre), clocks, f"bench: {label}")
    return [
        {"missing": failed[number]} if number in failed else lane.samples.to_json(origin_s)
        for number, lane in enumerate(lanes)
    ]


def _written(frames: Frames, folder: Path) -> list[Path]:
    paths = []
    for number, pixels in enumerate(frames.pictures):
        paths.append(folder / f"in{number}.png")
        image.write(paths[-1], image.Picture(np.ascontiguousarray(pixels)))
    return paths


def _picture(upscale: Upscale, runtime: Runtime) -> Callable[[Any], object]:
    return lambda pixels: upscale.picture(pixels, runtime)


def _file(upscale: Upscale, runtime: Runtime, target: Path) -> Callable[[Any], object]:
    return lambda source: upscale.file(source, runtime, target)
