"""Whether a network runs here at all: tried alone, before the run that measures it."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from edgesr.bench.subjects import Subject
from edgesr.errors import EdgeSRError


def trial(subject: Subject, batch: NDArray[np.float32]) -> str:
    """Why `subject` cannot be run on `batch` (NCHW float32), '' where it can: one call is made."""
    height, width = batch.shape[2:]
    try:
        with closing(subject.open()) as runtime:
            shapes = runtime.tile_shapes
            if shapes and (height, width) not in shapes:
                return "runs at " + ", ".join(f"{w}x{h}" for h, w in shapes) + " only"
            out = runtime.run(batch)
    except EdgeSRError as e:
        return str(e)
    except Exception as e:
        # A broken engine or file may fail in any way, and must not end the others' run.
        return f"{type(e).__name__}: {' '.join(str(e).split()) or 'no message'}"
    return "" if np.isfinite(out).all() else "its output holds numbers that are not finite"
