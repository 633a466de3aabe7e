"""Many pictures at once: one thread reads ahead, the network runs in this one, others write.

Small pictures do not keep all cores busy inside the network: where several threads may run it,
some go through it side by side (160×120 on two cores: the network's share of the time fell by a
fifth). What was read waits in memory, within `Room`. Results come in the order of the sources.
When the caller stops early, by an exception too, finished files stay and nothing else is left.
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
from edgesr.upscaling.flow import Room, Stopped, Workers
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import Options
from edgesr.upscaling.picture import Work
from edgesr.upscaling.plans import Plan, Planner
from edgesr.upscaling.results import Done, Failed, Outcome, Skipped

AHEAD_BYTES = 2 << 30  # pictures under way take no more, even where there is more
AHEAD = 16  # and are no more than this
MOST_HELPERS = 3  # threads that run the network beside the main one
SMALL_PIXELS = 256 * 256  # of the source: what they take

OnTiles: TypeAlias = "Callable[[Source, int, int], None]"  # of which source; tiles done, in all
OnPair: TypeAlias = "Callable[[Work, Picture], None]"  # what was made, of what; in any thread
Film: TypeAlias = "Callable[[Source], Outcome]"  # makes a film, start to end

_Item: TypeAlias = "Source | Plan | Work | Failed | Skipped | BaseException | None"


class Pipeline:
    """Makes pictures and films with one network, once.

    `helpers` are enlargers with the same network as `enlarger`, for other threads: none where
    only one thread may run it.
    """

    def __init__(
        self,
        enlarger: Enlarger,
        planner: Planner,
        options: Options,
        *,
        room_bytes: int,
        film: Film,
        helpers: Iterable[Enlarger] = (),
        on_tiles: OnTiles | None = None,
        on_pair: OnPair | None = None,
    ) -> None:
        self._enlarger, self._planner, self._options = enlarger, planner, options
        self._film, self._on_tiles, self._on_pair = film, on_tiles, on_pair
        self._spare: SimpleQueue[Enlarger] = SimpleQueue()
        for helper in helpers:
            self._spare.put(helper)
        self._helping = self._spare.qsize()
        self._room = Room(min(room_bytes, AHEAD_BYTES), AHEAD, 1 + self._helping)
        self._read: SimpleQueue[_Item] = SimpleQueue()
        self._tried: set[Path] = set()

    def run(self, sources: Iterable[Source | Failed]) -> Generator[Outcome, None, None]:
        """What became of each of `sources`, in their order; to be closed when left early."""
        threading.Thread(
            target=self._read_all, args=(sources,), name="edgesr-read", daemon=True
        ).start()
        self._writers = Workers[Outcome]("edgesr-write", max(2, physical_cores()))
        self._helpers = Workers[None]("edgesr-network", self._helping)
        due: deque[Future[Outcome]] = deque()
        try:
            while (item := self._read.get()) is not None:
                due.append(self._make(item))
                del item
                while due and due[0].done():
                    yield due.popleft().result()
            while due:
                yield due.popleft().result()
        finally:
            self._room.stop()
            self._helpers.stop()
            self._writers.stop()

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
            self._room.enter(*_place(plan), alone=plan.streamed)
            if plan.streamed:
                return plan
            try:
                return picture.read(plan, self._options)
            except BaseException:
                self._room.leave(*_place(plan))
                raise
        except EdgeSRError as e:
            return Failed(str(source), e)

    def _try_folder(self, output: Path) -> None:
        """Raise `WriteFailed` before the work where a folder takes no files; tried once."""
        if output.parent not in self._tried:
            check_writable(output)
            self._tried.add(output.parent)

    def _make(self, item: _Item) -> Future[Outcome]:
        assert item is not None
        if isinstance(item, BaseException):
            raise item
        future: Future[Outcome] = Future()
        if isinstance(item, Work):
            # One more than they have in hand, so that none waits for this thread.
            if _is_small(item.plan) and self._helpers.unfinished <= self._helping > 0:
                self._helpers.submit(lambda: self._helped(item, future))
            else:
                self._enlarged(item, self._enlarger, future)
        elif isinstance(item, Plan):
            future.set_result(self._streamed(item))
        else:
            future.set_result(self._film(item) if isinstance(item, Source) else item)
        return future

    def _helped(self, work: Work, future: Future[Outcome]) -> None:
        enlarger = self._spare.get()
        try:
            with self._helpers.whole():  # a session must not be closed under a run
                self._enlarged(work, enlarger, future)
        except Stopped:
            raise
        except BaseException as e:
            future.set_exception(e)
        finally:
            self._spare.put(enlarger)

    def _enlarged(self, work: Work, enlarger: Enlarger, future: Future[Outcome]) -> None:
        """Run the network now, and have the rest done by a writer."""
        plan = work.plan
        try:
            larger = picture.enlarge(work, enlarger, self._tiles_of(plan.source))
        except EdgeSRError as e:
            self._room.leave(*_place(plan))
            future.set_result(Failed(str(plan.source), e))
            return

        def write() -> Outcome:
            try:
                done = picture.write(larger, self._options, self._writers.whole())
                if self._on_pair is not None:
                    self._on_pair(larger, work.picture)
                return done
            except EdgeSRError as e:
                return Failed(str(plan.source), e)
            finally:
                self._room.leave(*_place(plan))

        self._writers.submit(write, future)

    def _streamed(self, plan: Plan) -> Done | Failed:
        from edgesr.upscaling.streamed import stream

        try:
            return stream(plan, self._enlarger, self._tiles_of(plan.source))
        except EdgeSRError as e:
            return Failed(str(plan.source), e)
        finally:
            self._room.leave(*_place(plan))

    def _tiles_of(self, source: Source) -> picture.OnTiles | None:
        report = self._on_tiles
        if report is None or threading.current_thread() is not threading.main_thread():
            return None  # pictures that are made side by side are small
        return lambda done, total: report(source, done, total)


def _is_small(plan: Plan) -> bool:
    """Whether the picture is one tile, and not a large one."""
    (height, width), facts = plan.cost.tile, plan.facts
    whole = height >= facts.height and width >= facts.width
    return whole and facts.height * facts.width <= SMALL_PIXELS


def _place(plan: Plan) -> tuple[int, int]:
    return plan.held_bytes, plan.cost.working_bytes
