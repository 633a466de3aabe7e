"""On the board: the benchmark itself. It reads request.json and writes records.jsonl.

Each record is a line of JSON with its `kind`; nothing is written while a call is timed. What
is measured, in which order and how, is that of a run on this machine (`edgesr.bench.run`), by
the same modules for timing, power and conditions. Python 3.8, numpy, and what the bundle needs.
"""

from __future__ import annotations

import json
import traceback
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgesr.bench.conditions import conditions
from edgesr.bench.host import memory
from edgesr.bench.host.networks import Network, Wanted, chosen, facts, find
from edgesr.bench.order import mirrored
from edgesr.bench.overhead import overhead_us
from edgesr.bench.timing import Clocks, Lane, Samples, WarmUp, run_paced_turn, run_turn, warm_up
from edgesr.bench.watch import Watcher
from edgesr.errors import EdgeSRError, Impossible
from edgesr.power.find import find_meter
from edgesr.power.meter import NoMeter, Trace
from edgesr.power.sampler import Sampler
from edgesr.runtime.base import Runtime
from edgesr.tiling import upscale_tiles

RECORDS, REQUEST, FRAMES = "records.jsonl", "request.json", "frames.bin"
_COLUMNS = ("before_s", "after_s", "values")  # of a trace; they grow during the run
_MODULES = {"tensorrt": "tensorrt"}  # by runtime; ONNX Runtime's for the others


class Records:
    """Lines of JSON, each whole when it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def put(self, kind: str, **data: Any) -> None:
        """Write one."""
        self._file.write(json.dumps({"kind": kind, **data}).encode() + b"\n")


def main(program: str, folder: Path, number: int | None = None) -> int:
    """Run what `folder` asks for; with `number` only that network's memory, on stdout."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    if number is not None:
        networks, runtime = _networks(request)
        module = _MODULES.get(runtime, "onnxruntime")
        print(json.dumps(memory.measure_here(networks[number], _size(request), module)))
        return 0
    out = Records(folder / RECORDS)
    try:
        _Run(request, program, folder, out).go()
    except EdgeSRError as e:
        out.put("error", message=str(e), exit_code=e.exit_code)
        return e.exit_code
    except Exception as e:  # whatever it is, the other side must hear of it
        traceback.print_exc()
        said = (str(e) or type(e).__name__).splitlines()[0]
        out.put("error", message=f"the benchmark failed there: {type(e).__name__}: {said}",
                exit_code=1)  # fmt: skip
        return 1
    out.put("end")
    return 0


def _networks(request: dict[str, Any]) -> tuple[list[Network], str]:
    """The networks of the request, and the runtime that all of them get."""
    asked = request["networks"]
    runtime = chosen(Path(asked[-1]["bundle"]), request["runtime"])
    wanted = Wanted(_size(request), runtime, request["threads"])
    return [find(Path(a["bundle"]), a["role"], wanted) for a in asked], runtime


def _size(request: dict[str, Any]) -> tuple[int, int]:
    height, width = request["size"]
    return height, width


