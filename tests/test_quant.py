"""What is quantised, the codes, and scales from real pictures."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime as ort
import pytest
import torch
from networks import all_kinds, random_weights, small_networks
from quantised import leaky

from edgesr.errors import BadImage, BadModel
from edgesr.graph.onnx import to_onnx
from edgesr.graph.quant import (
    QuantSpec,
    bias_codes,
    high_convs,
    points,
    scale_of,
    weight_codes,
    weight_scales,
)
from edgesr.graph.spec import INPUT, Activation, Conv, Graph
from edgesr.models.srresnet import srresnet
from edgesr.models.student import student
from edgesr.runtime.calibrate import calibrate, post_training
from edgesr.training.net import GraphNet

NETWORKS = small_networks()


def pixels(count: int = 3, height: int = 20, width: int = 24) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def test_points_of_a_student_by_hand() -> None:
    graph = student(width=8, depth=2)
    where = points(graph, high_convs(graph, ("head", "tail")))
    assert where.convs == {"body0", "body1"}
    assert where.made == {"body0_act", "body1_act"}
    assert where.read == {"head_act"}  # its fp32 form goes into the skip
    assert where.tensors == ("head_act", "body0_act", "body1_act")
    assert where.signed == set()
    where = points(graph, ())
    assert where.convs == {"head", "body0", "body1", "tail", "anchor"}
    assert where.made == {"head_act", "body0_act", "body1_act", "tail", "anchor"}
    assert where.read == {INPUT, "skip"}
    assert where.signed == {"tail", "anchor"}


def test_points_behind_a_leaky_relu_are_signed_and_need_seven_bits() -> None:
    graph = leaky()
    where = points(graph, ("tail",))
    assert where.made == {"head", "body"}  # the convolutions', since no ReLU can be absorbed
    assert where.read == {INPUT, "head_act"}
    assert where.signed == {"head", "body", "head_act"}
    head, body, _ = graph.convs()
    assert [where.weight_codes(c, 8) for c in (head, body)] == [127, 63]
    assert [where.weight_codes(c, 7) for c in (head, body)] == [63, 63]


def test_an_activation_that_others_read_around_is_not_absorbed() -> None:
    layers = (
        Conv("a", (INPUT,), 3, 3),
        Activation("relu", ("a",), "relu"),
        Conv("b", ("a",), 3, 3),
    )
    assert points(Graph("two", layers), ("b",)).made == {"a"}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_called_unsigned_is_never_negative(name: str) -> None:
    graph = NETWORKS[name]
    inner = [x.name for x in graph.layers[:-1]]
    session = ort.InferenceSession(to_onnx(graph, random_weights(graph, 3), keep=inner))
    x = np.random.default_rng(1).random((1, 3, 20, 24)).astype(np.float32)
    lows = {n: v.min() for n, v in zip(inner, session.run(inner, {INPUT: x}), strict=True)}
    where = points(graph, ())
    unsigned = [t for t in where.tensors if t not in where.signed and t in lows]
    assert all(lows[t] >= 0 for t in unsigned)
    assert all(c.inputs[0] in where.made | where.read for c in graph.convs())


@pytest.mark.parametrize("lowest", [0, -128])
@pytest.mark.parametrize("bits", [7, 8])
def test_two_products_fit_into_16_bits(lowest: int, bits: int) -> None:
    graph = leaky() if lowest else student(8, 2)
    where = points(graph, ())
    conv = next(c for c in graph.convs() if where.lowest(c.inputs[0]) == lowest)
    uint8 = 127 - lowest
    assert 2 * uint8 * where.weight_codes(conv, bits) <= 2**15 - 1


def test_high_names_convolutions_and_places() -> None:
    graph = student(width=8, depth=2)
    assert high_convs(graph, ("head",)) == ("head", "anchor")
    assert high_convs(graph, ("tail",)) == ("tail", "anchor")
    assert high_convs(graph, ("body1", "tail")) == ("body1", "tail", "anchor")
    assert high_convs(graph, ()) == ()
    graph = srresnet(blocks=1, width=8)
    convs = tuple(c.name for c in graph.convs())
    assert high_convs(graph, ("head", "tail")) == (convs[0], convs[-1])
    for name in convs:
        assert name in high_convs(graph, (name,))
    with pytest.raises(BadModel, match=r"no convolution 'tial'\. Did you mean tail\?"):
        high_convs(graph, ("tial",))
    with pytest.raises(BadModel, match="no convolution"):
        points(graph, ("tail_",))


def test_weight_codes_by_hand() -> None:
    w = np.zeros((4, 1, 1, 3), np.float32)
    w[0, 0, 0] = [127, 0.5, -1.5]  # ties go to the even code
    w[1, 0, 0] = [2.54, -2.54, 0.03]
    w[2, 0, 0] = [127 / 4096, 127 / 8192, 0]  # weaker than 1/1024 of the strongest
    codes, scales = weight_codes(w, 127)
    assert codes.dtype == np.int8
    assert codes[:, 0, 0].tolist() == [[127, 0, -2], [127, -127, 2], [32, 16, 0], [0, 0, 0]]
    np.testing.assert_allclose(scales, [1, 0.02, 1 / 1024, 1 / 1024], rtol=1e-6)
    codes, scales = weight_codes(w, 63)
    assert codes[:2, 0, 0].tolist() == [[63, 0, -1], [63, -63, 1]]
    assert (
        weight_scales(np.zeros((2, 1, 1, 1), np.float32), 127).tolist() == [np.float32(1 / 127)] * 2
    )


def test_weight_error_is_at_most_half_a_code() -> None:
    w = np.random.default_rng(0).normal(0, 0.1, (16, 8, 3, 3)).astype(np.float32)
    for largest in (63, 127):
        codes, scales = weight_codes(w, largest)
        error = np.abs(codes * scales[:, None, None, None] - w) / scales[:, None, None, None]
        assert error.max() <= 0.5 + 1e-4
        assert (np.abs(codes).reshape(16, -1).max(1) == largest).all()


def test_bias_codes() -> None:
    scales = np.array([0.5, 2.0**-20], np.float32)
    assert bias_codes("x", np.array([1.3, -3.0], np.float32), scales).tolist() == [3, -3 * 2**20]
    with pytest.raises(BadModel, match="'x' is too large"):
        bias_codes("x", np.array([0, 3000.0], np.float32), scales)


def test_scale_of() -> None:
    assert scale_of(127.0) == 1.0
    assert scale_of(3.0) == float(np.float32(3) / np.float32(127))
    dead = float(np.float32(1) / np.float32(127))
    assert [scale_of(v) for v in (0.0, 1e-40, float("nan"), float("inf"))] == [dead] * 4


def test_spec_round_trip_and_refusals() -> None:
    graph = student(width=8, depth=2)
    spec = QuantSpec({t: scale_of(1.7) for t in points(graph, ("head", "tail", "anchor")).tensors},
                     7, ("head", "tail", "anchor"))  # fmt: skip
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.check(graph) == points(graph, spec.high)
    few = QuantSpec({"head_act": 1.0}, 7, spec.high)
    with pytest.raises(BadModel, match="no scale for"):
        few.check(graph)
    with pytest.raises(BadModel, match="unknown tensors"):
        QuantSpec({**spec.scales, "tail": 1.0}, 7, spec.high).check(graph)
    for scale in (0.0, -1.0, float("nan"), float("inf"), 0.1):
        with pytest.raises(BadModel, match="positive float32"):
            QuantSpec({"a": scale})
    with pytest.raises(BadModel, match="7 or 8 bits"):
        QuantSpec({}, 4)  # type: ignore[arg-type]
    good = spec.to_json()
    for bad in (3, [], {}, {**good, "scales": 3}, {**good, "bits": []}, {**good, "high": 3},
                {**good, "scales": {"a": "x"}}, {**good, "bits": 6}):  # fmt: skip
        with pytest.raises(BadModel) as caught:
            QuantSpec.from_json(bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_minmax_is_the_largest_value_that_torch_sees(name: str) -> None:
    graph = NETWORKS[name]
    weights, pictures = random_weights(graph), pixels()
    tensors = points(graph, ()).tensors
    found = calibrate(graph, weights, pictures, tensors)
    net = GraphNet(graph)
    net.load_weights(weights)
    tops = dict.fromkeys(tensors, 0.0)
    for picture in pictures:
        x = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        with torch.no_grad():
            kept = {INPUT: x, **net.run(x, tensors)[1]}
        tops = {t: max(top, float(kept[t].abs().max())) for t, top in tops.items()}
    assert tuple(found) == tensors
    for name in tensors:
        assert found[name] == pytest.approx(tops[name] / 127, rel=1e-5)


def test_percentile_is_that_of_the_worst_picture() -> None:
    graph = all_kinds()
    dim, bright = (np.full((30, 30, 3), v, np.uint8) for v in (10, 100))
    bright[0, 0] = 255
    weights = random_weights(graph)
    least = calibrate(graph, weights, [dim, bright], [INPUT], method="percentile")
    # 3 of 2,700 values are 255: the 99.99th percentile lies between them, among the last 0.3.
    assert least[INPUT] == pytest.approx(1 / 127)
    bright = np.full((150, 150, 3), 100, np.uint8)
    bright[0, 0, 0] = 255  # 1 of 67,500
    least = calibrate(graph, weights, [dim, bright], [INPUT], method="percentile")
    assert least[INPUT] == pytest.approx(100 / 255 / 127)
    assert calibrate(graph, weights, [bright], [INPUT])[INPUT] == pytest.approx(1 / 127)


def test_large_pictures_are_seen_to_the_last_pixel() -> None:
    graph = all_kinds()
    large = np.zeros((200, 400, 3), np.uint8)
    large[-1, -1] = 255
    assert calibrate(graph, random_weights(graph), [large], [INPUT])[INPUT] == scale_of(1.0)


def test_post_training_gives_a_spec_that_fits() -> None:
    graph = student(width=8, depth=2)
    weights = random_weights(graph)
    spec = post_training(graph, weights, pixels(), bits=7, high=("head", "tail"))
    spec.check(graph)
    assert (spec.bits, spec.high) == (7, ("head", "tail", "anchor"))
    again = post_training(graph, weights, pixels(), bits=7, high=spec.high)
    assert again == spec


def test_calibration_needs_pictures_of_the_right_kind() -> None:
    graph = student(width=4, depth=1)
    weights = random_weights(graph)
    with pytest.raises(BadImage, match="needs pictures"):
        post_training(graph, weights, [])
    for bad in (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8)):
        with pytest.raises(BadImage, match="8-bit RGB"):
            post_training(graph, weights, [bad])  # type: ignore[list-item]
    with pytest.raises(BadModel, match="no convolution 'haed'"):
        post_training(graph, weights, pixels(), high=("haed",))
