"""What is asked of `upscale`, beside the inputs and the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesr.enlarge import Settings
from edgesr.image import MAX_PIXELS

DEFAULT_MODEL = "balanced"
DENOISE_MODEL = "gan"  # made for noisy and JPEG-damaged photographs
FORMATS = ("png", "jpg", "webp", "tiff", "bmp", "avif")
LOSSY = ("jpg", "webp", "avif")  # those that `quality` is for


@dataclass(frozen=True)
class Options:
    """How outputs are made, and what happens to those that are there already.

    `out` is a file; a folder if it is one, has no suffix, or `many` is set. `fmt` None follows
    `out`, else PNG. `scale`, `width` and `height` (pixels of the result) None are the network's
    own; `tile` None is chosen. `max_bytes` bounds the process's memory.
    """

    out: Path | None = None
    fmt: str | None = None
    quality: int = 95
    yes: bool = False  # overwrite
    resume: bool = False  # skip what is done
    many: bool = False  # then `out` is a folder in any case
    scale: float | None = None
    width: int | None = None
    height: int | None = None
    tile: int | None = None
    max_bytes: int | None = None
    ensemble: bool = False
    check: bool = True  # the guards
    max_pixels: int = MAX_PIXELS  # of a picture that is read
    codec: str | None = None  # of films
    crf: int | None = None

    def settings(self) -> Settings:
        """What of it concerns the network."""
        return Settings(
            tile=self.tile, max_bytes=self.max_bytes, ensemble=self.ensemble, check=self.check
        )
