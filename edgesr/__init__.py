"""EdgeSR: distil and prune a super-resolution generator until it fits the edge device.

import edgesr
larger = edgesr.upscale(pixels, model="fast")
"""

# Bundles carry this file to boards with Python 3.6, and whatever it imports: keep it small.
import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgesr.upscaling.api import upscale

__all__ = ["__version__", "upscale"]
__version__ = "0.1.0"

# From 1.32 on onnxruntime reports its use to Microsoft and keeps a database for that in the
# user's cache, unless told otherwise before it is imported. ORT_DISABLE_TELEMETRY=0 lets it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# torch's threads wait for each other at every layer, spinning for a while before they sleep. On a
# machine with other jobs the default is ruinous: a step of a small student took 3.2 s instead
# of 0.5 s, measured with two threads and three other jobs on two cores. Spinning 30 times less
# cost nothing on an idle one (31 ms a step). Read by libgomp when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> object:
    """The library function, loaded when it is first asked for."""
    if name == "upscale":
        return import_module("edgesr.upscaling.api").upscale
    raise AttributeError(f"module 'edgesr' has no attribute '{name}'")
