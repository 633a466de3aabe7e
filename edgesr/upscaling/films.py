"""Films and live sources: what `edgesr.film` needs to know of the network and the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgesr.atomic import refuse_overwrite
from edgesr.enlarge import Enlarger, target_size
from edgesr.errors import EdgeSRError
from edgesr.film.options import FilmOptions, OnProgress
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import Options
from edgesr.upscaling.outputs import Outputs, output_path, why_skip
from edgesr.upscaling.results import Done, Failed, Outcome, Planned, Skipped

if TYPE_CHECKING:
    from edgesr.film import FilmResult

# Of which film; frames done, frames in all or None, frames per second.
OnFrames: TypeAlias = "Callable[[Source, int, int | None, float], None]"


@dataclass(frozen=True)
class FilmPlan:
    """One film that can be made; sizes are (height, width)."""

    source: Source
    output: Path
    before: tuple[int, int]
    after: tuple[int, int]

    def shown(self) -> Planned:
        """The plan in figures, for who only wants to know."""
        return Planned(
            str(self.source), str(self.output), *self.before[::-1], *self.after[::-1],
            tile=None, memory_bytes=None, overwrites=self.output.exists(),
        )  # fmt: skip


class Films:
    """Makes the films of one run. `network` gives a line that says what enlarges them."""

    def __init__(
        self,
        enlarger: Enlarger,
        options: Options,
        outputs: Outputs,
        network: Callable[[], str],
        on_frames: OnFrames | None = None,
    ) -> None:
        self._enlarger, self._options, self._outputs = enlarger, options, outputs
        self._network, self._on_frames = network, on_frames

    def plan(self, source: Source) -> FilmPlan | Skipped:
        """What to do for a film; only its header is read.

        Raises `BadImage`, `WouldOverwrite`, or `MissingExtra` where nothing can be done.
        """
        from edgesr.film.source import probe

        facts = probe(source.path)
        before = facts.height, facts.width
        after = self._larger(*before)
        output = output_path(source, after, self._enlarger.scale, self._options)
        self._outputs.claim(source, output)
        reason = why_skip(source.path, output, None, self._options)
        if reason:
            return Skipped(str(source), str(output), reason)
        return FilmPlan(source, output, before, after)

    def make(self, source: Source) -> Outcome:
        """The film, start to end."""
        from edgesr.film import upscale_film

        try:
            plan = self.plan(source)
            if isinstance(plan, Skipped):
                return plan
            before = self._enlarger.network_s
            result = upscale_film(
                source.path,
                plan.output,
                self._enlarge,
                self._larger,
                self._film_options(),
                self._progress_of(source),
            )
            return _done(plan.before, result, self._enlarger.network_s - before)
        except EdgeSRError as e:
            return Failed(str(source), e)

    def live(
        self, source: str, output: Path, max_frames: int | None, max_seconds: float | None
    ) -> Done:
        """A film of what comes from a camera or stream, until it ends or is interrupted.

        Raises what `edgesr.film.upscale_live` does.
        """
        from edgesr.film import upscale_live

        refuse_overwrite(output, self._options.yes)
        before, sizes = self._enlarger.network_s, list[tuple[int, int]]()

        def larger(height: int, width: int) -> tuple[int, int]:
            sizes.append((height, width))
            return self._larger(height, width)

        result = upscale_live(
            source,
            output,
            self._enlarge,
            larger,
            self._film_options(),
            max_frames=max_frames,
            max_seconds=max_seconds,
            on_progress=self._progress_of(Source(Path(source), film=True)),
        )
        return _done(sizes[0], result, self._enlarger.network_s - before)

    def _larger(self, height: int, width: int) -> tuple[int, int]:
        o = self._options
        return target_size(
            height, width,
            scale=o.scale, width_=o.width, height_=o.height, native=self._enlarger.scale,
        )  # fmt: skip

    def _enlarge(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = frame.shape[:2]
        return self._enlarger.picture(frame, self._larger(height, width))

    def _film_options(self) -> FilmOptions:
        o = self._options
        return FilmOptions(
            codec=o.codec, crf=o.crf, resume=o.resume, yes=o.yes, enlarger=self._network()
        )

    def _progress_of(self, source: Source) -> OnProgress | None:
        report = self._on_frames
        if report is None:
            return None
        return lambda done, total, fps: report(source, done, total, fps)


def _done(before: tuple[int, int], result: FilmResult, network_s: float) -> Done:
    return Done(
        result.source, str(result.output), *before[::-1], result.width, result.height,
        network_s, result.seconds, frames=result.frames, fps=result.fps,
        source_fps=result.source_fps, dropped=result.dropped, notes=result.notes,
    )  # fmt: skip
