"""What int8 costs a network, on photographs: decibels against the originals and against fp32.

The photographs of the golden tiles are cut to a square in their middle and made `scale` times
smaller by MATLAB's bicubic; the network makes them large again, and PSNR-Y is taken against
the photograph, in fp32 and in int8. The difference of the two means is the drop that
`--max-drop` limits. A network that is no good at all loses nothing by that measure: so int8
also has a floor against fp32 itself (`gates.LIMITS`), on these and on the photographs as they
are, whose large smooth parts and hard edges reach other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgesr import metrics
from edgesr.bundle.gates import LIMITS, Difference, difference, failures, worst
from edgesr.bundle.golden import run_tile
from edgesr.errors import BadImage
from edgesr.graph.onnx import to_onnx
from edgesr.graph.onnx_int8 import Form, to_onnx_int8
from edgesr.graph.quant import QuantSpec
from edgesr.graph.spec import INPUT, Graph, Weights
from edgesr.resize import downscale_bicubic
from edgesr.runtime.calibrate import calibrate
from edgesr.runtime.ort import OrtRuntime

Picture = NDArray[np.uint8]
SIDE = 96  # of the network's input, pixels
PROBE = 48  # the same where one convolution alone is in int8
SMALLEST = 16
BEST_DB = 99.0  # stands for a perfect picture
# A scale that ends at a fourth of what the photographs reach cuts off; one that ends sixteen times
# beyond leaves 8 codes of 127. Trained scales are between half and one and a half times that.
CUTS_OFF, TOO_COARSE = 4.0, 1 / 16


@dataclass(frozen=True)
class Quality:
    """What one int8 form makes of the photographs.

    `psnr_y` and `psnr_y_fp32` are means in dB against the originals, `drop_db` what int8 loses;
    `lost` is the worst difference to the fp32 outputs.
    """

    psnr_y: float
    psnr_y_fp32: float
    lost: Difference

    @property
    def drop_db(self) -> float:
        """How many dB of PSNR-Y int8 loses; negative when it gains by chance."""
        return self.psnr_y_fp32 - self.psnr_y

    def failures(self, max_drop_db: float) -> list[str]:
        """What is beyond the allowed drop and the floor of int8, in words."""
        found = failures(self.lost, LIMITS["int8"])
        if self.drop_db > max_drop_db:
            found.append(
                f"loses {self.drop_db:.3f} dB of PSNR-Y against the photographs, "
                f"at most {max_drop_db:g} allowed"
            )
        return found


class Judge:
    """Holds int8 forms of one network against its fp32 form and the photographs.

    `photographs` are HWC uint8 RGB. Raises `BadImage` when none is large enough.
    """

    def __init__(self, graph: Graph, weights: Weights, photographs: Sequence[Picture]) -> None:
        self.graph, self.weights = graph, weights
        squares = (_square(p, graph.scale) for p in photographs)
        self.originals = [s for s in squares if s is not None]
        if not self.originals:
            raise BadImage(
                f"no photograph of {SMALLEST * graph.scale} pixels or more to judge int8 by; give "
                "larger ones with --golden DIR"
            )
        small = [downscale_bicubic(p, graph.scale) for p in self.originals]
        self.inputs = [*small, *(_middle(p, SIDE, SIDE) for p in self.originals)]
        self.exact = self._run(to_onnx(graph, weights), self.inputs)
        self.psnr_y_fp32 = self._psnr_y(self.exact)
        self._probes = [x[:PROBE, :PROBE] for x in self.inputs]
        self._probes_exact = self._run(to_onnx(graph, weights), self._probes)

    def quality(self, quant: QuantSpec, form: Form) -> Quality:
        """What the network with these numbers makes of the photographs, in one form."""
        outputs = self._run(self._onnx(quant, form), self.inputs, optimize=form == "ort")
        lost = worst([difference(a, b) for a, b in zip(self.exact, outputs, strict=True)])
        return Quality(self._psnr_y(outputs), self.psnr_y_fp32, lost)

    def alone(self, quant: QuantSpec, conv: str) -> float:
        """PSNR (dB) against fp32 when `conv` alone is in int8: its sensitivity."""
        others = [c.name for c in self.graph.convs() if c.name != conv]
        model = self._onnx(quant.keeping(self.graph, others), "trt")
        outputs = self._run(model, self._probes, optimize=False)
        pairs = zip(self._probes_exact, outputs, strict=True)
        return worst([difference(a, b) for a, b in pairs]).psnr_db

    def suspects(self, quant: QuantSpec) -> dict[str, str]:
        """Tensors whose scale does not fit the photographs, each with what is wrong."""
        tensors = [t for t in (INPUT, *(x.name for x in self.graph.layers)) if t in quant.scales]
        seen = calibrate(self.graph, self.weights, self.inputs, tensors)
        found = {}
        for name in tensors:
            ratio = seen[name] / quant.scales[name]
            if not TOO_COARSE <= ratio <= CUTS_OFF:
                ends, reach = 127 * quant.scales[name], 127 * seen[name]
                found[name] = f"its codes end at {ends:.3g}, the photographs reach {reach:.3g}"
        return found

    def _onnx(self, quant: QuantSpec, form: Form) -> bytes:
        return to_onnx_int8(self.graph, self.weights, quant, form=form)

    def _run(
        self, model: bytes, inputs: Sequence[Picture], *, optimize: bool = True
    ) -> list[NDArray[np.float32]]:
        runtime = OrtRuntime(model, optimize=optimize)
        try:
            return [run_tile(runtime, x) for x in inputs]
        finally:
            runtime.close()

    def _psnr_y(self, outputs: Sequence[NDArray[np.float32]]) -> float:
        values = []
        for original, output in zip(self.originals, outputs, strict=False):
            finite = np.nan_to_num(output, nan=0.0, posinf=1.0, neginf=0.0)
            pixels = np.rint(finite.clip(0.0, 1.0) * 255.0).astype(np.uint8)
            values.append(min(BEST_DB, metrics.psnr_y(original, pixels)))
        return float(np.mean(values))


def _square(photograph: Picture, scale: int) -> Picture | None:
    """The middle of a photograph, its sides multiples of the scale; None if it is too small."""
    height, width = (min(side // scale, SIDE) * scale for side in photograph.shape[:2])
    if min(height, width) < SMALLEST * scale:
        return None
    return _middle(photograph, height, width)


def _middle(photograph: Picture, height: int, width: int) -> Picture:
    top, left = (
        max(0, photograph.shape[0] - height) // 2,
        max(0, photograph.shape[1] - width) // 2,
    )
    return np.ascontiguousarray(photograph[top : top + height, left : left + width])
