"""A film file made larger: in segments that can be gone on with, then joined."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgesr.atomic import check_writable, refuse_overwrite
from edgesr.errors import BadImage, EdgeSRError
from edgesr.film import pyav
from edgesr.film.encoder import Coding, add_video, codec_for, container_of
from edgesr.film.joining import join, refuse_unturnable
from edgesr.film.options import FilmOptions, FilmResult
from edgesr.film.parts import Identity, Parts, Segment
from edgesr.film.pipeline import Fitted, even, run
from edgesr.film.source import Facts, Film, Start, probe
from edgesr.film.streams import Carried, carried
from edgesr.film.writing import SegmentWriter

if TYPE_CHECKING:
    from edgesr.film.options import Enlarge, OnProgress, ScaleSize


@dataclass(frozen=True)
class _Plan:
    """What is known of the film and settled about its result before any frame is made."""

    source: Path
    output: Path
    fmt: str
    facts: Facts
    coding: Coding
    streams: Carried
    whole: tuple[int, int]  # height and width of what `enlarge` gives; the coding's are even


def upscale_film(
    source: Path,
    output: Path,
    enlarge: Enlarge,
    scale_size: ScaleSize,
    options: FilmOptions = FilmOptions(),  # noqa: B008 - frozen
    on_progress: OnProgress | None = None,
) -> FilmResult:
    """Write the film `source` larger to `output` (mp4, m4v, mov, mkv, webm).

    `enlarge` takes and gives HWC uint8 RGB; it is called in this thread, once for each frame in
    order. `scale_size` says which size it gives. Sound, subtitles, chapters, tags, frame times
    and colours are kept as `docs/film.md` says; what is not is in the result's `notes`.

    Raises `MissingExtra` without PyAV, `BadImage` for films that cannot be read or are HDR,
    `WouldOverwrite`, `WriteFailed`, `BadConfig` for an encoder or parts that do not fit.
    Ctrl-C (KeyboardInterrupt) leaves the whole segments and says how to go on.
    """
    began = time.perf_counter()
    plan = _plan(source, output, scale_size, options)
    parts = Parts(output)
    if not options.resume and not options.yes:
        parts.refuse_leftovers()
    done = parts.open(_identity(plan, options), options.resume)
    fitted = Fitted(enlarge, plan.whole, (plan.coding.height, plan.coding.width))
    film = Film(source, plan.facts)
    count = _Count(sum(len(s.pts) for s in done), plan.facts.frames, on_progress)
    try:
        segments = _make(film, parts, plan, options.segment_s, done, fitted, count.one_more)
        join(segments, source, output, plan.fmt, plan.facts, plan.coding, plan.streams.indices)
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt(_how_to_go_on(parts)) from e
    except BaseException:
        _how_to_go_on(parts)
        raise
    parts.remove()
    seconds = time.perf_counter() - began
    return FilmResult(
        source=str(source),
        output=output,
        width=plan.coding.width,
        height=plan.coding.height,
        frames=count.done,
        seconds=seconds,
        fps=(count.done - count.before) / seconds,
        network_s=fitted.seconds,
        resumed=count.before,
        notes=(*plan.facts.notes, *film.damage.notes(), *plan.streams.notes),
    )


class _Count:
    """Frames done, and how fast."""

    def __init__(self, before: int, total: int | None, on_progress: OnProgress | None) -> None:
        self.before = self.done = before
        self._total = total
        self._on_progress = on_progress
        self._start = time.perf_counter()

    def one_more(self) -> None:
        self.done += 1
        if self._on_progress is not None:
            passed = max(time.perf_counter() - self._start, 1e-9)
            total = None if self._total is None else max(self._total, self.done)
            self._on_progress(self.done, total, (self.done - self.before) / passed)


def _plan(source: Path, output: Path, scale_size: ScaleSize, options: FilmOptions) -> _Plan:
    """All that can fail without making a frame fails here."""
    pyav.load()
    fmt, codec = container_of(output), codec_for(output, options.codec)
    refuse_overwrite(output, options.yes)
    if output.exists() and output.samefile(source):
        raise BadImage(f"{output} is the source itself; name another output")
    facts = probe(source)
    refuse_unturnable(facts)
    streams = carried(source, output, fmt)
    whole = scale_size(facts.height, facts.width)
    height, width = even(*whole)
    coding = Coding(
        codec=codec,
        crf=options.crf,
        width=width,
        height=height,
        time_base=facts.time_base,
        rate=facts.rate,
        colours=facts.colours,
        aspect=facts.aspect,
    )
    _try_encoder(coding, fmt)
    check_writable(output)
    return _Plan(source, output, fmt, facts, coding, streams, whole)


def _try_encoder(coding: Coding, fmt: str) -> None:
    with pyav.load().open(io.BytesIO(), "w", format=fmt) as trial:
        add_video(trial, coding)


def _identity(plan: _Plan, options: FilmOptions) -> Identity:
    av = pyav.load()
    coding = plan.coding
    making = {
        "size": f"{coding.width}x{coding.height}",
        "codec": coding.codec,
        "crf": str(coding.settings().get("crf", "")),
        "segments": f"of {options.segment_s:g} s",
        "model": options.enlarger,
        "PyAV": f"{av.__version__} with libavcodec {av.library_versions['libavcodec']}",
    }
    return Identity.of(plan.source, making)


def _make(
    film: Film,
    parts: Parts,
    plan: _Plan,
    segment_s: float,
    done: list[Segment],
    fitted: Fitted,
    one_more: Callable[[], None],
) -> list[Segment]:
    """The segments that are missing; all of them, in order."""
    if done and done[-1].following is None:
        return done
    writer = SegmentWriter(parts, plan.coding, segment_s, done)
    start = Start()
    if done:
        seekable = done[-1].following if done[-1].own else None
        start = Start(seekable, sum(len(s.pts) for s in done))
    try:
        run(film.pictures(start), fitted, writer.add, writer.finish, one_more)
    except BaseException:
        writer.abandon()
        raise
    if not writer.segments or writer.segments[-1].following is not None:
        raise EdgeSRError(f"{film.path} ended earlier than before; start again with -y")
    return writer.segments


def _how_to_go_on(parts: Parts) -> str:
    """Close the parts, and say what they are good for; a folder without any goes away."""
    kept = parts.count()
    if kept:
        parts.close()
        return f"{kept} segments of it are kept; the same command with --resume goes on"
    parts.remove()
    return "nothing of it was whole yet"
