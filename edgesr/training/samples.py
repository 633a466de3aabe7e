"""The photographs to train on when nobody names any: those inside scikit-image's wheel.

Enough to see every step work; far too few for a good student.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from edgesr.atomic import atomic_folder
from edgesr.errors import BadConfig

# astronaut and chelsea are left for measuring on; motorcycle_right shows what _left shows.
NAMES = (
    "coffee", "rocket", "motorcycle_left", "hubble_deep_field", "camera", "brick", "grass",
    "gravel", "coins", "moon", "retina", "ihc",
)  # fmt: skip


def sample_folder(target: Path) -> Path:
    """`target`, filled with the sample photographs if it does not exist yet.

    Raises `BadConfig` when scikit-image is not installed.
    """
    found = find_spec("skimage")  # finds the folder without importing the package
    if found is None or not found.submodule_search_locations:
        raise BadConfig(
            "compress needs photographs: give a folder with --data DIR "
            "(or pip install scikit-image for a few sample ones)"
        )
    if not target.is_dir():
        shipped = Path(found.submodule_search_locations[0]) / "data"
        with atomic_folder(target) as partial:
            for name in NAMES:
                source = next(shipped.glob(f"{name}.*"))
                shutil.copy2(source, partial / source.name)
    return target
