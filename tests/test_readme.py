"""What the README shows is recorded, and what it points to is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgesr import report, resources
from tools import readme_tables

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORD = ROOT / "benchmarks" / "results" / "cpu-2026-11.json"


def test_the_table_is_the_record_recomputed() -> None:
    markdown = report.to_markdown(report.read(RECORD))
    table = markdown[markdown.index("| model |") :].partition("\n\n")[0]
    assert table.count("\n") >= 6 and table in README


def test_every_table_between_marks_is_what_its_record_gives(capsys) -> None:
    assert readme_tables.main(["--check"]) == 0, capsys.readouterr().out
    assert f"<!-- bench:begin {RECORD.name} -->" in README


def test_a_table_that_was_edited_is_found_and_mended(tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.md"
    wrong = README.replace("| bicubic | –", "| bicubic | 9", 1)
    page.write_text(wrong, encoding="utf-8")
    assert wrong != README and readme_tables.main(["--check", str(page)]) == 1
    assert "not what the records give" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8") == wrong
    assert readme_tables.main([str(page)]) == 0 and page.read_text(encoding="utf-8") == README
    page.write_text("<!-- bench:begin absent.json -->\n<!-- bench:end -->\n", encoding="utf-8")
    assert readme_tables.main([str(page)]) == 1 and "absent.json" in capsys.readouterr().err
    page.write_text("<!-- bench:end -->\n", encoding="utf-8")
    assert readme_tables.main([str(page)]) == 1


def test_the_recorded_run_used_the_bundled_models() -> None:
    models = {m["name"]: m for m in json.loads(RECORD.read_text())["models"]}
    for path in resources.zoo().glob("*.json"):
        card = json.loads(path.read_text(encoding="utf-8"))
        if "fp32.onnx" not in card["sha256"]:
            continue  # float16 weights alone: a teacher, whose ONNX file is made when asked for
        assert models[path.stem]["onnx_sha256"] == card["sha256"]["fp32.onnx"]
        if "int8.ort.onnx" in card["sha256"]:
            int8 = models[f"{path.stem}:int8"]["onnx_sha256"]
            assert int8 == card["sha256"]["int8.ort.onnx"]


def test_the_quality_in_the_text_is_the_cards() -> None:
    quality = json.loads((resources.zoo() / "balanced.json").read_text(encoding="utf-8"))["quality"]
    figures = " / ".join(f"{quality[s]['psnr_y']:.2f}" for s in ("Set5", "Set14", "B100"))
    assert f"{figures} dB on Set5 / Set14 / B100" in README


def test_every_link_leads_somewhere_and_every_make_target_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target
