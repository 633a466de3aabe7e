"""`edgesr.upscale`: pictures in memory, for programs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgesr.enlarge import Enlarger, Settings
from edgesr.enlarge.size import target_size
from edgesr.runtime.base import Runtime
from edgesr.upscaling.network import open_model

KEPT_OPEN = 4  # models that stay loaded between calls


def upscale(
    image: NDArray[Any],
    model: str | Path | Runtime = "balanced",
    *,
    scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    tile: int | None = None,
    ensemble: bool = False,
    max_bytes: int | None = None,
    runtime: str = "auto",
) -> NDArray[Any]:
    """One picture made larger; see `edgesr.upscale`, which is this function."""
    rows, columns = image.shape[:2] if image.ndim in (2, 3) else (1, 1)
    engine = _open(str(model), runtime) if isinstance(model, str | Path) else model
    size = target_size(
        rows, columns, scale=scale, width_=width, height_=height, native=engine.scale
    )
    settings = Settings(tile=tile, max_bytes=max_bytes, ensemble=ensemble)
    return Enlarger(engine, settings).picture(image, size)


@lru_cache(maxsize=KEPT_OPEN)
def _open(model: str, runtime: str) -> Runtime:
    """The model of that name or path, kept for the next call."""
    return open_model(model, runtime)
