"""Between the YUV of films and the RGB of networks, by the matrix and range that hold.

Numbers are those of ITU-T H.273 (matrix, primaries, transfer). What a film leaves open is
taken as players take it, by the size of the source; the result says it in words, since players
would guess differently from its larger size. Chroma of 4:2:0 and 4:2:2 lies on the left of its
pixels unless the codec is one that centres it, and is interpolated there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgesr.errors import BadImage
from edgesr.film import pyav

if TYPE_CHECKING:
    from av import VideoFrame
    from numpy.typing import NDArray

BT709 = 1
UNSPECIFIED = (2, 3)  # 3 is reserved
_BT601_625, _BT601_525 = 5, 6
_RGB = 0
# What swscale knows: also FCC, SMPTE 240M and BT.2020.
_MATRICES = {BT709, 4, _BT601_625, _BT601_525, 7, 9}
# matrix → the primaries and transfer that go with it
_COMPANIONS = {BT709: (1, 1), _BT601_625: (5, 6), _BT601_525: (6, 6), 7: (7, 7), 9: (9, 14)}
_HDR = {16: "PQ", 18: "HLG"}
_LIMITED, _FULL = 1, 2
# libswscale's BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP and ACCURATE_RND: without the last ones
# it takes short cuts that cost up to two levels.
_SWS_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000
_REPLICATE = cv2.BORDER_REPLICATE
_HD_ROWS = 720  # from here on players take BT.709
_CENTRED_CHROMA = {"mjpeg", "mpeg1video"}
_CHROMA_PLANES = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 2): "yuv440p"}


@dataclass(frozen=True)
class Colours:
    """How a film's YUV is meant: `full` is the range 0..255 instead of 16..235."""

    matrix: int = BT709
    full: bool = False
    primaries: int = 1
    transfer: int = 1
    centred: bool = False

    @property
    def range(self) -> int:
        """As FFmpeg numbers it."""
        return _FULL if self.full else _LIMITED


def colours_of(frame: VideoFrame, codec: str) -> Colours:
    """The colours of a decoded frame; raises `BadImage` for HDR and for rare matrices."""
    transfer = frame.color_trc
    if transfer in _HDR or "DOVI_RPU_BUFFER" in pyav.side_data(frame):
        name = _HDR.get(transfer, "Dolby Vision")
        raise BadImage(
            f"the film is HDR ({name}), and the networks know 8-bit pictures only; "
            "convert it to SDR first (ffmpeg's filters zscale and tonemap do it)"
        )
    rgb = frame.format.is_rgb
    matrix = BT709 if rgb else frame.colorspace
    if matrix in UNSPECIFIED or matrix == _RGB:
        matrix = _guessed(frame.height)
    if matrix not in _MATRICES:
        raise BadImage(
            f"the film's colours are coded by matrix {matrix} of H.273, which is not known "
            "here; convert it to BT.709 first"
        )
    primaries, usual = _COMPANIONS.get(matrix, (2, 2))
    return Colours(
        matrix=matrix,
        full=not rgb and (frame.color_range == _FULL or frame.format.name.startswith("yuvj")),
        primaries=primaries if frame.color_primaries in UNSPECIFIED else frame.color_primaries,
        transfer=usual if transfer in UNSPECIFIED else transfer,
        centred=codec in _CENTRED_CHROMA,
    )


def to_rgb(frame: VideoFrame, colours: Colours) -> NDArray[np.uint8]:
    """The frame as HWC uint8 RGB; deeper ones are rounded to 8 bit."""
    if frame.format.is_rgb:
        return _array(_reformat(frame, "rgb24"))
    subsampling = (_times(frame.format.chroma_width(64)), _times(frame.format.chroma_height(64)))
    if (planar := _CHROMA_PLANES.get(subsampling)) and len(frame.planes) > 1:
        frame = _full_chroma(frame, planar, colours)
    # By the frame's tag, since not every PyAV takes every matrix as an argument.
    frame.colorspace = colours.matrix
    rgb = _reformat(frame, "rgb24", src_color_range=colours.range, dst_color_range=_FULL)
    return _array(rgb)


def to_yuv(rgb: NDArray[np.uint8], colours: Colours) -> VideoFrame:
    """HWC uint8 RGB of even height and width as a yuv420p frame, its chroma on the left."""
    av = pyav.load()
    height, width = rgb.shape[:2]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    frame.colorspace = colours.matrix  # taken over by the next one
    whole = _reformat(frame, "yuv444p", src_color_range=_FULL, dst_color_range=colours.range)
    out: VideoFrame = av.VideoFrame(width, height, "yuv420p")
    _plane(out, 0)[:] = _plane(whole, 0)
    for index in (1, 2):
        _plane(out, index)[:] = _halved(_plane(whole, index))
    out.colorspace, out.color_range = colours.matrix, colours.range
    return out


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the frame's format has transparency."""
    return any(component.is_alpha for component in frame.format.components)


def _guessed(rows: int) -> int:
    if rows >= _HD_ROWS:
        return BT709
    return _BT601_625 if rows in (288, 576) else _BT601_525


def _times(part: int) -> int:
    return round(64 / part) if part else 1


def _full_chroma(frame: VideoFrame, planar: str, colours: Colours) -> VideoFrame:
    """The frame as yuv444p of 8 bit, its chroma interpolated where it lies."""
    if frame.format.name.replace("yuvj", "yuv") != planar:
        ranges = {"src_color_range": colours.range, "dst_color_range": colours.range}
        frame = _reformat(frame, planar, **ranges)
    whole: VideoFrame = pyav.load().VideoFrame(frame.width, frame.height, "yuv444p")
    luma = _plane(frame, 0)
    _plane(whole, 0)[:] = luma
    for index in (1, 2):
        _plane(whole, index)[:] = _doubled(_plane(frame, index), luma.shape, colours.centred)
    return whole


def _doubled(chroma: NDArray[np.uint8], shape: tuple[int, ...], centred: bool) -> NDArray[np.uint8]:
    height, width = shape
    step_x = 0.5 if chroma.shape[1] < width else 1.0
    step_y = 0.5 if chroma.shape[0] < height else 1.0
    # Where a luma pixel lies in the chroma plane. Downwards chroma lies between two rows.
    shift_x = -0.25 if centred and step_x < 1 else 0.0
    shift_y = -0.25 if step_y < 1 else 0.0
    place = np.array([[step_x, 0, shift_x], [0, step_y, shift_y]], np.float64)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(chroma, place, (width, height), flags=flags, borderMode=_REPLICATE)
    return np.asarray(out, np.uint8)


def _halved(chroma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    across, down = np.array([0.25, 0.5, 0.25]), np.array([0.5, 0.5])
    soft = cv2.sepFilter2D(chroma, -1, across, down, anchor=(1, 0), borderType=_REPLICATE)
    return np.asarray(soft[::2, ::2], np.uint8)


def _reformat(frame: VideoFrame, name: str, **colours: Any) -> VideoFrame:
    return frame.reformat(format=name, interpolation=_SWS_FLAGS, **colours)


def _plane(frame: VideoFrame, index: int) -> NDArray[np.uint8]:
    """One plane of an 8-bit frame, to read and to write."""
    plane = frame.planes[index]
    rows: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(
        -1, plane.line_size
    )
    return rows[: plane.height, : plane.width]


def _array(frame: VideoFrame) -> NDArray[np.uint8]:
    return np.ascontiguousarray(frame.to_ndarray(), np.uint8)
