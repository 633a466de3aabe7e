"""`evaluate`: the published baseline, the pairing of files, the command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgesr import metrics
from edgesr.atomic import write_bytes
from edgesr.cli.main import app
from edgesr.errors import BadImage
from edgesr.evaluate import evaluate, find_pairs
from edgesr.graph.spec import Graph
from edgesr.graph.spec import Nearest as NearestLayer
from edgesr.image import Picture, write
from edgesr.resize import downscale_bicubic


class Nearest:
    name = "nearest"
    scale = 4
    halo = 0
    tile_shapes = ()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.repeat(4, axis=2).repeat(4, axis=3)

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def photos(tmp_path: Path, photograph) -> Path:
    """Two originals, one grey, of sizes that 4 does not divide."""
    folder = tmp_path / "photos"
    write(folder / "a.png", Picture(photograph("astronaut")[100:163, 200:271]))
    write(folder / "b.png", Picture(photograph("chelsea")[100:150, 200:249, :1]))
    return folder


@pytest.mark.parametrize(
    ("name", "psnr_y", "ssim_y"),
    [("Set5", 28.43, 0.8111), ("Set14", 26.09, 0.7048)],
)
def test_bicubic_baseline(eval_dir: Path, name: str, psnr_y: float, ssim_y: float) -> None:
    result = evaluate(eval_dir / name, None)
    assert result.mean.psnr_y == pytest.approx(psnr_y, abs=0.02)
    assert result.mean.ssim_y == pytest.approx(ssim_y, abs=0.0005)


def test_made_lr_equals_given_lr(eval_dir: Path) -> None:
    given = evaluate(eval_dir / "Set5", None, limit=2)
    made = evaluate(eval_dir / "Set5" / "HR", None, limit=2)
    assert [r.name for r in given.rows] == ["baby.png", "bird.png"]
    assert given == made


def test_a_network_by_hand(photos: Path, photograph) -> None:
    seen: list[tuple[int, int]] = []
    result = evaluate(photos, Nearest(), on_progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    assert [(r.name, r.width, r.height) for r in result.rows] == [
        ("a.png", 68, 60),
        ("b.png", 48, 48),
    ]
    hr = photograph("astronaut")[100:160, 200:268]
    sr = downscale_bicubic(hr, 4).repeat(4, axis=0).repeat(4, axis=1)
    assert result.rows[0].scores.psnr_y == metrics.psnr_y(hr, sr)
    assert result.rows[0].scores.ssim_rgb == metrics.ssim_rgb(hr, sr)
    grey = result.rows[1].scores
    # of a grey picture the luma error is 219/255 of the error
    assert grey.psnr_y - grey.psnr_rgb == pytest.approx(20 * math.log10(255 / 219))
    assert result.mean.psnr_rgb == pytest.approx(
        (result.rows[0].scores.psnr_rgb + grey.psnr_rgb) / 2
    )


def test_infinite_psnr_is_null_in_json(tmp_path: Path) -> None:
    write(tmp_path / "flat.png", Picture(np.full((40, 40, 3), 90, np.uint8)))
    result = evaluate(tmp_path, Nearest())
    assert result.mean.psnr_y == math.inf
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["mean"]["psnr_y"] is None
    assert data["mean"]["ssim_y"] == pytest.approx(1)


def test_pairs_must_match(tmp_path: Path, photos: Path) -> None:
    hr, lr = tmp_path / "set" / "HR", tmp_path / "set" / "LRx4"
    shutil.copytree(photos, hr)
    assert find_pairs(tmp_path / "set", 4) == [(hr / "a.png", None), (hr / "b.png", None)]
    write(lr / "a.png", Picture(np.zeros((15, 17, 3), np.uint8)))
    with pytest.raises(BadImage, match=r"HR/b\.png: no picture of that name in .*LRx4"):
        evaluate(tmp_path / "set", None)
    write(lr / "b.png", Picture(np.zeros((12, 11, 3), np.uint8)))
    with pytest.raises(BadImage, match=r"LRx4/b\.png: is 11x12, the original asks for 12x12"):
        evaluate(tmp_path / "set", None)


@pytest.mark.parametrize(
    ("size", "reason"), [((3, 40), "too small for scale 4"), ((18, 40), "at least 19x19")]
)
def test_too_small_to_measure(tmp_path: Path, size: tuple[int, int], reason: str) -> None:
    write(tmp_path / "s.png", Picture(np.zeros((*size, 3), np.uint8)))
    with pytest.raises(BadImage, match=rf"s\.png: .*{reason}"):
        evaluate(tmp_path, None)


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_command_table(photos: Path) -> None:
    code, out, err = run("bicubic", "--data", photos)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["picture", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"]
    assert [x.split()[0] for x in lines[1:3]] == ["a.png", "b.png"]
    expected = evaluate(photos, None).mean
    assert lines[3].split()[:4] == ["mean", "of", "2", f"{expected.psnr_y:.2f}"]
    assert "BT.601 Y" in lines[4]


def test_command_json(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("onnx")
    from edgesr.graph.onnx import to_onnx

    model = tmp_path / "nearest.onnx"
    write_bytes(model, to_onnx(Graph("nearest", (NearestLayer("up", ("input",), 4),)), {}))
    code, out, err = run(model, "--data", photos, "--json", "--limit", 1)
    assert code == 0, err
    data = json.loads(out)
    assert data["model"] == str(model)
    assert [p["name"] for p in data["pictures"]] == ["a.png"]
    assert data["mean"]["psnr_y"] == evaluate(photos, Nearest(), limit=1).mean.psnr_y


def test_command_errors(tmp_path: Path, photos: Path) -> None:
    code, out, err = run("bicubic", "--data", tmp_path / "none")
    assert (code, out) == (1, "")
    assert err == f"edgesr: {tmp_path / 'none'}: no such folder\n"
    code, _, err = run("nosuch", "--data", photos)
    assert code == 1
    assert "no model 'nosuch'" in err
    assert run("bicubic")[0] == 2
