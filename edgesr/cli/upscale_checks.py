"""The options of `upscale`, taken together: what contradicts or would do nothing is refused."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from edgesr.upscaling.inputs import Found
    from edgesr.upscaling.options import Options

SMALLEST_TILE = 16  # windows that are nearly all halo take hours
LARGEST_SCALE = 64
_STANDARD = "-"
_PAGES = (".html", ".htm")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


@dataclass(frozen=True)
class Asked:
    """What was typed; None where nothing was."""

    inputs: list[str]
    out: Path | None
    fmt: str | None
    quality: int | None
    yes: bool
    scale: float | None
    width: int | None
    height: int | None
    model: str | None
    denoise: bool
    ensemble: bool
    runtime: str
    tile: int | None
    max_bytes: int | None
    max_pixels: int | None
    resume: bool
    dry_run: bool
    codec: str | None
    crf: int | None
    frames: int | None
    seconds: float | None
    compare: bool
    as_json: bool
    page: Path | None = None

    @property
    def is_live(self) -> bool:
        """Whether the input is a camera or stream."""
        from edgesr.film.options import is_live

        return any(is_live(text) for text in self.inputs)

    @property
    def is_standard(self) -> bool:
        """Whether standard input or output is meant."""
        return _STANDARD in self.inputs or str(self.out) == _STANDARD

    @property
    def is_many(self) -> bool:
        """Whether several pictures may come of the inputs: then `-o` is a folder."""
        from glob import has_magic

        only = self.inputs[0]
        pattern = has_magic(only) and not os.path.lexists(only)
        return len(self.inputs) > 1 or pattern or os.path.isdir(only)

    @property
    def network(self) -> str:
        """The model by name or path."""
        from edgesr.upscaling.options import DEFAULT_MODEL, DENOISE_MODEL

        return DENOISE_MODEL if self.denoise else self.model or DEFAULT_MODEL

    def options(self) -> Options:
        """What of it concerns outputs and network."""
        from edgesr.image import MAX_PIXELS
        from edgesr.upscaling.options import Options

        return Options(
            out=self.out, fmt=self.fmt, quality=self.quality or Options.quality, yes=self.yes,
            resume=self.resume, many=self.is_many, scale=self.scale, width=self.width,
            height=self.height, tile=self.tile, max_bytes=self.max_bytes, ensemble=self.ensemble,
            max_pixels=self.max_pixels or MAX_PIXELS, codec=self.codec, crf=self.crf,
        )  # fmt: skip


def checked(asked: Asked) -> Asked:
    """`asked`, with the page that was named among the inputs; exits with 2 for what is wrong."""
    if asked.compare:
        pages = [text for text in asked.inputs if text.lower().endswith(_PAGES)]
        if len(pages) > 1:
            _refuse("--compare writes one page; name one .html")
        rest = [text for text in asked.inputs if text not in pages]
        asked = replace(asked, inputs=rest, page=Path(pages[0]) if pages else None)
    if not asked.inputs:
        _refuse("name a picture to upscale, beside the page", "INPUT")
    if asked.scale is not None and not 0 < asked.scale <= LARGEST_SCALE:
        _refuse(f"the scale is above 0 and at most {LARGEST_SCALE}", "--scale")
    _together(asked)
    _alone(asked)
    if asked.is_many and asked.out and asked.out.exists() and not asked.out.is_dir():
        _refuse(f"{asked.out} is a file; several inputs need a folder", "-o")
    return asked


def check_found(asked: Asked, found: Found) -> None:
    """Exit with 2 for options that do nothing for what was found."""
    from edgesr.upscaling.inputs import Source

    sources = [source for source in found.sources if isinstance(source, Source)]
    films = [source for source in sources if source.film]
    if sources and not films:
        _refuse_given(asked, ("codec", "crf"), "is for films, and there is none")
    if sources and len(films) == len(sources):
        why = "is for pictures, and there are only films"
        _refuse_given(asked, ("fmt", "quality", "compare"), why)
        _refuse_given(asked, ("max_pixels",), why)


def tile(text: str) -> int | None:
    """The side of a tile; None for `auto` and 0."""
    if text.lower() in ("auto", "0"):
        return None
    if not text.isdecimal() or int(text) < SMALLEST_TILE:
        _refuse(f"'{text}': auto, or {SMALLEST_TILE} pixels and more", "--tile")
    return int(text)


def size(option: str, text: str | None) -> int | None:
    """An amount of memory in bytes."""
    from edgesr.enlarge.memory import parse_bytes
    from edgesr.errors import BadConfig

    try:
        return None if text is None else parse_bytes(text)
    except BadConfig as e:
        raise typer.BadParameter(str(e), param_hint=option) from e


def count(option: str, text: str | None) -> int | None:
    """A number of pixels: "250000000" or "250M"."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().lower())
    number = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if number < 1:
        _refuse(f"'{text}': a number of pixels, as 400M", option)
    return number


