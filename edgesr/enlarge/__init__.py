"""A network with all that makes its pictures right: rows of pixels in, larger ones out."""

from edgesr.enlarge.enlarger import Enlarger, Settings
from edgesr.enlarge.memory import Cost, parse_bytes
from edgesr.enlarge.size import target_size

__all__ = ["Cost", "Enlarger", "Settings", "parse_bytes", "target_size"]
