"""`upscale`: pictures made larger by a network, with all that belongs to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr import image
from edgesr.atomic import refuse_overwrite
from edgesr.errors import BadImage, EdgeSRError, Impossible, WouldOverwrite
from edgesr.resize import upscale_bicubic
from edgesr.tiling import upscale_tiles

if TYPE_CHECKING:
    from edgesr.runtime.base import Runtime

DEFAULT_MODEL = "balanced"
FORMATS = ("png", "jpg", "webp")


@dataclass(frozen=True)
class UpscaleResult:
    """One picture that has been written."""

    source: Path
    output: Path
    width: int  # of the source, pixels
    height: int
    scale: int
    network_s: float  # inside the network
    total_s: float  # reading, network, writing; without loading the model


@dataclass(frozen=True)
class Failure:
    """One picture that could not be made, and why."""

    source: Path
    error: EdgeSRError


@dataclass(frozen=True)
class Options:
    """How outputs are made: `tile` None is automatic, `fmt` None follows `out`, else PNG."""

    out: Path | None = None  # a file; a folder if it is one, has no suffix, or `many`
    tile: int | None = None
    fmt: str | None = None
    quality: int = 95
    yes: bool = False
    many: bool = False  # then `out` is a folder in any case


def upscale_array(
    pixels: NDArray[Any],
    runtime: Runtime,
    tile: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[Any]:
    """`pixels` made `runtime.scale` times larger, same layout and type.

    HW or HWC with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels, uint8 or uint16;
    alpha is not premultiplied. The network sees the colours; fully transparent pixels, whose
    colour means nothing, first take that of their neighbours, so that it does not bleed into
    edges. Alpha itself is resized bicubically. Raises `BadImage` for other arrays, `BadModel`
    when the network gives NaN.
    """
    if pixels.ndim == 2:
        return upscale_array(pixels[..., None], runtime, tile, on_progress)[..., 0]
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
        raise BadImage(f"a picture is HW or HWC with 1 to 4 channels, not {pixels.shape}")
    if pixels.shape[2] in (1, 3):
        return upscale_tiles(pixels, runtime, tile, on_progress)
    colour, alpha = pixels[..., :-1], pixels[..., -1]
    colour = fill_transparent(colour, alpha)
    larger = upscale_tiles(colour, runtime, tile, on_progress)
    return np.dstack([larger, upscale_bicubic(alpha, runtime.scale)])


def fill_transparent(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """`colour` (HWC) with every pixel of `alpha` 0 (HW) filled in from visible ones nearby."""
    known = alpha > 0
    if known.all() or not known.any():
        return colour
    filled = np.rint(_pull_push(colour.astype(np.float32), known))
    top = np.iinfo(colour.dtype).max
    kept = np.where(known[..., None], colour, np.clip(filled, 0, top).astype(colour.dtype))
    return np.asarray(kept)


def upscale_file(
    source: Path,
    runtime: Runtime,
    options: Options | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> UpscaleResult:
    """Upscale the picture in `source` to `options.out`; by default `NAME_x4.png` beside it.

    The output appears whole or not at all, with the source's profile, EXIF and DPI. Raises
    `BadImage`, `WouldOverwrite`, `WriteFailed`, `BadModel`, or `Impossible` when memory does
    not suffice; then nothing has been written.
    """
    options = options or Options()
    start = time.perf_counter()
    output = output_path(source, runtime.scale, options)
    refuse_overwrite(output, options.yes)
    picture = image.read(source)
    height, width, channels = picture.pixels.shape
    s = runtime.scale
    image.check_writable(output, (height * s, width * s, channels), picture.pixels.dtype)
    timed = _Timed(runtime)
    try:
        larger = upscale_array(picture.pixels, timed, options.tile, on_progress)
        image.write(output, replace(picture, pixels=larger), options.quality)
    except MemoryError as e:
        raise Impossible(
            f"{source}: {width * s}x{height * s} pixels do not fit in memory; "
            "close other programs, take a smaller --tile, or cut the picture into parts"
        ) from e
    total_s = time.perf_counter() - start
    return UpscaleResult(source, output, width, height, s, timed.seconds, total_s)


def upscale_files(
    sources: Sequence[Path],
    options: Options,
    model: str | Runtime = DEFAULT_MODEL,
    on_progress: Callable[[Path, int, int], None] | None = None,
    *,
    runtime: str = "auto",
) -> Iterator[UpscaleResult | Failure]:
    """Upscale `sources` one after the other; a picture that fails does not stop the rest.

    `model` is a name, a path, or a runtime that is open already; `runtime` says what runs the
    first two (see `edgesr.runtime.open`). What is wrong with the model is raised (`UnknownName`,
    `BadModel`, `MissingExtra`, `Impossible`); what is wrong with a picture comes as a `Failure`.
    Two sources never write to the same output.
    """
    options = replace(options, many=options.many or len(sources) > 1)
    written: dict[Path, Path] = {}
    with _opened(model, runtime) as engine:
        for source in sources:
            try:
                output = output_path(source, engine.scale, options).absolute()
                if output in written:
                    first = written[output]
                    raise WouldOverwrite(f"{source}: {output} is the output of {first} already")
                progress = _for_source(source, on_progress)
                result = upscale_file(source, engine, options, progress)
                written[output] = source
                yield result
            except EdgeSRError as e:
                yield Failure(source, e)


def output_path(source: Path, scale: int, options: Options) -> Path:
    """Where the result of `source` goes. Raises `BadImage` when `-o` and `-f` disagree."""
    out = options.out
    name = f"{source.stem}_x{scale}.{options.fmt or 'png'}"
    if out is None:
        return source.parent / name
    if options.many or out.is_dir() or not (out.suffix or out.exists()):
        return out / name
    if options.fmt and image.SUFFIXES.get(out.suffix.lower()) != image.SUFFIXES["." + options.fmt]:
        raise BadImage(f"{out} does not end in .{options.fmt}: drop -f, or change the name")
    return out


def open_model(name: str, runtime: str = "auto") -> Runtime:
    """The model of that name or path, ready to run: on this machine's CPU unless `runtime` says."""
    from edgesr.models.find import onnx_of
    from edgesr.runtime.open import ENGINE, open_runtime

    is_engine = name.endswith(ENGINE) and Path(name).is_file()
    return open_runtime(Path(name) if is_engine else onnx_of(name), runtime)


