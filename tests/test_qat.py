"""Fake quantisation rounds as the exported files do, and its gradients are LSQ's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from networks import random_weights, small_networks
from quantised import exact, exact_networks, in_whole_numbers, picture

from edgesr.errors import BadModel
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import to_onnx_int8
from edgesr.graph.quant import QuantSpec, points, scale_of, weight_codes
from edgesr.graph.spec import Graph, Weights
from edgesr.models.find import load_network
from edgesr.models.student import student
from edgesr.runtime.calibrate import post_training
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.net import GraphNet
from edgesr.training.qat import GAIN, FakeQuant


def attached(graph: Graph, weights: Weights, quant: QuantSpec, *, rep: bool = False) -> GraphNet:
    net = GraphNet(graph, rep=rep)
    net.load_weights(weights)
    net.attach(FakeQuant(graph, quant))
    return net


def forward(net: GraphNet, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("high", [("head", "tail"), ("head",), ()], ids=str)
@pytest.mark.parametrize("name", exact_networks())
def test_torch_is_the_whole_number_network_bit_for_bit(name: str, high: tuple[str, ...]) -> None:
    graph = exact_networks()[name]
    for seed in range(3):
        weights, quant = exact(graph, high, seed)
        x = picture(seed)
        want = in_whole_numbers(graph, weights, quant, x)
        np.testing.assert_array_equal(forward(attached(graph, weights, quant), x), want)


@pytest.mark.parametrize("name", sorted(set(small_networks()) - {"rrdb"}))
def test_torch_is_the_exported_network(name: str) -> None:
    """TensorRT's form, run as it is written: equal but where float32 sums meet a tie."""
    graph = small_networks()[name]
    weights = random_weights(graph)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    quant = post_training(graph, weights, list(pixels), high=("head",))
    x = pixels[0].transpose(2, 0, 1)[None].astype(np.float32) / 255
    exported = OrtRuntime(to_onnx_int8(graph, weights, quant, form="trt"), optimize=False).run(x)
    ours = forward(attached(graph, weights, quant), x)
    error = np.abs(ours - exported) / max(1.0, float(np.abs(exported).max()))
    # Measured: equal, but for 3 outputs in 10,000 of `all_kinds`.
    assert (error <= 1e-5).mean() >= 0.99
    assert error.mean() <= 1e-5


@pytest.mark.parametrize(("form", "levels"), [("trt", 0.1), ("ort", 1.0)])
def test_torch_is_both_files_of_a_trained_network(
    form: Literal["trt", "ort"], levels: float, photograph: Callable[[str], np.ndarray]
) -> None:
    """On average within some share of an 8-bit level.

    Layers of rounding amplify the least difference: one code that falls to the other side of a
    tie moves those around it in the next layer, so the shallow student is asked. ONNX Runtime's
    form starts with more of them, since its biases are rounded to int32.
    """
    ckpt = load_network("fast")
    image = photograph("astronaut")[40:88, 180:244]
    quant = post_training(ckpt.graph, ckpt.weights, [image])
    x = np.ascontiguousarray(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    ours = forward(attached(ckpt.graph, ckpt.weights, quant), x)
    model = to_onnx_int8(ckpt.graph, ckpt.weights, quant, form=form)
    theirs = OrtRuntime(model, optimize=form == "ort").run(x)
    assert np.abs(ours - theirs).mean() * 255 <= levels
    fp32 = OrtRuntime(to_onnx(ckpt.graph, ckpt.weights)).run(x)
    assert np.abs(ours - fp32).mean() > np.abs(ours - theirs).mean()


@pytest.mark.parametrize("bits", [7, 8])
def test_weights_get_the_exporters_codes(bits: int) -> None:
    graph = student(width=16, depth=2)
    quant = QuantSpec(dict.fromkeys(points(graph, ("head",)).tensors, 1.0), bits, ("head",))
    fake = FakeQuant(graph, quant)
    rng = np.random.default_rng(0)
    for _ in range(20):
        w = rng.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32)
        w[0] *= 1e-5
        w[1] = 0
        codes, scales = weight_codes(w, 127 if bits == 8 else 63)
        want = codes * scales[:, None, None, None]
        np.testing.assert_array_equal(fake.weight("body0", torch.from_numpy(w)).numpy(), want)
    zeros = torch.zeros(4, 4, 3, 3)
    assert torch.equal(fake.weight("body1", zeros), zeros)
    x = torch.randn(16, 3, 3, 3)
    assert fake.weight("head", x) is x
    assert fake.activation("body1_act", x) is x  # rounded when it was made
    assert fake.output("head", x) is x


