"""One picture through standard input or output, for pipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO

from edgesr import image
from edgesr.atomic import refuse_overwrite, write_bytes
from edgesr.enlarge import Enlarger, target_size
from edgesr.enlarge.memory import megabytes
from edgesr.errors import Impossible
from edgesr.runtime.base import Runtime
from edgesr.upscaling.inputs import STANDARD
from edgesr.upscaling.network import opened
from edgesr.upscaling.options import DEFAULT_MODEL, Options
from edgesr.upscaling.picture import OnTiles
from edgesr.upscaling.plans import held_bytes, room_bytes


def upscale_standard(
    source: str,
    options: Options,
    stdin: IO[bytes],
    stdout: IO[bytes],
    model: str | Runtime = DEFAULT_MODEL,
    *,
    runtime: str = "auto",
    on_tiles: OnTiles | None = None,
) -> None:
    """One picture from the file `source` (`-`: from `stdin`) to `options.out` (`-`: `stdout`).

    The format read is found from the content, the one written is `options.fmt`, else that of the
    suffix of `options.out`, else PNG. Nothing is written unless all went well. Raises `BadImage`,
    `BadModel`, `WouldOverwrite`, `WriteFailed`, `Impossible`.
    """
    out = options.out
    target = out if out and str(out) != STANDARD else None
    if target is not None:
        refuse_overwrite(target, options.yes)
    named = target or Path(f"standard output.{options.fmt or 'png'}")
    with opened(model, runtime) as engine:
        enlarger = Enlarger(engine, options.settings())
        if source == STANDARD:
            picture = image.decode(stdin.read(), "standard input", options.max_pixels)
        else:
            picture = image.read(Path(source), options.max_pixels)
        data = _larger(picture, enlarger, options, named, on_tiles)
    if target is None:
        stdout.write(data)
        stdout.flush()
    else:
        write_bytes(target, data)


def _larger(
    picture: image.Picture,
    enlarger: Enlarger,
    options: Options,
    named: Path,
    on_tiles: OnTiles | None,
) -> bytes:
    pixels = picture.pixels
    height, width, channels = pixels.shape
    size = target_size(
        height, width,
        scale=options.scale, width_=options.width, height_=options.height, native=enlarger.scale,
    )  # fmt: skip
    image.check_writable(named, (*size, channels), pixels.dtype)
    cost = enlarger.cost(height, width, channels, pixels.dtype.itemsize * 8, size)
    need = held_bytes(cost, named) + cost.working_bytes
    room = room_bytes(options.max_bytes)
    if need > room:
        raise Impossible(
            f"{size[1]}x{size[0]} pixels take {megabytes(need)} more memory, and {megabytes(room)} "
            "are left; name files in place of -: from PNG or TIFF to PNG or TIFF it streams"
        )
    try:
        larger = enlarger.picture(pixels, size, on_tiles)
        return image.encode(replace(picture, pixels=larger), named, options.quality)
    except MemoryError as e:
        raise Impossible(f"{size[1]}x{size[0]} pixels do not fit in memory") from e
