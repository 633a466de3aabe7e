"""What `--compare` shows: bicubic beside the result, a piece of each picture, pixel by pixel."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr import image
from edgesr.image import Picture, to_8_bit
from edgesr.report.compare_page import Pair, to_html
from edgesr.upscaling.picture import Work

MOST = 24  # pictures on a page
WIDTH, HEIGHT = 720, 480  # of a piece of the result, pixels: it fits a page at 100 %
_PNG = Path("piece.png")


class Comparison:
    """Collects pieces of finished pictures, from any thread, and makes the page of them."""

    def __init__(self) -> None:
        self._pairs: dict[str, Pair] = {}
        self._lock = threading.Lock()
        self._places = MOST
        self.left_out = 0  # pictures beyond `MOST`

    def add(self, work: Work, before: Picture) -> None:
        """Keep a piece of a finished picture; `before` is what it was made of."""
        with self._lock:
            if self._places == 0:
                self.left_out += 1
                return
            self._places -= 1
        pair = _pair(work, before)
        with self._lock:
            self._pairs[str(work.plan.source)] = pair

    def page(self, order: list[str], model: str) -> str:
        """The page as HTML; `order` names the sources of the run, one by one."""
        pairs = [self._pairs[source] for source in order if source in self._pairs]
        return to_html(pairs, model, missing=len(order) - len(pairs))


def busiest(pixels: NDArray[Any], height: int, width: int) -> tuple[int, int]:
    """The (top, left) of the piece of that size where HWC `pixels` have the most fine detail.

    Fine detail is the sum of the absolute Laplacian of the luma. Of equal places the first.
    """
    grey = to_8_bit(pixels)[..., :3].mean(axis=2, dtype=np.float32)
    if pixels.shape[2] in (2, 4):  # what is transparent is not seen
        grey = to_8_bit(pixels)[..., :-1].mean(axis=2, dtype=np.float32)
        grey *= to_8_bit(pixels)[..., -1] / np.float32(255)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    sums = cv2.integral(detail, sdepth=cv2.CV_64F)
    h, w = height, width
    pieces = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = np.unravel_index(int(pieces.argmax()), pieces.shape)
    return int(top), int(left)


def _pair(work: Work, before: Picture) -> Pair:
    plan, small, large = work.plan, before.pixels, work.picture.pixels
    (rows, columns), (height, width) = large.shape[:2], small.shape[:2]
    h, w = min(HEIGHT, rows), min(WIDTH, columns)
    top, left = busiest(small, _share(h, rows, height), _share(w, columns, width))
    y = min(round(top * rows / height), rows - h)
    x = min(round(left * columns / width), columns - w)
    box = (x * width / columns, y * height / rows, (x + w) * width / columns,
           (y + h) * height / rows)  # fmt: skip
    return Pair(
        name=str(plan.source), output=str(plan.output), before=(width, height),
        after=(columns, rows), place=(x, y), size=(w, h),
        bicubic=_png(_bicubic(small, box, (w, h)), before),
        result=_png(to_8_bit(large[y : y + h, x : x + w]), before),
    )  # fmt: skip


def _share(piece: int, result: int, source: int) -> int:
    """A length in the result, in pixels of the source: at least one, at most all."""
    return max(1, min(source, piece * source // result))


def _bicubic(
    pixels: NDArray[Any], box: tuple[float, float, float, float], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """The part `box` of `pixels` at `size` (width, height): Keys' kernel, antialiased."""
    from PIL import Image

    small = to_8_bit(pixels)
    channels = small.shape[2]
    picture = Image.fromarray(small[..., 0] if channels == 1 else small)
    larger = picture.resize(size, Image.Resampling.BICUBIC, box=box)
    return np.asarray(larger).reshape(size[1], size[0], channels)


def _png(pixels: NDArray[np.uint8], before: Picture) -> str:
    """A PNG in base64, with the colour profile that the numbers mean."""
    piece = Picture(np.ascontiguousarray(pixels), icc=before.icc)
    return base64.b64encode(image.encode(piece, _PNG)).decode("ascii")
