"""What the networks run on: real photographs at the asked-for size, never noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr import resources
from edgesr.image import load_folder, read_rgb8


@dataclass(frozen=True)
class Frames:
    """Inputs: HWC uint8 RGB pictures of one size, their names, and where they come from."""

    pictures: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    source: str

    def batches(self) -> list[NDArray[np.float32]]:
        """The pictures as NCHW float32 in [0, 1], batch 1."""
        return [np.ascontiguousarray(_planes(p)) for p in self.pictures]


def load_frames(width: int, height: int) -> Frames:
    """The bundled photograph, scaled until it covers `width` × `height`, its middle cut out.

    Every machine runs on the same one, whatever is installed there, so that times compare.
    """
    paths = load_folder(resources.samples())
    pictures = tuple(cover(read_rgb8(p), width, height) for p in paths)
    return Frames(pictures, tuple(p.stem for p in paths), "the bundled photograph")


def cover(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The middle of `picture`, scaled so that it just fills `width` × `height`."""
    h, w = picture.shape[:2]
    ratio = max(width / w, height / h)
    size = (max(width, round(w * ratio)), max(height, round(h * ratio)))
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    scaled = np.asarray(cv2.resize(picture, size, interpolation=method), dtype=np.uint8)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return scaled[top : top + height, left : left + width]


def _planes(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.divide(picture.transpose(2, 0, 1)[None], np.float32(255), dtype=np.float32)
