"""The two int8 files: whole-number arithmetic, the engines' rules, and each other."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from networks import random_weights, small_networks
from onnx import numpy_helper
from quantised import SCALE, exact, exact_networks, in_whole_numbers, picture

from edgesr.bundle import reference
from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import FORMS, Form, to_onnx_int8
from edgesr.graph.quant import QuantSpec, high_convs, points, weight_codes
from edgesr.graph.spec import INPUT, Activation, Conv, Graph
from edgesr.metrics import psnr_y
from edgesr.models.find import load_network
from edgesr.models.student import student
from edgesr.resize import downscale_bicubic
from edgesr.runtime.calibrate import post_training
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles

HIGHS = (("head", "tail"), ("head",), ())
NETWORKS = exact_networks()


@pytest.fixture(params=NETWORKS, ids=str)
def graph(request: pytest.FixtureRequest) -> Graph:
    return NETWORKS[request.param]


def optimised(model: bytes, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime is left with."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.mark.parametrize("high", HIGHS, ids=str)
def test_both_forms_are_the_whole_number_network_bit_for_bit(
    graph: Graph, high: tuple[str, ...]
) -> None:
    for seed in range(3):
        weights, quant = exact(graph, high, seed)
        x = picture(seed)
        want = in_whole_numbers(graph, weights, quant, x)
        fp32 = OrtRuntime(to_onnx(graph, weights)).run(x)
        assert np.abs(want - fp32).max() > SCALE / 4  # the rounding shows
        for form, optimize in (("trt", False), ("ort", False), ("ort", True)):
            model = to_onnx_int8(graph, weights, quant, form=form)
            got = OrtRuntime(model, optimize=optimize).run(x)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("lowest", [0, -128])
def test_the_largest_codes_do_not_saturate_avx2(lowest: int) -> None:
    """All codes and all weights at their largest, 8 channels: any pair sum is the worst one."""
    act = Activation("act", ("head",), "relu") if lowest == 0 else None
    source = "act" if act else "head"
    graph = Graph(
        "worst",
        (Conv("head", (INPUT,), 8, 1), *((act,) if act else ()), Conv("body", (source,), 8, 3),
         Conv("tail", ("body",), 3, 1)),
    )  # fmt: skip
    kept = high_convs(graph, ("head", "tail"))
    assert points(graph, kept).lowest(source) == lowest
    weights = {k: np.zeros(s, np.float32) for k, s in graph.weight_shapes().items()}
    weights["head.bias"] += 127 * SCALE
    weights["body.weight"] += 63 * 2.0**-10 if lowest else 127 * 2.0**-10
    weights["tail.weight"] += 1.0
    scales = {source: SCALE, "body": 1.0}
    x = picture()
    want = in_whole_numbers(graph, weights, QuantSpec(scales, 8, kept), x)
    inner = 8 * 9 * 127 * SCALE * float(weights["body.weight"].max())
    assert want[0, 0, 5, 5] == 8 * round(inner)
    got = OrtRuntime(
        to_onnx_int8(graph, weights, QuantSpec(scales, 8, kept), form="ort")
    ).run(x)  # fmt: skip
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("high", HIGHS, ids=str)
def test_onnxruntime_fuses_every_quantised_convolution(
    graph: Graph, high: tuple[str, ...], tmp_path: Path
) -> None:
    weights, quant = exact(graph, high)
    found = optimised(to_onnx_int8(graph, weights, quant, form="ort"), tmp_path)
    assert found["QLinearConv"] == len(graph.convs()) - len(quant.high)
    assert found["Conv"] + found["FusedConv"] == len(quant.high)
    assert not found["ConvInteger"]
    # A ReLU or clip behind a quantised convolution costs nothing: the codes start at 0.
    relu_behind_fp32 = "head" in quant.high and not found["FusedConv"]
    assert found["Relu"] <= relu_behind_fp32


@pytest.mark.parametrize("name", sorted(set(small_networks()) - {"student_clip"}))
def test_every_architecture_can_be_written(name: str, tmp_path: Path) -> None:
    graph = small_networks()[name]
    weights = random_weights(graph)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    quant = post_training(graph, weights, list(pixels), high=())
    x = pixels[0].transpose(2, 0, 1)[None].astype(np.float32) / 255
    trt = OrtRuntime(to_onnx_int8(graph, weights, quant, form="trt"), optimize=False).run(x)
    fast = OrtRuntime(to_onnx_int8(graph, weights, quant, form="ort")).run(x)
    fp32 = OrtRuntime(to_onnx(graph, weights)).run(x)
    spread = fp32.std()
    # One code more or less now and then, where sums are added up in another order.
    assert np.abs(trt - fast).mean() <= 0.05 * spread
    assert 0 < np.abs(trt - fp32).mean() <= 0.5 * spread
    found = optimised(to_onnx_int8(graph, weights, quant, form="ort"), tmp_path)
    assert found["QLinearConv"] == len(graph.convs())


def test_a_silu_between_two_int8_convolutions_stays_in_codes(tmp_path: Path) -> None:
    graph = small_networks()["span"]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    quant = post_training(graph, random_weights(graph), list(pixels), high=())
    found = optimised(to_onnx_int8(graph, random_weights(graph), quant, form="ort"), tmp_path)
    silus = sum(isinstance(x, Activation) and x.fn == "silu" for x in graph.layers)
    assert silus == 12
    # The last block's first one is also read by the concatenation, which is fp32.
    assert (found["QLinearSigmoid"], found["QLinearMul"]) == (silus, silus - 1)


@pytest.mark.parametrize("form", FORMS)
def test_the_file_keeps_the_rules_of_its_engine(graph: Graph, form: Form) -> None:
    weights, quant = exact(graph, ("tail",))
    data = to_onnx_int8(graph, weights, quant, form=form, metadata={"made": "here"})
    assert data == to_onnx_int8(graph, dict(reversed(weights.items())), quant, form=form,
                                metadata={"made": "here"})  # fmt: skip
    model = onnx.load_from_string(data)
    versions = (model.ir_version, [(o.domain, o.version) for o in model.opset_import])
    assert versions == ((9, [("", 19)]) if form == "trt-fp16" else (8, [("", 13)]))
    onnx.checker.check_model(model, full_check=True)
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["edgesr.precision"] == f"int8.{form}"
    assert (facts["edgesr.scale"], facts["made"]) == (str(graph.scale), "here")
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    for tensor in quant.scales:  # one scale for the whole tensor is a scalar
        assert constants[f"{tensor}.scale"].shape == ()
    zeros = {
        constants[n.input[2]].dtype.name: set() for n in model.graph.node if "Linear" in n.op_type
    }
    for n in model.graph.node:
        if n.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[n.input[2]]
            zeros[zero.dtype.name] |= set(zero.ravel().tolist())
    made = {o: n for n in model.graph.node for o in n.output}
    for conv in (n for n in model.graph.node if n.op_type == "Conv"):
        name = conv.output[0].removesuffix(".real")
        if name in quant.high:
            assert list(conv.input[1:]) == [f"{name}.weight", f"{name}.bias"]
            continue
        back = made[conv.input[1]]
        assert back.op_type == "DequantizeLinear"
        assert [a.i for a in back.attribute] == [0]  # the axis of the output channels
        if form != "ort":
            first = made[back.input[0]]
            assert first.op_type == "QuantizeLinear"
            real = constants[first.input[0]].astype(np.float64)
            steps = constants[first.input[1]].astype(np.float64)[:, None, None, None]
            codes, _ = weight_codes(weights[f"{name}.weight"], 127 if name != "body" else 63)
            np.testing.assert_array_equal(np.rint(real / steps), codes)
            assert constants[conv.input[2]].dtype == (np.float32 if form == "trt" else np.float16)
        else:
            assert constants[back.input[0]].dtype == np.int8
            assert constants[made[conv.input[2]].input[0]].dtype == np.int32
    signed = bool(points(graph, quant.high).signed)
    uint8 = {0, 128} if signed else {0}
    if form == "trt-fp16":
        floats = {c.dtype for n, c in constants.items() if c.dtype.kind == "f"}
        assert floats == {np.dtype(np.float16)}
    assert zeros == ({"int8": {0}} if form != "ort" else
                     {"int8": {0}, "int32": {0}, "uint8": uint8})  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(small_networks()) - {"student_clip"}))
def test_the_half_form_is_the_same_network_but_for_float16(name: str) -> None:
    """Against numpy, which rounds every layer to float16 and the quantised ones to codes."""
    graph = small_networks()[name]
    weights = random_weights(graph)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8)
    quant = post_training(graph, weights, list(pixels), high=("head", "tail"))
    x = pixels[0].transpose(2, 0, 1).astype(np.float32) / 255
    model = to_onnx_int8(graph, weights, quant, form="trt-fp16")
    found = OrtRuntime(model, optimize=False).run(x[None])[0]
    want = reference.evaluate(graph, weights, x, half=True, quant=quant)
    fp32 = reference.evaluate(graph, weights, x)
    # Where float16 rounds a sum across the middle between two codes the code differs.
    assert np.abs(found - want).mean() <= 0.03 * fp32.std()
    assert 0 < np.abs(found - fp32).mean() <= 0.2 * fp32.std()


def test_the_weakest_channels_keep_their_codes_in_float16() -> None:
    """Multiples of a scale near float16's smallest number are still told apart."""
    graph = student(8, 2)
    weights = random_weights(graph)
    for i in range(8):
        weights["body1.weight"][i] *= np.float32(2.0 ** (-3 * i - 3))  # down to 2^-24
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3), np.uint8)
    quant = post_training(graph, weights, list(pixels))
    model = onnx.load_from_string(to_onnx_int8(graph, weights, quant, form="trt-fp16"))
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    real, scales = (constants[f"body1.weight{x}"].astype(np.float64) for x in ("", ".scale"))
    codes, _ = weight_codes(weights["body1.weight"], 127)
    found = np.rint(real / scales[:, None, None, None])
    assert scales.min() < 1e-6
    np.testing.assert_array_equal(found, codes)


