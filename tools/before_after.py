"""Make docs/before-after.png: bicubic, a model and the photograph, side by side.

    python tools/before_after.py [MODEL]

The photograph is scikit-image's `chelsea` (CC0, by Stéfan van der Walt), reduced 4:1 by the
bicubic that the models are trained for, and enlarged again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from edgesr import image, resize
from edgesr.models.find import onnx_of
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles

CROP = (slice(56, 216), slice(96, 304))  # rows, columns: eyes and nose
ZOOM, GAP = 2, 8


def main() -> None:
    """Write the picture."""
    model = sys.argv[1] if len(sys.argv) > 1 else "balanced"
    photograph = image.read_rgb8(Path(skimage.data.__file__).parent / "chelsea.png")
    height, width = (side // 4 * 4 for side in photograph.shape[:2])
    photograph = np.ascontiguousarray(photograph[:height, :width])
    small = resize.downscale_bicubic(photograph, 4)
    ours = upscale_tiles(small, OrtRuntime(onnx_of(model)))
    panels = [p[CROP] for p in (resize.upscale_bicubic(small, 4), ours, photograph)]
    # Whole pixels, repeated: the page shows what is there, not the browser's resampling.
    panels = [p.repeat(ZOOM, 0).repeat(ZOOM, 1) for p in panels]
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    row = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    Image.fromarray(row).save("docs/before-after.png", optimize=True)


if __name__ == "__main__":
    main()
