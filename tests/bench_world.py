"""What the tests of `bench` share: a world whose clock only calls move, and two real networks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgesr.bench.frames import Frames
from edgesr.bench.run import Tools
from edgesr.bench.subjects import Subject
from edgesr.bench.timing import Clocks, Lane
from edgesr.power.meter import Meter, NoMeter, Sample, Trace


class World:
    """A clock that only calls and sleeping move, and how long each network takes.

    `drift` slows every network: by that share of its time a second after the first.
    """

    def __init__(self, **call_s: float) -> None:
        self.now, self.call_s = 100.0, call_s
        self.calls: list[str] = []
        self.jitter = random.Random(0)
        self.begin, self.drift = self.now, 0.0

    def clock(self) -> float:
        return self.now

    def cpu_clock(self) -> float:
        return 1.5 * self.now

    def clocks(self) -> Clocks:
        return Clocks(self.clock, self.cpu_clock, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Nearest:
    """Repeats each pixel 4 × 4 times, taking the world's time for it."""

    scale, halo = 4, 0
    tile_shapes: tuple[tuple[int, int], ...] = ()

    def __init__(self, name: str, world: World, noise: float = 0.0) -> None:
        self.name, self.world, self.noise, self.closed = name, world, noise, False

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.world.calls.append(self.name)
        slower = 1 + self.world.drift * (self.world.now - self.world.begin)
        jitter = 1 + self.noise * self.world.jitter.uniform(-1, 1)
        self.world.now += self.world.call_s[self.name] * slower * jitter
        return batch.repeat(4, axis=2).repeat(4, axis=3)

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.closed = True


def lane(name: str, world: World, noise: float = 0.0) -> Lane:
    batches = [np.full((1, 3, 2, 3), k / 4, np.float32) for k in range(3)]
    return Lane(name, Nearest(name, world, noise).run, batches)


def tools(world: World, meter: Meter | NoMeter | None = None) -> Tools:
    def find(name: str, role: str, *, scratch: Path, **size: Any) -> Subject:
        counts = {"parameters": 10, "macs": 20 * size["width"] * size["height"]}
        return Subject(name, role, scratch / name, "0" * 64, counts,
                       lambda: Nearest(name, world), untrained=name == "raw")  # fmt: skip

    def pictures(width: int, height: int) -> Frames:
        return Frames((np.zeros((height, width, 3), np.uint8),) * 2, ("a", "b"), "photographs")

    @contextmanager
    def sampler(meter: Meter) -> Iterator[Trace]:
        """5 W all the time, read every 20 ms."""
        trace = Trace("fake", "W", ("IN",), ("IN",), "module", 0.02)
        start = world.now
        yield trace
        for k in range(int((world.now - start) / 0.02) + 2):
            t = start + 0.02 * k
            trace.samples.append(Sample(t, t, {"IN": 5.0}))

    return Tools(
        find=find,
        frames=pictures,
        memory=lambda *_: {
            "before_bytes": 1,
            "loaded_bytes": 2,
            "peak_bytes": 3_000_001,
            "runs": 2,
        },
        meter=lambda: meter or NoMeter("no sensor", "buy a board"),
        sampler=sampler,
        conditions=lambda: {"cpu": "fake", "cores_usable": 2, "load_average_1min": 0.0},
        clock=world.clock,
        cpu_clock=world.cpu_clock,
        sleep=world.sleep,
    )


@pytest.fixture(scope="session")
def wide_and_narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ONNX files of a wide and a narrow network of seeded random weights."""
    pytest.importorskip("onnx")
    from edgesr.graph.onnx import to_onnx
    from edgesr.models.student import student

    folder, rng = tmp_path_factory.mktemp("networks"), np.random.default_rng(0)
    paths = []
    for name, width, depth in (("wide", 48, 6), ("narrow", 16, 2)):
        graph = student(width, depth, name=name)
        weights = {
            key: rng.standard_normal(shape).astype(np.float32) * np.float32(0.05)
            for key, shape in graph.weight_shapes().items()
        }
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(to_onnx(graph, weights))
    return paths[0], paths[1]
