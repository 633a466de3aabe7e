"""Decoding, the network and encoding at the same time, in three threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from edgesr.errors import WriteFailed
from edgesr.film import pyav
from edgesr.film.channel import Channel, Stopped
from edgesr.film.source import Timed

if TYPE_CHECKING:
    from edgesr.film.options import Enlarge

# Frames that wait between two threads; more would take memory and gain nothing.
_DECODED, _ENLARGED = 4, 2


class Fitted:
    """`enlarge`, its result brought to `height` × `width`, and the seconds spent in it."""

    def __init__(self, enlarge: Enlarge, whole: tuple[int, int], size: tuple[int, int]) -> None:
        """`whole` is the size that `enlarge` gives, `size` the even one that is encoded."""
        self._enlarge = enlarge
        self._whole = whole
        self._size = size
        self.seconds = 0.0

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """HWC uint8 RGB → HWC uint8 RGB of the even size."""
        start = time.perf_counter()
        large = self._enlarge(pixels)
        self.seconds += time.perf_counter() - start
        if large.shape[:2] != self._whole:  # the source changed its size on the way
            height, width = self._whole
            shrinks = large.shape[0] > height
            how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            large = np.asarray(cv2.resize(large, (width, height), interpolation=how), np.uint8)
        # 4:2:0 has no odd sizes; a row made up would be seen, a row less is not.
        return large[: self._size[0], : self._size[1]]


def even(height: int, width: int) -> tuple[int, int]:
    """The size that 4:2:0 can hold: the last row or column of an odd one is cut."""
    return max(2, height // 2 * 2), max(2, width // 2 * 2)


def run(
    pictures: Iterator[Timed],
    enlarge: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    add: Callable[[Timed], None],
    finish: Callable[[], None],
    on_frame: Callable[[], None],
    waiting: int = _DECODED,
) -> None:
    """Give every picture through `enlarge` to `add`, then call `finish`.

    Pictures are made in one thread, `add` and `finish` run in another, `enlarge` and `on_frame`
    in the caller's, where Ctrl-C arrives. The first error of any of them is raised here when
    all have stopped. At most `waiting` pictures wait for `enlarge`, however many there are.
    """
    decoded: Channel[Timed] = Channel(waiting)
    enlarged: Channel[Timed] = Channel(_ENLARGED)
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except BaseException as e:
            failed.append(e)
            decoded.stop()
            enlarged.stop()

    def decode() -> None:
        for picture in pictures:
            decoded.put(picture)
        decoded.end()

    def encode() -> None:
        for done in enlarged:
            add(done)
        finish()

    threads = [
        threading.Thread(target=guarded, args=(work,), name=work.__name__)
        for work in (decode, encode)
    ]
    for thread in threads:
        thread.start()
    try:
        with suppress(Stopped):
            for picture in decoded:
                enlarged.put(replace(picture, pixels=enlarge(picture.pixels)))
                on_frame()
            enlarged.end()
    except BaseException:
        decoded.stop()
        enlarged.stop()
        raise
    finally:
        for thread in threads:
            thread.join()
    if failed:
        raise _in_words(failed[0])


def _in_words(e: BaseException) -> BaseException:
    if isinstance(e, pyav.load().FFmpegError):
        return WriteFailed(f"the film cannot be written: {pyav.reason(e)}")
    if isinstance(e, OSError):
        return WriteFailed(f"the film cannot be written: {e.strerror or e}")
    return e
