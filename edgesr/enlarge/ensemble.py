"""Self-ensemble: the mean over a picture's eight flips and turns, each turned back.

Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016,
section 3.6. It costs eight times the time, for a tenth of a decibel or so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

TURNS = 8


def mean_of_turns(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]], batch: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The mean of `run` over the eight turns of `batch` (NCHW float32), in float32.

    `run` sees batches of both orientations: H×W and W×H.
    """
    total: NDArray[np.float32] | None = None
    for turn in range(TURNS):
        out = _back(run(np.ascontiguousarray(_turned(batch, turn))), turn)
        total = np.array(out) if total is None else np.add(total, out, out=total)
    assert total is not None
    total *= np.float32(1 / TURNS)
    return total


def _turned(batch: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """Turn 0 to 7: left and right changed (1), top and bottom (2), rows and columns (4)."""
    if turn & 4:
        batch = batch.swapaxes(2, 3)
    return batch[:, :, :: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def _back(batch: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    batch = batch[:, :, :: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
    return batch.swapaxes(2, 3) if turn & 4 else batch
