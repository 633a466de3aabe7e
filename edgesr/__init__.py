"""EdgeSR: distil and prune a super-resolution generator until it fits the edge device."""

__version__ = "0.1.0"
