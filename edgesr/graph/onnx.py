"""ONNX bytes from a graph, written without torch and byte-reproducible.

IR 8, opset 13, DepthToSpace in CRD order: readable by TensorRT 8 to 11 and by every ONNX
Runtime still in use. Input and output are always float32; the fp16 form converts weights
and arithmetic to float16 between a Cast at each end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import BadModel, MissingExtra
from edgesr.graph.reach import halo
from edgesr.graph.spec import (
    INPUT,
    Activation,
    Add,
    Affine,
    Concat,
    Conv,
    Graph,
    Layer,
    Multiply,
    Nearest,
    PixelShuffle,
    Weights,
)

if TYPE_CHECKING:
    import onnx

IR_VERSION = 8
OPSET = 13
OUTPUT = "output"


def to_onnx(
    graph: Graph,
    weights: Weights,
    *,
    precision: Literal["fp32", "fp16"] = "fp32",
    shape: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
) -> bytes:
    """The network as an ONNX file.

    Input `input` is 1×3×H×W float32 RGB in [0, 1], output `output` is 1×3×sH×sW float32.
    `shape` fixes (H, W); None leaves batch, H and W open. `metadata` is added to the
    `edgesr.name`, `edgesr.scale` and `edgesr.halo` that every file carries. `keep` names layers
    before the last whose tensors become outputs too, in fp32 under their names (calibration
    reads them).
    Raises `MissingExtra` without the onnx package, `BadModel` for weights that do not fit
    the graph, or float16.
    """
    need_onnx()
    graph.check_weights(weights)
    writer = Writer(graph, weights, np.float16 if precision == "fp16" else np.float32)
    return serialise(graph, writer.model(shape, keep), metadata)


def need_onnx() -> None:
    """Raise `MissingExtra` without the onnx package."""
    try:
        import onnx  # noqa: F401
    except ImportError as e:
        raise MissingExtra("onnx", "export", "writing ONNX files") from e


def serialise(
    graph: Graph, model: onnx.ModelProto, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The checked bytes of `model`, with the metadata that every file carries."""
    import onnx

    facts = {"edgesr.name": graph.name, "edgesr.scale": str(graph.scale),
             "edgesr.halo": str(halo(graph)), **(metadata or {})}  # fmt: skip
    for key in sorted(facts):
        model.metadata_props.add(key=key, value=facts[key])
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class Writer:
    """Collects nodes and initialisers in the order of the graph.

    `names` says under which name the ONNX file holds each tensor of the graph. A child that
    needs newer operators says so in `ir_version` and `opset`.
    """

    ir_version, opset = IR_VERSION, OPSET

    def __init__(self, graph: Graph, weights: Weights, dtype: type[np.floating[Any]]) -> None:
        self.graph, self.weights, self.dtype = graph, weights, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.names = {INPUT: INPUT}

    def model(self, shape: tuple[int, int] | None, keep: Sequence[str] = ()) -> onnx.ModelProto:
        """The whole graph as a model without metadata; arguments as `to_onnx`."""
        from onnx import TensorProto, helper

        half = self.dtype is np.float16
        if half:
            self.names[INPUT] = "input_fp16"
            self.node("Cast", [INPUT], "input_fp16", to=TensorProto.FLOAT16)
        for layer in self.graph.layers:
            last = layer.name == self.graph.output
            self.names[layer.name] = OUTPUT if last and not half else layer.name
            self.add(layer)
        if half:
            self.node("Cast", [self.graph.output], OUTPUT, to=TensorProto.FLOAT)
        x = self.described(INPUT, INPUT, shape)
        y = [self.described(OUTPUT, self.graph.output, shape)]
        y += [self.described(self.names[k], k, shape) for k in keep]
        body = helper.make_graph(self.nodes, self.graph.name, [x], y, list(self.constants.values()))
        return helper.make_model(
            body,
            ir_version=self.ir_version,
            opset_imports=[helper.make_opsetid("", self.opset)],
            producer_name="edgesr",
        )

    def described(
        self, name: str, tensor: str, shape: tuple[int, int] | None
    ) -> onnx.ValueInfoProto:
        """Type and shape of the graph's `tensor` under the file's `name`."""
        from onnx import TensorProto, helper

        size = self.graph.sizes[tensor]
        n, h, w = (1, *shape) if shape else ("N", "H", "W")
        if size != 1:
            h, w = (h * size, w * size) if shape else (f"H*{size}", f"W*{size}")
        sides = [n, self.graph.channels[tensor], h, w]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Add a node, named after its one output."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initialiser once; its name."""
        from onnx import numpy_helper

        if name not in self.constants:
            # Not ascontiguousarray, which makes one dimension of none: Clip's bounds and the scale
            # of a whole tensor are scalars.
            whole = np.asarray(value, order="C")
            self.constants[name] = numpy_helper.from_array(whole, name)
        return name

    def weight(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """Add a weight of the graph in the file's precision; its name."""
        value = self.weights[name]
        if shape:
            value = value.reshape(shape)
        with np.errstate(over="ignore"):
            typed = value.astype(self.dtype)
        if self.dtype is np.float16 and bool((np.isinf(typed) & np.isfinite(value)).any()):
            raise BadModel(f"'{name}' holds values above 65504: write this network in fp32")
        return self.constant(name, typed)

    def scalar(self, name: str, value: float) -> str:
        """Add a constant in the file's precision; its name."""
        return self.constant(name, np.array(value, self.dtype))

    def add(self, layer: Layer) -> None:
        """Add the nodes of one layer, from and to the tensors in `names`."""
        inputs = [self.names[i] for i in layer.inputs]
        out = self.names[layer.name]
        match layer:
            case Conv():
                self.conv(layer, inputs[0], out)
            case Activation():
                self.activation(layer, inputs[0], out)
            case Add():
                self.node("Add", inputs, out)
            case Multiply():
                self.node("Mul", inputs, out)
            case Concat():
                self.node("Concat", inputs, out, axis=1)
            case PixelShuffle():
                self.node("DepthToSpace", inputs, out, blocksize=layer.factor, mode="CRD")
            case Nearest():
                scales = np.array([1, 1, layer.factor, layer.factor], np.float32)
                name = self.constant(f"{layer.name}.scales", scales)
                self.node("Resize", [inputs[0], "", name], out, mode="nearest",
                          coordinate_transformation_mode="asymmetric",
                          nearest_mode="floor")  # fmt: skip
            case Affine():
                self.affine(layer, inputs[0], out)

    def conv(self, layer: Conv, x: str, out: str) -> None:
        """A convolution from tensor `x` to tensor `out`."""
        names = ["weight", "bias"] if layer.bias else ["weight"]
        self.conv_node(layer, [x, *(self.weight(f"{layer.name}.{n}") for n in names)], out)

    def conv_node(self, layer: Conv, inputs: list[str], out: str) -> None:
        """The node of a convolution whose operands are there."""
        pads = [layer.kernel // 2] * 4
        self.node("Conv", inputs, out, kernel_shape=[layer.kernel] * 2, pads=pads)

    def activation(self, layer: Activation, x: str, out: str) -> None:
        """An activation from tensor `x` to tensor `out`."""
        match layer.fn:
            case "relu":
                self.node("Relu", [x], out)
            case "leaky_relu":
                self.node("LeakyRelu", [x], out, alpha=layer.slope)
            case "prelu":
                slope = self.weight(f"{layer.name}.slope", (-1, 1, 1))
                self.node("PRelu", [x, slope], out)
            case "clip":
                low, high = self.scalar("zero", 0.0), self.scalar(f"{out}.high", layer.high)
                self.node("Clip", [x, low, high], out)
            case "sigmoid":
                self.node("Sigmoid", [x], out)
            case "tanh":
                self.node("Tanh", [x], out)
            case "silu":
                self.node("Sigmoid", [x], f"{out}.gate")
                self.node("Mul", [x, f"{out}.gate"], out)

    def affine(self, layer: Affine, x: str, out: str) -> None:
        """A gain and shift, without the one that does nothing."""
        gain = np.array(layer.gain, self.dtype).reshape(-1, 1, 1)
        shift = np.array(layer.shift, self.dtype).reshape(-1, 1, 1)
        steps = [("Mul", "gain", gain)] if np.any(gain != 1) else []
        # A shift of nothing is still written when there is no gain: the name must exist.
        if np.any(shift != 0) or not steps:
            steps.append(("Add", "shift", shift))
        for i, (op, what, value) in enumerate(steps):
            target = out if i == len(steps) - 1 else f"{out}.{what}ed"
            self.node(op, [x, self.constant(f"{layer.name}.{what}", value)], target)
            x = target
