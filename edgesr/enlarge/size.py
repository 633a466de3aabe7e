"""How large the result is, and how often the network must run for it.

Sizes are rounded half up, and are at least 1 pixel.
"""

from __future__ import annotations

import math

from edgesr.errors import BadImage

LARGEST_SCALE = 64


def target_size(
    height: int,
    width: int,
    *,
    scale: float | None = None,
    width_: int | None = None,
    height_: int | None = None,
    native: int = 4,
) -> tuple[int, int]:
    """(height, width) of the result for a picture of `height` × `width`.

    `scale` times larger (it may be below 1), or `width_` or `height_` pixels, the other side in
    proportion; both: exactly that. None of them: `native` times. Raises `BadImage` for a scale
    beside a size, and for sizes below 1 pixel or more than 64 times those of the picture.
    """
    if scale is not None and (width_ is not None or height_ is not None):
        raise BadImage("give a scale, or a width or height, not both")
    if scale is not None:
        if not (math.isfinite(scale) and 0 < scale <= LARGEST_SCALE):
            raise BadImage(f"the scale must be above 0 and at most {LARGEST_SCALE}, not {scale}")
        return _rounded(height * scale), _rounded(width * scale)
    for name, side in (("width", width_), ("height", height_)):
        if side is not None and side < 1:
            raise BadImage(f"the {name} must be at least 1 pixel, not {side}")
    if width_ is None and height_ is None:
        return height * native, width * native
    rows = height_ if height_ is not None else _rounded(height * (width_ or 1) / width)
    columns = width_ if width_ is not None else _rounded(width * rows / height)
    check_size(height, width, rows, columns)
    return rows, columns


def passes(height: int, width: int, size: tuple[int, int], native: int) -> int:
    """How often the network runs on its own result until `size` (height, width) is reached."""
    check_size(height, width, *size)
    times, scale = 1, native
    while native > 1 and (height * scale < size[0] or width * scale < size[1]):
        times, scale = times + 1, scale * native
    return times


def check_size(height: int, width: int, rows: int, columns: int) -> None:
    """Raise `BadImage` unless `height` × `width` pixels can become `rows` × `columns`."""
    if rows < 1 or columns < 1:
        raise BadImage(f"the result must have at least 1x1 pixel, not {columns}x{rows}")
    if rows > LARGEST_SCALE * height or columns > LARGEST_SCALE * width:
        raise BadImage(
            f"{columns}x{rows} is more than {LARGEST_SCALE} times the picture's {width}x{height}; "
            "ask for less"
        )


def _rounded(value: float) -> int:
    return max(1, math.floor(value + 0.5))
