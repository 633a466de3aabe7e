"""A finished run becomes a bundled model with its card; what people read of a card is true."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from compressing import events_of, run
from PIL import Image
from typer.testing import CliRunner, Result

from edgesr import checkpoint, config, resources
from edgesr.cli.main import _Group
from edgesr.cli.main import app as whole_app
from edgesr.cli.models import group
from edgesr.errors import BadConfig, BadModel, MissingExtra
from edgesr.graph.onnx import to_onnx
from edgesr.models import cards, find
from edgesr.resize import downscale_bicubic
from edgesr.runtime.ort import OrtRuntime
from edgesr.training.recipe import Recipe
from tests.conftest import missing
from tools import add_model, fail_sheets, model_docs, model_run
from tools.model_past import Past, past_of

RECIPE = """
name = "little"
ema = 0.9
[student]
width = 8
depth = 2
[data]
patch = 12
batch = 2
holdout = 3
cache_teacher = true
[[stages]]
kind = "distill"
steps = 20
lr = 2e-3
loss = { pixel = 1.0, teacher = 0.5 }
"""
INT8 = """
name = "little-int8"
reparameterize = false
[data]
patch = 12
batch = 2
holdout = 3
cache_teacher = true
[[stages]]
kind = "quantize"
steps = 5
lr = 1e-4
loss = { norm = "l2", pixel = 1.0, teacher = 0.5 }
"""
SOURCES = [
    {"files": "[ac]*", "source": "scikit-image", "pictures": 3, "licence": "CC0, NASA"},
    {"files": "motorcycle*", "source": "Middlebury", "pictures": 1, "licence": "CC0"},
    {"files": "rocket*", "source": "SpaceX", "pictures": 1, "licence": "public domain"},
    {"files": "unused*", "source": "nobody", "pictures": 9, "licence": "none"},
]


@pytest.fixture(scope="module")
def runs(world: Path) -> Path:
    """A folder with two finished runs, `fp32` and `int8` made from it, sources and a test set."""
    try:
        find.load_network("span")
    except MissingExtra as e:
        missing(f"the SPAN teacher: {e}")
    root = world / "cards"
    (root / "eval" / "Little" / "HR").mkdir(parents=True)
    (root / "eval" / "Little" / "LRx4").mkdir()
    for name in ("coffee", "rocket"):
        hr = cv2.imread(str(world / "photos" / f"{name}.png"))
        cv2.imwrite(str(root / "eval" / "Little" / "HR" / f"{name}.png"), hr)
        lr = downscale_bicubic(np.ascontiguousarray(hr), 4)
        cv2.imwrite(str(root / "eval" / "Little" / "LRx4" / f"{name}.png"), lr)
    (root / "sources.json").write_text(json.dumps(SOURCES))
    for name, text, more in (("fp32", RECIPE, []), ("int8", INT8, ["--student", root / "fp32"])):
        (root / f"{name}.toml").write_text(text)
        done = run(
            world, "compress", root / f"{name}.toml", "--teacher", "span", "--data",
            world / "photos", "--out", root / name, "--threads", 1, *more,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return root


def add(root: Path, target: Path, *more: object, name: str = "little") -> None:
    """`tools/add_model.py` on the fp32 run, into the folder `target`."""
    arguments = [
        root / "fp32", name, "--about", "a little one", "--for", "Tests only.", "--eval",
        root / "eval", "--credits", root / "sources.json", "--box", target / "zoo", "--docs",
        target / "docs", *more,
    ]  # fmt: skip
    (target / "zoo").mkdir(exist_ok=True)
    add_model.main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def added(runs: Path) -> Path:
    """A folder with a zoo and docs that hold the model."""
    target = runs / "added"
    target.mkdir()
    add(runs, target, "--int8", runs / "int8", "--note", "made in a test", "--limit", "tiny")
    return target


def card_of(target: Path, name: str = "little") -> cards.Card:
    path = target / "zoo" / f"{name}.json"
    return cards.loads(path.read_text(encoding="utf-8"), path.name)


def y_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """By hand: BT.601 luma of 8-bit RGB, 4 pixels off each side."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    difference = ((a.astype(float) - b) @ weights)[4:-4, 4:-4]
    return 10 * math.log10(255**2 / np.mean(difference**2))


