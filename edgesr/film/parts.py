"""What an interrupted run leaves: whole segments of film, and what they were made from.

The folder `.NAME.parts` lies beside the output. `run.json` says which source and which options
the segments belong to. A segment is an encoded piece of film (`00003.nut`, playable) and a
record (`00003.json`), written after it, that makes it count.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from edgesr.atomic import write_text
from edgesr.errors import BadConfig, WouldOverwrite, WriteFailed

_RUN = "run.json"
_LOCK = "lock"
_HEAD_BYTES = 2**20  # of the source, hashed


@dataclass(frozen=True)
class Segment:
    """One whole segment; times are ticks of the source's time base.

    `pts` are the times of its packets in the order they are stored, `end` is when its last
    frame ends, and `following` the time of the next segment's first frame (None: the film ends).
    `own` says that all times up to here are the source's own, so that it can be sought by them.
    """

    path: Path
    pts: tuple[int, ...]
    end: int
    following: int | None
    own: bool

    def save(self) -> None:
        """Make the segment count."""
        record = {**asdict(self), "path": self.path.name, "bytes": self.path.stat().st_size}
        write_text(self.path.with_suffix(".json"), json.dumps(record))


@dataclass(frozen=True)
class Identity:
    """What must not change between a run and the one that goes on with it."""

    source_bytes: int
    source_time_ns: int
    source_head: str
    making: dict[str, str]

    @classmethod
    def of(cls, source: Path, making: dict[str, str]) -> Identity:
        """`making` names all that shapes the result, as text."""
        stat = source.stat()
        with source.open("rb") as file:
            head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
        return cls(stat.st_size, stat.st_mtime_ns, head, making)

    def difference(self, other: Identity) -> str | None:
        """What is not as it was in `other`, in words."""
        mine = (self.source_bytes, self.source_time_ns, self.source_head)
        if mine != (other.source_bytes, other.source_time_ns, other.source_head):
            return "the source has changed since"
        for key in sorted(self.making.keys() | other.making.keys()):
            if (now := self.making.get(key)) != (was := other.making.get(key)):
                return f"they were made with {key} {was}, now it is {now}"
        return None


class Parts:
    """The folder of parts for one output, locked for this process while it is open."""

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f".{output.name}.parts")
        self._lock: IO[str] | None = None

    def count(self) -> int:
        """How many whole segments are there."""
        return len(self._records())

    def refuse_leftovers(self) -> None:
        """Raise `WouldOverwrite` when an interrupted run has left whole segments."""
        if count := self.count():
            raise WouldOverwrite(
                f"{self.folder} holds {count} segments of an interrupted run; "
                "--resume goes on with them, -y starts again"
            )

    def open(self, identity: Identity, resume: bool) -> list[Segment]:
        """The whole segments to go on with, in order; an empty folder unless `resume`.

        Raises `BadConfig` when they come from another source or other options, `WriteFailed`
        when another process is at work on the same output.
        """
        self._take_lock()
        if not resume:
            self._clear()
        segments = self._segments() if resume else []
        if segments:
            difference = identity.difference(self._identity())
            if difference:
                self.close()
                raise BadConfig(
                    f"cannot go on with {self.folder}: {difference}; "
                    "-y without --resume starts again"
                )
        else:
            self._clear()
            write_text(self.folder / _RUN, json.dumps(asdict(identity)))
        return segments

    def place(self, number: int) -> Path:
        """Where segment `number` (from 0) belongs."""
        return self.folder / f"{number:05d}.nut"

    def close(self) -> None:
        """Unlock the folder; what is whole stays."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """The film is whole: the parts are no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()

    def _take_lock(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / _LOCK).open("w")
        except OSError as e:
            raise WriteFailed(f"cannot write {self.folder}: {e.strerror}") from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            self.close()
            raise WriteFailed(
                f"another process is writing {self.folder}; wait for it or name another output"
            ) from e

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()

    def _records(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("*.json") if p.name != _RUN)

    def _identity(self) -> Identity:
        try:
            return Identity(**json.loads((self.folder / _RUN).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as e:
            raise BadConfig(
                f"{self.folder} is damaged: {_RUN} cannot be read; -y without --resume starts again"
            ) from e

    def _segments(self) -> list[Segment]:
        """Those from the first on that are whole; what comes after a gap is left out."""
        found: list[Segment] = []
        for number in range(len(self._records())):
            segment = _read(self.place(number))
            if segment is None or (found and segment.pts[0] != found[-1].following):
                break
            found.append(segment)
        return found


def _read(path: Path) -> Segment | None:
    try:
        record: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if path.stat().st_size != record["bytes"]:
            return None
        return Segment(
            path, tuple(record["pts"]), record["end"], record["following"], record["own"]
        )
    except (OSError, ValueError, KeyError):
        return None
