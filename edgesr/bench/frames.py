"""What the networks run on: real photographs at the asked-for size, never noise."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr.errors import Impossible
from edgesr.image import load_folder, read_rgb8

_PHOTOGRAPHS = ("coffee", "astronaut", "chelsea", "rocket")
COUNT = len(_PHOTOGRAPHS)


@dataclass(frozen=True)
class Frames:
    """Inputs: HWC uint8 RGB pictures of one size, their names, and where they come from."""

    pictures: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    source: str

    def batches(self) -> list[NDArray[np.float32]]:
        """The pictures as NCHW float32 in [0, 1], batch 1."""
        return [np.ascontiguousarray(_planes(p)) for p in self.pictures]


def load_frames(width: int, height: int, folder: Path | None) -> Frames:
    """Up to four photographs, scaled until they cover `width` × `height`, then cut from the middle.

    They are those of scikit-image if it is installed (only its files are read), else the first
    of `folder`. Raises `Impossible` when there are neither, `BadImage` for a damaged one.
    """
    paths, source = _sample_photographs(), "scikit-image's photographs"
    if not paths and folder is not None:
        inner = folder / "HR"
        paths = load_folder(inner if inner.is_dir() else folder)[:COUNT]
        source = f"photographs of {folder.name}"
    if not paths:
        raise Impossible(
            "bench needs photographs to run on: give a folder with --quality DIR, "
            "or pip install scikit-image"
        )
    pictures = tuple(cover(read_rgb8(p), width, height) for p in paths)
    return Frames(pictures, tuple(p.stem for p in paths), source)


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


def _sample_photographs() -> list[Path]:
    found = importlib.util.find_spec("skimage")  # finds the folder without importing it
    if found is None or not found.submodule_search_locations:
        return []
    data = Path(found.submodule_search_locations[0]) / "data"
    paths = [data / f"{name}{end}" for name in _PHOTOGRAPHS for end in (".png", ".jpg")]
    return [p for p in paths if p.is_file()]