def y_psnr_of(file: Path, folder: Path) -> float:
    """Mean over a test set of what `file` makes of it, each picture in one piece."""
    runtime, found = OrtRuntime(file, threads=1), []
    for path in sorted((folder / "HR").iterdir()):
        hr, lr = (np.asarray(Image.open(p)) for p in (path, folder / "LRx4" / path.name))
        y = runtime.run(np.ascontiguousarray(lr.transpose(2, 0, 1)[None], np.float32) / 255)
        found.append(y_psnr(np.rint(np.clip(y[0].transpose(1, 2, 0), 0, 1) * 255), hr))
    return float(np.mean(found))


def test_the_files_are_the_runs(runs: Path, added: Path) -> None:
    box, card = added / "zoo", card_of(added)
    assert {p.name for p in box.iterdir()} == {
        f"little.{s}" for s in ("json", "safetensors", "fp32.onnx", "int8.ort.onnx",
                                "int8.safetensors")
    }  # fmt: skip
    for suffix, digest in card.sha256.items():
        content = (box / f"little.{suffix}").read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert len(content) == card.file_bytes[suffix]
    student = runs / "int8" / "student.int8.ort.onnx"
    assert (box / "little.int8.ort.onnx").read_bytes() == student.read_bytes()
    for form, suffix in (("fp32", "safetensors"), ("int8", "int8.safetensors")):
        mine = checkpoint.load(box / f"little.{suffix}")
        theirs = checkpoint.load(runs / form / "student.safetensors")
        assert mine.graph == theirs.graph and mine.quant == theirs.quant
        assert (mine.quant is None) == (form == "fp32")
        assert all(np.array_equal(mine.weights[n], w) for n, w in theirs.weights.items())


def test_the_card_says_what_is_so(runs: Path, added: Path) -> None:
    card = card_of(added)
    # By hand: 3×3 convolutions 3→8, 8→8 twice, 8→48, and the 1×1 anchor 3→48.
    macs = (3 * 8 + 2 * 8 * 8 + 8 * 48) * 9 + 3 * 48
    assert (card.macs_320x180, card.params) == (macs * 320 * 180, macs + 3 * 8 + 2 * 48)
    assert (card.halo, card.scale) == (4, 4)
    little = card.quality["Little"]
    assert little.int8_psnr_y is not None
    for stated, suffix in ((little.psnr_y, "fp32.onnx"), (little.int8_psnr_y, "int8.ort.onnx")):
        measured = y_psnr_of(added / "zoo" / f"little.{suffix}", runs / "eval" / "Little")
        assert stated == pytest.approx(measured, abs=0.002)
    assert little.psnr_y != little.int8_psnr_y
    assert little.int8_loss_db == pytest.approx(little.psnr_y - little.int8_psnr_y, abs=1e-9)
    first, second = card.training
    assert [(r.form, r.start, r.steps) for r in card.training] == [
        ("fp32", "", 20), ("int8", "run 1", 5)]  # fmt: skip
    for trained, folder in ((first, "fp32"), (second, "int8")):
        kept = config.from_dict(Recipe, trained.recipe, "card")
        assert kept == config.load(Recipe, runs / folder / "recipe.toml")
        legs = events_of(runs / folder, "measured")
        seconds = sum(leg["timing"]["seconds"] for leg in legs)
        assert trained.hours * 3600 == pytest.approx(seconds, abs=0.5)
        assert trained.hardware.startswith("1 thread of a machine with")
    assert {s.source: s.tiles for s in card.trained_on} == {
        "scikit-image": 3, "Middlebury": 1, "SpaceX": 1}  # fmt: skip
    assert "BSD-3-Clause" in card.credits[0] and card.notes == ("made in a test",)
    assert card.limits[-1] == "tiny" and any("int8" in limit for limit in card.limits)
    assert cards.loads(cards.dumps(card), "again") == card
    text = (added / "zoo" / "little.json").read_text()
    assert str(runs.parent) not in text and os.uname().nodename not in text


