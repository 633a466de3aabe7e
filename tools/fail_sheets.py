"""Where a model fails: the worst squares of four kinds of picture, measured and shown.

    python tools/fail_sheets.py MODEL SHEET.png

The pictures are drawn here, or are scikit-image's (public domain, or CC0). They are reduced 4:1
by the bicubic that models are trained for, and enlarged again by the model. The square that
is shown is the one with the largest squared error against the truth.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr import atomic, image, metrics, resize
from edgesr.errors import EdgeSRError
from edgesr.models.cards import Fail, fail_line
from edgesr.models.find import onnx_of
from edgesr.runtime.base import Runtime
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles

Pixels = NDArray[np.uint8]
SCALE = 4
SIDE = 80  # pixels of a square; shown twice as large
COLUMNS = ("input", "bicubic", "{}", "truth")
JPEG_QUALITY = 40
BLUR_SIGMA = 8.0  # of the truth's pixels: two of the input's
_ZOOM, _GAP, _BAR = 2, 8, 22  # enlargement, distance and height of the labels on the sheet


@dataclass(frozen=True)
class Case:
    """A kind of failure. `truth` makes the picture, HWC uint8 RGB; `harm` spoils the input.

    `harm` takes the truth and gives what the model sees. `seen` are words about what comes out.
    """

    name: str
    picture: str
    truth: Callable[[], Pixels]
    harm: Callable[[Pixels], Pixels]
    seen: str


@dataclass(frozen=True)
class Shown:
    """The worst square of a case: its figures, and the panels of `COLUMNS`, HWC uint8 RGB."""

    fail: Fail
    panels: tuple[Pixels, ...]


def reduced(truth: Pixels) -> Pixels:
    """The input that models are trained for."""
    return resize.downscale_bicubic(truth, SCALE)


def jpeg(truth: Pixels) -> Pixels:
    """The reduced picture, kept as a JPEG file of medium quality in between."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(reduced(truth)).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file).convert("RGB"))


def blurred(truth: Pixels) -> Pixels:
    """The reduced picture of a photograph out of focus."""
    return reduced(np.asarray(cv2.GaussianBlur(truth, (0, 0), BLUR_SIGMA), np.uint8))


def stripes(side: int = 384) -> Pixels:
    """Slanted stripes from 12 pixels a period at one corner to 4 at the opposite one."""
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    slant = np.deg2rad(35.0)
    along = columns * np.cos(slant) + rows * np.sin(slant)
    first, last = 1.0 / 12.0, 1.0 / 4.0  # periods a pixel; the phase is the integral over them
    turns = first * along + (last - first) * along**2 / (2.0 * along.max())
    grey = np.rint(127.5 + 100.0 * np.cos(2.0 * np.pi * turns)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def text(width: int = 384, height: int = 192) -> Pixels:
    """A pangram in sizes from 10 to 34 pixels."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(page), 4
    for size in (34, 26, 20, 16, 13, 10):
        words = "Sphinx of black quartz, judge my vow. " * 3
        draw.text((4, top), words, (20, 20, 40), ImageFont.load_default(size))
        top += round(size * 1.35)
    return np.asarray(page)


def packaged(name: str) -> Pixels:
    """A picture from scikit-image's wheel, sides cut to multiples of the scale."""
    import skimage.data

    picture = image.read_rgb8(Path(skimage.data.__file__).parent / name)
    height, width = (side // SCALE * SCALE for side in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])


CASES = (
    Case("fine stripes", "drawn", stripes, reduced,
         "stripes closer together than two pixels of the input come back in another direction "
         "and width, clear and even: nothing in the result says that they are invented."),
    Case("text", "drawn", text, reduced,
         "small letters come back as strokes that look like writing and cannot be read, or read "
         "as other letters."),
    Case("JPEG", "scikit-image's chelsea, JPEG quality 40", lambda: packaged("chelsea.png"), jpeg,
         "the blotches and rings that the compression left are sharpened and enlarged too."),
    Case("blur", "scikit-image's astronaut, out of focus", lambda: packaged("astronaut.png"),
         blurred, "a picture out of focus stays out of focus."),
)  # fmt: skip


def worst_square(output: Pixels, truth: Pixels, side: int = SIDE) -> tuple[int, int]:
    """The (y, x) of the square of `side` pixels with the largest squared error.

    Both are HWC uint8 of one size, at least `side` and two borders wide. The border that PSNR
    leaves out is avoided, and y and x are multiples of the scale: whole pixels of the input.
    """
    error = ((output.astype(np.float64) - truth) ** 2).sum(axis=2)
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    start = metrics.BORDER
    inside = squares[start : squares.shape[0] - start : SCALE, start:-start:SCALE]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return start + SCALE * int(y), start + SCALE * int(x)


def show(case: Case, runtime: Runtime) -> Shown:
    """The worst square of a case with that model."""
    truth = case.truth()
    small = case.harm(truth)
    output, bicubic = upscale_tiles(small, runtime), resize.upscale_bicubic(small, SCALE)
    y, x = worst_square(output, truth)
    nearest = small.repeat(SCALE, 0).repeat(SCALE, 1)
    panels = tuple(
        np.ascontiguousarray(p[y : y + SIDE, x : x + SIDE])
        for p in (nearest, bicubic, output, truth)
    )
    ours, theirs = (metrics.psnr_y(p, panels[3], border=0) for p in (panels[2], panels[1]))
    fail = Fail(
        case=case.name, picture=case.picture, x=x, y=y, side=SIDE,
        psnr_y=round(ours, 2), bicubic_psnr_y=round(theirs, 2), seen=case.seen,
    )  # fmt: skip
    return Shown(fail, panels)


def sheet(shown: list[Shown], model: str) -> bytes:
    """The cases one below the other, their panels side by side with labels, as PNG."""
    from PIL import Image, ImageDraw, ImageFont

    side = SIDE * _ZOOM
    size = (len(COLUMNS) * (side + _GAP) - _GAP, len(shown) * (side + _BAR + _GAP) - _GAP)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for row, one in enumerate(shown):
        top = row * (side + _BAR + _GAP)
        figures = ("", f" {one.fail.bicubic_psnr_y:.1f} dB", f" {one.fail.psnr_y:.1f} dB", "")
        for column, pixels in enumerate(one.panels):
            left = column * (side + _GAP)
            words = f"{one.fail.case}: input" if not column else COLUMNS[column].format(model)
            draw.text((left + 1, top + 3), words + figures[column], "black", font)
            enlarged = pixels.repeat(_ZOOM, 0).repeat(_ZOOM, 1)
            canvas.paste(Image.fromarray(enlarged), (left, top + _BAR))
    file = io.BytesIO()
    canvas.save(file, "PNG", optimize=True)
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet of one model and print its figures; a line on stderr where it cannot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a model, its file or its run folder")
    parser.add_argument("sheet", type=Path, help="PNG to write")
    args = parser.parse_args(arguments)
    try:
        runtime = OrtRuntime(onnx_of(args.model), threads=1)
        shown = [show(case, runtime) for case in CASES]
        atomic.write_bytes(args.sheet, sheet(shown, Path(args.model).stem))
    except EdgeSRError as e:
        print(f"fail_sheets: {e}", file=sys.stderr)
        raise SystemExit(e.exit_code) from e
    for one in shown:
        print(fail_line(one.fail))


if __name__ == "__main__":
    main()
