"""Inputs, options and a model become outputs: what the command and programs call."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from edgesr.enlarge import Enlarger
from edgesr.errors import EdgeSRError, Impossible
from edgesr.runtime.base import Runtime
from edgesr.runtime.ort import physical_cores
from edgesr.upscaling.films import Films, OnFrames
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.network import described, opened
from edgesr.upscaling.options import DEFAULT_MODEL, Options
from edgesr.upscaling.outputs import Outputs
from edgesr.upscaling.pipeline import MOST_HELPERS, OnPair, OnTiles, Pipeline
from edgesr.upscaling.plans import Planner, room_bytes
from edgesr.upscaling.results import Done, Failed, Outcome, Skipped

THREAD_SAFE = "onnxruntime-cpu"  # the name of the runtime that several threads may run
_TRIED = 128  # side of a picture, pixels: no larger window is run to find out


def upscale_files(
    sources: Iterable[Source | Failed],
    options: Options,
    model: str | Runtime = DEFAULT_MODEL,
    *,
    runtime: str = "auto",
    on_tiles: OnTiles | None = None,
    on_frames: OnFrames | None = None,
    on_pair: OnPair | None = None,
) -> Generator[Outcome, None, None]:
    """Make `sources`, reading, network and writing at the same time; results in their order.

    `model` is a name, a path, or a runtime that is open already; `runtime` says what runs the
    first two (see `edgesr.runtime.open`). What is wrong with the model is raised (`UnknownName`,
    `BadModel`, `MissingExtra`, `Impossible`); what is wrong with a picture comes as `Failed`, and
    the rest goes on. Close the iterator when it is left early: finished files stay, nothing else.
    """
    with opened(model, runtime) as engine:
        enlarger, outputs = _enlarger(engine, options), Outputs()
        room = room_bytes(options.max_bytes)
        pipeline = Pipeline(
            enlarger,
            Planner(options, enlarger, outputs, room),
            options,
            room_bytes=room,
            helpers=_helpers(engine, options),
            film=Films(
                enlarger, options, outputs, partial(described, model, options), on_frames
            ).make,
            on_tiles=on_tiles,
            on_pair=on_pair,
        )
        with closing(pipeline.run(sources)) as outcomes:
            yield from outcomes


def plan_files(
    sources: Iterable[Source | Failed],
    options: Options,
    model: str | Runtime = DEFAULT_MODEL,
    *,
    runtime: str = "auto",
) -> Iterator[Outcome]:
    """What `upscale_files` would do, as `Planned`, `Skipped` and `Failed`; nothing is written."""
    with opened(model, runtime) as engine:
        enlarger, outputs = _enlarger(engine, options), Outputs()
        planner = Planner(options, enlarger, outputs, room_bytes(options.max_bytes))
        films = Films(enlarger, options, outputs, str)
        for source in sources:
            if isinstance(source, Failed):
                yield source
                continue
            try:
                plan = films.plan(source) if source.film else planner.plan(source)
                yield plan if isinstance(plan, Skipped) else plan.shown()
            except EdgeSRError as e:
                yield Failed(str(source), e)


def upscale_live(
    source: str,
    options: Options,
    model: str | Runtime = DEFAULT_MODEL,
    *,
    runtime: str = "auto",
    max_frames: int | None = None,
    max_seconds: float | None = None,
    on_frames: OnFrames | None = None,
) -> Done:
    """A film of a camera or stream into `options.out`, until it ends, or so much of it is there.

    Raises what `edgesr.film.upscale_live` does, and for the model as `upscale_files` does.
    """
    assert options.out is not None
    with opened(model, runtime) as engine:
        enlarger = Enlarger(engine, options.settings())
        films = Films(enlarger, options, Outputs(), partial(described, model, options), on_frames)
        return films.live(source, options.out, max_frames, max_seconds)


def sources_of(paths: Sequence[Path]) -> list[Source | Failed]:
    """Files that are named one by one."""
    return [Source(path) for path in paths]


def _helpers(engine: Runtime, options: Options) -> list[Enlarger]:
    """Enlargers for other threads, where the runtime may be run by several."""
    if engine.name != THREAD_SAFE:
        return []
    count = min(MOST_HELPERS, physical_cores() - 1)
    return [Enlarger(engine, options.settings()) for _ in range(count)]


def _enlarger(engine: Runtime, options: Options) -> Enlarger:
    """An enlarger that knows already what its network takes.

    It finds that out by running it, which must not happen in the reading thread later: not every
    runtime can be run by two threads, and what others take meanwhile would count as its own.
    """
    enlarger = Enlarger(engine, options.settings())
    with suppress(Impossible, MemoryError):  # each picture will say so
        enlarger.cost(_TRIED, _TRIED, 3, 8)
    return enlarger
