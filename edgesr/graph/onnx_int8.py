"""The int8 ONNX files of a network: two for TensorRT, one for ONNX Runtime, same scales.

TensorRT (8.2 to 11) takes int8 with zero point 0 and floating-point biases only, and up to 8.6
wants a weight as fp32 → QuantizeLinear → DequantizeLinear: the fp32 values are multiples of
their scale already, so that this rounds nothing. A strongly typed builder (TensorRT 10 and later,
RTX) runs what is not int8 in the type that the file says: for it there is a form whose
scales, biases and other layers are float16. QuantizeLinear takes those from opset 19 on, which
these builders read. ONNX Runtime fuses a convolution into QLinearConv
only with int32 biases, and drops a ReLU only where the smallest code is 0: activations are
uint8 there. One that cannot be negative has the int8 codes 0 to 127, as zero point 0 gives
them; a Clip keeps out the codes above, which the int8 form cannot hold and AVX2 cannot add up
(`edgesr.graph.quant`). A signed one is the int8 code + 128.

In ONNX Runtime the TensorRT forms are to be run as it is written (`optimize=False`): its
optimiser makes some convolutions signed int8, and those saturate on AVX2.

Sources: TensorRT's guide to explicit quantisation; ONNX Runtime's QDQ selectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel
from edgesr.graph.onnx import Writer, need_onnx, serialise
from edgesr.graph.quant import HIGH, QuantSpec, bias_codes, fits_half, weight_codes
from edgesr.graph.spec import Activation, Conv, Graph, Layer, Weights

Form: TypeAlias = Literal["trt", "trt-fp16", "ort"]
FORMS: tuple[Form, ...] = get_args(Form)
_SMALLEST_HALF = 2.0**-24


def to_onnx_int8(
    graph: Graph,
    weights: Weights,
    quant: QuantSpec,
    *,
    form: Form,
    shape: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The network as an int8 ONNX file in a form for TensorRT or for ONNX Runtime.

    `trt` and `ort` are opset 13, `trt-fp16` (float16 where it is not int8) is opset 19. Input,
    output, `shape` and `metadata` are those of `to_onnx`; `edgesr.precision` says `int8.` and
    the form. The bytes are the same for the same network. Raises `MissingExtra` without the
    onnx package, `BadModel` when weights or scales do not fit the graph, or float16.
    """
    need_onnx()
    graph.check_weights(weights)
    kinds = {"trt": _TensorRT, "trt-fp16": _TensorRTHalf, "ort": _OnnxRuntime}
    writer = kinds[form](graph, weights, quant)
    facts = {"edgesr.precision": f"int8.{form}", **(metadata or {})}
    return serialise(graph, writer.model(shape), facts)


