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
    """`image` made larger by a super-resolution network, four times unless a size is given.

    `image` is HW (grey) or HWC with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA, not
    premultiplied) channels, uint8 or uint16; the result has the same layout and type. `model` is
    a name of `edgesr models` (`NAME:int8` for its int8 form), the path of a model, or a runtime
    that is open already; models that were named stay loaded for the next call.

    The size: `scale`, or `width` or `height` in pixels (the other follows; both: exactly that).
    `tile` is the side of a tile in pixels, chosen when None: the result is the same. `ensemble`
    takes the mean over the eight flips and turns, for eight times the time. `max_bytes` bounds
    the memory of the process. `runtime` is one of `edgesr upscale --runtime`.

    Raises `edgesr.errors.BadImage` for another array or size, `UnknownName` or `BadModel` for
    the model, `Impossible` when memory does not suffice.
    """
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
