"""One definition of a network: JSON, counts, receptive field, ONNX and torch agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from networks import all_kinds, random_weights, small_networks

from edgesr.errors import BadModel
from edgesr.graph import counts
from edgesr.graph.hint import hint_layer
from edgesr.graph.onnx import to_onnx
from edgesr.graph.reach import halo, reach
from edgesr.graph.spec import INPUT, Add, Conv, Graph, Multiply, PixelShuffle
from edgesr.models.rrdb import rrdb
from edgesr.models.span import span
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.net import GraphNet

NETWORKS = small_networks()


@pytest.fixture
def astronaut(photograph: Callable[[str], np.ndarray]) -> np.ndarray:
    return photograph("astronaut")


@pytest.fixture(params=NETWORKS, ids=str)
def graph(request: pytest.FixtureRequest) -> Graph:
    return NETWORKS[request.param]


def _torch(graph: Graph, weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    net = GraphNet(graph)
    net.load_weights(weights)
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def test_json_round_trip_is_equal_and_canonical(graph: Graph) -> None:
    text = graph.to_json()
    assert Graph.from_json(text) == graph
    assert Graph.from_json(text).to_json() == text


def test_torch_equals_onnxruntime_on_a_photograph(graph: Graph, astronaut: np.ndarray) -> None:
    weights = random_weights(graph)
    x = astronaut[:37, :41].transpose(2, 0, 1)[None].astype(np.float32) / 255
    ours = _torch(graph, weights, x)
    theirs = OrtRuntime(to_onnx(graph, weights)).run(x)
    assert ours.shape == (1, 3, 37 * graph.scale, 41 * graph.scale)
    assert np.abs(ours - theirs).max() <= 1e-5 * max(1.0, np.abs(ours).max())


def test_fixed_shape_and_fp16_agree_with_fp32(graph: Graph, astronaut: np.ndarray) -> None:
    weights = random_weights(graph)
    x = astronaut[:24, :32].transpose(2, 0, 1)[None].astype(np.float32) / 255
    fp32 = OrtRuntime(to_onnx(graph, weights)).run(x)
    fixed = OrtRuntime(to_onnx(graph, weights, shape=(24, 32)))
    assert fixed.tile_shapes == ((24, 32),)
    np.testing.assert_allclose(fixed.run(x), fp32, atol=1e-5, rtol=1e-5)
    half = OrtRuntime(to_onnx(graph, weights, precision="fp16")).run(x)
    assert half.dtype == np.float32
    # float16 has 11 bits; a few layers of rounding stay within a hundredth of the range.
    assert np.abs(half - fp32).max() <= 0.01 * max(1.0, np.abs(fp32).max())
    assert np.abs(half - fp32).max() > 0


def test_onnx_is_reproducible_and_of_the_promised_form(graph: Graph) -> None:
    weights = random_weights(graph)
    data = to_onnx(graph, weights)
    assert data == to_onnx(Graph.from_json(graph.to_json()), dict(reversed(weights.items())))
    model = onnx.load_from_string(data)
    assert model.ir_version == 8
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    modes = [a.s for n in model.graph.node if n.op_type == "DepthToSpace" for a in n.attribute
             if a.name == "mode"]  # fmt: skip
    assert all(mode == b"CRD" for mode in modes)
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["edgesr.scale"] == str(graph.scale)
    assert facts["edgesr.halo"] == str(halo(graph))


def _positive(graph: Graph) -> dict[str, np.ndarray]:
    """Weights that let every influence through: nothing cancels, nothing is clipped."""
    weights = random_weights(graph)
    return {
        k: (np.abs(v) * 0.05 + 0.01 if k.endswith("weight") else np.abs(v) * 0).astype(np.float32)
        if not k.endswith("slope")
        else np.full_like(v, 0.25)
        for k, v in weights.items()
    }


def test_receptive_field_equals_the_one_found_by_perturbing(graph: Graph) -> None:
    radius, scale = halo(graph), graph.scale
    side = 2 * radius + 5
    middle = radius + 2
    net = GraphNet(graph)
    net.load_weights(_positive(graph))
    net = net.double()
    x = torch.full((1, 3, side, side), 0.5, dtype=torch.float64, requires_grad=True)
    left = right = 0
    for phase in range(scale):
        y = net(x)[0, :, middle * scale, middle * scale + phase].sum()
        (grad,) = torch.autograd.grad(y, x)
        columns = torch.nonzero(grad[0].abs().sum((0, 1))).flatten()
        span_left, span_right = middle - int(columns[0]), int(columns[-1]) - middle
        assert (span_left, span_right) == reach(graph)[phase]
        left, right = max(left, span_left), max(right, span_right)
    assert max(left, right) == radius


def test_known_receptive_fields() -> None:
    assert halo(srresnet()) == 40  # 4 + 33 + 1 up1, then half and quarter pixels, rounded up
    assert halo(student(32, 14)) == 16  # head + 14 + tail


def test_macs_and_parameters_by_hand() -> None:
    s = student(width=8, depth=3, scale=4)
    head, body, tail, anchor = 3 * 8 * 9, 3 * 8 * 8 * 9, 8 * 48 * 9, 3 * 48
    assert counts.macs_per_pixel(s) == head + body + tail + anchor
    assert counts.parameters(s) == head + body + tail + anchor + 8 + 3 * 8 + 48 + 48
    assert counts.macs(s, 10, 20) == 200 * counts.macs_per_pixel(s)
    # SRResNet: 9×9 head, 33 3×3 of the trunk, up-convolutions at ×1 and ×2, 9×9 tail at ×4.
    by_hand = 81 * 3 * 64 + 33 * 9 * 64 * 64 + 9 * 64 * 256 * (1 + 4) + 81 * 64 * 3 * 16
    assert counts.macs_per_pixel(srresnet()) == by_hand
    total = sum(np.prod(v) for v in srresnet().weight_shapes().values())
    assert counts.parameters(srresnet()) == total


@pytest.mark.parametrize(
    ("graph", "hint"),
    [(srresnet(blocks=2, width=8), 8), (span(width=8), 8), (student(8, 2), 8),
     (rrdb(blocks=1, width=8, growth=4), 8)],
    ids=["srresnet", "span", "student", "rrdb"],
)  # fmt: skip
def test_hint_is_the_last_tensor_before_enlarging(graph: Graph, hint: int) -> None:
    name = hint_layer(graph)
    assert graph.sizes[name] == 1
    assert graph.channels[name] == hint
    index = [x.name for x in graph.layers].index(name)
    later = [x for x in graph.layers[index + 1 :] if isinstance(x, PixelShuffle)]
    assert later or graph.name.startswith("rrdb")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "no layers"),
        ((Conv("a", ("nothing",), 3, 3),), "reads unknown"),
        ((Conv("a", (INPUT,), 3, 3), Conv("a", ("a",), 3, 3)), "two layers"),
        ((Conv("a", (INPUT,), 3, 2),), "odd"),
        ((PixelShuffle("a", (INPUT,), 2),), "do not split"),
        ((Conv("a", (INPUT,), 8, 3), Add("b", ("a", INPUT))), "channels"),
        ((Conv("a", (), 8, 3),), "cannot have 0 inputs"),
        ((Conv("a", (INPUT, INPUT), 8, 3),), "cannot have 2 inputs"),
        ((Add("a", (INPUT,)),), "cannot have 1 inputs"),
        ((Multiply("a", (INPUT, INPUT, INPUT)),), "cannot have 3 inputs"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(layers: tuple, message: str) -> None:
    with pytest.raises(BadModel, match=message):
        Graph("bad", layers)


def test_bad_json_and_bad_weights_are_refused_in_one_line() -> None:
    for text in ("", "[]", '{"name":"x","layers":[{"kind":"magic"}]}', '{"layers":[{"a":1}]}'):
        with pytest.raises(BadModel) as caught:
            Graph.from_json(text)
        assert "\n" not in str(caught.value)
    graph = all_kinds()
    weights = random_weights(graph)
    with pytest.raises(BadModel, match="missing"):
        graph.check_weights({k: v for k, v in weights.items() if k != "b.weight"})
    with pytest.raises(BadModel, match="should be"):
        graph.check_weights({**weights, "b.weight": weights["c.weight"]})
    with pytest.raises(BadModel, match="unknown weights"):
        graph.check_weights({**weights, "zzz": weights["c.weight"]})


def test_weights_too_large_for_fp16_are_refused() -> None:
    graph = student(width=4, depth=1)
    weights = random_weights(graph)
    weights["body0.weight"][0, 0, 0, 0] = 70_000.0
    to_onnx(graph, weights)
    with pytest.raises(BadModel, match=r"'body0\.weight' holds values above 65504"):
        to_onnx(graph, weights, precision="fp16")


def test_wrong_onnx_is_refused_in_one_line(tmp_path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"not onnx")
    with pytest.raises(BadModel, match="does not load") as caught:
        OrtRuntime(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadModel, match="no such file"):
        OrtRuntime(tmp_path / "none.onnx")
