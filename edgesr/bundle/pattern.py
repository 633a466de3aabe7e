"""The 2:4 pattern as it is stored in an ONNX file, int8 included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgesr.sparsity import violations

if TYPE_CHECKING:
    import onnx

_THROUGH = ("DequantizeLinear", "QuantizeLinear", "Cast")  # between stored weights and a Conv


def broken_fours(data: bytes) -> dict[str, int]:
    """For each eligible Conv of an ONNX file how many fours hold more than two non-zeros.

    Eligible are those whose input channels come in fours. Read from the stored tensors,
    looking back through Q/DQ and Cast: from the file, not from what it was written from.
    """
    import onnx

    graph = onnx.load_from_string(data).graph
    stored = {t.name: t for t in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            weight = _stored(node.input[1], stored, makers)
            if weight is not None and weight.shape[1] % 4 == 0:
                found[node.name] = violations(weight.astype(np.float32))
    return found


def _stored(
    name: str, stored: dict[str, onnx.TensorProto], makers: dict[str, onnx.NodeProto]
) -> NDArray[Any] | None:
    from onnx import numpy_helper

    while name not in stored:
        node = makers.get(name)
        if node is None or node.op_type not in _THROUGH:
            return None
        name = node.input[0]
    array: NDArray[Any] = numpy_helper.to_array(stored[name])
    return array
