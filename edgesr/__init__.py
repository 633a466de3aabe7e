"""EdgeSR: distil and prune a super-resolution generator until it fits the edge device.

import edgesr
larger = edgesr.upscale(pixels, model="fast")
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgesr.runtime.base import Runtime

__all__ = ["__version__", "upscale"]
__version__ = "0.1.0"

# From 1.32 on onnxruntime reports its use to Microsoft and keeps a database for that in the
# user's cache, unless told otherwise before it is imported. ORT_DISABLE_TELEMETRY=0 lets it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# torch's threads wait for each other at every layer, spinning for a while before they sleep. On a
# machine with other jobs the default is ruinous: a step of a small student took 3.2 s instead
# of 0.5 s, measured with two threads and three other jobs on two cores. Spinning 30 times less
# cost nothing on an idle one (31 ms a step). Read by libgomp when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


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
    # By name: bundles carry this file, and whatever it imports, to boards.
    larger: NDArray[Any] = import_module("edgesr.upscaling.api").upscale(
        image, model, scale=scale, width=width, height=height, tile=tile,
        ensemble=ensemble, max_bytes=max_bytes, runtime=runtime,
    )  # fmt: skip
    return larger
