"""A live source made larger: recorded with the times its frames came at."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from edgesr.atomic import atomic_file, refuse_overwrite
from edgesr.film import pyav
from edgesr.film.camera import TICK, Camera
from edgesr.film.colour import BT709, Colours, to_yuv
from edgesr.film.encoder import Coding, add_video, codec_for, container_of
from edgesr.film.options import FilmOptions, FilmResult
from edgesr.film.pipeline import Fitted, even, run
from edgesr.film.source import Timed

if TYPE_CHECKING:
    from types import FrameType

    from av.container import OutputContainer

    from edgesr.film.options import Enlarge, OnProgress, ScaleSize

_COLOURS = Colours(matrix=BT709, full=False, primaries=1, transfer=1)


def upscale_live(
    source: str,
    output: Path,
    enlarge: Enlarge,
    scale_size: ScaleSize,
    options: FilmOptions = FilmOptions(),  # noqa: B008 - frozen
    on_progress: OnProgress | None = None,
    *,
    max_frames: int | None = None,
    max_seconds: float | None = None,
) -> FilmResult:
    """Write what comes from `source`, larger, to the film `output`, with the times it came at.

    It ends after `max_frames` frames, `max_seconds` seconds, at the source's end or at Ctrl-C,
    each time with a whole film. `enlarge` and `scale_size` are as for `upscale_film`.

    Raises `Impossible` when this OpenCV cannot open such sources, `BadImage` when the source
    does not answer or gives no frame, and what `upscale_film` raises about the output.
    """
    pyav.load()
    fmt, codec = container_of(output), codec_for(output, options.codec)
    refuse_overwrite(output, options.yes)
    camera = Camera(source, max_frames, max_seconds)
    try:
        height, width = camera.first.shape[:2]
        whole = scale_size(height, width)
        rows, columns = even(*whole)
        coding = Coding(codec, options.crf, columns, rows, TICK, Fraction(30), _COLOURS, quick=True)
        fitted = Fitted(enlarge, whole, (rows, columns))
        with atomic_file(output) as temporary:
            written = _write(camera, fitted, temporary, fmt, coding, on_progress)
    finally:
        camera.close()
    return FilmResult(
        source=source,
        output=output,
        width=columns,
        height=rows,
        frames=written.frames,
        seconds=written.seconds,
        fps=written.frames / written.seconds,
        network_s=fitted.seconds,
        dropped=camera.seen - written.frames,
        source_fps=camera.fps,
        notes=tuple(camera.notes),
    )


class _Recorder:
    """The output while it is written; `frames` and `seconds` of it so far."""

    def __init__(self, path: Path, fmt: str, coding: Coding) -> None:
        self._coding = coding
        self._container: OutputContainer = pyav.load().open(str(path), "w", format=fmt)
        self._stream = add_video(self._container, coding)
        self.frames = 0
        self.seconds = 0.0

    def add(self, picture: Timed) -> None:
        frame = to_yuv(picture.pixels, self._coding.colours)
        frame.pts, frame.time_base = picture.pts, self._coding.time_base
        frame.duration = picture.end - picture.pts
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        with suppress(pyav.load().FFmpegError):  # what brought us here is what to report
            self._container.close()


def _write(
    camera: Camera,
    fitted: Fitted,
    path: Path,
    fmt: str,
    coding: Coding,
    on_progress: OnProgress | None,
) -> _Recorder:
    recorder = _Recorder(path, fmt, coding)
    start, done = time.perf_counter(), 0

    def on_frame() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            passed = max(time.perf_counter() - start, 1e-9)
            on_progress(done, camera.max_frames, done / passed)

    try:
        with _ctrl_c_ends(camera):
            run(camera.pictures(), fitted, recorder.add, recorder.finish, on_frame, waiting=1)
    except BaseException:
        recorder.abandon()
        raise
    recorder.seconds = max(time.perf_counter() - start, 1e-9)
    return recorder


@contextmanager
def _ctrl_c_ends(camera: Camera) -> Iterator[None]:
    """The first Ctrl-C ends the recording, the second one the program."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        camera.stop("Ctrl-C ended it")

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
