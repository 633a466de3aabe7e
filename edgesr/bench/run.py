"""One benchmark from beginning to end."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from edgesr.bench import memory, subjects
from edgesr.bench.conditions import conditions
from edgesr.bench.config import BenchConfig
from edgesr.bench.frames import Frames, load_frames
from edgesr.bench.subjects import UNTRAINED, Subject
from edgesr.bench.timing import Clock, Lane, WarmUp, run_turn, turns, warm_up
from edgesr.errors import BadModel, Impossible, MissingExtra
from edgesr.image import load_folder
from edgesr.power.energy import Window
from edgesr.power.find import find_meter
from edgesr.power.meter import Meter, NoMeter, Trace
from edgesr.power.sampler import Sampler
from edgesr.progress import progress
from edgesr.report.record import SCHEMA, Report, complete, dumps
from edgesr.runtime.base import Runtime

WARM_UP_SHARE = 0.15  # of the duration, for each network
IDLE_SHARE = 0.25  # of the duration, for each idle window
MAX_IDLE_S = 30.0


class Score(Protocol):
    """Scores a network (None: bicubic resizing) on a folder of originals.

    Gives `{"convention": …, "pictures": [{"name", "psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"}]}`,
    an infinite PSNR as None. `on_progress` takes (done, total).
    """

    def __call__(
        self,
        folder: Path,
        runtime: Runtime | None,
        scale: int,
        on_progress: Callable[[int, int], None],
    ) -> dict[str, Any]:
        """The scores, picture by picture."""
        ...


@dataclass(frozen=True)
class Tools:
    """What a benchmark reaches the world through; tests put other ones in their places."""

    find: Callable[..., Subject] = subjects.find
    frames: Callable[[int, int], Frames] = load_frames
    memory: Callable[[Path, int, int, int | None], dict[str, Any]] = memory.measure
    meter: Callable[[], Meter | NoMeter] = find_meter
    sampler: Callable[[Meter], AbstractContextManager[Trace]] = Sampler
    conditions: Callable[[], dict[str, Any]] = conditions
    clock: Clock = time.perf_counter
    cpu_clock: Clock = time.process_time
    sleep: Callable[[float], None] = time.sleep


def bench(config: BenchConfig, *, score: Score | None = None, tools: Tools | None = None) -> Report:
    """Measure what `config` asks for; the report of docs/report-schema.md.

    `score` measures quality on `config.quality`. Raises `Impossible` when power is required
    and there is no meter; `BadModel`, `UnknownName`, `BadImage`.
    """
    tools = tools or Tools()
    with tempfile.TemporaryDirectory(prefix="edgesr-bench-") as scratch, ExitStack() as stack:
        meter = tools.meter() if config.measures_power else None
        run = _Run(config, score, tools, meter, stack)
        if config.require_power and isinstance(run.meter, NoMeter):
            raise Impossible(f"{run.meter.reason}; {run.meter.fix}")
        run.prepare(Path(scratch))
        record = run.record()
    # Through the text and back: what is reported is what a replay would read.
    return complete(json.loads(dumps(record)))


@dataclass
class _Run:
    config: BenchConfig
    score: Score | None
    tools: Tools
    meter: Meter | NoMeter | None
    stack: ExitStack
    subjects: list[Subject] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    origin_s: float = 0.0
    no_teacher: str = ""  # why there is none

    def prepare(self, scratch: Path) -> None:
        """Find the networks and their inputs; nothing is measured yet."""
        c = self.config
        if c.quality is not None:
            load_folder(c.quality / "HR" if (c.quality / "HR").is_dir() else c.quality)
        self.frames = self.tools.frames(c.width, c.height)
        with progress(len(c.models) + 1, "bench: reading models") as bar:
            for name, label in zip(c.names, subjects.labels(c.names), strict=True):
                bar.note(label)
                role = "teacher" if name == c.names[0] else "student"
                size = {"width": c.width, "height": c.height}
                bar.advance()
                try:
                    found = self.tools.find(name, role, **size, threads=c.threads, scratch=scratch)
                except MissingExtra as e:
                    if role == "student" or c.teacher is not None:
                        raise
                    self.no_teacher = str(e)
                    continue
                self.subjects.append(replace(found, name=label))

    def record(self) -> dict[str, Any]:
        """Measure everything; the record without its derived figures."""
        before = self.tools.conditions()
        memories = self._memories()
        self.origin_s = self.tools.clock()
        sampling: AbstractContextManager[Trace | None] = nullcontext()
        if self.meter is not None and not isinstance(self.meter, NoMeter):
            sampling = self.tools.sampler(self.meter)
        with sampling as trace:
            idle = self._rest("at rest")
            self._open()
            baseline = self._baseline()
            warm = self._warm_up()
            loaded = [self._rest("at rest, models loaded")]
            self._time()
            loaded.append(self._rest("at rest, models loaded"))
        after = self.tools.conditions()
        rows = zip(self.subjects, self.lanes, warm, memories, self._qualities(), strict=True)
        return {
            "schema": SCHEMA,
            "created_utc": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "settings": self._settings(),
            **({"no_teacher": self.no_teacher} if self.no_teacher else {}),
            "conditions": {"before": before, "after": after},
            "inputs": {"source": self.frames.source, "pictures": list(self.frames.names)},
            "models": [self._model(*row) for row in rows],
            "baseline": baseline,
            "power": self._power(trace, idle, loaded),
        }

    def _memories(self) -> list[dict[str, Any]]:
        c, found = self.config, []
        with progress(len(self.subjects), "bench: peak memory") as bar:
            for subject in self.subjects:
                bar.note(subject.name)
                found.append(self.tools.memory(subject.path, c.width, c.height, c.threads))
                bar.advance()
        return found

    def _open(self) -> None:
        c, batches = self.config, self.frames.batches()
        for subject in self.subjects:
            runtime = self.stack.enter_context(closing(subject.open()))
            shapes = runtime.tile_shapes
            if shapes and (c.height, c.width) not in shapes:
                known = ", ".join(f"{w}x{h}" for h, w in shapes)
                raise BadModel(f"'{subject.name}' runs at {known} only; say --size {known}")
            self.lanes.append(Lane(subject.name, runtime, batches))

    def _warm_up(self) -> list[WarmUp]:
        limit_s, found = WARM_UP_SHARE * self.config.duration_s, []
        with progress(len(self.lanes), "bench: warm-up") as bar:
            for lane in self.lanes:
                bar.note(lane.name)
                found.append(warm_up(lane, limit_s, self.tools.clock))
                bar.advance()
        return found

    def _time(self) -> None:
        c = self.config
        order = turns(self.lanes, c.repetitions)
        share_s = c.duration_s / len(order)
        # Turns that all end a little early would leave every energy a little short of its
        # least time.
        fill = self.meter is not None and not isinstance(self.meter, NoMeter)
        with progress(len(order), "bench: timing") as bar:
            for repetition, lane in order:
                bar.note(lane.name)
                clocks = {"clock": self.tools.clock, "cpu_clock": self.tools.cpu_clock}
                run_turn(lane, repetition, share_s, fill=fill, **clocks)
                bar.advance()

    def _rest(self, what: str) -> Window:
        """An idle window for the meter; without one none is needed."""
        start = self.tools.clock()
        if self.meter is None or isinstance(self.meter, NoMeter):
            return start, start
        seconds = min(MAX_IDLE_S, IDLE_SHARE * self.config.duration_s)
        with progress(10, f"bench: power {what}") as bar:
            for _ in range(10):
                self.tools.sleep(seconds / 10)
                bar.advance()
        return start, self.tools.clock()

    def _baseline(self) -> dict[str, Any] | None:
        """Bicubic's quality. First of all, so that a damaged picture does not cost the run."""
        folder = self.config.quality
        if folder is None or self.score is None:
            return None
        return {"name": "bicubic", "quality": self._scored(folder, "bicubic", None)}

    def _qualities(self) -> list[dict[str, Any]]:
        folder = self.config.quality
        if folder is None or self.score is None:
            missing = {"missing": "no folder of pictures given; --quality DIR names one"}
            return [{"missing": UNTRAINED} if s.untrained else missing for s in self.subjects]
        found = [
            {"missing": UNTRAINED} if s.untrained else self._scored(folder, s.name, lane.runtime)
            for s, lane in zip(self.subjects, self.lanes, strict=True)
        ]
        return found

    def _scored(self, folder: Path, name: str, runtime: Runtime | None) -> dict[str, Any]:
        assert self.score is not None
        scale = self.lanes[0].runtime.scale
        with progress(100, f"bench: quality of {name}") as bar:
            scores = self.score(
                folder,
                runtime,
                scale,
                lambda done, all_: bar.advance(100 * done // all_ - bar.done),
            )
        return {"folder": folder.name, **scores}

    def _settings(self) -> dict[str, Any]:
        c = self.config
        threads = getattr(self.lanes[0].runtime, "threads", c.threads)
        return {
            "width": c.width,
            "height": c.height,
            "batch": 1,
            "duration_s": c.duration_s,
            "repetitions": c.repetitions,
            "order": "ABBA",
            "threads": threads,
        }

    def _model(
        self,
        subject: Subject,
        lane: Lane,
        warm: WarmUp,
        peak: dict[str, Any],
        quality: dict[str, Any],
    ) -> dict[str, Any]:
        return {
            "name": subject.name,
            "role": subject.role,
            "runtime": lane.runtime.name,
            "scale": lane.runtime.scale,
            "untrained": subject.untrained,
            "onnx_sha256": subject.sha256,
            "raw": {
                "counts": subject.counts,
                "warm_up": {
                    "calls": warm.calls,
                    "seconds": round(warm.seconds, 4),
                    "cov": None if warm.cov is None else round(warm.cov, 5),
                    "stable": warm.stable,
                },
                "samples": lane.samples.to_json(self.origin_s),
                "memory": peak,
                "quality": quality,
            },
        }

    def _power(self, trace: Trace | None, idle: Window, loaded: list[Window]) -> dict[str, Any]:
        if self.meter is None:
            return {"missing": {"reason": "not asked for", "fix": "add --power"}}
        if isinstance(self.meter, NoMeter):
            return {"missing": {"reason": self.meter.reason, "fix": self.meter.fix}}

        assert trace is not None

        def shifted(window: Window) -> list[float]:
            return [round(t - self.origin_s, 6) for t in window]

        return {
            "trace": trace.to_json(self.origin_s),
            "idle": shifted(idle),
            "loaded_idle": [shifted(w) for w in loaded],
        }
