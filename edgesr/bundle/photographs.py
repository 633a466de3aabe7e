"""Golden inputs: crops of photographs, never noise (noise hides what a network loses)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgesr import resources
from edgesr.errors import BadImage

Tile = NDArray[np.uint8]
SHIPPED = ("astronaut", "coffee", "chelsea")  # inside scikit-image's wheel, CC0
MOST = 8  # of the pictures of a folder


def load(folder: Path | None) -> list[Tile]:
    """Photographs as HWC uint8 RGB: those of `folder`, else scikit-image's, else the bundled one.

    Raises `BadImage` for a folder without pictures.
    """
    from edgesr.image import load_folder, read_rgb8

    if folder is None:
        try:
            from skimage import data
        except ImportError:
            folder = resources.samples()
    if folder is not None:
        return [read_rgb8(path) for path in load_folder(folder)[:MOST]]
    return [np.asarray(getattr(data, name)(), np.uint8) for name in SHIPPED]


def crops(photographs: list[Tile], height: int, width: int, count: int) -> list[Tile]:
    """`count` crops of that size, from as many photographs as are large enough.

    Raises `BadImage` when none is.
    """
    fitting = [p for p in photographs if p.shape[0] >= height and p.shape[1] >= width]
    if not fitting:
        raise BadImage(
            f"no photograph of {width}×{height} or more for the golden tiles; "
            "give larger ones with --golden DIR, or a smaller --tile"
        )
    cut = []
    for i in range(count):
        photograph = fitting[i % len(fitting)]
        # Its middle first, then a corner, then the other one.
        part = (0.5, 0.0, 1.0)[i // len(fitting) % 3]
        top = int((photograph.shape[0] - height) * part)
        left = int((photograph.shape[1] - width) * part)
        cut.append(np.ascontiguousarray(photograph[top : top + height, left : left + width]))
    return cut
