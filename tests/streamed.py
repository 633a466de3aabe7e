"""Pictures for the tests of `edgesr.stream`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr import image
from edgesr.stream import StreamedRows


def photograph(
    height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0
) -> NDArray[Any]:
    """Waves with noise on them, so that all of PNG's filters have their use; HWC."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [np.sin(x / (5 + c)) + np.cos(y / (9 - c)) for c in range(channels)]
    values = np.stack(planes, axis=2) / 5 + 0.5 + rng.normal(0, 0.02, (height, width, channels))
    top = np.iinfo(dtype).max
    return np.clip(values * top, 0, top).astype(dtype)


def streamed(path: Path, step: int = 5) -> NDArray[Any]:
    """The pixels of `path` as `StreamedRows` gives them, taken with an overlap as tiles do."""
    rows = StreamedRows(path, image.probe(path))
    try:
        parts = []
        for start in range(0, rows.height, step):
            above = max(start - 2, 0)
            taken = rows.take(above, min(start + step, rows.height))
            parts.append(taken[start - above :].copy())
        return np.concatenate(parts)
    finally:
        rows.close()