@contextmanager
def _opened(model: str | Runtime, name: str) -> Iterator[Runtime]:
    if isinstance(model, str):
        with closing(open_model(model, name)) as runtime:
            yield runtime
    else:
        yield model  # the caller closes what the caller opened


def _for_source(
    source: Path, on_progress: Callable[[Path, int, int], None] | None
) -> Callable[[int, int], None] | None:
    if on_progress is None:
        return None
    report = on_progress
    return lambda done, total: report(source, done, total)


def _pull_push(colour: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Unknown pixels from averages of the known ones, over ever larger squares."""
    if known.all():
        return colour
    h, w = known.shape
    half = (max(1, (w + 1) // 2), max(1, (h + 1) // 2))
    weight = known.astype(np.float32)
    sums = cv2.resize(colour * weight[..., None], half, interpolation=cv2.INTER_AREA)
    weights = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    sums = sums.reshape(*weights.shape, -1)
    means = sums / np.maximum(weights, np.float32(1e-6))[..., None]
    coarse = _pull_push(np.asarray(means, np.float32), weights > 0)
    spread = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR).reshape(colour.shape)
    return np.where(known[..., None], colour, spread)


class _Timed:
    """A runtime that adds up the seconds spent inside it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.name, self.scale, self.halo = runtime.name, runtime.scale, runtime.halo
        self.tile_shapes = runtime.tile_shapes
        self.seconds = 0.0

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        start = time.perf_counter()
        out = self._runtime.run(batch)
        self.seconds += time.perf_counter() - start
        return out

    def memory(self) -> dict[str, int]:
        return self._runtime.memory()

    def close(self) -> None:
        self._runtime.close()