def test_a_scale_that_float16_does_not_hold_is_refused_by_name() -> None:
    graph = NETWORKS["relu"]
    weights, quant = exact(graph, ("head", "tail"))
    small = QuantSpec({**quant.scales, "body1_act": 2.0**-20}, 8, quant.high)
    for form in ("trt", "ort"):
        to_onnx_int8(graph, weights, small, form=form)
    with pytest.raises(BadModel, match=r"scale of 'body1_act' is 9\.54e-07, which float16"):
        to_onnx_int8(graph, weights, small, form="trt-fp16")


@pytest.mark.parametrize("fixed", [True, False])
def test_tensorrt_builds_its_forms_and_refuses_the_other(graph: Graph, fixed: bool) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail("in CI tensorrt_rtx must be installed")
        pytest.skip("tensorrt_rtx is not installed")
    import tensorrt_rtx as trt

    weights, quant = exact(graph, ("head", "tail"))
    shape = (16, 24) if fixed else None
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    plans = {}
    for form in FORMS:
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, trt.Logger(trt.Logger.INTERNAL_ERROR))
        parsed = parser.parse(to_onnx_int8(graph, weights, quant, form=form, shape=shape))
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        profile.set_shape("input", (1, 3, 16, 24), (1, 3, 16, 24), (1, 3, 32, 48))
        if not fixed:
            config.add_optimization_profile(profile)
        plans[form] = builder.build_serialized_network(network, config) if parsed else None
    for form in ("trt", "trt-fp16"):
        assert plans[form] is not None and plans[form].nbytes > 1000
    assert plans["ort"] is None


