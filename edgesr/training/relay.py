"""What horovodrun and its workers print, sorted: rank 0's to the user, all to files."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TextIO

from edgesr.training.worker import MARK

_PREFIX = re.compile(r"(?:^|(?<=\r))\[(\d+)\]<(stdout|stderr)>:")
_HOROVOD = re.compile(r"\[\d{4}-\d\d-\d\d .*?\.cc:\d+\]")  # a line of its own log
_LOST = re.compile(r"Process (\d+) exit with status code (\d+)\.")


class Relay:
    """Reads horovodrun's two streams line by line.

    A worker is known by the number that horovodrun gave it at the start, its rank then. When
    rank 0 is lost, another worker says that it has rank 0 now, and is listened to from there.
    `muted` keeps what follows from the user, who has stopped the run.
    `code` is the exit code that rank 0 told, None before; `ended` is set with it. `lost` are
    (number, status) of the workers that ended before.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.code: int | None = None
        self.ended = threading.Event()
        self.muted = False
        self.lost: list[tuple[int, int]] = []
        self._folder, self._say = folder, say
        self._speaker = 0
        self._last: dict[int, str] = {}
        self._files: dict[str, TextIO] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for thread in self._threads:
            thread.join(timeout=5.0)
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def follow(self, process: subprocess.Popen[bytes]) -> None:
        """Read the process's stdout and stderr until they end, in threads."""
        assert process.stdout is not None and process.stderr is not None
        for pipe in (process.stdout, process.stderr):
            thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                self.line(line.decode("utf-8", errors="replace"))

    def line(self, line: str) -> None:
        """Take one line as horovodrun prints it."""
        found = _PREFIX.match(line)
        with self._lock:
            if found is None:
                self._write("horovodrun.log", line)
                self._own(line)
                return
            number, text = int(found[1]), _PREFIX.sub("", line)
            if text.startswith(MARK):
                self._told(number, text.split()[1:])
                return
            self._write(f"worker-{number}.log", text)
            if _HOROVOD.match(text):
                return
            self._last[number] = text.strip() or self._last.get(number, "")
            if number == self._speaker and not self.muted:
                stream = sys.stdout if found[2] == "stdout" else sys.stderr
                stream.write(text)
                stream.flush()

    def _told(self, number: int, words: list[str]) -> None:
        match words:
            case ["rank", "0"]:
                self._speaker = number
            case ["exit", code] if number == self._speaker:
                self.code = int(code)
                self.ended.set()

    def _own(self, line: str) -> None:
        """What horovodrun itself says: who is lost, while rank 0 has not ended."""
        found = _LOST.match(line)
        if found is None or self.code is not None:
            return
        number, status = int(found[1]), int(found[2])
        self.lost.append((number, status))
        if self.muted:
            return
        how = f"killed by signal {status - 128}" if 128 < status < 192 else f"status {status}"
        last = self._last.get(number, "") if not 128 < status < 192 else ""
        self._say(f"edgesr: worker {number} was lost ({how})" + (f": {last}" if last else ""))

    def _write(self, name: str, text: str) -> None:
        # A full disk here must not stop the reading, which would stop the workers.
        with suppress(OSError):
            if name not in self._files:
                self._files[name] = (self._folder / name).open("a", encoding="utf-8")
            self._files[name].write(text)
            self._files[name].flush()
