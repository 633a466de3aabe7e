"""One benchmark from beginning to end."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgesr.bench import memory, subjects
from edgesr.bench.album import Album
from edgesr.bench.conditions import conditions
from edgesr.bench.config import BenchConfig
from edgesr.bench.frames import Frames, load_frames
from edgesr.bench.interleave import Plan, interleave
from edgesr.bench.lock import locked_clocks
from edgesr.bench.overhead import overhead_us
from edgesr.bench.quality import Quality, Score
from edgesr.bench.subjects import Subject
from edgesr.bench.throughput import BATCHES, STREAMS, Limits, Network, throughputs
from edgesr.bench.timing import Clock, Clocks, Lane, WarmUp, warm_up
from edgesr.bench.trial import trial
from edgesr.bench.watch import Watch, Watcher
from edgesr.bench.whole import Upscale, whole_times
from edgesr.errors import BadModel, EdgeSRError, Impossible, MissingExtra
from edgesr.machine import memory_bytes
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
WHOLE_SHARE = 0.1  # of the duration, for whole calls, and again for those from file to file
THROUGHPUT_SHARE = 0.5  # of the duration, for all windows of batches and streams


def _available_bytes() -> int | None:
    return memory_bytes(Path("/"), "MemAvailable")


@dataclass(frozen=True)
class Tools:
    """What a benchmark reaches the world through; tests put other ones in their places."""

    find: Callable[..., Subject] = subjects.find
    frames: Callable[[int, int], Frames] = load_frames
    memory: Callable[[Path, int, int, int | None], dict[str, Any]] = memory.measure
    meter: Callable[[], Meter | NoMeter] = find_meter
    sampler: Callable[[Meter], AbstractContextManager[Trace]] = Sampler
    conditions: Callable[[], dict[str, Any]] = conditions
    watcher: Callable[[Clock], AbstractContextManager[Watch]] = Watcher
    lock: Callable[[], AbstractContextManager[list[dict[str, str]]]] = locked_clocks
    clock: Clock = time.perf_counter
    cpu_clock: Clock = time.process_time
    sleep: Callable[[float], None] = time.sleep
    upscale: Upscale | None = None  # None: only the network's call is timed
    available: Callable[[], int | None] = _available_bytes

    @property
    def clocks(self) -> Clocks:
        """All three together."""
        return Clocks(self.clock, self.cpu_clock, self.sleep)


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
        with tools.lock() if config.lock_clocks else nullcontext() as locked:
            run.prepare(Path(scratch))
            record = run.record()
        if locked is not None:
            record["conditions"]["locked"] = locked
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
    runtimes: list[Runtime] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    origin_s: float = 0.0
    no_teacher: str = ""  # why there is none
    failed: list[dict[str, str]] = field(default_factory=list)  # name and reason

    def prepare(self, scratch: Path) -> None:
        """Find the networks and their inputs; nothing is measured yet."""
        c = self.config
        Quality.check(c.quality)
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
                except EdgeSRError as e:
                    if role == "teacher" or not c.tolerant:
                        raise
                    self.failed.append({"name": label, "reason": str(e)})
                    continue
                self.subjects.append(replace(found, name=label))

        if c.tolerant:
            self._drop_what_fails()

    def _drop_what_fails(self) -> None:
        """Students that cannot be run are listed, and the run goes on without them."""
        batch = self.frames.batches()[0]
        with progress(len(self.subjects), "bench: trying each model") as bar:
            for subject in list(self.subjects):
                bar.note(subject.name)
                reason = "" if subject.role == "teacher" else trial(subject, batch)
                if reason:
                    self.subjects.remove(subject)
                    self.failed.append({"name": subject.name, "reason": reason})
                bar.advance()
        if not any(s.role == "student" for s in self.subjects):
            why = "; ".join(f"{f['name']}: {f['reason']}" for f in self.failed)
            raise BadModel(f"none of the models could be run: {why}")

    def record(self) -> dict[str, Any]:
        """Measure everything; the record without its derived figures."""
        c, before = self.config, self.tools.conditions()
        memories = self._memories()
        self.origin_s = self.tools.clock()
        sampling: AbstractContextManager[Trace | None] = nullcontext()
        if self.meter is not None and not isinstance(self.meter, NoMeter):
            sampling = self.tools.sampler(self.meter)
        with self.tools.watcher(self.tools.clock) as watch, sampling as trace:
            idle = self._rest("at rest")
            self._open()
            album = Album.of(len(self.subjects))
            quality = Quality(c.quality, self.score, self.frames, c.tolerant, album)
            baseline = quality.baseline(self.runtimes[0].scale)
            warm = self._warm_up()
            loaded = [self._rest("at rest, models loaded")]
            self._time(warm)
            loaded.append(self._rest("at rest, models loaded"))
        more = self._more_times(warm, memories)
        after = self.tools.conditions()
        scores = quality.networks(self.subjects, self.runtimes)
        baseline = quality.baseline_again(baseline, scores, self.runtimes[0].scale)
        each = zip(self.subjects, warm, memories, scores, strict=True)
        return {
            "schema": SCHEMA,
            "created_utc": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "settings": self._settings(),
            **({"no_teacher": self.no_teacher} if self.no_teacher else {}),
            "conditions": {"before": before, "after": after},
            "watch": watch.to_json(self.origin_s),
            "inputs": {"source": self.frames.source, "pictures": list(self.frames.names)},
            "models": [self._model(k, *row, more[k]) for k, row in enumerate(each)],
            **({"failed": self.failed} if c.tolerant else {}),
            "baseline": baseline,
            "crops": quality.crops(),
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
            self.runtimes.append(runtime)
            self.lanes.append(Lane(subject.name, runtime.run, batches))

    def _warm_up(self) -> list[WarmUp]:
        limit_s, found = WARM_UP_SHARE * self.config.duration_s, []
        with progress(len(self.lanes), "bench: warm-up") as bar:
            for lane in self.lanes:
                bar.note(lane.name)
                found.append(warm_up(lane, limit_s, self.tools.clock))
                bar.advance()
        return found

    def _time(self, warm: list[WarmUp]) -> None:
        # Turns that all end a little early would leave every energy a little short of its
        # least time.
        fill = self.meter is not None and not isinstance(self.meter, NoMeter)
        plan = replace(self._plan(warm, 1.0), fps=self.config.fps, fill=fill)
        interleave(self.lanes, plan, self.tools.clocks, "bench: timing")

    def _plan(self, warm: list[WarmUp], share: float) -> Plan:
        """Turns for `share` of the duration, the slowest network in the middle."""
        c, typical = self.config, [w.seconds / w.calls for w in warm]
        centre = typical.index(max(typical))
        return Plan(share * c.duration_s, c.repetitions, centre)

    def _more_times(
        self, warm: list[WarmUp], memories: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """For each network what `raw` holds beside `samples`: whole, file, throughput."""
        more: list[dict[str, Any]] = [{} for _ in self.subjects]
        if self.tools.upscale is not None:
            named = [(s.name, r) for s, r in zip(self.subjects, self.runtimes, strict=True)]
            plan, clocks = self._plan(warm, WHOLE_SHARE), self.tools.clocks
            more = whole_times(named, self.frames, self.tools.upscale, plan, clocks, self.origin_s)
        if self.config.throughput:
            for times, windows in zip(more, self._throughput(memories), strict=True):
                times["throughput"] = windows
        return more

    def _throughput(self, memories: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        rows = zip(self.subjects, self.runtimes, self.lanes, memories, strict=True)
        networks = [
            Network(s.name, r, s.open, x.inputs[0], statistics.median(x.samples.wall_ms) / 1e3, m)
            for s, r, x, m in rows
        ]
        seconds = THROUGHPUT_SHARE * self.config.duration_s
        window_s = seconds / (len(BATCHES) * len(STREAMS) * len(networks))
        limits = Limits(window_s, seconds, self.tools.available)
        return throughputs(networks, limits, self.tools.clock, self.origin_s)

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

    def _settings(self) -> dict[str, Any]:
        c = self.config
        threads = getattr(self.runtimes[0], "threads", c.threads)
        return {
            "width": c.width,
            "height": c.height,
            "batch": 1,
            "duration_s": c.duration_s,
            "repetitions": c.repetitions,
            "order": "ABBA",
            "threads": threads,
            **({} if c.fps is None else {"fps": c.fps}),
            "overhead_us": round(overhead_us(self.tools.clocks), 3),
        }

    def _model(
        self,
        number: int,
        subject: Subject,
        warm: WarmUp,
        peak: dict[str, Any],
        quality: dict[str, Any],
        more_times: dict[str, Any],
    ) -> dict[str, Any]:
        runtime = self.runtimes[number]
        return {
            "name": subject.name,
            "role": subject.role,
            "runtime": runtime.name,
            "scale": runtime.scale,
            "untrained": subject.untrained,
            "onnx_sha256": subject.sha256,
            **({} if subject.file_bytes is None else {"file_bytes": subject.file_bytes}),
            "raw": {
                "counts": subject.counts,
                "warm_up": {
                    "calls": warm.calls,
                    "seconds": round(warm.seconds, 4),
                    "cov": None if warm.cov is None else round(warm.cov, 5),
                    "stable": warm.stable,
                },
                "samples": self.lanes[number].samples.to_json(self.origin_s),
                **more_times,
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