def test_a_trained_network_keeps_its_quality_in_both_forms(
    photograph: Callable[[str], np.ndarray],
) -> None:
    """The bundled `balanced`, calibrated on other pictures. Measured: 0.03 and 0.005 dB."""
    ckpt = load_network("balanced")
    seen = [photograph(name)[60:156, 60:156] for name in ("coffee", "rocket", "chelsea")]
    quant = post_training(ckpt.graph, ckpt.weights, seen)
    hr = photograph("astronaut")[:256, 100:356]
    lr = downscale_bicubic(hr, 4)
    models = {
        "fp32": to_onnx(ckpt.graph, ckpt.weights),
        "trt": to_onnx_int8(ckpt.graph, ckpt.weights, quant, form="trt"),
        "ort": to_onnx_int8(ckpt.graph, ckpt.weights, quant, form="ort"),
    }
    quality = {
        name: psnr_y(hr, upscale_tiles(lr, OrtRuntime(model, optimize=name != "trt"), None))
        for name, model in models.items()
    }
    assert quality["fp32"] - 0.15 <= quality["ort"] <= quality["fp32"] + 0.02
    assert abs(quality["trt"] - quality["ort"]) <= 0.02


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = NETWORKS["relu"]
    weights, quant = exact(graph, ("tail",))
    with pytest.raises(BadModel, match="no scale for"):
        to_onnx_int8(graph, weights, QuantSpec({}, 8, quant.high), form="ort")
    with pytest.raises(BadModel, match="missing"):
        to_onnx_int8(graph, {}, quant, form="ort")
    weights["body1.bias"][3] = 1e6
    with pytest.raises(BadModel, match=r"bias of 'body1' is too large .* keep 'body1' in fp32"):
        to_onnx_int8(graph, weights, quant, form="ort")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"edgesr\[export\]"):
        to_onnx_int8(graph, weights, quant, form="ort")