def complete_model(incomplete: str) -> list[str]:
    """The bundled models that begin so; reads only their folder."""
    from edgesr import resources

    folder = resources.zoo()
    files = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    names = [f.removesuffix(".json") for f in files if f.endswith(".json")]
    int8 = [
        f.removesuffix(".int8.ort.onnx") + ":int8" for f in files if f.endswith("int8.ort.onnx")
    ]
    return [name for name in (*names, *int8) if name.startswith(incomplete)]


def complete_runtime(incomplete: str) -> list[str]:
    """The runtimes that begin so."""
    from edgesr.runtime.open import RUNTIMES

    return [name for name in RUNTIMES if name.startswith(incomplete)]


def _together(asked: Asked) -> None:
    """Options that exclude each other, or do nothing beside another."""
    if asked.scale is not None and (asked.width or asked.height):
        _refuse("give --scale, or --width and --height, not both")
    if asked.denoise and asked.model is not None:
        _refuse("--denoise is a model of its own (gan): give it or -m, not both")
    if asked.dry_run and asked.compare:
        _refuse("--dry-run writes nothing, so there is nothing to --compare")
    if asked.quality is not None and not _is_lossy(asked):
        _refuse("is for JPEG, WebP and AVIF: add -f jpg", "--quality")


def _is_lossy(asked: Asked) -> bool:
    from edgesr.upscaling.options import LOSSY

    if asked.fmt is not None:
        return asked.fmt in LOSSY
    suffix = asked.out.suffix.lower().lstrip(".") if asked.out and not asked.is_many else "png"
    return suffix in (*LOSSY, "jpeg")


def _alone(asked: Asked) -> None:
    """Live sources and standard input take no other input, and not every option."""
    if not asked.is_live:
        _refuse_given(asked, ("frames", "seconds"), "is for live sources")
    if asked.is_live:
        if len(asked.inputs) > 1:
            _refuse("a live source is upscaled alone; leave out the other inputs", "INPUT")
        if asked.out is None or not asked.out.suffix:
            _refuse("a live source needs the film to write: -o NAME.mp4", "-o")
        names = ("fmt", "quality", "resume", "dry_run", "compare", "max_pixels")
        _refuse_given(asked, names, "does nothing for a live source")
    elif asked.is_standard:
        if len(asked.inputs) > 1:
            _refuse("- is one picture; leave out the other inputs", "INPUT")
        names = ("resume", "dry_run", "compare", "codec", "crf", "as_json")
        _refuse_given(asked, names, "does nothing with -")
        if str(asked.out or _STANDARD) == _STANDARD:
            _refuse_given(asked, ("yes",), "does nothing for standard output")


_OPTIONS = {
    "fmt": "-f", "quality": "--quality", "resume": "--resume", "dry_run": "--dry-run",
    "compare": "--compare", "max_pixels": "--max-pixels", "codec": "--codec", "crf": "--crf",
    "frames": "--frames", "seconds": "--seconds", "as_json": "--json", "yes": "-y",
}  # fmt: skip


def _refuse_given(asked: Asked, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(asked, name) not in (None, False):
            _refuse(f"{_OPTIONS[name]} {why}")


def _refuse(why: str, hint: str | None = None) -> NoReturn:
    raise typer.BadParameter(why, param_hint=hint)
