"""Many pictures at once: one thread reads ahead, the network runs in this one, others write.

What was read waits in memory, within `Room`. Results come in the order of the sources. When the
caller stops early, by an exception too, finished files stay and nothing else is left.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from edgesr.atomic import check_writable
from edgesr.enlarge import Enlarger
from edgesr.errors import EdgeSRError
from edgesr.image import Picture
from edgesr.runtime.ort import physical_cores
from edgesr.upscaling import picture
from edgesr.upscaling.flow import Room, Stopped, Writers
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import Options
from edgesr.upscaling.picture import Work
from edgesr.upscaling.plans import Plan, Planner
from edgesr.upscaling.results import Done, Failed, Outcome, Skipped

AHEAD_BYTES = 2 << 30  # pictures under way take no more, even where there is more
AHEAD = 16  # and are no more than this

OnTiles: TypeAlias = "Callable[[Source, int, int], None]"  # of which source; tiles done, in all
OnPair: TypeAlias = "Callable[[Work, Picture], None]"  # what was made, of what; in any thread
Film: TypeAlias = "Callable[[Source], Outcome]"  # makes a film, start to end

_Item: TypeAlias = "Source | Plan | Work | Failed | Skipped | BaseException | None"


class Pipeline:
    """Makes pictures and films with one network."""

    def __init__(
        self,
        enlarger: Enlarger,
        planner: Planner,
        options: Options,
        *,
        room_bytes: int,
        film: Film,
        on_tiles: OnTiles | None = None,
        on_pair: OnPair | None = None,
        writers: int | None = None,
    ) -> None:
        self._enlarger, self._planner, self._options = enlarger, planner, options
        self._film, self._on_tiles, self._on_pair = film, on_tiles, on_pair
        self._room = Room(min(room_bytes, AHEAD_BYTES), AHEAD)
        self._read: SimpleQueue[_Item] = SimpleQueue()
        self._tried: set[Path] = set()
        self._writers_count = writers or max(2, physical_cores())

    def run(self, sources: Iterable[Source | Failed]) -> Generator[Outcome, None, None]:
        """What became of each of `sources`, in their order; to be closed when left early."""
        threading.Thread(
            target=self._read_all, args=(sources,), name="edgesr-read", daemon=True
        ).start()
        writers = Writers[Outcome](self._writers_count)
        due: deque[Future[Outcome]] = deque()
        try:
            while (item := self._read.get()) is not None:
                due.append(self._make(item, writers))
                del item
                while due and due[0].done():
                    yield due.popleft().result()
            while due:
                yield due.popleft().result()
        finally:
            self._room.stop()
            writers.stop()

    def _read_all(self, sources: Iterable[Source | Failed]) -> None:
        """The reading thread: None at its end, an exception when it is our bug."""
        try:
            for source in sources:
                self._read.put(self._prepared(source))
            self._read.put(None)
        except Stopped:
            return
        except BaseException as e:
            self._read.put(e)

    def _prepared(self, source: Source | Failed) -> _Item:
        if isinstance(source, Failed) or source.film:
            return source
        try:
            plan = self._planner.plan(source)
            if isinstance(plan, Skipped):
                return plan
            self._try_folder(plan.output)
            place = (plan.held_bytes, plan.cost.working_bytes)
            self._room.enter(*place, alone=plan.streamed)
            if plan.streamed:
                return plan
            try:
                return picture.read(plan, self._options)
            except BaseException:
                self._room.leave(*place)
                raise
        except EdgeSRError as e:
            return Failed(str(source), e)

    def _try_folder(self, output: Path) -> None:
        """Raise `WriteFailed` before the work where a folder takes no files; tried once."""
        if output.parent not in self._tried:
            check_writable(output)
            self._tried.add(output.parent)

    def _make(self, item: _Item, writers: Writers[Outcome]) -> Future[Outcome]:
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Work):
            return self._enlarged(item, writers)
        assert item is not None
        future: Future[Outcome] = Future()
        if isinstance(item, Plan):
            future.set_result(self._streamed(item))
        elif isinstance(item, Source):
            future.set_result(self._film(item))
        else:
            future.set_result(item)
        return future

    def _enlarged(self, work: Work, writers: Writers[Outcome]) -> Future[Outcome]:
        plan = work.plan
        place = (plan.held_bytes, plan.cost.working_bytes)
        try:
            larger = picture.enlarge(work, self._enlarger, self._tiles_of(plan.source))
        except EdgeSRError as e:
            self._room.leave(*place)
            failed: Future[Outcome] = Future()
            failed.set_result(Failed(str(plan.source), e))
            return failed

        def write() -> Outcome:
            try:
                done = picture.write(larger, self._options, writers.writing())
                if self._on_pair is not None:
                    self._on_pair(larger, work.picture)
                return done
            except EdgeSRError as e:
                return Failed(str(plan.source), e)
            finally:
                self._room.leave(*place)

        return writers.submit(write)

    def _streamed(self, plan: Plan) -> Done | Failed:
        from edgesr.upscaling.streamed import stream

        try:
            return stream(plan, self._enlarger, self._tiles_of(plan.source))
        except EdgeSRError as e:
            return Failed(str(plan.source), e)
        finally:
            self._room.leave(plan.held_bytes, plan.cost.working_bytes)

    def _tiles_of(self, source: Source) -> picture.OnTiles | None:
        report = self._on_tiles
        return None if report is None else lambda done, total: report(source, done, total)