def test_the_page_and_the_sheet_come_along(added: Path) -> None:
    card, docs = card_of(added), added / "docs"
    page = (docs / "models.md").read_text(encoding="utf-8")
    assert page == model_docs.page([card])
    for text in ("| [little](#little)", "scikit-image: 3 pictures, CC0, NASA",
                 "edgesr models show little --recipe 2 > little-2.toml", "--student runs/little-1",
                 "(models/little-fails.png)"):  # fmt: skip
        assert text in page
    sheet = np.asarray(Image.open(docs / "models" / "little-fails.png"))
    assert {f.case for f in card.fails} >= {"fine stripes", "JPEG"}
    # The worst square of the first row is on the sheet pixel by pixel, twice as large.
    fail, case = card.fails[0], fail_sheets.CASES[0]
    truth = case.truth()[fail.y : fail.y + fail.side, fail.x : fail.x + fail.side]
    last = sheet[22 : 22 + 2 * fail.side, -2 * fail.side :]
    np.testing.assert_array_equal(last[::2, ::2], truth)


def refused(capsys: pytest.CaptureFixture[str], runs: Path, target: Path, *more: object) -> str:
    """What add_model says as it refuses; nothing may be written."""
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    with pytest.raises(SystemExit) as stop:
        add(runs, target, *more)
    assert stop.value.code == 1
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("add_model: ")
    return said[0]


def test_data_without_credits_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [s for s in SOURCES if s["source"] != "SpaceX"]
    (tmp_path / "s.json").write_text(json.dumps(known))
    said = refused(capsys, runs, tmp_path, "--credits", tmp_path / "s.json")
    assert "1 of 5 training pictures have no credit, rocket.png" in said
    (tmp_path / "s.json").write_text(json.dumps([{"files": "*", "source": "all", "pictures": 5}]))
    assert "'licence' is missing" in refused(
        capsys, runs, tmp_path, "--credits", tmp_path / "s.json"
    )
    (tmp_path / "others").mkdir()
    shutil.copy(runs.parent / "photos" / "coffee.png", tmp_path / "others")
    shutil.copy(runs.parent / "photos" / "rocket.png", tmp_path / "others")
    said = refused(capsys, runs, tmp_path, "--data", tmp_path / "others")
    assert "not those" in said and "--data" in said


