"""PyAV, at the point of use; its errors in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesr.errors import BadImage, MissingExtra

if TYPE_CHECKING:
    import av
    from av import VideoFrame
    from av.container import InputContainer


def load() -> Any:
    """The package `av`, its log off; raises `MissingExtra` when it is absent."""
    try:
        import av
        import av.logging
    except ImportError as e:
        raise MissingExtra("PyAV", "video", "a film") from e
    # What matters comes as an exception or is counted. And a log that goes through Python can
    # lock up: it wants the interpreter in a codec's thread, which the interpreter waits for.
    av.logging.set_level(None)
    return av


def open_film(path: Path) -> InputContainer:
    """The film, opened for reading; raises `BadImage` when it is none."""
    av = load()
    try:
        # A tag in some old encoding is no reason to refuse a film.
        opened: InputContainer = av.open(str(path), "r", metadata_errors="replace")
    except av.FFmpegError as e:
        raise BadImage(f"cannot read the film {path}: {reason(e)}") from e
    except ValueError as e:
        raise BadImage(f"cannot read the film {path}: {e}") from e
    return opened


def reason(e: av.FFmpegError) -> str:
    """Its message, without the error number and the path."""
    text = str(e.strerror or e).strip()
    return text[:1].lower() + text[1:]


def side_data(frame: VideoFrame) -> dict[str, bytes]:
    """What comes along with a frame, by FFmpeg's name of it (DISPLAYMATRIX …)."""
    container: Any = frame.side_data  # iterates over its values, whatever its stub says
    return {data.type.name: bytes(data) for data in container}
