"""Golden tiles: inputs from photographs and the outputs that the fp32 network gives.

Python 3.8 and numpy only: it travels inside bundles.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesr.bundle.gates import Difference, difference
from edgesr.bundle.manifest import Golden
from edgesr.errors import BadConfig, BadModel
from edgesr.runtime.base import Runtime


def run_tile(runtime: Runtime, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 HWC RGB → float32 HWC RGB, `scale` times larger, not clipped."""
    batch = np.ascontiguousarray(tile.transpose(2, 0, 1)[None].astype(np.float32) / 255.0)
    output = runtime.run(batch)
    want = (1, 3, tile.shape[0] * runtime.scale, tile.shape[1] * runtime.scale)
    if output.shape != want:
        raise BadModel(f"{runtime.name} gave shape {output.shape}, should be {want}")
    return np.ascontiguousarray(output[0].transpose(1, 2, 0))


def cut(output: NDArray[np.float32], window: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """The `window` (top, left, height, width) of an HWC array."""
    top, left, height, width = window
    return output[top : top + height, left : left + width]


def replay(folder: Path, case: Golden, runtime: Runtime) -> Difference:
    """Run the golden input of `case` and compare with the output that was exported.

    Raises `BadConfig` when a golden file is damaged, `BadModel` when the network cannot run.
    """
    tile = _array(folder / case.input, np.uint8)
    reference = _array(folder / case.output, np.float32)
    found = cut(run_tile(runtime, tile), case.window)
    if found.shape != reference.shape:
        raise BadConfig(f"{case.output}: has shape {reference.shape}, should be {found.shape}")
    return difference(reference, found)


def _array(path: Path, dtype: type) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise BadConfig(f"{path.name}: cannot be read as a golden tile ({e})") from e
    if array.dtype != dtype or array.ndim != 3 or array.shape[2] != 3:
        raise BadConfig(f"{path.name}: is {array.dtype} {array.shape}, no golden tile")
    return array
