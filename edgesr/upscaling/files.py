"""One picture, in memory or from file to file, with a network that is open already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesr.enlarge import Enlarger, Settings
from edgesr.upscaling import picture
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import Options
from edgesr.upscaling.outputs import Outputs
from edgesr.upscaling.plans import Planner, room_bytes
from edgesr.upscaling.results import Done, Skipped

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesr.runtime.base import Runtime

__all__ = ["Options", "upscale_array", "upscale_file"]


def upscale_array(
    pixels: NDArray[Any],
    runtime: Runtime,
    tile: int | None = None,
    on_tiles: picture.OnTiles | None = None,
    *,
    check: bool = True,
) -> NDArray[Any]:
    """`pixels` made `runtime.scale` times larger, same layout and type.

    HW or HWC with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA, not premultiplied) channels,
    uint8 or uint16. `check` runs the guards. Raises `BadImage` for other arrays, `BadModel` for
    what they refuse.
    """
    return Enlarger(runtime, Settings(tile=tile, check=check)).picture(pixels, None, on_tiles)


def upscale_file(
    source: Path,
    runtime: Runtime,
    options: Options | None = None,
    on_tiles: picture.OnTiles | None = None,
) -> Done | Skipped:
    """Upscale the picture in `source` to `options.out`; by default `NAME_x4.png` beside it.

    The output appears whole or not at all, with the source's profile, EXIF, XMP and DPI. Raises
    `BadImage`, `WouldOverwrite`, `WriteFailed`, `BadModel`, or `Impossible` when memory does
    not suffice; then nothing has been written.
    """
    options = options or Options()
    enlarger = Enlarger(runtime, options.settings())
    planner = Planner(options, enlarger, Outputs(), room_bytes(options.max_bytes))
    plan = planner.plan(Source(source))
    if isinstance(plan, Skipped):
        return plan
    if plan.streamed:
        from edgesr.upscaling.streamed import stream

        return stream(plan, enlarger, on_tiles)
    work = picture.enlarge(picture.read(plan, options), enlarger, on_tiles)
    return picture.write(work, options)
