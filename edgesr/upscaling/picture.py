"""The three steps of one picture: read it, enlarge it, write it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeAlias

from edgesr import image
from edgesr.atomic import write_bytes
from edgesr.enlarge import Enlarger
from edgesr.enlarge.memory import megabytes
from edgesr.errors import Impossible
from edgesr.upscaling.options import Options
from edgesr.upscaling.plans import Plan
from edgesr.upscaling.results import Done

OnTiles: TypeAlias = "Callable[[int, int], None]"  # tiles done, tiles in all


@dataclass(frozen=True)
class Work:
    """A picture on its way: the pixels as they are by now, and the seconds spent so far."""

    plan: Plan
    picture: image.Picture
    seconds: float
    network_s: float = 0.0


def read(plan: Plan, options: Options) -> Work:
    """The first step. Raises `BadImage`, or `Impossible` when memory does not suffice."""
    start = time.perf_counter()
    try:
        picture = image.read(plan.source.path, options.max_pixels)
    except MemoryError as e:
        raise too_large(plan) from e
    return Work(plan, picture, time.perf_counter() - start)


def enlarge(work: Work, enlarger: Enlarger, on_tiles: OnTiles | None = None) -> Work:
    """The second step. Raises `BadModel`, or `Impossible` when memory does not suffice."""
    start, before = time.perf_counter(), enlarger.network_s
    try:
        pixels = enlarger.picture(work.picture.pixels, work.plan.size, on_tiles)
    except MemoryError as e:
        raise too_large(work.plan) from e
    return replace(
        work,
        picture=replace(work.picture, pixels=pixels),
        seconds=work.seconds + time.perf_counter() - start,
        network_s=enlarger.network_s - before,
    )


def write(
    work: Work, options: Options, writing: AbstractContextManager[None] | None = None
) -> Done:
    """The third step: the file appears whole or not at all, within the context `writing`.

    Raises `BadImage` for what the format cannot hold, `WriteFailed`, or `Impossible`.
    """
    start = time.perf_counter()
    plan = work.plan
    try:
        data = image.encode(work.picture, plan.output, options.quality)
        with writing or nullcontext():
            write_bytes(plan.output, data)
    except MemoryError as e:
        raise too_large(plan) from e
    return done(plan, work.network_s, work.seconds + time.perf_counter() - start)


def done(plan: Plan, network_s: float, total_s: float) -> Done:
    """The result of a plan that has been carried out."""
    height, width = plan.size
    return Done(
        str(plan.source), str(plan.output), plan.facts.width, plan.facts.height, width, height,
        network_s, total_s, plan.streamed,
    )  # fmt: skip


def too_large(plan: Plan) -> Impossible:
    """The error of a picture for which memory did not suffice after all."""
    need = megabytes(plan.need_bytes)
    return Impossible(
        f"{plan.source}: {plan.size[1]}x{plan.size[0]} pixels do not fit in memory ({need}); close "
        "other programs, or give --max-memory, which makes PNG and TIFF row by row"
    )
