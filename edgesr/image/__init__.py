"""Pictures from and to files and bytes, with what belongs to them.

Read and written: PNG, JPEG, WebP, BMP, TIFF and AVIF (where Pillow has it). Pixels are HWC with
1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGBA, not premultiplied) channels, uint8 or uint16,
upright. ICC profile, EXIF, XMP and DPI are carried; animations and pages are refused. Of a
photograph with further pictures behind it (MPO: previews, depth and gain maps) the photograph is
taken.
"""

from edgesr.image.picture import (
    MAX_PIXELS,
    SUFFIXES,
    Facts,
    Metadata,
    Picture,
    to_8_bit,
)
from edgesr.image.reading import decode, load_folder, metadata_of, probe, read, read_rgb8
from edgesr.image.writing import check_writable, encode, write

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Facts",
    "Metadata",
    "Picture",
    "check_writable",
    "decode",
    "encode",
    "load_folder",
    "metadata_of",
    "probe",
    "read",
    "read_rgb8",
    "to_8_bit",
    "write",
]
