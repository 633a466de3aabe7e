"""Outputs appear whole or not at all: written beside the target, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgesr.errors import WouldOverwrite, WriteFailed

_HINTS = {
    errno.ENOSPC: "free some space or write to another disk",
    errno.EDQUOT: "your quota is used up; write to another disk",
    errno.EFBIG: "the file is larger than this system allows; write to another disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


def refuse_overwrite(path: Path, yes: bool) -> None:
    """Raise `WouldOverwrite` if `path` is there and `yes` is false.

    An empty folder does not count as being there.
    """
    if yes or not os.path.lexists(path):
        return
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        return
    raise WouldOverwrite(f"{path} exists already; -y overwrites it")


class _Tried(Exception):
    """Ends a trial of writing; never leaves this module."""


def check_writable(path: Path) -> None:
    """Raise `WriteFailed` for what could not be written to `path`; nothing is left behind.

    For before hours of work, since `atomic_file` would tell it only after them.
    """
    with suppress(_Tried), atomic_file(path) as temporary:
        temporary.touch()
        raise _Tried


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` when the block ends well.

    It has the suffix of `path` and lies in its folder, which is made if need be. When the
    block raises anything (KeyboardInterrupt too) the temporary file and new folders go away and
    `path` stays as it was. An OSError in the block becomes `WriteFailed`: write there, and
    do nothing else.
    """
    target = Path(os.path.realpath(path))  # a link stays a link, to the new content
    with _beside(path, target) as temporary:
        if target.exists() and not target.is_file():
            raise WriteFailed(f"cannot write {path}: it is a folder or a device; name a file")
        yield temporary
        os.replace(temporary, target)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `path` when the block ends well.

    A folder that is already at `path` is replaced as a whole (`refuse_overwrite` asks first).
    Failures are treated as in `atomic_file`.
    """
    target = Path(os.path.realpath(path))
    with _beside(path, target) as temporary:
        if target.exists() and not target.is_dir():
            raise WriteFailed(f"cannot write {path}: it is a file; name a folder")
        temporary.mkdir()
        yield temporary
        old = temporary.with_name(temporary.name + ".old")
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(temporary, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all; raises `WriteFailed`."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` whole or not at all; raises `WriteFailed`."""
    write_bytes(path, text.encode())


@contextmanager
def _beside(path: Path, target: Path) -> Iterator[Path]:
    """A free temporary name beside `target`; nothing is left of it when the block fails."""
    made: list[Path] = []
    temporary = target.with_name(f".{secrets.token_hex(6)}.tmp{target.suffix}")
    try:
        _make_parents(target.parent, made)
        yield temporary
    except BaseException as e:
        _remove(temporary)
        for folder in reversed(made):
            _remove_empty(folder)
        if isinstance(e, OSError):
            raise WriteFailed(_explain(path, e)) from e
        raise


def _make_parents(folder: Path, made: list[Path]) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        made.append(new)


def _remove(path: Path) -> None:
    # The error that brought us here is the one to report, not that of cleaning up.
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # somebody else may have put something there meanwhile
        folder.rmdir()


def _explain(path: Path, e: OSError) -> str:
    reason = e.strerror or str(e) or type(e).__name__
    hint = _HINTS.get(e.errno or 0)
    return f"cannot write {path}: {reason}" + (f"; {hint}" if hint else "")
