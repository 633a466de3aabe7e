"""The report of a compression run: curves by hand, crops that show something, honest claims."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from edgesr import metrics
from edgesr.errors import BadImage
from edgesr.report.crops import Crop, Pixels, pick_crop, sheets, telling_crops
from edgesr.report.run import TIMED, build, render, table_rows, to_table, without_timing
from edgesr.report.run_curves import MOST_POINTS, TERMS, curves_of
from edgesr.report.run_rows import claims, int8_rows, leg_rows, notes, size_rows
from edgesr.training.recipe import LossSpec

ZEROS = "Zeros alone do not speed anything up."


def cpu_ms(median: float) -> dict[str, Any]:
    return {"median": median, "samples": 30, "size": "320x180", "threads": 2}


def leg(name: str, psnr: float, **more: Any) -> dict[str, Any]:
    return {
        "leg": name, "kind": "distill", "method": None, "steps": 1000, "params": 1000,
        "nonzeros": 1000, "macs_per_pixel": 500, "bytes_dense": 4096, "bytes_coded": 4096,
        "cpu_ms": cpu_ms(5.0), "psnr_y": psnr, "ssim_y": 0.8, "seconds": 61.0, "data_wait": 0.012,
        **more,
    }  # fmt: skip


def teacher(**more: Any) -> dict[str, Any]:
    return {
        "name": "big.safetensors", "params": 2000, "nonzeros": 2000, "macs_per_pixel": 5000,
        "bytes_dense": 8192, "bytes_coded": 8192, "cpu_ms": cpu_ms(20.0), "psnr_y": 30.0,
        "ssim_y": 0.85, "set5_psnr_y": 32.0, "undertrained": False, **more,
    }  # fmt: skip


def log_lines(steps: int = 100) -> list[str]:
    """Two legs, logged every tenth step."""
    lines = []
    for i, name in enumerate(("0-distill", "1-prune-1of1")):
        lines.append(json.dumps({"event": "leg", "leg": i, "name": name, "steps": steps}))
        for step in range(0, steps, 10):
            terms = {"pixel": 0.3, "teacher": 0.2, "wait_s": 9.0}
            event = {"event": "step", "leg": i, "step": step, "lr": 0.1, "loss": 0.5, **terms}
            lines.append(json.dumps({"time": 1.0, **event}))
        event = {"event": "validated", "leg": i, "step": steps // 2, "psnr_y": 27.0 + i}
        lines.append(json.dumps(event))
        lines.append(json.dumps({"event": "measured", "leg": name, "psnr_y": 28.0 + i}))
    return lines


def report(**more: Any) -> dict[str, Any]:
    legs = [
        leg("0-distill", 29.0),
        leg("1-prune-1of1", 28.9, kind="prune", method="magnitude", nonzeros=820),
    ]
    parts: dict[str, Any] = {
        "name": "trial", "legs": legs, "chosen": 1, "missed": "", "budget": "",
        "student": legs[1], "teacher": teacher(), "bicubic": {"psnr_y": 26.0, "ssim_y": 0.7},
        "held_out": ["a.png", "b.png"], "curves": curves_of(log_lines()), "notes": [ZEROS],
        "conditions": {"processor": "a <fast> one", "seconds": 3700.0, "data_wait": 0.01},
    }  # fmt: skip
    return build(**{**parts, **more})


# Curves


def test_steps_are_those_of_the_whole_run() -> None:
    curves = curves_of(log_lines())
    assert curves["legs"] == [[0, "0-distill"], [100, "1-prune-1of1"]]
    assert curves["psnr_y"] == [[50, 27.0], [150, 28.0]]
    assert curves["psnr_y_legs"] == [[100, 28.0], [200, 29.0]]
    assert list(curves["loss"]) == ["total", "pixel", "teacher"]  # what else is logged is no loss
    assert curves["loss"]["total"] == [[s, 0.5] for s in range(0, 200, 10)]
    assert curves["lr"][-1] == [190, 0.1]


def test_a_killed_and_resumed_run_has_the_curves_of_a_whole_one() -> None:
    whole = log_lines()
    # Killed in the second leg while writing step 60; the last checkpoint was at step 40. To show
    # which of the two counts, step 50 differs the first time, as it would not in a real run.
    assert '"step": 50' in whole[19] and '"leg": 1' in whole[19]
    killed = [*whole[:19], whole[19].replace("0.5", "0.7")]
    torn = whole[20][:30]
    resumed = json.dumps({"event": "resumed", "leg": 1, "step": 40})
    assert curves_of(killed) != curves_of(whole[:20])
    assert curves_of([*killed, torn, resumed, *whole[18:]]) == curves_of(whole)
    assert curves_of([*killed, torn + resumed, *whole[18:]]) == curves_of(whole)
    assert curves_of([*whole, '{"event": "step", "le']) == curves_of(whole)
    assert curves_of(line + "\n" for line in whole) == curves_of(whole)


def test_a_step_that_was_skipped_leaves_no_point() -> None:
    lines = log_lines()
    lines[1] = '{"event": "step", "leg": 0, "step": 0, "lr": 0.1, "loss": NaN, "pixel": Infinity}'
    curves = curves_of(lines)
    assert curves["loss"]["total"][0] == [10, 0.5] and curves["loss"]["pixel"][0] == [10, 0.3]
    assert curves["lr"][0] == [0, 0.1]
    nothing = curves_of([])
    assert nothing == {"legs": [], "loss": {}, "lr": [], "psnr_y": [], "psnr_y_legs": []}
    # A leg that nobody announced has the steps that were seen.
    unknown = curves_of(line for line in log_lines() if '"event": "leg"' not in line)
    assert unknown["loss"]["total"][10] == [91, 0.5]


def test_long_curves_are_thinned_to_means_within_a_leg() -> None:
    lines = []
    for i, value in enumerate((1.0, 3.0)):
        lines.append(json.dumps({"event": "leg", "leg": i, "name": f"{i}", "steps": 1501}))
        lines += [
            json.dumps({"event": "step", "leg": i, "step": s, "loss": value + s % 2})
            for s in range(1501)
        ]
    thin = curves_of(lines)["loss"]["total"]
    # 3002 points in groups of 8: 187 whole ones and one of 5 a leg.
    assert len(thin) == 376 <= MOST_POINTS
    assert thin[0] == [7, 1.5] and thin[187] == [1500, 1.4]
    assert thin[188] == [1508, 3.5] and thin[-1] == [3001, 3.4]


def test_every_loss_of_a_recipe_is_a_term() -> None:
    weights = {f.name for f in dataclasses.fields(LossSpec)} - {"norm", "hints"}
    assert weights <= set(TERMS)


# Crops


def pictures(seed: int = 0, size: tuple[int, int] = (160, 200)) -> dict[str, Pixels]:
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return {"hr": hr, "bicubic": np.full_like(hr, 128), "student": hr // 2 + 64, "teacher": hr}


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


def crops_of(names: list[str]) -> list[Crop]:
    found = []
    for k, name in enumerate(names):
        p = pictures(k)
        p["student"] = p["bicubic"] + np.uint8(k)  # the later the name, the more it tells
        found.append((name, {k: p[k] for k in ("student", "bicubic", "teacher")}, p["hr"]))
    return telling_crops(found, side=32)


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


# The report


def test_times_stand_apart_from_what_must_not_differ() -> None:
    made = report()
    assert made["legs"][0]["timing"] == {
        "cpu_ms": cpu_ms(5.0), "data_wait": 0.012, "seconds": 61.0}  # fmt: skip
    slower = [leg("0-distill", 29.0, cpu_ms=cpu_ms(9.0), seconds=2.0), dict(made["legs"][1])]
    other = report(
        legs=slower, teacher=teacher(cpu_ms=cpu_ms(1.0)), conditions={"processor": "another"}
    )
    assert render(other)["json"] != render(made)["json"]
    assert without_timing(other) == without_timing(made)
    assert not any(f'"{key}"' in json.dumps(without_timing(made)) for key in TIMED)
    assert report(legs=made["legs"], student=made["student"]) == made  # timing may be in place


def test_json_is_canonical_and_the_rest_follows_from_it() -> None:
    made = report(bicubic={"psnr_y": float("inf"), "ssim_y": 1.0})
    texts = render(made)
    again = json.loads(texts["json"])
    assert again == made and again["bicubic"]["psnr_y"] is None
    assert list(again) == sorted(again) and list(again["legs"][0]) == sorted(again["legs"][0])
    assert render(again) == texts


def test_claims_by_hand() -> None:
    found = [(c.figure, c.text, c.kind) for c in claims(report())]
    assert found == [
        ("2.00×", "fewer parameters", "counted"),
        ("10.0×", "fewer MACs", "counted"),
        ("2.44×", "fewer non-zeros", "counted"),  # 2000 / 820
        ("4.00×", "less CPU time", "measured"),
        ("-1.10", "dB PSNR-Y against teacher", "measured"),
    ]
    larger = report(teacher=teacher(params=1000, macs_per_pixel=250, nonzeros=None, cpu_ms=None))
    assert [(c.figure, c.text) for c in claims(larger)][:3] == [
        ("1.00×", "as many parameters"),
        ("2.00×", "more MACs"),
        ("-1.10", "dB PSNR-Y against teacher"),
    ]


def test_no_claim_is_made_from_a_teacher_that_is_no_yardstick() -> None:
    weak = report(teacher=teacher(set5_psnr_y=31.2, set5_floor_db=31.8, undertrained=True))
    raw = report(teacher=teacher(psnr_y=None, ssim_y=None, undertrained=None))
    for made, label in ((weak, "undertrained"), (raw, "untrained")):
        assert claims(made)[-1].figure == "+2.90"
        assert claims(made)[-1].text == "dB PSNR-Y against bicubic"
        rows = table_rows(made)
        assert rows[-1][-2:] == ["–", ""] and f"({label})" in rows[1][0]
        for text in (render(made)["md"], render(made)["html"]):
            assert "against teacher" not in text and f"({label})" in text
    assert "31.20 dB PSNR-Y on Set5, less than 31.8 dB. No claim" in notes(weak)[0]
    unknown = report(teacher=teacher(undertrained=None, set5_psnr_y=None, set5_floor_db=31.8))
    assert "is not known" in notes(unknown)[0] and claims(unknown)[-1].figure == "-1.10"


def test_training_without_a_teacher_is_compared_with_bicubic() -> None:
    made = report(teacher=None)
    assert [(c.figure, c.text) for c in claims(made)] == [("+2.90", "dB PSNR-Y against bicubic")]
    assert [row[0] for row in table_rows(made)] == ["bicubic", "0-distill", "1-prune-1of1"]
    assert size_rows(made)[0][:3] == ["0-distill", "1,000", "–"]
    assert without_timing(made)["teacher"] is None
    texts = render(made)
    assert "# Training: trial\n\nThe network: +2.90 dB" in texts["md"]
    assert "teacher:" not in texts["md"] + texts["html"]


def test_rows_by_hand() -> None:
    made = report()
    assert table_rows(made) == [
        ["bicubic", "–", "–", "–", "–", "–", "26.00", "0.7000"],
        ["teacher: big.safetensors", "2,000", "2,000", "5.00 k", "8.0", "20.0", "30.00", "0.8500"],
        ["0-distill", "1,000", "1,000", "500", "4.0", "5.00", "29.00", "0.8000"],
        ["1-prune-1of1", "1,000", "820", "500", "4.0", "5.00", "28.90", "0.8000"],
        ["student / teacher", "50.0%", "41.0%", "10.0%", "50.0%", "25.0%", "-1.10", ""],
    ]
    assert size_rows(made)[2] == [
        "1-prune-1of1", "1,000", "50.0%", "820", "82.0%", "4.0", "4.0", "28.90", "0.8000"
    ]  # fmt: skip
    assert leg_rows(made) == [
        ["0-distill", "distill", "1,000", "–", "1 min 01 s", "1.2%"],
        ["1-prune-1of1", "prune (magnitude)", "1,000", "-0.10", "1 min 01 s", "1.2%"],
    ]
    dense = report(legs=[leg("0-distill", 29.0), leg("1-prune-1of1", 28.999)], chosen=0)
    assert len(table_rows(dense)[0]) == 7 and len(claims(dense)) == 4
    assert table_rows(dense)[2][0] == "0-distill, kept"
    assert leg_rows(dense)[1][3] == "0.00"


def test_int8_stands_beside_plain_quantisation() -> None:
    assert int8_rows(report()) == [] and "Int8" not in render(report())["md"]
    quantised = leg(
        "1-quantize", 28.9, kind="quantize", psnr_y_fp32=29.0, psnr_y_int8_trt=28.95,
        psnr_y_int8_ort=28.94, psnr_y_ptq_trt=28.5, psnr_y_ptq_ort=None, cpu_ms_int8=cpu_ms(3.0),
    )  # fmt: skip
    made = report(legs=[leg("0-distill", 29.0), quantised])
    assert table_rows(made)[3][-3:] == ["3.00", "28.90", "0.8000"]
    assert any("a quantised leg are those of int8" in note for note in notes(made))
    row = ["1-quantize", "29.00", "28.95", "28.94", "28.50", "–", "5.00", "3.00"]
    assert int8_rows(made) == [row]
    assert " | ".join(row) in render(made)["md"]


def test_notes_say_each_thing_once() -> None:
    made = report(notes=[ZEROS, ZEROS], budget="macs=20%", missed="the goal")
    found = notes(made)
    assert found.count(ZEROS) == 1 and len(found) == len(set(found))
    assert "Budget: macs=20% of the teacher." in found and "2 photographs held out." in found
    assert any("median of 30 calls" in n and "with 2 threads" in n for n in found)
    text = render(made)["md"]
    assert "**Not met:** the goal. The best so far was kept." in text
    assert "| PSNR-Y (measured) |" in text and "| parameters (counted) |" in text
    assert "| processor | a <fast> one |" in text and "| time | 1 h 01 min |" in text


def test_an_old_log_of_a_run_without_pictures_or_times_is_enough() -> None:
    bare = {"leg": "0-distill", "steps": 5, "params": 10, "macs_per_pixel": 5, "psnr_y": 20.0,
            "ssim_y": 0.5}  # fmt: skip
    made = build(
        name="bare", legs=[bare], chosen=0, missed="", budget="", student=bare, held_out=["a"],
        teacher={**bare, "name": "t"}, bicubic={"psnr_y": 21.0, "ssim_y": 0.6},
    )  # fmt: skip
    texts = render(made)
    assert "svg" not in re.sub(r"<style>.*</style>", "", texts["html"], flags=re.S)
    assert "| 0-distill | 10 | 5 | – | – | 20.00 | 0.5000 |" in texts["md"]


@pytest.mark.parametrize("count", [1, 6])
def test_the_terminal_table_fits_into_100_columns(count: int) -> None:
    size = {"params": 16_697_987, "nonzeros": 16_000_000, "bytes_dense": 66_791_948}
    legs = [leg(f"1-magnitude-{k + 1}of{count}", 28.0, **size) for k in range(count)]
    big = teacher(
        name="a-teacher-of-quite-a-long-name.safetensors", params=16_697_987,
        nonzeros=16_697_987, bytes_dense=66_791_948, cpu_ms=cpu_ms(20_345.6),
    )  # fmt: skip
    out = io.StringIO()
    Console(width=100, file=out).print(to_table(report(legs=legs, teacher=big)))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    assert text.count("16,697,987") == count + 2  # parameters, and twice the teacher
    assert "65,226.5" in text and "20346" in text and "28.00" in text


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[bytes] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe"}
        found = dict(attrs)
        assert not {"href", "xlink:href"} & found.keys()
        if tag == "img":
            prefix, _, content = str(found["src"]).partition(",")
            assert prefix == "data:image/png;base64"
            self.pictures.append(base64.b64decode(content))
        elif tag not in {"meta", "path", "polyline", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_whole_and_holds_the_very_pixels() -> None:
    crops = crops_of(["<a>.png", "b.png"])
    made = report(crops=crops, missed="x < y")
    page = render(made, crops)["html"]
    assert page.startswith("<!doctype html>") and "url(" not in page and "http" not in page
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    shown = [np.asarray(Image.open(io.BytesIO(p))) for p in parser.pictures]
    panels = [pixels for crop in crops for pixels in crop.panels.values()]
    assert len(shown) == 8
    assert all(np.array_equal(a, b) for a, b in zip(shown, panels, strict=True))
    assert "&lt;a&gt;.png" in page and "x &lt; y" in page and "a &lt;fast&gt; one" in page
    assert [c["file"] for c in made["crops"]] == list(sheets(crops))
    assert "](crops/b.png)" in render(made, crops)["md"]


def polylines(page: str) -> list[list[list[tuple[float, float]]]]:
    """The points of the solid lines of each chart."""
    charts = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]
    return [
        [
            [tuple(map(float, p.split(","))) for p in line.attrib["points"].split()]  # type: ignore[misc]
            for line in chart.iter("polyline")
            if "solid" in line.attrib["class"]
        ]
        for chart in charts
    ]


def test_the_curves_are_drawn_to_scale_and_stay_inside() -> None:
    lines = log_lines()
    lines.append(json.dumps({"event": "validated", "leg": 0, "step": 0, "psnr_y": 9.0}))
    page = render(report(curves=curves_of(lines)))["html"]
    (psnr,), loss = polylines(page)
    # x: 0 to 200 steps over 64 to 700 pixels; the beginning at 9 dB is left out, and said.
    assert [x for x, _ in psnr] == [223.0, 541.0]
    assert "Not drawn, since below 25.0 dB: 1 of 3 points." in page
    assert psnr[0][1] > psnr[1][1]
    ends = re.findall(r'<path class="dots c3"[^>]* d="M([-.\d]+) ([-.\d]+)h0M', page)
    assert ends == [("382.0", f"{psnr[1][1]:.1f}")]  # both are 28 dB
    assert len(loss) == 3 and {len(line) for line in loss} == {20}
    heights = [line[0][1] for line in loss]  # total 0.5, pixel 0.3, teacher 0.2: logarithmic
    ratio = (heights[2] - heights[1]) / (heights[1] - heights[0])
    assert ratio == pytest.approx(np.log(3 / 2) / np.log(5 / 3), abs=0.01)
    everything = [y for line in [psnr, *loss] for _, y in line]
    assert all(18 <= y <= 254 for y in everything)
