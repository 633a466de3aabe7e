"""Pictures that do not fit in memory: decoded and encoded row by row."""

from edgesr.stream.reading import StreamedRows, can_stream, working_bytes
from edgesr.stream.writing import write_strips

__all__ = ["StreamedRows", "can_stream", "working_bytes", "write_strips"]
