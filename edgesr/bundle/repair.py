"""Layers that int8 hurts too much go back to higher precision, the most sensitive ones first.

Each quantised convolution is measured alone: the network with only this one in int8, against
fp32. While the network loses more than allowed, the next of them leaves int8 (float16 in
TensorRT's files, fp32 in ONNX Runtime's).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgesr.bundle.judge import Judge, Quality
from edgesr.bundle.scales import Scales, unfit
from edgesr.graph.onnx_int8 import FORMS, Form
from edgesr.graph.quant import QuantSpec

Log = Callable[[str], None]
_FASTEST_FIRST: tuple[Form, ...] = ("ort", "trt", "trt-fp16")


@dataclass(frozen=True)
class Kept:
    """A convolution that left int8, and why; `alone_db` is PSNR against fp32 with it alone."""

    layer: str
    why: str
    alone_db: float | None = None


@dataclass(frozen=True)
class Repaired:
    """The numbers that a bundle gets, what was measured with them, and what it took.

    `failures` is empty lists when every form holds. Only where something failed there are
    `sensitivity`, PSNR (dB) against fp32 with a convolution alone in int8, the worst first, and
    `suspects`, tensors whose scales do not fit the photographs.
    """

    quant: QuantSpec
    quality: dict[Form, Quality]
    failures: dict[Form, list[str]]
    kept: tuple[Kept, ...]
    sensitivity: dict[str, float]
    suspects: dict[str, str]

    def guilty(self) -> str:
        """The worst layer and what is wrong with its scale, in words; '' when all was well."""
        words = [f"scale of '{name}': {what}" for name, what in self.suspects.items()]
        for layer, alone_db in list(self.sensitivity.items())[:1]:
            words.insert(0, f"the most sensitive layer is '{layer}', {alone_db:.1f} dB alone")
        return "; ".join(words[:3])

    def to_json(self, scales: Scales, max_drop_db: float) -> dict[str, Any]:
        """What the manifest says about int8."""
        return {
            "scales": scales.origin,
            "calibration_pictures": scales.pictures,
            "weight_bits": self.quant.bits,
            "high": list(self.quant.high),
            "repaired": [dataclasses.asdict(k) for k in self.kept],
            "sensitivity": [{"layer": n, "alone_db": db} for n, db in self.sensitivity.items()],
            "suspects": self.suspects,
            "max_drop_db": max_drop_db,
            "drop_db": {form: q.drop_db for form, q in self.quality.items()},
        }


def repair(judge: Judge, quant: QuantSpec, max_drop_db: float, log: Log) -> Repaired:
    """`quant` with as many convolutions out of int8 as it takes for every form to hold.

    When none is enough, the best that was seen, with its failures; one convolution at least
    stays in int8 where any can.
    """
    suspects: dict[str, str] = {}
    sensitivity: dict[str, float] = {}
    misfits = [Kept(layer, why) for layer, why in unfit(judge.graph, judge.weights, quant).items()]
    for kept in misfits:
        log(f"int8: '{kept.layer}' stays in float16: {kept.why}")
    if misfits:
        suspects = judge.suspects(quant)
        quant = quant.keeping(judge.graph, (*quant.high, *(k.layer for k in misfits)))
    best = _Try(judge, quant, max_drop_db, misfits)
    if best.failed:
        log(f"int8: {'; '.join(best.failed)}; measuring every layer alone")
        suspects |= judge.suspects(quant)
        sensitivity = _sensitivity(judge, quant)
        best = _search(best, list(sensitivity.items())[:-1], log)
    quality = {form: judge.quality(best.quant, form) for form in FORMS if best.quant.scales}
    failed = {form: q.failures(max_drop_db) for form, q in quality.items()}
    if not quality:
        failed = {"trt": ["no convolution can be in int8"]}
    return Repaired(best.quant, quality, failed, tuple(best.kept), sensitivity, suspects)


class _Try:
    """One choice of convolutions and what the first form that fails with it fails by."""

    def __init__(
        self, judge: Judge, quant: QuantSpec, max_drop_db: float, kept: list[Kept]
    ) -> None:
        self.judge, self.quant, self.max_drop_db, self.kept = judge, quant, max_drop_db, kept
        self.failed: list[str] = []
        self.drop_db = 0.0
        for form in _FASTEST_FIRST if quant.scales else ():
            quality = judge.quality(quant, form)
            self.failed, self.drop_db = quality.failures(max_drop_db), quality.drop_db
            if self.failed:
                break

    def without(self, kept: Kept) -> _Try:
        """The same with one more convolution out of int8."""
        quant = self.quant.keeping(self.judge.graph, (*self.quant.high, kept.layer))
        return _Try(self.judge, quant, self.max_drop_db, [*self.kept, kept])


def _search(first: _Try, order: list[tuple[str, float]], log: Log) -> _Try:
    """The first try that holds, or the one that loses least."""
    now = best = first
    for layer, alone_db in order:
        now = now.without(Kept(layer, "most sensitive of what was left in int8", alone_db))
        log(f"int8: '{layer}' to float16 ({alone_db:.1f} dB alone): "
            f"{'; '.join(now.failed) or 'holds'}")  # fmt: skip
        if not now.failed:
            return now
        best = min(best, now, key=lambda t: t.drop_db)
    return best


def _sensitivity(judge: Judge, quant: QuantSpec) -> dict[str, float]:
    """The int8 convolutions and the PSNR with each alone, the worst first."""
    names = [c.name for c in judge.graph.convs() if c.name not in quant.high]
    alone = [(name, judge.alone(quant, name)) for name in names]
    return dict(sorted(alone, key=lambda pair: pair[1]))
