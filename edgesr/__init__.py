"""EdgeSR: distil and prune a super-resolution generator until it fits the edge device."""

import os

__version__ = "0.1.0"

# From 1.32 on onnxruntime reports its use to Microsoft and keeps a database for that in the
# user's cache, unless told otherwise before it is imported. ORT_DISABLE_TELEMETRY=0 lets it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
