"""A network small enough for sums by hand, and a device of round figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgesr import device
from edgesr.device import DeviceProfile
from edgesr.graph.spec import INPUT, Activation, Add, Conv, Graph, PixelShuffle

TINY = Graph(
    "tiny",
    (
        Conv("a", (INPUT,), 8, 3),
        Activation("r", ("a",), "relu"),
        Conv("b", ("r",), 8, 3),
        Add("s", ("b", "r")),
        Conv("t", ("s",), 12, 3),
        PixelShuffle("up", ("t",), 2),
    ),
)
ORIN_NANO = device.load("jetson-orin-nano")


def bench_device(**changes: Any) -> DeviceProfile:
    """Orin Nano with round figures: 1 Tops/s in fp16, 2 in int8, 1 GB/s."""
    known: dict[str, Any] = {
        "peak_fp16_ops_s": 10**12, "peak_int8_ops_s": 2 * 10**12, "bandwidth_bytes_s": 10**9,
    }  # fmt: skip
    return replace(ORIN_NANO, **known | changes)
