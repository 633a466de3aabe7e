"""One picture that does not fit in memory: rows in, rows out."""

from __future__ import annotations

import time

from edgesr import image
from edgesr.enlarge import Enlarger
from edgesr.upscaling.picture import OnTiles, done, too_large
from edgesr.upscaling.plans import Plan
from edgesr.upscaling.results import Done


def stream(plan: Plan, enlarger: Enlarger, on_tiles: OnTiles | None = None) -> Done:
    """Carry out a plan that is `streamed`.

    Raises `BadImage`, `BadModel`, `WriteFailed`, `MissingExtra`, or `Impossible` when memory does
    not suffice after all; then nothing has been written.
    """
    from edgesr.stream import StreamedRows, write_strips

    start, before = time.perf_counter(), enlarger.network_s
    path, (height, width) = plan.source.path, plan.size
    rows = StreamedRows(path, plan.facts)
    try:
        write_strips(
            plan.output,
            enlarger.strips(rows, plan.size, on_tiles),
            height=height, width=width, channels=rows.channels, dtype=rows.dtype,
            metadata=image.metadata_of(path),
        )  # fmt: skip
    except MemoryError as e:
        raise too_large(plan) from e
    finally:
        rows.close()
    return done(plan, enlarger.network_s - before, time.perf_counter() - start)