def one_tensor(scale: float, act: str = "relu") -> FakeQuant:
    graph = student(width=4, depth=1, act=act)
    high = ("head", "tail", "anchor")
    scales = {"head_act": 1.0, "body0": 1.0, "body0_act": 1.0}
    where = points(graph, high)
    return FakeQuant(graph, QuantSpec({t: scales[t] * scale for t in where.tensors}, 8, high))


def test_gradients_by_hand() -> None:
    """LSQ, equations 3 and 5, on codes 0 to 127 and a scale of 1/2; 5 numbers."""
    fake = one_tensor(0.5)
    x = torch.tensor([-1.0, 0.0, 0.7, 10.2, 100.0], requires_grad=True)
    upstream = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    fake.activation("head_act", x).backward(upstream)
    assert x.grad is not None and x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]
    # x / s = −2 (below), 0, 1.4, 20.4, 200 (above).
    by_hand = 1 * 0 + 2 * 0 + 3 * (1 - 1.4) + 4 * (20 - 20.4) + 5 * 127
    by_hand /= (5 * 127) ** 0.5
    index = fake.points.tensors.index("head_act")
    assert fake.shift.grad is not None
    # The parameter is a logarithm: one more factor s, and the gain.
    assert float(fake.shift.grad[index]) == pytest.approx(0.5 * GAIN * by_hand, rel=1e-5)
    assert float(fake.shift.grad.abs().sum()) == float(fake.shift.grad[index].abs())
    w = torch.randn(4, 4, 3, 3, requires_grad=True)
    fake.weight("body0", w).backward(torch.full_like(w, 2.0))
    assert w.grad is not None and torch.equal(w.grad, torch.full_like(w, 2.0))


def test_spec_is_what_the_forward_pass_uses() -> None:
    fake = one_tensor(0.3125)
    before = fake.spec()
    assert before.scales == {"head_act": 0.3125, "body0_act": 0.3125}
    assert (before.bits, before.high) == (8, ("head", "tail", "anchor"))
    with torch.no_grad():
        fake.shift += torch.tensor([0.7, -0.9]) / GAIN
    after = fake.spec()
    assert after.scales["head_act"] == pytest.approx(0.3125 * np.exp(0.7), rel=1e-6)
    assert after.scales["body0_act"] == pytest.approx(0.3125 * np.exp(-0.9), rel=1e-6)
    one_code = fake.activation("head_act", torch.tensor([after.scales["head_act"]]))
    assert one_code.tolist() == [after.scales["head_act"]]


def test_a_clips_scale_stays_below_its_bound() -> None:
    fake = one_tensor(float(np.float32(5 / 127)), act="clip")
    with torch.no_grad():
        fake.shift += 1.0 / GAIN
    assert fake.spec().scales["body0_act"] == pytest.approx(6 / 127, rel=1e-6)
    fake.output("body0_act", torch.rand(9)).sum().backward()
    assert fake.shift.grad is not None and bool((fake.shift.grad != 0).any())


def test_half_precision_comes_back_as_float32_and_float64_stays() -> None:
    fake = one_tensor(0.25)
    x = torch.tensor([0.3, 31.0])
    for dtype, result in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        y = fake.activation("head_act", x.to(dtype))
        assert y.dtype == result
        assert y.tolist() == [0.25, 31.0]


def train(net: GraphNet, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        x = torch.rand(2, 3, 12, 12, generator=generator)
        loss = net(x) - x.mean(1, keepdim=True).repeat_interleave(4, 2).repeat_interleave(4, 3)
        value = loss.square().mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def trainable(scale: float) -> tuple[GraphNet, torch.optim.Optimizer]:
    graph = student(width=8, depth=2)
    high = ("head", "tail", "anchor")
    quant = QuantSpec(dict.fromkeys(points(graph, high).tensors, scale_of(scale)), 8, high)
    net = attached(graph, random_weights(graph), quant, rep=True)
    return net, torch.optim.Adam(net.parameters(), 1e-3)


def test_a_resumed_run_is_bit_identical() -> None:
    torch.manual_seed(0)
    net, optimizer = trainable(2.0)
    train(net, optimizer, 3, seed=1)
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    train(net, optimizer, 3, seed=2)
    again, other = trainable(9.0)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    train(again, other, 3, seed=2)
    assert again.quant is not None and net.quant is not None
    assert again.quant.spec() == net.quant.spec()
    for name, value in net.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_training_moves_a_bad_scale_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    net, optimizer = trainable(0.05)  # clips nearly everything
    assert net.quant is not None
    start = net.quant.spec().scales["body0_act"]
    losses = train(net, optimizer, 60, seed=1)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert net.quant.spec().scales["body0_act"] > 1.05 * start


def test_a_spec_of_another_network_is_refused() -> None:
    with pytest.raises(BadModel, match="no scale for"):
        FakeQuant(student(width=4, depth=1), QuantSpec({}, 8, ("head",)))
