"""What builds engines on a board: Python 3.6, the standard library and the board's TensorRT.

It travels inside every bundle, verbatim, behind `build.py`, and builds the engines of
`open_runtime(..., "tensorrt")` on a desktop. JetPack 4 has Python 3.6: no dataclasses, no
`from __future__ import annotations`, no walrus.
"""
