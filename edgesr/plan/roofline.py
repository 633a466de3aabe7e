"""How long the steps take at least on a device's peak figures (Williams et al., CACM 2009).

A step needs the longer of two times: its operations at the peak rate, its bytes at the peak
bandwidth. Both figures are those of the profile, for its clock and mode; real kernels reach
neither. Operations are those of direct convolution: Winograd's algorithm (Lavin and Gray, CVPR
2016) needs 2.25 times fewer multiplications in 3×3 layers, where an engine takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgesr.device import DeviceProfile, Precision
from edgesr.graph.counts import macs_per_pixel
from edgesr.graph.live import IO_BYTES
from edgesr.graph.spec import INPUT_CHANNELS, Graph
from edgesr.plan.work import layer_weight_bytes, loads

OPS_PER_MAC = 2


@dataclass(frozen=True)
class StepTime:
    """One step over all windows of a picture, in seconds."""

    name: str
    arithmetic_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """The longer of the two."""
        return max(self.arithmetic_s, self.memory_s)


@dataclass(frozen=True)
class Times:
    """Two bounds for one picture, in seconds.

    `floor_s`: all operations at the peak rate, or input, output and weights once through
    memory, whichever is longer. `steps` adds up to the time when each step's tensors pass
    through memory, which a large cache can undercut.
    """

    floor_s: float
    steps: tuple[StepTime, ...]

    @property
    def layers_s(self) -> float:
        """Step by step."""
        return sum(step.seconds for step in self.steps)

    @property
    def memory_share(self) -> float:
        """The part of `layers_s` in steps that wait for memory, 0 to 1."""
        waiting = sum(s.seconds for s in self.steps if s.memory_s > s.arithmetic_s)
        return waiting / self.layers_s


def times(
    graph: Graph, profile: DeviceProfile, precision: Precision, windows: Mapping[int, int]
) -> Times | None:
    """The bounds for a picture cut into `windows`: how many there are of each size in pixels.

    None where the profile lacks the peak rate of `precision` or the bandwidth.
    """
    peak, bandwidth = profile.peak_ops_s(precision), profile.bandwidth_bytes_s
    if peak is None or bandwidth is None:
        return None
    found = []
    pixels = sum(size * count for size, count in windows.items())
    for load in loads(graph, precision):
        passes = load.tensor_bytes * pixels + load.weight_bytes * sum(windows.values())
        operations = OPS_PER_MAC * load.macs * pixels
        found.append(StepTime(load.name, operations / peak, passes / bandwidth))
    once = IO_BYTES * INPUT_CHANNELS * (1 + graph.scale**2) * pixels
    once += sum(layer_weight_bytes(graph, precision).values())
    floor = max(OPS_PER_MAC * macs_per_pixel(graph) * pixels / peak, once / bandwidth)
    return Times(floor, tuple(found))
