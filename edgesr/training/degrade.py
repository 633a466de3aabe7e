"""Photographs as phones and the web hand them over: blurred, resized, noisy, saved as JPEG.

The order of operations follows Real-ESRGAN (Wang et al., ICCVW 2021, section 3): a round of blur,
resizing, noise and JPEG, and a second one, since a picture on the web has often been shrunk and
saved before. The ranges are EdgeSR's own and milder: they are meant for ordinary photographs, not
for restoration of ruined ones, and some pictures stay nearly clean.

Every resizing maps the picture's edges onto its edges, every kernel is symmetric: nothing moves,
and the low resolution lies on the photograph as MATLAB's bicubic one does.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from edgesr.errors import BadImage

Pixels: TypeAlias = NDArray[np.float32]  # HWC RGB, 0 to 255
Range: TypeAlias = tuple[float, float]

VERSION = 1  # of the code below: to be raised when the same parameters give other pictures
_REACH = 3.0  # standard deviations that a blur kernel spans to each side
_FILTERS = ("area", "bilinear", "bicubic")


@dataclass(frozen=True)
class Round:
    """One round of blur, resizing, noise and JPEG; each of them happens with its `_chance`.

    Lengths are in pixels of the low resolution that comes out in the end, so that a range means
    the same for every scale. `blur` is the standard deviation of the Gaussian; with chance
    `stretched` its two axes are drawn apart and turned. `size` is the picture's size after the
    round, 1 = as large as the low resolution, log-uniform, and never above the photograph's.
    `noise` is its standard deviation in 8-bit levels: of Gaussian noise everywhere, of Poisson
    noise in white (it falls with the square root of the brightness); with chance `grey` the
    three colours share it. `quality` is JPEG's.
    """

    chance: float
    blur_chance: float
    blur: Range
    stretched: float
    size_chance: float
    size: Range
    noise_chance: float
    noise: Range
    poisson: float
    grey: float
    jpeg_chance: float
    quality: tuple[int, int]


@dataclass(frozen=True)
class Degradation:
    """Two rounds, and what share of the pictures gets by with less.

    A share `clean` is only shrunk and, mostly, saved once at one of `clean_quality`. Others
    are shrunk to the low resolution after the second round's noise, before or (with chance
    `shrunk_last`) after its JPEG. `coarse_colour` is the share of JPEGs at half the resolution in
    colour (4:2:0), as phones and sites save them; the others have full colour.
    """

    first: Round
    second: Round
    clean: float
    clean_jpeg_chance: float
    clean_quality: tuple[int, int]
    shrunk_last: float
    coarse_colour: float


# Real-ESRGAN's ranges for comparison, at x4 and in the same units: blur 0.05 to 0.75 in both
# rounds, size 0.6 to 6 and 1.2 to 4.8, noise 1 to 30 and 1 to 25, JPEG 30 to 95 in both.
WEB = Degradation(
    first=Round(
        chance=1.0,
        blur_chance=0.8, blur=(0.05, 0.65), stretched=0.4,
        size_chance=0.8, size=(0.85, 3.5),
        noise_chance=0.7, noise=(1.0, 12.0), poisson=0.5, grey=0.4,
        jpeg_chance=0.7, quality=(60, 95),
    ),
    second=Round(
        chance=0.6,
        blur_chance=0.5, blur=(0.05, 0.3), stretched=0.4,
        size_chance=0.6, size=(0.9, 1.6),
        noise_chance=0.5, noise=(1.0, 6.0), poisson=0.5, grey=0.4,
        jpeg_chance=0.9, quality=(50, 95),
    ),
    clean=0.15,
    clean_jpeg_chance=0.7,
    clean_quality=(85, 97),
    shrunk_last=0.2,
    coarse_colour=0.8,
)  # fmt: skip
KINDS = {"web": WEB}


@dataclass(frozen=True)
class Degrader:
    """Makes low resolution out of photographs, always the same from the same name and seed.

    `kind` names one of `KINDS`. The same to the bit only with the same versions of numpy,
    OpenCV and Pillow.
    """

    kind: str
    seed: int = 0

    @property
    def key(self) -> str:
        """What the pictures depend on, as text: two equal keys mean equal pictures."""
        return f"{self.kind} {VERSION} seed {self.seed} {KINDS[self.kind]}"

    def __call__(self, hr: NDArray[np.uint8], scale: int, name: str) -> NDArray[np.uint8]:
        """The low resolution, HWC uint8 RGB, of the photograph `hr` with that file name.

        Exactly 1 / `scale` of the photograph's size. Raises `BadImage` for other arrays than HWC
        uint8 RGB and for sides that are no multiples of `scale`.
        """
        return degrade(hr, scale, KINDS[self.kind], _random(name, self.seed))


def degrader(kind: str, seed: int) -> Degrader | None:
    """The one of that kind; None for `none`, which is MATLAB's bicubic and needs none."""
    return None if kind == "none" else Degrader(kind, seed)