def copied(run_folder: Path, where: Path) -> Path:
    shutil.copytree(run_folder, where, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    return where


def test_int8_of_another_student_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not int8" in refused(capsys, runs, tmp_path, "--int8", runs / "fp32")
    other = copied(runs / "fp32", tmp_path / "other")
    student = checkpoint.load(other / "student.safetensors")
    student.weights["head.bias"][0] += 1e-3
    checkpoint.save(other / "student.safetensors", student)
    with pytest.raises(BadModel, match=r"not made from the student of .*other"):
        model_run.int8_file(model_run.open_run(runs / "int8"), model_run.open_run(other))
    stale = copied(runs / "int8", tmp_path / "stale")
    shutil.copy(runs / "int8" / "student.int8.trt.onnx", stale / "student.int8.ort.onnx")
    assert "not what the student's scales" in refused(capsys, runs, tmp_path, "--int8", stale)


def test_runs_that_are_not_done_or_not_from_the_start(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (model_run.open_run(runs / name) for name in ("fp32", "int8"))
    model_run.check_chain([first, second])
    with pytest.raises(BadModel, match="--earlier"):
        model_run.check_chain([second])
    with pytest.raises(BadModel, match="did not start from"):
        model_run.check_chain([first, first])
    assert "did not start" in refused(capsys, runs, tmp_path, "--earlier", runs / "fp32")
    half = copied(runs / "fp32", tmp_path / "half")
    report = json.loads((half / "report.json").read_text())
    (half / "report.json").write_text(json.dumps({**report, "missed": "too slow"}))
    with pytest.raises(BadModel, match=r"missed its gate \(too slow"):
        model_run.open_run(half)
    (half / "report.json").unlink()
    with pytest.raises(BadModel, match="--resume"):
        model_run.open_run(half)
    with pytest.raises(BadConfig, match="not a run folder"):
        model_run.open_run(tmp_path)
    unknown = dataclasses.replace(
        first, request=dataclasses.replace(first.request, teacher="/x/mine.pth")
    )
    with pytest.raises(BadConfig, match=r"'mine.pth' has no credit"):
        model_run.teacher_credits(unknown, tmp_path)


def test_a_run_from_a_bundled_model_takes_its_history_over(runs: Path, added: Path) -> None:
    first, box = model_run.open_run(runs / "fp32"), added / "zoo"
    assert past_of(first, box) == Past()
    again = dataclasses.replace(first, inputs={**first.inputs, "student": first.weights_hash})
    past, card = past_of(again, box), card_of(added)
    assert past.weights_hash == first.weights_hash
    assert [run.form for run in past.training] == ["fp32"]
    assert past.training == card.training[:1]
    assert (past.trained_on, past.credits) == (card.trained_on, card.credits)
    model_run.check_chain([again], past.weights_hash)
    with pytest.raises(BadModel, match="--earlier"):
        model_run.check_chain([again], past_of(again, added).weights_hash)
    [new] = add_model._training([again], None, past, "")[1:]
    assert new.start == "run 1" and new.form == "fp32"


def test_a_bundled_teacher_hands_its_credits_on(runs: Path, added: Path) -> None:
    first = model_run.open_run(runs / "fp32")
    follows = dataclasses.replace(first.request, teacher="little")
    credits = model_run.teacher_credits(dataclasses.replace(first, request=follows), added / "zoo")
    assert credits[0].startswith("little: EdgeSR's own")
    assert credits[1:] == card_of(added).credits and "SPAN" in credits[1]


def test_a_teacher_is_kept_in_half_precision(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(runs, tmp_path, "--half")
    card, box = card_of(tmp_path), tmp_path / "zoo"
    assert {p.name for p in box.iterdir()} == {"little.safetensors", "little.json"}
    trained = checkpoint.load(runs / "fp32" / "student.safetensors").weights
    kept = checkpoint.load(box / "little.safetensors").weights
    for name, weight in trained.items():
        assert np.array_equal(kept[name], weight.astype(np.float16).astype(np.float32)), name
    rounded = to_onnx(checkpoint.load(box / "little.safetensors").graph, kept)
    (tmp_path / "rounded.onnx").write_bytes(rounded)
    measured = y_psnr_of(tmp_path / "rounded.onnx", runs / "eval" / "Little")
    assert card.quality["Little"].psnr_y == pytest.approx(measured, abs=0.002)
    said = refused(capsys, runs, tmp_path, "-y", "--half", "--int8", runs / "int8")
    assert "leave out --int8" in said


def test_large_files_and_taken_names_are_refused(
    runs: Path, added: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(added, tmp_path / "taken")
    assert "-y replaces" in refused(capsys, runs, tmp_path / "taken")
    monkeypatch.setattr(add_model, "MOST_BYTES", 20_000)
    said = refused(capsys, runs, tmp_path / "taken", "-y")
    assert "little.fp32.onnx would have 0.02 MB" in said
    monkeypatch.undo()
    assert card_of(tmp_path / "taken").has_int8
    add(runs, tmp_path / "taken", "-y")
    box = tmp_path / "taken" / "zoo"
    assert not list(box.glob("*int8*")) and not card_of(tmp_path / "taken").has_int8
    with pytest.raises(SystemExit):
        add(runs, tmp_path, name="../evil")


def show(*arguments: object) -> Result:
    app = typer.Typer(cls=_Group)
    app.add_typer(group, name="models", cls=_Group)
    app.command("other")(lambda: None)  # Typer needs a second command to keep the name
    words = ["models", *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "80", "TERM": "dumb"})


def test_show_for_people(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "zoo", lambda: added / "zoo")
    done = show("show", "little:int8")
    assert done.exit_code == 0, done.output
    card = card_of(added)
    little = card.quality["Little"]
    assert little.int8_psnr_y is not None
    for text in (
        f"{little.psnr_y:.2f}", f"{little.int8_psnr_y:.2f}", f"{little.bicubic_ssim_y:.4f}",
        "SpaceX: 1 picture, public domain", "little.int8.ort.onnx", "made in a test",
        "edgesr compress little-2.toml", "BSD-3-Clause", "20 steps",
    ):  # fmt: skip
        assert text in done.stdout
    wide = [line for line in done.stdout.splitlines() if len(line) > 80 and "$ " not in line]
    assert wide == []


def test_show_for_machines(runs: Path, added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "zoo", lambda: added / "zoo")
    shown = json.loads(show("show", "little", "--json").stdout)
    assert shown["files"]["onnx_int8"] == str(added / "zoo" / "little.int8.ort.onnx")
    assert shown["quality"]["Little"]["psnr_y"] == card_of(added).quality["Little"].psnr_y
    listed = json.loads(show("--json").stdout)
    assert listed[0]["psnr_y"] == {"Little": shown["quality"]["Little"]["psnr_y"]}
    for number, folder in ((1, "fp32"), (2, "int8")):
        toml = show("show", "little", "--recipe", number).stdout
        assert config.loads(Recipe, toml, "shown") == config.load(
            Recipe, runs / folder / "recipe.toml"
        )


def test_show_teachers_and_what_is_not_there(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    span = show("show", "span").stdout
    assert "426,288 parameters" in span and "32.20 / 28.65 / 27.61" in span
    assert json.loads(show("show", "span", "--json").stdout)["published_psnr_y"]["Set5"] == 32.20
    monkeypatch.setattr(resources, "zoo", lambda: added / "zoo")
    for arguments, words in (
        (["litle"], "Did you mean little?"),
        (["little", "--recipe", 3], "2 run(s), not 3"),
        (["span", "--recipe", 1], "no recipe"),
        (["little", "--recipe", 1, "--json"], "choose one of them"),
    ):
        done = show("show", *arguments)
        assert done.exit_code == 1 and words in done.stderr
        assert done.stderr.count("\n") == 1
    assert "--json goes behind the name" in show("--json", "show", "little").stderr


def test_show_of_int8_that_is_not_there(
    added: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in ("json", "safetensors", "fp32.onnx"):
        shutil.copy(added / "zoo" / f"little.{suffix}", tmp_path)
    monkeypatch.setattr(resources, "zoo", lambda: tmp_path)
    done = show("show", "little:int8")
    assert done.exit_code == 1 and "'little' has no int8 file (no model has)" in done.stderr


def test_the_int8_name_runs_through_the_tool(
    runs: Path, added: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "zoo", lambda: added / "zoo")
    picture = runs / "eval" / "Little" / "LRx4" / "coffee.png"
    made = {}
    for model in ("little", "little:int8"):
        out = tmp_path / f"{len(made)}.png"
        done = CliRunner().invoke(whole_app, ["upscale", str(picture), "-m", model, "-o", str(out)])
        assert done.exit_code == 0, done.output
        made[model] = np.asarray(Image.open(out))
    hr = np.asarray(Image.open(runs / "eval" / "Little" / "HR" / "coffee.png"))
    difference = np.abs(made["little"].astype(int) - made["little:int8"])
    assert 0 < difference.mean() < 8
    assert y_psnr(made["little:int8"], hr) == pytest.approx(y_psnr(made["little"], hr), abs=1.5)
    done = CliRunner().invoke(whole_app, ["upscale", str(picture), "-m", "span:int8"])
    assert done.exit_code == 1 and "no int8 file (little:int8 has)" in done.stderr


def damaged(text: str, *edits: tuple[str, Any]) -> str:
    card = json.loads(text)
    for key, value in edits:
        card[key] = value
    return json.dumps(card)


def test_damaged_cards(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (added / "zoo" / "little.json").read_text()
    for wrong, match in (
        ("{", "damaged"),
        ("[]", "damaged"),
        (damaged(text, ("schema", "edgesr.card/9")), "schema"),
        (damaged(text, ("quality", {"Set5": {"psnr_y": "high"}})), "psnr_y"),
        (damaged(text, ("nonsense", 1)), "nonsense"),
    ):
        with pytest.raises(BadModel, match=match) as caught:
            cards.loads(wrong, "little.json")
        assert "little.json" in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setattr(resources, "zoo", lambda: added / "zoo")
    with pytest.raises(BadModel, match="no card"):
        cards.read("nobody")
