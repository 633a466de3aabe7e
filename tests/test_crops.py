"""Crops of a report: where student and bicubic differ most, in pixels nobody touched."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image
from run_reports import crops_of

from edgesr import metrics
from edgesr.errors import BadImage
from edgesr.report.crops import pick_crop, sheets


def test_the_crop_lies_where_student_and_bicubic_differ_most() -> None:
    rng = np.random.default_rng(1)
    student, bicubic = rng.integers(0, 256, (2, 61, 74, 3), dtype=np.uint8)
    y, x = pick_crop({"student": student, "bicubic": bicubic}, student, side=20)
    apart = np.abs(student.astype(int) - bicubic)
    sums = {
        (b, a): apart[b : b + 20, a : a + 20].sum()
        for b in range(4, 61 - 4 - 20 + 1)
        for a in range(4, 74 - 4 - 20 + 1)
    }
    assert sums[y, x] == max(sums.values())
    same = {"student": student, "bicubic": student}
    assert pick_crop(same, student, side=20) == (4, 4)
    assert pick_crop(same, student, side=66) == (0, 4)  # higher than the picture
    with pytest.raises(BadImage, match="one size"):
        pick_crop({"student": student, "bicubic": bicubic[1:]}, student)


def test_the_pictures_that_tell_most_come_with_files_of_harmless_names() -> None:
    crops = crops_of(["x.png", "a b.png", "dir/a_b.jpg", "ü.png", "(c).png"])
    assert [c.name for c in crops] == ["(c).png", "ü.png", "dir/a_b.jpg", "a b.png"]
    files = [c.file for c in crops]
    assert files == [f"crops/{s}.png" for s in ("c", "picture", "a_b", "a_b-2")]
    record = crops[0].record()
    assert json.loads(json.dumps(record)) == record
    crop = crops[0].panels
    assert record["psnr_y"]["student"] == metrics.psnr_y(
        crop["student"], crop["ground truth"], border=0
    )
    assert record["psnr_y"]["teacher"] is None  # equal to the photograph


def test_the_sheet_shows_the_pixels_twice_as_large_and_unchanged() -> None:
    crop = crops_of(["a.png"])[0]
    (file, content), = sheets([crop]).items()  # fmt: skip
    assert file == "crops/a.png"
    sheet = np.asarray(Image.open(io.BytesIO(content)))
    step = 180 + 6
    assert sheet.shape == (24 + 64, 4 * step - 6, 3)
    for k, name in enumerate(("teacher", "student", "ground truth", "bicubic")):
        shown = sheet[24:, k * step : k * step + 64]
        assert np.array_equal(shown[::2, ::2], crop.panels[name])
        assert np.array_equal(shown[1::2, 1::2], crop.panels[name])
        assert (sheet[:24, k * step : k * step + 64] < 128).any()  # a label