def degrade(
    hr: NDArray[np.uint8], scale: int, spec: Degradation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The low resolution of `hr` as `Degrader` gives it, all chances drawn from `rng`."""
    if hr.dtype != np.uint8 or hr.ndim != 3 or hr.shape[2] != 3 or hr.size == 0:
        raise BadImage(f"degradations take HWC uint8 RGB, not {hr.dtype} {hr.shape}")
    if hr.shape[0] % scale or hr.shape[1] % scale:
        raise BadImage(f"{hr.shape[1]}x{hr.shape[0]} is no multiple of the scale {scale}")
    work = _Work(hr.astype(np.float32), hr.shape[0] // scale, hr.shape[1] // scale, scale, spec,
                 rng)  # fmt: skip
    if rng.random() < spec.clean:
        work.resize(1.0)
        if rng.random() < spec.clean_jpeg_chance:
            work.jpeg(spec.clean_quality)
        return work.rounded()
    for step in (spec.first, spec.second):
        if rng.random() < step.chance:
            last = step is spec.second
            work.round(step, resize_last=rng.random() < spec.shrunk_last if last else None)
    work.resize(1.0)
    return work.rounded()


class _Work:
    """A picture on its way down to `height` × `width`."""

    def __init__(
        self, pixels: Pixels, height: int, width: int, scale: int, spec: Degradation,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.pixels, self.height, self.width = pixels, height, width
        self.scale, self.spec, self.rng = scale, spec, rng

    def round(self, step: Round, resize_last: bool | None) -> None:
        """One round; `resize_last` None leaves the picture at the size of the round."""
        rng = self.rng
        if rng.random() < step.blur_chance:
            self.blur(step)
        if rng.random() < step.size_chance:
            low, high = np.log(step.size)
            self.resize(min(float(np.exp(rng.uniform(low, high))), float(self.scale)))
        if rng.random() < step.noise_chance:
            self.noise(step)
        if resize_last is False:
            self.resize(1.0)
        if rng.random() < step.jpeg_chance:
            self.jpeg(step.quality)

    def blur(self, step: Round) -> None:
        """A Gaussian, round or stretched."""
        unit = self.pixels.shape[0] / self.height
        along, across = (self.rng.uniform(*step.blur) * unit for _ in range(2))
        turned = self.rng.uniform(0, np.pi)
        if self.rng.random() >= step.stretched:
            across = along
        kernel = gaussian(along, across, turned)
        # Large kernels go through a Fourier transform, whose rounding leaves the range by a little.
        self.pixels = _in_range(
            cv2.filter2D(self.pixels, -1, kernel, borderType=cv2.BORDER_REFLECT)
        )

    def resize(self, size: float) -> None:
        """To `size` times the low resolution, by a filter drawn at random.

        All are antialiased, as picture software is; areas are for shrinking only: a larger
        picture would repeat its pixels, which nobody does.
        """
        height, width = (max(1, round(n * size)) for n in (self.height, self.width))
        name = str(self.rng.choice(_FILTERS))
        if (height, width) == self.pixels.shape[:2]:
            return
        if name == "area" and height < self.pixels.shape[0]:
            # Not Pillow's BOX: it weighs whole pixels only, which moves them at odd factors.
            small = cv2.resize(self.pixels, (width, height), interpolation=cv2.INTER_AREA)
            self.pixels = _in_range(small)
            return
        kind = Image.Resampling.BICUBIC if name == "bicubic" else Image.Resampling.BILINEAR
        planes = [
            np.asarray(Image.fromarray(plane).resize((width, height), kind), np.float32)
            for plane in np.ascontiguousarray(self.pixels.transpose(2, 0, 1))
        ]
        self.pixels = _in_range(np.stack(planes, axis=2))

    def noise(self, step: Round) -> None:
        """Gaussian or Poisson noise, coloured or grey."""
        rng = self.rng
        level = rng.uniform(*step.noise)
        clean = self.pixels.mean(2, keepdims=True) if rng.random() < step.grey else self.pixels
        if rng.random() < step.poisson:
            # Counts with mean n in white spread by √n: by `level` of 255 where n is this.
            photons = (255 / level) ** 2
            grain = rng.poisson(clean / 255 * photons) / photons * 255 - clean
        else:
            grain = rng.normal(0, level, clean.shape)
        self.pixels = _in_range(self.pixels + grain)

    def jpeg(self, quality: tuple[int, int]) -> None:
        """Saved as JPEG and read again."""
        file = io.BytesIO()
        coarse = self.rng.random() < self.spec.coarse_colour
        Image.fromarray(self.rounded()).save(
            file,
            "JPEG",
            quality=int(self.rng.integers(quality[0], quality[1] + 1)),
            subsampling=2 if coarse else 0,
        )
        with Image.open(file) as picture:
            self.pixels = np.asarray(picture.convert("RGB"), np.float32)

    def rounded(self) -> NDArray[np.uint8]:
        """The picture as it is now, HWC uint8."""
        return np.rint(self.pixels).astype(np.uint8)


def gaussian(along: float, across: float, turned: float) -> NDArray[np.float32]:
    """A Gaussian kernel of odd side and sum 1.

    `along` and `across` are its standard deviations in pixels, `turned` the angle in radians
    from the x axis (to the right) towards the y axis (down) of the first.
    """
    radius = max(1, int(np.ceil(_REACH * max(along, across))))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    u = x * np.cos(turned) + y * np.sin(turned)
    v = y * np.cos(turned) - x * np.sin(turned)
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def _in_range(pixels: ArrayLike) -> Pixels:
    return np.asarray(np.clip(pixels, 0, 255), np.float32)


def _random(name: str, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
