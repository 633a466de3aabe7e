"""Cameras, network streams and GStreamer pipelines, through OpenCV.

The network takes the newest frame; those that come while it is busy are dropped and counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadImage, Impossible
from edgesr.film.options import is_pipeline
from edgesr.film.source import Timed

TICK = Fraction(1, 90_000)  # of the output's time base; .mkv and .webm round to milliseconds
_FRAME = round(1 / (30 * TICK))  # how long the last frame is shown
_WAIT_MS = 15_000  # for a source to answer, and for its next frame
_LEAVE_S = 2.0  # for the reading thread to end
_POLL_S = 0.1


class Camera:
    """Reads `source` in a thread of its own, and keeps the newest frame.

    `first` is its first frame (HWC uint8 RGB), `seen` how many have come, `fps` their rate.
    """

    def __init__(self, source: str, max_frames: int | None, max_seconds: float | None) -> None:
        self.max_frames = max_frames
        self._max_seconds = max_seconds
        self.notes: list[str] = []
        self._capture = _open(source)
        there, frame = self._capture.read()
        if not there:
            self._capture.release()
            raise BadImage(f"{source} gives no frame; see whether another program holds it")
        self.first = _as_rgb(frame)
        self.seen = 1
        self._start = self._last = time.perf_counter()
        self._newest: tuple[float, NDArray[np.uint8]] | None = (self._start, self.first)
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    @property
    def fps(self) -> float | None:
        """The measured rate of the source; None before its second frame."""
        passed = self._last - self._start
        return (self.seen - 1) / passed if passed > 0 else None

    def stop(self, why: str) -> None:
        """Let `pictures` end; may be called from a signal handler."""
        if not self._stopped.is_set():
            self.notes.append(why)
            self._stopped.set()

    def close(self) -> None:
        """Let go of the source."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)
        if not self._thread.is_alive():  # else it hangs in read(), and releasing would crash it
            self._capture.release()

    def pictures(self) -> Iterator[Timed]:
        """The newest frame each time, until one of the ends."""
        self._thread.start()
        try:
            yield from self._pictures()
        finally:
            self._stopped.set()

    def _pictures(self) -> Iterator[Timed]:
        given, last = 0, -1
        while self.max_frames is None or given < self.max_frames:
            newest = self._next()
            if newest is None:
                return
            passed = newest[0] - self._start
            if self._max_seconds is not None and passed >= self._max_seconds:
                return
            pts = max(round(passed / TICK), last + 1)
            yield Timed(pts, pts + _FRAME, newest[1])
            given, last = given + 1, pts

    def _next(self) -> tuple[float, NDArray[np.uint8]] | None:
        while not self._stopped.is_set():
            with self._changed:
                if self._newest is None:
                    self._changed.wait(_POLL_S)
                newest, self._newest = self._newest, None
            if newest is not None:
                return newest
            if self._max_seconds and time.perf_counter() - self._start > self._max_seconds:
                return None
        return None

    def _read(self) -> None:
        while not self._stopped.is_set():
            there, frame = self._capture.read()
            now = time.perf_counter()
            if not there:
                break
            rgb = _as_rgb(frame)
            with self._changed:
                self.seen += 1
                self._last = now
                self._newest = (now, rgb)
                self._changed.notify_all()
        if not self._stopped.is_set():
            self._drain()
            self.stop("the source ended")

    def _drain(self) -> None:
        """Wait until the last frame has been taken."""
        while not self._stopped.wait(_POLL_S):
            with self._changed:
                if self._newest is None:
                    return


def _open(source: str) -> cv2.VideoCapture:
    backend = _backend(source)
    waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _WAIT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _WAIT_MS]
    with _silence():
        capture = (
            cv2.VideoCapture(source, backend, waits)
            if backend == cv2.CAP_FFMPEG
            else cv2.VideoCapture(source, backend)
        )
    if capture.isOpened():
        return capture
    if not cv2.videoio_registry.hasBackend(backend):
        name = cv2.videoio_registry.getBackendName(backend)
        raise Impossible(
            f"this OpenCV was built without {name}, which {source} needs; "
            "a board's own OpenCV often has it (JetPack's does)"
        )
    raise BadImage(f"cannot open {source}: nothing answers there, or it is no video")


def _backend(source: str) -> int:
    if is_pipeline(source):
        return int(cv2.CAP_GSTREAMER)
    return int(cv2.CAP_V4L2 if source.startswith("/dev/video") else cv2.CAP_FFMPEG)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep OpenCV's and its FFmpeg's own lines off the terminal; we say it in one."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _as_rgb(frame: Any) -> NDArray[np.uint8]:
    """OpenCV's frame (HWC BGR, or HW grey) as HWC uint8 RGB."""
    code = cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(frame, code), np.uint8)
