"""What several tests share: the evaluation sets and photographs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

# The networks here are tiny: a second thread only waits for the first, most of all on a machine
# with other jobs. Before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job in the background is started with these ignored, and so would be all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ["compressing", "bench_world"]

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def missing(reason: str) -> None:
    """Skip the test; in CI, where nothing may be missing, fail it."""
    if IN_CI:
        pytest.fail(f"in CI this must be there: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def eval_dir() -> Path:
    """The folder with the evaluation sets (Set5, Set14, B100 …), each with HR and LRx4."""
    value = os.environ.get("EDGESR_EVAL_DIR", "")
    if not value or not Path(value).is_dir():
        missing("EDGESR_EVAL_DIR does not name the folder of evaluation sets")
    return Path(value)


@pytest.fixture(scope="session")
def photograph() -> Callable[[str], NDArray[np.uint8]]:
    """`photograph("astronaut")` is a picture of scikit-image, HWC uint8 RGB, read offline.

    These colour photographs are inside scikit-image's wheel: astronaut, chelsea, coffee,
    rocket, hubble_deep_field, retina, motorcycle_left, motorcycle_right.
    """

    def load(name: str) -> NDArray[np.uint8]:
        data = pytest.importorskip("skimage.data")
        image_io = pytest.importorskip("PIL.Image")
        folder = Path(data.__file__).parent
        found = [p for p in folder.glob(f"{name}.*") if p.suffix in {".png", ".jpg"}]
        assert found, f"scikit-image's wheel has no picture {name}"
        with image_io.open(found[0]) as picture:
            return np.asarray(picture.convert("RGB"))

    return load
