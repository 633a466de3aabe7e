"""Runtimes that the tests of edgesr.enlarge share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgesr.errors import Impossible
from edgesr.models.find import onnx_of
from edgesr.runtime.ort import OrtRuntime


@lru_cache
def student(name: str = "tiny") -> OrtRuntime:
    """A bundled model, on one thread."""
    return OrtRuntime(onnx_of(name), threads=1)


class Nearest:
    """Repeats pixels, as a runtime; its halo is a claim only."""

    name = "nearest"
    scale = 4

    def __init__(self, halo: int = 3, shapes: tuple[tuple[int, int], ...] = ()) -> None:
        self.halo, self.tile_shapes = halo, shapes
        self.windows: list[tuple[int, int]] = []  # (height, width) of all that it was given

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.windows.append((batch.shape[2], batch.shape[3]))
        return batch.repeat(self.scale, axis=2).repeat(self.scale, axis=3)

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


class Other(Nearest):
    """Another runtime's pixels; children change them or fail."""

    def __init__(self, runtime: OrtRuntime) -> None:
        super().__init__(runtime.halo)
        self.runtime = runtime

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.windows.append((batch.shape[2], batch.shape[3]))
        return self.runtime.run(batch)


class Short(Other):
    """Has memory for windows of `most` pixels; else raises `error`."""

    def __init__(self, runtime: OrtRuntime, most: int, error: Exception | None = None) -> None:
        super().__init__(runtime)
        self.most, self.error = most, error or Impossible("they do not fit in memory")

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if batch.shape[2] * batch.shape[3] > self.most:
            self.windows.append((batch.shape[2], batch.shape[3]))
            raise self.error
        return super().run(batch)