class _TensorRT(Writer):
    """QuantizeLinear and DequantizeLinear around quantised convolutions, all of it int8."""

    real: ClassVar[type[np.floating[Any]]] = np.float32  # what is not int8

    def __init__(self, graph: Graph, weights: Weights, quant: QuantSpec) -> None:
        super().__init__(graph, weights, self.real)
        self.quant, self.points = quant, quant.check(graph)
        self.rounded: dict[str, str] = {}

    def add(self, layer: Layer) -> None:
        """Add the nodes of one layer; what it makes is rounded where that is due."""
        if layer.name not in self.points.made:
            super().add(layer)
            return
        final, real = self.names[layer.name], f"{layer.name}.real"
        self.names[layer.name] = real
        super().add(layer)
        self.names[layer.name] = final
        self.pair(layer.name, real, final)

    def conv(self, layer: Conv, x: str, out: str) -> None:
        """A convolution, in int8 unless it is to stay fp32."""
        if layer.name not in self.points.convs:
            super().conv(layer, x, out)
            return
        source = layer.inputs[0]
        largest = self.points.weight_codes(layer, self.quant.bits)
        codes, scales = weight_codes(self.weights[f"{layer.name}.weight"], largest)
        operands = [self.read(source, x), self.kernel(layer.name, codes, scales)]
        if layer.bias:
            operands.append(self.bias(layer.name, np.float32(self.quant.scales[source]) * scales))
        self.conv_node(layer, operands, out)

    def read(self, tensor: str, x: str) -> str:
        """The rounded form of `tensor`, which the file calls `x`."""
        if tensor in self.points.made:
            return x
        if tensor not in self.rounded:
            self.rounded[tensor] = f"{tensor}.rounded"
            self.pair(tensor, x, self.rounded[tensor])
        return self.rounded[tensor]

    def pair(self, tensor: str, x: str, out: str) -> None:
        """Round `x` to the codes of `tensor` and back."""
        with_scale = [self.scalar(f"{tensor}.scale", self.quant.scales[tensor]),
                      self.constant("int8.zero", np.array(0, np.int8))]  # fmt: skip
        self.node("QuantizeLinear", [x, *with_scale], f"{tensor}.int8")
        self.node("DequantizeLinear", [f"{tensor}.int8", *with_scale], out)

    def kernel(self, name: str, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> str:
        """The weights of convolution `name`, from floating point through their codes."""
        typed = self.typed(scales)
        real = codes * typed.astype(np.float32)[:, None, None, None]
        with_scale = self.scaled(f"{name}.weight", typed, np.int8)
        self.node("QuantizeLinear",
                  [self.constant(f"{name}.weight", real.astype(self.real)), *with_scale],
                  f"{name}.weight.codes", axis=0)  # fmt: skip
        return self.dequantised(f"{name}.weight", with_scale)

    def typed(self, scales: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """The scales of weights as the file holds them."""
        return scales

    def scaled(
        self, name: str, scales: NDArray[np.floating[Any]], dtype: type[np.integer[Any]]
    ) -> list[str]:
        """The names of `scales`, one an output channel, and of their zero points."""
        return [self.constant(f"{name}.scale", scales),
                self.constant(f"{name}.zero", np.zeros(len(scales), dtype))]  # fmt: skip

    def dequantised(self, name: str, with_scale: list[str]) -> str:
        """The tensor that NAME.codes stands for, one scale an output channel."""
        self.node("DequantizeLinear", [f"{name}.codes", *with_scale], f"{name}.real", axis=0)
        return f"{name}.real"

    def bias(self, name: str, scales: NDArray[np.float32]) -> str:
        """The bias of convolution `name`; `scales` are those of its int32 sums."""
        return self.weight(f"{name}.bias")


class _TensorRTHalf(_TensorRT):
    """The same network with float16 where it is not int8."""

    real = np.float16
    ir_version, opset = 9, 19

    def pair(self, tensor: str, x: str, out: str) -> None:
        """Round `x` to the codes of `tensor` and back."""
        if not fits_half(self.quant.scales[tensor]):
            raise BadModel(
                f"scale of '{tensor}' is {self.quant.scales[tensor]:.3g}, which float16 does not "
                "hold: keep the convolutions around it out of int8"
            )
        super().pair(tensor, x, out)

    def typed(self, scales: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """The scales of weights in float16; their multiples are exact enough to give the codes."""
        return np.maximum(scales.astype(np.float16), np.float16(_SMALLEST_HALF))


class _OnnxRuntime(_TensorRT):
    """The same network in the types that ONNX Runtime fuses."""

    def activation(self, layer: Activation, x: str, out: str) -> None:
        """An activation; a clip that the codes already keep is a ReLU, which is fused."""
        if layer.fn == "clip" and layer.name in self.points.made and self.kept(layer):
            self.node("Relu", [x], out)
        elif layer.fn == "silu" and layer.inputs[0] in self.points.made:
            self.gated(x, out)
        else:
            super().activation(layer, x, out)

    def gated(self, x: str, out: str) -> None:
        """SiLU of codes: with its gate in codes too, ONNX Runtime never goes through fp32.

        The gate is rounded to 1/255, which moves the result by 0.2 % at most: less than its own
        rounding nearly everywhere, for 10 % of SPAN's time.
        """
        with_scale = [self.scalar("gate.scale", 1 / 255),
                      self.constant("uint8.0", np.array(0, np.uint8))]  # fmt: skip
        self.node("Sigmoid", [x], f"{out}.gate.real")
        self.node("QuantizeLinear", [f"{out}.gate.real", *with_scale], f"{out}.gate.uint8")
        self.node("DequantizeLinear", [f"{out}.gate.uint8", *with_scale], f"{out}.gate")
        self.node("Mul", [x, f"{out}.gate"], out)

    def kept(self, layer: Activation) -> bool:
        """Whether the bound of a clip has the largest code anyway."""
        codes = np.float32(layer.high) / np.float32(self.quant.scales[layer.name])
        return bool(np.rint(codes) >= HIGH)

    def pair(self, tensor: str, x: str, out: str) -> None:
        """Round `x` to the uint8 codes of `tensor` and back."""
        signed = tensor in self.points.signed
        zero = np.array(128 if signed else 0, np.uint8)
        with_scale = [self.scalar(f"{tensor}.scale", self.quant.scales[tensor]),
                      self.constant(f"uint8.{zero}", zero)]  # fmt: skip
        codes = f"{tensor}.uint8"
        self.node("QuantizeLinear", [x, *with_scale], codes)
        if not signed:
            limits = [self.constant(f"uint8.{v}", np.array(v, np.uint8)) for v in (0, HIGH)]
            self.node("Clip", [codes, *limits], f"{tensor}.codes")
            codes = f"{tensor}.codes"
        self.node("DequantizeLinear", [codes, *with_scale], out)

    def kernel(self, name: str, codes: NDArray[np.int8], scales: NDArray[np.float32]) -> str:
        """The weights of convolution `name`, stored as int8."""
        with_scale = self.scaled(f"{name}.weight", scales, np.int8)
        self.constant(f"{name}.weight.codes", codes)
        return self.dequantised(f"{name}.weight", with_scale)

    def bias(self, name: str, scales: NDArray[np.float32]) -> str:
        """The bias of convolution `name`, stored as int32."""
        codes = bias_codes(name, self.weights[f"{name}.bias"], scales)
        with_scale = self.scaled(f"{name}.bias", scales, np.int32)
        self.constant(f"{name}.bias.codes", codes)
        return self.dequantised(f"{name}.bias", with_scale)
