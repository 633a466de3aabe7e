"""The report of a compression run: tables and claims by hand, and none that it cannot make."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from run_reports import ZEROS, cpu_ms, leg, report, teacher

from edgesr.report.run import TIMED, build, render, table_rows, to_table, without_timing
from edgesr.report.run_rows import (
    claims,
    int8_rows,
    leg_rows,
    notes,
    quality_head,
    quality_rows,
    size_rows,
)


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
    assert claims(report(teacher=teacher(undertrained=None)))[-1].figure == "-1.10"  # not asked


def test_no_claim_is_made_from_a_teacher_that_was_to_be_measured_and_was_not() -> None:
    made = report(teacher=teacher(undertrained=None, set5_psnr_y=None, set5_floor_db=31.8))
    assert "is not known: it was not measured on Set5. No claim" in notes(made)[0]
    assert claims(made)[-1].figure == "+2.90" and table_rows(made)[-1][-2:] == ["–", ""]
    for text in (render(made)["md"], render(made)["html"]):
        assert "against teacher" not in text and "No claim about quality" in text
    good = teacher(set5_psnr_y=32.0, set5_floor_db=31.8)
    assert claims(report(teacher=good))[-1].figure == "-1.10"


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
        bytes_int8_trt=3 * 1024, bytes_int8_ort=2048 + 512,
    )  # fmt: skip
    made = report(legs=[leg("0-distill", 29.0), quantised])
    assert table_rows(made)[3][-4:] == ["4.0 fp32", "3.00", "28.90", "0.8000"]
    assert table_rows(made)[2][-4] == "4.0"
    assert any("a quantised leg are those of int8" in note for note in notes(made))
    assert any("its KiB those of the fp32 weights" in note for note in notes(made))
    row = ["1-quantize", "29.00", "28.95", "28.94", "28.50", "–", "5.00", "3.00"]
    row += ["3.0", "2.5"]
    assert int8_rows(made) == [row]
    assert " | ".join(row) in render(made)["md"]


def test_rgb_and_lpips_have_a_table_of_their_own() -> None:
    assert quality_rows(report()) == [] and "## Quality" not in render(report())["md"]
    legs = [leg("0-distill", 29.0, psnr_rgb=27.5), leg("1-finetune", 28.9, psnr_rgb=27.25)]
    made = report(legs=legs, bicubic={"psnr_y": 26.0, "ssim_y": 0.7, "psnr_rgb": 24.5})
    assert quality_head(made) == ("", "PSNR-Y", "PSNR-RGB", "SSIM-Y")
    assert quality_rows(made) == [
        ["bicubic", "26.00", "24.50", "0.7000"],
        ["teacher: big.safetensors", "30.00", "–", "0.8500"],
        ["0-distill", "29.00", "27.50", "0.8000"],
        ["1-finetune", "28.90", "27.25", "0.8000"],
    ]
    assert not any("LPIPS" in text for text in render(made).values())
    made = report(legs=[legs[0], {**legs[1], "kind": "gan", "lpips": 0.12345}], teacher=None)
    assert [row[-1] for row in quality_rows(made)] == ["–", "–", "0.1235"]
    for text in (render(made)["md"], render(made)["html"]):
        assert "LPIPS, lower is better" in text and "27.25" in text and "0.1235" in text
        assert "LPIPS: version 0.1" in text


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


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("count", [1, 6])
def test_the_terminal_table_fits_into_100_columns(count: int, quantised: bool) -> None:
    size = {"params": 16_697_987, "nonzeros": 16_000_000, "bytes_dense": 66_791_948}
    legs = [leg(f"1-magnitude-{k + 1}of{count}", 28.0, **size) for k in range(count)]
    int8 = {"kind": "quantize", "psnr_y_int8_ort": 28.0, "cpu_ms_int8": cpu_ms(5.0)}
    legs[-1] |= int8 if quantised else {}
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