class _Run:
    def __init__(self, request: dict[str, Any], program: str, folder: Path, out: Records) -> None:
        self.request, self.program, self.folder, self.out = request, program, folder, out
        self.clocks = Clocks()
        self.origin_s = 0.0
        self.trace: Trace | None = None
        self.read = 0  # readings of the trace that are written
        self.runtimes: list[Runtime] = []
        self.lanes: list[Lane] = []

    def go(self) -> None:
        """Everything, in the order of a local run."""
        self.networks, self.runtime = _networks(self.request)
        self.names = [asked["name"] for asked in self.request["networks"]]
        meter = find_meter() if self.request["power"] else None
        if isinstance(meter, NoMeter):
            if self.request["require_power"]:
                raise Impossible(f"{meter.reason}; {meter.fix}")
            self.out.put("no_meter", reason=meter.reason, fix=meter.fix)
        self.out.put("conditions", when="before", found=conditions())
        for number, name in enumerate(self.names):
            self.say(f"peak memory of {name}")
            found = memory.measure(self.program, self.folder, number)
            self.out.put("memory", model=number, found=found)
        with ExitStack() as stack:
            self.origin_s = self.clocks.wall()
            sampling: AbstractContextManager[Trace | None] = nullcontext()
            if meter is not None and not isinstance(meter, NoMeter):
                sampling = Sampler(meter)
            with Watcher(self.clocks.wall) as watch, sampling as self.trace:
                self.measure(stack)
            self.whole()
        self.out.put("watch", found=watch.to_json(self.origin_s))
        self.flush_readings()
        if self.trace is not None:
            data = self.trace.to_json(self.origin_s)
            self.out.put("trace", found={k: v for k, v in data.items() if k not in _COLUMNS})
        self.out.put("conditions", when="after", found=conditions())

    def measure(self, stack: ExitStack) -> None:
        """What happens under the meter."""
        self.rest("idle", "power at rest")
        self.open(stack)
        warm = [self.warm_up(number) for number in range(len(self.lanes))]
        self.rest("loaded_idle", "power at rest, models loaded")
        typical = [w.seconds / w.calls for w in warm]
        self.centre = typical.index(max(typical))
        self.interleave("samples", self.lanes, self.request["duration_s"], self.request["fps"])
        self.rest("loaded_idle", "power at rest, models loaded")
        self.out.put("settings", overhead_us=round(overhead_us(self.clocks), 3))

    def say(self, text: str) -> None:
        """What is done now, for the one who waits."""
        self.out.put("say", text=text)

    def rest(self, kind: str, what: str) -> None:
        """An idle window for the meter; without one none is needed."""
        start = self.clocks.wall()
        if self.trace is not None:
            self.say(what)
            self.clocks.sleep(self.request["idle_s"])
        self.out.put("window", name=kind, span=[self.stamp(start), self.stamp(self.clocks.wall())])
        self.flush_readings()

    def stamp(self, seconds: float) -> float:
        """A time as the report gives it."""
        return round(seconds - self.origin_s, 6)

    def open(self, stack: ExitStack) -> None:
        """Load every network; say what it is."""
        size = _size(self.request)
        data = np.frombuffer((self.folder / FRAMES).read_bytes(), np.uint8)
        self.pictures = list(data.reshape(-1, *size, 3))
        batches = [_planes(picture) for picture in self.pictures]
        for number, network in enumerate(self.networks):
            self.say(f"loading {self.names[number]}")
            runtime = stack.enter_context(closing(network.open()))
            self.runtimes.append(runtime)
            self.lanes.append(Lane(self.names[number], runtime.run, batches))
            known = facts(network, size)
            threads = getattr(runtime, "threads", None)
            self.out.put("model", model=number, runtime=runtime.name, threads=threads, **known)

    def warm_up(self, number: int) -> WarmUp:
        """Until steady, as everywhere."""
        self.say(f"warm-up of {self.names[number]}")
        warm = warm_up(self.lanes[number], self.request["warm_up_s"], self.clocks.wall)
        found = {
            "calls": warm.calls,
            "seconds": round(warm.seconds, 4),
            "cov": None if warm.cov is None else round(warm.cov, 5),
            "stable": warm.stable,
        }
        self.out.put("warm_up", model=number, found=found)
        self.flush_readings()
        return warm

    def interleave(self, what: str, lanes: list[Lane], seconds: float, fps: float | None) -> None:
        """All lanes in mirrored turns; between them the calls of each are written."""
        order = mirrored(len(lanes), self.request["repetitions"], self.centre)
        share_s = seconds / sum(turn.shares for turn in order)
        fill = self.trace is not None and what == "samples"
        for turn in order:
            lane = lanes[turn.lane]
            self.say(f"{lane.name}, turn {turn.number + 1} of {len(order)}")
            written = len(lane.samples.wall_ms)
            if fps is None:
                run_turn(lane, turn, share_s * turn.shares, fill=fill, clocks=self.clocks)
            else:
                run_paced_turn(lane, turn, share_s * turn.shares, fps, clocks=self.clocks)
            columns = _since(lane.samples, written).to_json(self.origin_s)
            self.out.put("calls", model=turn.lane, what=what, columns=columns)
            self.flush_readings()

    def whole(self) -> None:
        """Whole pictures, uint8 in memory to uint8 in memory, as run.py takes them."""
        pairs = zip(self.networks, self.runtimes, self.names)
        lanes = [Lane(name, _picture(n, r), self.pictures) for n, r, name in pairs]
        for lane in lanes:
            lane.call()
        self.interleave("whole", lanes, self.request["whole_s"], None)

    def flush_readings(self) -> None:
        """Write the meter's readings since the last time."""
        if self.trace is None:
            return
        new = self.trace.samples[self.read :]
        self.read += len(new)
        data = replace(self.trace, samples=new).to_json(self.origin_s)
        if new:
            self.out.put("readings", found={k: data[k] for k in _COLUMNS})


def _since(samples: Samples, start: int) -> Samples:
    """The calls from number `start` on."""
    return Samples(**{f.name: getattr(samples, f.name)[start:] for f in fields(samples)})


def _planes(picture: Any) -> Any:
    """NCHW float32 in [0, 1] of one picture, batch 1."""
    planes = np.divide(picture.transpose(2, 0, 1)[None], np.float32(255), dtype=np.float32)
    return np.ascontiguousarray(planes)


def _picture(network: Network, runtime: Runtime) -> Any:
    return lambda pixels: upscale_tiles(pixels, runtime, network.tile)
