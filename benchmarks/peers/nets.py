"""A small writer of ONNX networks for the peers, whose layers EdgeSR's own graphs do not have.

Strided and pooled branches, global statistics, grouped convolutions, several upsampling steps.
Weights are random: they do not change the time, as long as nothing overflows or vanishes.
Shapes are fixed when a network is written, so that parameters and multiply-adds are counted along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8
SCALE = 4


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network being written: name and shape (batch 1)."""

    name: str
    channels: int
    height: int
    width: int


class Net:
    """Writes one network, layer by layer; `bytes()` is the finished file.

    `x` is the input, 1 × `channels` × `height` × `width` float32. `parameters` counts weights,
    biases and slopes, `weights` the first of these; `macs` the multiply-accumulates of the
    convolutions. `tileable` turns false with the first layer that does not treat all pixels
    alike (stride, pooling, a statistic over the picture): tiles of such a network differ from
    the whole picture, however much context they are given.
    """

    def __init__(self, name: str, channels: int, height: int, width: int) -> None:
        self.name = name
        self.x = Tensor("input", channels, height, width)
        self.parameters = self.weights = self.macs = 0
        self.tileable = True
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def conv(
        self,
        x: Tensor,
        out: int,
        kernel: int = 3,
        *,
        bias: bool = True,
        stride: int = 1,
        pad: int | None = None,
        groups: int = 1,
    ) -> Tensor:
        """A convolution; without `pad` it keeps the size (stride 1)."""
        pad = kernel // 2 if pad is None else pad
        height = (x.height + 2 * pad - kernel) // stride + 1
        width = (x.width + 2 * pad - kernel) // stride + 1
        self.tileable &= stride == 1
        operands = self._filled((out, x.channels // groups, kernel, kernel), out if bias else 0)
        self.macs += out * x.channels // groups * kernel**2 * height * width
        attributes = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4, "strides": [stride] * 2}
        return self._node(
            "Conv", [x.name, *operands], (out, height, width), group=groups, **attributes
        )

    def deconv(self, x: Tensor, out: int, kernel: int, stride: int) -> Tensor:
        """A transposed convolution to exactly `stride` times the size."""
        pad = kernel // 2
        extra = stride - kernel + 2 * pad
        operands = self._filled((x.channels, out, kernel, kernel), out)
        self.macs += out * x.channels * kernel**2 * x.height * x.width
        shape = (out, x.height * stride, x.width * stride)
        attributes = {"kernel_shape": [kernel] * 2, "pads": [pad] * 4}
        attributes |= {"strides": [stride] * 2, "output_padding": [extra] * 2}
        return self._node("ConvTranspose", [x.name, *operands], shape, **attributes)

    def act(self, x: Tensor, kind: str, slope: float = 0.05) -> Tensor:
        """relu, leaky_relu, prelu (a slope per channel), tanh, sigmoid, silu, gelu or clip."""
        match kind:
            case "leaky_relu":
                return self._like(x, "LeakyRelu", [x.name], alpha=slope)
            case "prelu":
                self.parameters += x.channels
                slopes = self._constant(np.full((x.channels, 1, 1), 0.25, np.float32))
                return self._like(x, "PRelu", [x.name, slopes])
            case "silu":
                return self.mul(x, self._like(x, "Sigmoid", [x.name]))
            case "gelu":
                # x / 2 · (1 + erf(x / √2)) in the order that ONNX Runtime fuses into one kernel.
                scaled = self._like(x, "Div", [x.name, self._scalar(math.sqrt(2))])
                error = self._like(x, "Erf", [scaled.name])
                raised = self._like(x, "Add", [error.name, self._scalar(1.0)])
                return self._like(x, "Mul", [self.mul(x, raised).name, self._scalar(0.5)])
            case "clip":
                return self._like(x, "Clip", [x.name, self._scalar(0.0), self._scalar(1.0)])
        return self._like(x, {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}[kind], [x.name])

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """The sum; one channel is added to each of many."""
        return self._like(a if a.channels >= b.channels else b, "Add", [a.name, b.name])

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        """The product; a single pixel weighs a whole channel."""
        return self._like(a if a.height >= b.height else b, "Mul", [a.name, b.name])

    def shift(self, x: Tensor, value: float | tuple[float, ...]) -> Tensor:
        """`x` plus a constant, one or one per channel."""
        constant = np.array(value, np.float32).reshape(-1, 1, 1)
        return self._like(x, "Add", [x.name, self._constant(constant)])

    def gain(self, x: Tensor, value: float) -> Tensor:
        """`x` times a constant."""
        return self._like(x, "Mul", [x.name, self._scalar(value)])

    def concat(self, *parts: Tensor) -> Tensor:
        """The channels of all parts, in order."""
        shape = (sum(p.channels for p in parts), parts[0].height, parts[0].width)
        return self._node("Concat", [p.name for p in parts], shape, axis=1)

    def split(self, x: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """The `first` channels, and the rest."""
        sizes = self._constant(np.array([first, x.channels - first], np.int64))
        a = Tensor(f"t{len(self._nodes)}a", first, x.height, x.width)
        b = Tensor(f"t{len(self._nodes)}b", x.channels - first, x.height, x.width)
        self._nodes.append(helper.make_node("Split", [x.name, sizes], [a.name, b.name], axis=1))
        return a, b

    def max_pool(self, x: Tensor, kernel: int, stride: int) -> Tensor:
        """The largest of each window; windows that do not fit are dropped."""
        self.tileable = False
        height, width = ((side - kernel) // stride + 1 for side in (x.height, x.width))
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        return self._node("MaxPool", [x.name], (x.channels, height, width), **attributes)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each channel over the picture, 1 × 1."""
        self.tileable = False
        return self._node("GlobalAveragePool", [x.name], (x.channels, 1, 1))

    def deviation(self, x: Tensor) -> Tensor:
        """The standard deviation of each channel over the picture, 1 × 1."""
        centred = self._like(x, "Sub", [x.name, self.mean(x).name])
        variance = self.mean(self.mul(centred, centred))
        return self._like(variance, "Sqrt", [variance.name])

    def resize(self, x: Tensor, height: int, width: int) -> Tensor:
        """Bilinear, pixel centres aligned at the half pixel (torch: align_corners=False)."""
        sizes = self._constant(np.array([1, x.channels, height, width], np.int64))
        attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self._node("Resize", [x.name, "", "", sizes], (x.channels, height, width),
                          **attributes)  # fmt: skip

    def shuffle(self, x: Tensor, factor: int = SCALE) -> Tensor:
        """PixelShuffle: (C·r², H, W) → (C, rH, rW)."""
        shape = (x.channels // factor**2, x.height * factor, x.width * factor)
        return self._node("DepthToSpace", [x.name], shape, blocksize=factor, mode="CRD")

    def bytes(self, output: Tensor) -> bytes:
        """The checked file with `output` as its result."""
        described = [
            helper.make_tensor_value_info(
                t.name, TensorProto.FLOAT, [1, t.channels, t.height, t.width]
            )
            for t in (self.x, output)
        ]
        graph = helper.make_graph(
            self._nodes, self.name, described[:1], described[1:], self._constants
        )
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, ir_version=IR_VERSION, opset_imports=imports, producer_name="edgesr-peers"
        )
        onnx.checker.check_model(model, full_check=True)  # also compares the shapes
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _filled(self, shape: tuple[int, ...], biases: int) -> list[str]:
        # Smaller than He et al. (ICCV 2015): networks that multiply features would overflow.
        std = 0.85 * math.sqrt(2.0 / math.prod(shape[1:]))
        self.weights += math.prod(shape)
        self.parameters += math.prod(shape) + biases
        names = [self._constant(self._rng.normal(0.0, std, shape).astype(np.float32))]
        if biases:
            names.append(self._constant(np.zeros(biases, np.float32)))
        return names

    def _scalar(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def _like(self, x: Tensor, op: str, inputs: list[str], **attributes: Any) -> Tensor:
        return self._node(op, inputs, (x.channels, x.height, x.width), **attributes)

    def _node(
        self, op: str, inputs: list[str], shape: tuple[int, int, int], **attributes: Any
    ) -> Tensor:
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return Tensor(name, *shape)
