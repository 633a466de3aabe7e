"""Live sets, steps and their times against sums by hand and against their definitions."""

from __future__ import annotations

import networks
import pytest
from planned import ORIN_NANO, TINY, bench_device

from edgesr.graph.counts import macs
from edgesr.graph.live import is_pointwise, largest_live_set, live_sets
from edgesr.graph.spec import INPUT, Activation, Add, Conv, Graph
from edgesr.models.srresnet import srresnet
from edgesr.plan import roofline
from edgesr.plan.work import layer_weight_bytes, loads, steps

# ---------------------------------------------------------------- the live set


# fp32, bytes per input pixel: input 3·4 = 12, eight channels 32, twelve 48, the picture twice as
# large 3·4·4 = 48. `r` is written over `a` and `s` over `b`; the input goes after `a`.
@pytest.mark.parametrize(
    ("value_bytes", "expected"),
    [
        (4, {"a": 12 + 32, "r": 32, "b": 32 + 32, "s": 32 + 32, "t": 32 + 48, "up": 48 + 48}),
        (2, {"a": 12 + 16, "r": 16, "b": 16 + 16, "s": 16 + 16, "t": 16 + 24, "up": 24 + 48}),
        (1, {"a": 12 + 8, "r": 8, "b": 8 + 8, "s": 8 + 8, "t": 8 + 12, "up": 12 + 48}),
    ],
)
def test_live_sets_of_a_small_network_by_hand(value_bytes: int, expected: dict[str, int]) -> None:
    found = {live.at: live.bytes_per_pixel for live in live_sets(TINY, value_bytes)}
    assert found == expected
    assert largest_live_set(TINY, value_bytes).at == "up"


def test_a_skip_keeps_its_tensor_alive_and_the_input_is_never_overwritten() -> None:
    graph = Graph("skip", (
        Activation("x", (INPUT,), "relu"), Conv("a", ("x",), 3, 3), Conv("b", ("a",), 3, 3),
        Add("sum", ("b", "x")),
    ))  # fmt: skip
    tensors = [set(live.tensors) for live in live_sets(graph, 4)]
    assert tensors == [{INPUT, "x"}, {"x", "a"}, {"x", "a", "b"}, {"x", "sum"}]


def test_srresnet_peaks_where_its_last_shuffle_reads_and_writes() -> None:
    """256 channels at ×2 in and 64 at ×4 out: 1024 values each for an input pixel."""
    live = largest_live_set(srresnet(), 4)
    assert live.tensors == {"up1": 256 * 4 * 4, "up1_shuffle": 64 * 16 * 4}


@pytest.mark.parametrize("graph", networks.small_networks().values(), ids=lambda g: g.name)
def test_a_live_set_is_what_is_still_read(graph: Graph) -> None:
    """By the definition, not by the algorithm: computed before, and read now or later."""
    for at, live in enumerate(live_sets(graph, 4)):
        layer = graph.layers[at]
        before = {INPUT, *(x.name for x in graph.layers[:at])}
        later = {i for x in graph.layers[at:] for i in x.inputs}
        wanted = (before & later) | {layer.name}
        assert set(live.tensors) <= wanted
        gone = wanted - set(live.tensors)
        if is_pointwise(layer):  # it may have been written over one that nothing reads any more
            after = {i for x in graph.layers[at + 1 :] for i in x.inputs}
            assert len(gone) <= 1 and gone <= set(layer.inputs) - after - {INPUT}
        else:
            assert not gone


# ---------------------------------------------------------------- steps, bytes and time


def test_pointwise_layers_join_the_convolution_before_them() -> None:
    found = [(step.layers, step.reads, step.writes) for step in steps(TINY)]
    assert found == [
        (["a", "r"], {INPUT}, "r"),
        (["b", "s"], {"r"}, "s"),
        (["t"], {"s"}, "t"),
        (["up"], {"t"}, "up"),
    ]


def test_a_layer_whose_input_another_one_reads_is_a_step_of_its_own() -> None:
    graph = Graph("both", (
        Conv("a", (INPUT,), 3, 3), Activation("r", ("a",), "relu"), Add("sum", ("r", "a")),
    ))  # fmt: skip
    assert [step.layers for step in steps(graph)] == [["a"], ["r", "sum"]]
    assert [step.reads for step in steps(graph)] == [{INPUT}, {"a"}]


@pytest.mark.parametrize("graph", networks.small_networks().values(), ids=lambda g: g.name)
def test_every_layer_is_in_one_step_and_reads_what_is_there(graph: Graph) -> None:
    written = {INPUT}
    for step in steps(graph):
        assert step.reads <= written
        written.add(step.writes)
    assert [n for s in steps(graph) for n in s.layers] != []
    assert sorted(n for s in steps(graph) for n in s.layers) == sorted(x.name for x in graph.layers)
    assert sum(s.macs for s in steps(graph)) == macs(graph, 1, 1)


def test_bytes_of_the_steps_by_hand() -> None:
    found = [(load.name, load.macs, load.tensor_bytes, load.weight_bytes)
             for load in loads(TINY, "fp16")]  # fmt: skip
    assert found == [
        ("a", 3 * 8 * 9, 12 + 16, 2 * (3 * 8 * 9 + 8)),
        ("b", 8 * 8 * 9, 16 + 16, 2 * (8 * 8 * 9 + 8)),
        ("t", 8 * 12 * 9, 16 + 24, 2 * (8 * 12 * 9 + 12)),
        ("up", 0, 24 + 48, 0),
    ]
    assert layer_weight_bytes(TINY, "int8")["b"] == 8 * 8 * 9 + 4 * 8
    assert layer_weight_bytes(TINY, "fp32")["b"] == 4 * (8 * 8 * 9 + 8)


def test_times_by_hand() -> None:
    """Two windows of 10,000 pixels at 1 Tops/s and 1 GB/s: memory is the slower everywhere."""
    found = roofline.times(TINY, bench_device(), "fp16", {10_000: 2})
    assert found is not None
    weights = {"a": 2 * 224, "b": 2 * 584, "t": 2 * 876, "up": 0}
    passes = {"a": 28, "b": 32, "t": 40, "up": 72}
    for step in found.steps:
        wanted = (passes[step.name] * 20_000 + weights[step.name] * 2) / 1e9
        assert step.seconds == step.memory_s == pytest.approx(wanted)
    assert found.steps[1].arithmetic_s == pytest.approx(2 * 576 * 20_000 / 1e12)
    assert found.layers_s == pytest.approx(sum(step.memory_s for step in found.steps))
    assert found.memory_share == 1
    # Input 12 and output 48 bytes a pixel, and each weight once.
    assert found.floor_s == pytest.approx((60 * 20_000 + sum(weights.values())) / 1e9)


def test_where_arithmetic_is_slower_the_floor_is_the_arithmetic() -> None:
    slow = bench_device(bandwidth_bytes_s=10**15)
    found = roofline.times(TINY, slow, "int8", {10_000: 1})
    assert found is not None
    assert found.floor_s == pytest.approx(2 * macs(TINY, 100, 100) / 2e12)
    assert found.memory_share < 0.01  # the shuffle alone, which computes nothing


def test_no_time_without_a_rate_or_a_bandwidth() -> None:
    for lacking in ({"peak_fp16_ops_s": None}, {"bandwidth_bytes_s": None}):
        # Without its source the profile would be refused; only the value matters here.
        kept = {k: v for k, v in ORIN_NANO.sources.items() if k not in lacking}
        assert roofline.times(TINY, bench_device(**lacking, sources=kept), "fp16", {1: 1}) is None
