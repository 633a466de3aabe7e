"""Where results go, and whether they are there already."""

from __future__ import annotations

import os
from pathlib import Path

from edgesr import image
from edgesr.atomic import refuse_overwrite
from edgesr.errors import BadImage, EdgeSRError, WouldOverwrite
from edgesr.film.encoder import CONTAINERS
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import Options

_TAIL = 64  # bytes from the end in which the end mark of a whole file is looked for
_NO_END = ("TIFF", "AVIF")  # their last bytes can be any: smaller ones are decoded to see
_TRIED_PIXELS = 25_000_000
_END = {".png": b"IEND\xaeB`\x82", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}


def output_path(source: Source, size: tuple[int, int], native: int, options: Options) -> Path:
    """Where the result of `source` goes, `size` (height, width) pixels large.

    `NAME_x4.png` beside it, or in the folder `options.out` with the folders that it was found
    in; with another scale or a width or height `NAME_x2.png`, `NAME_1920x1080.png`. Films keep
    their suffix where that can be written, else they become .mp4. Raises `BadImage` when `-o`
    and `-f` disagree.
    """
    out, suffix = options.out, _suffix(source, options)
    name = f"{source.path.stem}{marker(size, native, options)}{suffix}"
    if out is None:
        return source.path.parent / name
    if is_folder(out, options.many):
        return out / source.below / name
    wanted = image.SUFFIXES.get(suffix)
    if options.fmt and not source.film and image.SUFFIXES.get(out.suffix.lower()) != wanted:
        raise BadImage(f"{out} does not end in .{options.fmt}: drop -f, or change the name")
    return out


def is_folder(out: Path, many: bool) -> bool:
    """Whether `-o` means a folder."""
    return many or out.is_dir() or not (out.suffix or out.exists())


def marker(size: tuple[int, int], native: int, options: Options) -> str:
    """What is added to the name: `_x4`, `_x1.5`, `_1920x1080`."""
    if options.width is not None or options.height is not None:
        return f"_{size[1]}x{size[0]}"
    return f"_x{options.scale or native:g}"


def _suffix(source: Source, options: Options) -> str:
    if not source.film:
        return f".{options.fmt or 'png'}"
    own = source.path.suffix.lower()
    return own if own in CONTAINERS else ".mp4"


class Outputs:
    """The outputs of one run: no two sources go to one, and none is a source of the same run."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}

    def claim(self, source: Source, output: Path) -> None:
        """Keep `output` for `source`. Raises `WouldOverwrite` where another has it already."""
        first = self._sources.setdefault(os.path.abspath(output), source)
        if first.path != source.path:
            raise WouldOverwrite(
                f"{source}: its output {output} is that of {first} already; "
                "give -o another folder for one of them, or rename it"
            )

    def maker_of(self, source: Source) -> Source | None:
        """The source of this run whose output this one is."""
        return self._sources.get(os.path.abspath(source.path))


def why_skip(source: Path, output: Path, size: tuple[int, int] | None, options: Options) -> str:
    """Why nothing is to be done for `output`; empty where something is.

    With `resume` an output that is whole, newer than `source` and of `size` (height, width; None
    for films) is kept. Raises `WouldOverwrite` for any other one unless `options.yes`.
    """
    if not os.path.lexists(output):
        return ""
    if not options.resume:
        refuse_overwrite(output, options.yes)
        return ""
    fault = _fault(source, output, size)
    if not fault:
        return "done already"
    if options.yes:
        return ""
    raise WouldOverwrite(f"{output} exists already and {fault}; -y makes it again")


def _fault(source: Path, output: Path, size: tuple[int, int] | None) -> str:
    """Why what is there is not the result; empty where it is."""
    try:
        if output.stat().st_mtime_ns < source.stat().st_mtime_ns:
            return "is older than its source"
        if size is None:
            return ""
        facts = image.probe(output, size[0] * size[1] + 1)
        if (facts.height, facts.width) != size:
            return f"is {facts.width}x{facts.height}, not {size[1]}x{size[0]}"
        if facts.fmt in _NO_END and facts.width * facts.height <= _TRIED_PIXELS:
            image.read(output)
        return "" if _is_whole(output) else "is not whole"
    except OSError as e:
        return f"cannot be read ({e.strerror or e})"
    except EdgeSRError:
        return "is not whole"


def _is_whole(path: Path) -> bool:
    """Whether a file ends as its format does, where that can be told without decoding it."""
    with path.open("rb") as file:
        head = file.read(12)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _TAIL))
        tail = file.read()
    if head[:4] == b"RIFF":
        return length >= int.from_bytes(head[4:8], "little") + 8
    if head[:2] == b"BM":
        return length >= int.from_bytes(head[2:6], "little")
    return _END.get(path.suffix.lower(), b"") in tail
