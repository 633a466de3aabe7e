"""The table of latencies: what it measures, how it adds up, and that it is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from networks import random_weights, small_networks

from edgesr.errors import BadConfig
from edgesr.graph.onnx import to_onnx
from edgesr.graph.spec import INPUT, Activation, Add, Conv, Graph
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.pruning.latency import LatencyTable, layer_key, probe
from edgesr.pruning.profile import Profile
from edgesr.runtime.ort import OrtRuntime

REFERENCE_MACS = 32 * 32 * 9


class Fake:
    """An engine on which a convolution takes a ms for 9216 MACs a pixel, anything else 0.25 ms.

    All is `load` times slower on the wall clock, and the load grows with every call.
    """

    def __init__(self) -> None:
        self.seen: list[Graph] = []

    def __call__(self, graph: Graph, *, height: int, width: int, threads: int) -> Profile:
        self.seen.append(graph)
        operators, ms = [], []
        for layer in graph.layers:
            if isinstance(layer, Activation) and layer.fn == "relu":
                continue  # fused
            cin, size = graph.channels[layer.inputs[0]], graph.sizes[layer.inputs[0]]
            area = height * width * size**2 / (18 * 32)
            conv = isinstance(layer, Conv)
            operators.append("Conv" if conv else "Other")
            macs = layer.out * cin * layer.kernel**2 if isinstance(layer, Conv) else 0
            ms.append(macs / REFERENCE_MACS * area if conv else 0.25 * area)
        load = float(len(self.seen))
        runs = load * np.tile(np.array(ms), (3, 1))
        cpu = np.full(3, sum(ms) * threads)
        return Profile(tuple(operators), runs, runs.sum(axis=1) + 0.5, cpu)


def table(folder: Path, fake: Fake, **more: object) -> LatencyTable:
    return LatencyTable(folder, threads=2, height=18, width=32, measure=fake, **more)  # type: ignore[arg-type]


def test_a_network_is_the_sum_of_its_layers_whatever_the_load(tmp_path: Path) -> None:
    graph = Graph("net", (
        Conv("a", (INPUT,), 16, 3),
        Activation("a_act", ("a",), "relu"),
        Conv("b", ("a_act",), 32, 3),
        Activation("b_act", ("b",), "prelu"),
        Conv("c", ("b_act",), 16, 1),
        Add("sum", ("c", "a_act")),
        Conv("d", ("sum",), 12, 3),
    ))  # fmt: skip
    convs = 3 * 16 * 9 + 16 * 32 * 9 + 32 * 16 + 16 * 12 * 9
    # Beside the convolutions the PReLU and the addition; a run costs half a millisecond more.
    expected = convs / REFERENCE_MACS + 2 * 0.25 + 0.5
    assert table(tmp_path, Fake()).cost(graph) == pytest.approx(expected)


def test_layers_at_twice_the_size_cost_four_times_as_much(tmp_path: Path) -> None:
    graph = srresnet(blocks=1, width=8, tail_kernel=3)
    one = 8 * 8 * 9
    convs = 3 * 8 * 81 + 3 * one + 4 * one + 4 * 4 * one + 16 * 8 * 3 * 9
    # PReLUs: two at size 1, one at 2, one at 4; two sums; shuffles at 1 and 2.
    others = 0.25 * (2 + 4 + 16 + 2 + 1 + 4)
    expected = convs / REFERENCE_MACS + others + 0.5
    assert table(tmp_path, Fake()).cost(graph) == pytest.approx(expected)


def test_only_new_shapes_are_measured_and_they_are_kept(tmp_path: Path) -> None:
    fake = Fake()
    first = table(tmp_path, fake)
    cost = first.cost(student(16, 3))
    shapes = {layer_key(student(16, 3), x) for x in student(16, 3).layers} - {""}
    assert len(fake.seen) == len(shapes) + 1  # and the reference
    first.cost(student(16, 8))  # deeper, nothing new
    assert len(fake.seen) == len(shapes) + 1
    again = Fake()
    assert table(tmp_path, again).cost(student(16, 3)) == cost
    assert again.seen == []
    stored = json.loads(first.path.read_text())
    assert set(stored["references"]) == shapes and stored["threads"] == 2


def test_another_processor_has_a_table_of_its_own(tmp_path: Path) -> None:
    other = tmp_path / "root"
    (other / "proc").mkdir(parents=True)
    (other / "proc/cpuinfo").write_text("model name\t: Slow Chip 3\n")
    here, there = table(tmp_path, Fake()), table(tmp_path, Fake(), root=other)
    assert here.path != there.path
    there.cost(student(8, 1))
    assert json.loads(there.path.read_text())["processor"] == "Slow Chip 3"


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    first = table(tmp_path, Fake())
    for bad in ("{", "[]", '{"references": {"a": "b"}}'):
        first.path.write_text(bad)
        with pytest.raises(BadConfig, match="delete it"):
            table(tmp_path, Fake())


@pytest.mark.parametrize("name", sorted(small_networks()))
def test_every_layer_has_a_probe_that_holds_it(name: str) -> None:
    graph = small_networks()[name]
    for layer in graph.layers:
        key = layer_key(graph, layer)
        if not key:
            assert isinstance(layer, Activation)
            continue
        chain, size, _ = probe(key)
        held = next(x for x in chain.layers if x.name == "layer")
        assert type(held) is type(layer)
        assert chain.channels["layer"] == graph.channels[layer.name]
        assert chain.channels[held.inputs[0]] == graph.channels[layer.inputs[0]]
        assert size == graph.sizes[layer.inputs[0]]
        assert [c.name for c in chain.convs()][-2:] == ["reference", "last"]


def plain(width: int) -> Graph:
    """Three convolutions."""
    return Graph("plain", (
        Conv("a", (INPUT,), width, 3),
        Activation("a_act", ("a",), "relu"),
        Conv("b", ("a_act",), width, 3),
        Conv("c", ("b",), 3, 3),
    ))  # fmt: skip


def test_it_predicts_this_machine(tmp_path: Path) -> None:
    """Loosely, as the machine of a test is busy; `benchmarks/` has how well it does."""
    real = LatencyTable(tmp_path, threads=1, height=90, width=160)
    narrow, wide = plain(8), plain(48)
    predicted_ms = real.cost(wide)
    runtime = OrtRuntime(to_onnx(wide, random_weights(wide)), threads=1)
    picture = np.random.default_rng(0).random((1, 3, 90, 160), np.float32)
    cpu_ms = []
    for _ in range(5):
        begun = time.process_time()
        runtime.run(picture)
        cpu_ms.append(1e3 * (time.process_time() - begun))
    assert 1 / 3 < predicted_ms / float(np.median(cpu_ms)) < 3
    assert real.cost(narrow) < predicted_ms / 2  # a twentieth of the MACs or so
