"""The shipped cards, their page and their pictures; and the parts of the tools that make them."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from edgesr import config, resources
from edgesr.cli.main import app
from edgesr.errors import BadConfig, WriteFailed
from edgesr.models import cards, find
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.recipe import Recipe
from tools import add_model, fail_sheets, model_docs, model_run

SHIPPED = sorted(p.stem for p in resources.zoo().glob("*.json"))


def test_files_change_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old a")
    (tmp_path / "gone").write_text("old")
    (tmp_path / "n" / "wall").mkdir(parents=True)
    (tmp_path / "n" / "wall" / "full").write_text("x")
    (tmp_path / "wall.old").mkdir()
    files = {tmp_path / "a": b"new", tmp_path / "b": b"new", tmp_path / "n" / "wall": b"new"}
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))

    def replace(source: Path, target: Path, real: Any = os.replace) -> None:
        if Path(target).name == "wall.old":
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(add_model.os, "replace", replace)
        with pytest.raises(WriteFailed, match="nothing was changed"):
            add_model.replace_all(files, [tmp_path / "gone"])
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    assert (tmp_path / "a").read_text() == "old a"
    del files[tmp_path / "n" / "wall"]
    add_model.replace_all(files, [tmp_path / "gone"])
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"
    assert not (tmp_path / "gone").exists()


def test_hardware_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(
        "model name\t: Fast 9\nflags\t\t: fpu avx2 avx512f avx512_bf16 hypervisor\n"
    )
    asked = {"device": "cpu", "processor": "Fast 9", "threads": 2, "processes": 1}
    cores = len(os.sched_getaffinity(0))
    said = model_run.hardware_of(asked, tmp_path)
    assert said.startswith(f"2 threads of a machine with {cores} core")
    assert said.endswith("(Fast 9: AVX2, AVX-512, avx512_bf16)")
    for other in ({**asked, "processor": "Slow 1"}, {**asked, "device": "cuda"}):
        with pytest.raises(BadConfig, match="--hardware"):
            model_run.hardware_of(other, tmp_path)


def test_the_worst_square_is_the_worst() -> None:
    truth = np.full((120, 140, 3), 90, np.uint8)
    output = truth.copy()
    output[40:60, 72:100] = 110
    output[100, 130] = 255  # larger in one pixel, smaller in sum
    # Sides of 20, at 4 + multiples of 4: x from 72 to 80 hold the same error, the first is taken.
    assert fail_sheets.worst_square(output, truth, 20) == (40, 72)


def test_stripes_become_as_fine_as_they_say() -> None:
    row = fail_sheets.stripes()[0, :, 0].astype(float) - 127.5
    crossings = np.flatnonzero(np.diff(np.sign(row)))
    periods = 2 * np.diff(crossings)
    # Along a row the period is longer by 1 / cos 35°; at the far end of the diagonal it is 4.
    assert np.mean(periods[:4]) == pytest.approx(12 / math.cos(math.radians(35)), rel=0.08)
    assert np.mean(periods[-4:]) < np.mean(periods[:4]) / 1.5


def shipped() -> list[cards.Card]:
    return [cards.read(name) for name in SHIPPED]


def test_the_committed_page_is_what_the_cards_give() -> None:
    assert model_docs.PAGE.read_text(encoding="utf-8") == model_docs.page(shipped()), (
        "python tools/model_docs.py writes it"
    )


def test_the_page_is_written_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        model_docs.main(["--help"])
    assert stop.value.code == 0 and "Write docs/models.md" in capsys.readouterr().out
    model_docs.main(["page.md"])
    assert [p.name for p in tmp_path.iterdir()] == ["page.md"]
    assert Path("page.md").read_text(encoding="utf-8") == model_docs.page(shipped())


def test_tools_say_in_a_line_what_they_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as stop:
        fail_sheets.main(["nonsense", str(tmp_path / "sheet.png")])
    said = capsys.readouterr().err
    assert stop.value.code == 1 and said.startswith("fail_sheets: no model 'nonsense'")
    (tmp_path / "bad.json").write_text("{}")
    monkeypatch.setattr(resources, "zoo", lambda: tmp_path)
    with pytest.raises(SystemExit) as stop:
        model_docs.main([str(tmp_path / "page.md")])
    assert stop.value.code == 1 and "model_docs: bad.json: damaged card" in capsys.readouterr().err
    (tmp_path / "bad.json").unlink()
    with pytest.raises(SystemExit):
        model_docs.main([str(tmp_path / "page.md")])
    assert "no bundled model" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cards_are_whole(name: str) -> None:
    card = cards.read(name)
    assert card.name == name and {"Set5", "Set14", "B100"} == set(card.quality)
    assert card.trained_on and card.limits and card.credits
    for trained in card.training:
        config.from_dict(Recipe, trained.recipe, name)
        assert trained.steps > 0 and trained.hours > 0 and trained.hardware
    assert {f.case for f in card.fails} == {c.name for c in fail_sheets.CASES}
    done = [line for n in range(len(card.training)) for line in
                           cards.commands(card, n + 1)]  # fmt: skip
    assert all(line.startswith("edgesr ") for line in done)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sheets_are_the_models(name: str) -> None:
    path = model_docs.PAGE.parent / "models" / f"{name}-fails.png"
    assert path.stat().st_size < 300_000
    runtime = OrtRuntime(find.onnx_of(name), threads=1)
    shown = [fail_sheets.show(case, runtime) for case in fail_sheets.CASES]
    for one, stated in zip(shown, cards.read(name).fails, strict=True):
        # Fonts and JPEG decoders differ a little between versions.
        assert one.fail.psnr_y == pytest.approx(stated.psnr_y, abs=0.3)
        assert one.fail.seen == stated.seen
    made = Image.open(io.BytesIO(fail_sheets.sheet(shown, name)))
    committed = np.asarray(Image.open(path)).astype(float)
    assert np.abs(np.asarray(made) - committed).mean() < 3.0


def test_show_is_part_of_the_tool() -> None:
    done = CliRunner().invoke(app, ["models", "show", SHIPPED[0], "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == SHIPPED[0]
