"""`--lock-clocks`: processor and GPU at their highest clocks for one run, and back again.

What the present power mode allows is the highest: it is read, never raised. Each processor
governor becomes `performance`, and each lower limit, the GPU's too, the upper one. Every file
gets its former text back, in reverse order, whatever ends the run; only `kill -9` and a power
cut cannot be caught.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from edgesr.bench.clocks import Domain, cpu_domains, gpu_domains
from edgesr.errors import EdgeSRError, Impossible
from edgesr.power.meter import sysfs_root

_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
                if hasattr(signal, name))  # fmt: skip
_GOVERNOR = "performance"


@dataclass(frozen=True)
class Change:
    """A file of /sys, its text before (bytes, as read) and the text to write."""

    path: Path
    was: bytes
    to: str

    def to_json(self, root: Path) -> dict[str, str]:
        """Plain data for the report."""
        name = self.path.relative_to(root).as_posix()
        return {"file": f"/sys/{name}", "was": self.was.decode().strip(), "set": self.to}


@contextmanager
def locked_clocks(
    root: Path | None = None, *, may_write: Callable[[Path], bool] | None = None
) -> Iterator[list[dict[str, str]]]:
    """Lock all clocks below the sysfs folder `root` for the block; gives what was changed.

    Raises `Impossible` (exit code 4) without the right to, where there is nothing to lock, and
    where the kernel takes a value not; then all is as before. Raises `EdgeSRError` when a file
    could not be put back, naming it. SIGINT, SIGTERM and SIGHUP end the block like an error.
    """
    base = sysfs_root() if root is None else root
    planned = _plan(base)
    allowed = may_write or (lambda path: os.access(path, os.W_OK))
    if not all(allowed(change.path) for change in planned):
        raise Impossible("--lock-clocks needs root: sudo edgesr bench …; nothing was changed")
    done: list[Change] = []
    with _ending_signals_as_errors() as deaf:
        try:
            try:
                for change in planned:
                    done.append(change)  # before it is written: a signal may fall between
                    _write(change)
                yield [change.to_json(base) for change in planned]
            finally:
                deaf()
        finally:  # its own: a signal just before `deaf` must not skip it
            _put_back(done)


def _plan(root: Path) -> list[Change]:
    """What to write, in this order; empty files and clocks that tell nothing are left alone."""
    cpu = (
        change for domain in cpu_domains(root) for change in (*_governor(domain), *_floor(domain))
    )
    gpu = (change for domain in gpu_domains(root) for change in _floor(domain))
    found = [change for change in (*cpu, *gpu) if change.was.strip()]
    if not found:
        raise Impossible("--lock-clocks: this machine shows no clocks that could be locked")
    return found


def _governor(domain: Domain) -> Iterator[Change]:
    offers = _read(domain.governor.with_name(f"{domain.prefix}available_governors")).split()
    if not offers or _GOVERNOR.encode() in offers:
        yield Change(domain.governor, _read(domain.governor), _GOVERNOR)


def _floor(domain: Domain) -> Iterator[Change]:
    most = _read(domain.most).decode().strip()
    if most:
        yield Change(domain.least, _read(domain.least), most)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _write(change: Change) -> None:
    try:
        change.path.write_bytes(change.to.encode())
        took = _read(change.path).decode().strip()
    except OSError as e:
        raise Impossible(f"--lock-clocks: {change.path}: {e.strerror}") from e
    if took != change.to:
        raise Impossible(f"--lock-clocks: {change.path} took '{took}' for '{change.to}'")


def _put_back(done: list[Change]) -> None:
    lost = []
    for change in reversed(done):
        try:
            if _read(change.path) != change.was:
                change.path.write_bytes(change.was)
        except OSError:
            lost.append(f"echo {change.was.decode().strip()} | sudo tee {change.path}")
    if lost:
        raise EdgeSRError(f"--lock-clocks could not put everything back; do: {'; '.join(lost)}")


@contextmanager
def _ending_signals_as_errors() -> Iterator[Callable[[], None]]:
    """Signals that would end the process raise in the block; gives how to hold them off.

    Held-off ones count once the former handlers are back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread gets signals
        return
    late: list[int] = []

    def ended(number: int, frame: FrameType | None) -> None:
        deaf()  # a second one must not disturb the way out
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def deaf() -> None:
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda n, frame: late.append(n))

    former: dict[int, Any] = {n: signal.getsignal(n) for n in _ENDING}
    try:
        for number, handler in former.items():
            if handler is not signal.SIG_IGN:  # nohup asked not to be ended so
                signal.signal(number, ended)
        yield deaf
    finally:
        for number, handler in former.items():
            if handler is not None:  # None: set by other code than Python's
                signal.signal(number, handler)
        for number in late:
            signal.raise_signal(number)
