"""`edgesr.upscale`, as a program calls it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import edgesr
from edgesr import image, resources
from edgesr.errors import BadImage, UnknownName
from edgesr.models.find import onnx_of
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles

PHOTO = image.read_rgb8(resources.samples() / "chelsea.jpg")[100:148, 120:180]


def test_it_is_what_the_network_gives() -> None:
    want = upscale_tiles(PHOTO, OrtRuntime(onnx_of("tiny")))
    np.testing.assert_array_equal(edgesr.upscale(PHOTO, "tiny"), want)
    np.testing.assert_array_equal(edgesr.upscale(PHOTO, model="tiny", tile=17), want)


def test_layout_type_and_size_are_those_asked_for() -> None:
    grey = edgesr.upscale(PHOTO[..., 0], "tiny", scale=2)
    assert (grey.shape, grey.dtype) == ((96, 120), np.uint8)
    deep = edgesr.upscale(PHOTO.astype(np.uint16) * 257, "tiny", width=90)
    assert (deep.shape, deep.dtype) == ((72, 90, 3), np.uint16)
    assert edgesr.upscale(PHOTO, "tiny", width=50, height=70).shape == (70, 50, 3)


def test_an_open_runtime_is_used_and_left_open() -> None:
    runtime = OrtRuntime(onnx_of("tiny"))
    for _ in range(2):
        assert edgesr.upscale(PHOTO, runtime).shape == (192, 240, 3)


def test_what_cannot_be_done_says_so() -> None:
    with pytest.raises(BadImage, match="HW or HWC"):
        edgesr.upscale(np.zeros((4, 4, 7), np.uint8))
    with pytest.raises(BadImage, match="float"):
        edgesr.upscale(np.zeros((4, 4, 3)))
    with pytest.raises(UnknownName, match="tiny"):
        edgesr.upscale(PHOTO, "tinny")


def test_importing_the_library_loads_nothing_heavy() -> None:
    code = "import edgesr, sys; print(*{'numpy', 'cv2'}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
