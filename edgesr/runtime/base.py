"""What runs a network: one protocol, whatever is underneath."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runtime(Protocol):
    """A network that is ready to run.

    `run` takes NCHW float32 RGB in [0, 1] and gives NCHW float32, `scale` times larger
    (not clipped). `halo` is the receptive-field radius in input pixels: a tile that is
    `halo` larger on each side gives exactly the untiled result in its middle.
    `tile_shapes` lists the (height, width) that `run` takes; empty means any.
    """

    name: str
    scale: int
    halo: int
    tile_shapes: tuple[tuple[int, int], ...]

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's output for one batch."""
        ...

    def memory(self) -> dict[str, int]:
        """Bytes that the runtime itself reports, by name; empty where it reports none."""
        ...

    def close(self) -> None:
        """Free what it holds; it cannot run afterwards."""
        ...
