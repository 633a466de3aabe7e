"""From what was typed to pictures and films: files, folders and patterns.

Folders are listed with all below them, in natural order (2 before 10); nothing is opened. Hidden
files are left out, links to folders are not followed, and other files only counted.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgesr.errors import BadImage
from edgesr.film.options import is_film
from edgesr.image import SUFFIXES
from edgesr.upscaling.results import Failed

STANDARD = "-"  # standard input or output


@dataclass(frozen=True)
class Source:
    """One picture or film. `below` is where it lies in the folder that was named."""

    path: Path
    below: Path = Path()
    film: bool = False

    def __str__(self) -> str:
        return str(self.path)


@dataclass
class Found:
    """What there is to do, in order; `others` counts files that are no pictures or films."""

    sources: list[Source | Failed] = field(default_factory=list)
    others: int = 0


def find(arguments: Sequence[str], avoid: Path | None = None) -> Found:
    """The pictures and films of `arguments`: files, folders, and patterns with * ? [ ] and **.

    Each comes once. What lies in the folder `avoid`, that of the outputs, is not listed. An
    argument with nothing behind it comes as `Failed`; a file that is named comes as it is, there
    or not. Raises `BadImage` where there is only one argument and nothing behind it.
    """
    found, seen = Found(), set[str]()
    folders = sum(os.path.isdir(argument) for argument in arguments)
    for argument in arguments:
        for source in _behind(argument, found, avoid, named=folders > 1):
            if isinstance(source, Failed):
                found.sources.append(source)
                continue
            # One argument names nothing twice, and asking for the real path takes time.
            real = os.path.realpath(source.path) if len(arguments) > 1 else ""
            if not real or real not in seen:
                seen.add(real)
                found.sources.append(source)
    if len(arguments) == 1 and len(found.sources) == 1 and isinstance(found.sources[0], Failed):
        raise found.sources[0].error
    return found


def natural(name: str) -> tuple[object, ...]:
    """A sorting key by which 2 comes before 10; capitals count as small letters."""
    parts = re.split(r"(\d+)", name.casefold())
    return (*(int(part) if k % 2 else part for k, part in enumerate(parts)), name)


def _behind(
    argument: str, found: Found, avoid: Path | None, *, named: bool
) -> Iterator[Source | Failed]:
    path = Path(argument)
    if path.is_dir():
        # Of several folders each keeps its name, or their pictures would meet in the output.
        top = Path(path.resolve().name) if named else Path()
        listed = _Walk(path, avoid, found).folder(path, top)
        yield from _or_nothing(argument, listed, "no pictures or films in it")
    elif glob.has_magic(argument) and not os.path.lexists(path):
        pattern = os.path.expanduser(argument)
        matches = _Walk(_fixed_part(pattern), avoid, found).pattern(pattern)
        yield from _or_nothing(argument, matches, "matches no picture or film")
    else:
        yield Source(path, film=is_film(path))


def _or_nothing(
    argument: str, sources: Iterator[Source | Failed], why: str
) -> Iterator[Source | Failed]:
    empty = True
    for source in sources:
        empty = False
        yield source
    if empty:
        yield Failed(argument, BadImage(f"{argument}: {why}"))


class _Walk:
    """Lists what is below `top`, without `avoid` if that lies in it; counts what else is there."""

    def __init__(self, top: Path, avoid: Path | None, found: Found) -> None:
        self._top, self._found, self._avoid = top, found, ""
        if avoid is not None and _is_inside(os.path.realpath(avoid), os.path.realpath(top)):
            self._avoid = os.path.realpath(avoid)

    def folder(self, folder: Path, below: Path) -> Iterator[Source | Failed]:
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: natural(entry.name))
        except OSError as e:
            yield Failed(str(folder), BadImage(f"{folder}: {e.strerror or e}"))
            return
        shown = [entry for entry in listed if not entry.name.startswith(".")]
        files = (folder / e.name for e in shown if e.is_file())
        yield from self._files(files, lambda path: below)
        for entry in shown:
            inner = folder / entry.name
            if entry.is_dir(follow_symlinks=False) and not self._is_avoided(inner):
                yield from self.folder(inner, below / entry.name)

    def pattern(self, pattern: str) -> Iterator[Source]:
        found = (Path(name) for name in glob.iglob(pattern, recursive=True))
        files = (p for p in found if p.is_file() and not self._is_avoided(p.parent))
        ordered = sorted(files, key=lambda p: [natural(part) for part in p.parts])
        yield from self._files(ordered, lambda path: path.parent.relative_to(self._top))

    def _files(self, files: Iterable[Path], below: Callable[[Path], Path]) -> Iterator[Source]:
        for path in files:
            film = is_film(path)
            if film or path.suffix.lower() in SUFFIXES:
                yield Source(path, below(path), film)
            else:
                self._found.others += 1

    def _is_avoided(self, folder: Path) -> bool:
        if not self._avoid:
            return False
        real = os.path.realpath(folder)
        return real == self._avoid or _is_inside(real, self._avoid)


def _is_inside(path: str, folder: str) -> bool:
    """Whether `path` lies below `folder`; both real."""
    return path != folder and os.path.commonpath((path, folder)) == folder


def _fixed_part(pattern: str) -> Path:
    """The folder that all matches of a pattern lie in."""
    parts = Path(pattern).parts
    fixed = next((k for k, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed])
