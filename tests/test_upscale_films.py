"""Films through `edgesr upscale`, beside pictures; what happens inside is `test_film*`'s matter."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.upscale_world import pictures, run, write_nearest

av = pytest.importorskip("av")
FRAMES = 6


@pytest.fixture(scope="module")
def nearest_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nearest(tmp_path_factory.mktemp("model"))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Six grey frames of 32×24, each a little lighter."""
    path = tmp_path / "in" / "film.mkv"
    path.parent.mkdir()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((24, 32, 3), 40 + 20 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode())
    return path


def levels(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert all(f.shape == frames[0].shape for f in frames)
    return [float(f.mean()) for f in frames]


def test_a_folder_with_a_film_in_it(tmp_path: Path, nearest_onnx: Path, film: Path) -> None:
    pictures(film.parent, "a.png", "z.png")
    args = (film.parent, "-o", tmp_path / "out", "-m", nearest_onnx, "-s", 2, "--json")
    code, out, err = run(*args)
    assert code == 0, err
    first, made, last, summary = map(json.loads, out.splitlines())
    assert [Path(e["output"]).name for e in (first, made, last)] == [
        "a_x2.png", "film_x2.mkv", "z_x2.png"
    ]  # fmt: skip
    assert (made["width"], made["height"], made["frames"]) == (64, 48, FRAMES)
    assert made["fps"] > 0 and 0 < made["network_s"] < made["total_s"]
    assert summary["done"] == 3
    assert "film.mkv: done, 6/6" in err
    expected = [40.0 + 20 * n for n in range(FRAMES)]
    np.testing.assert_allclose(levels(tmp_path / "out" / "film_x2.mkv"), expected, atol=2.5)
    code, out, _ = run(*args, "--resume")
    assert [json.loads(line)["event"] for line in out.splitlines()[:-1]] == ["skipped"] * 3
    code, _, err = run(*args)
    assert (code, err.count("exists already; -y overwrites it")) == (1, 3)


def test_a_film_alone(tmp_path: Path, nearest_onnx: Path, film: Path) -> None:
    code, out, _ = run(film, "--width", 64, "-m", nearest_onnx, "--dry-run")
    assert (code, out) == (0, f"{film} → {film.parent / 'film_64x48.mkv'}  32x24 → 64x48\n")
    code, out, err = run(film, "-o", tmp_path / "out.mp4", "-m", nearest_onnx, "--crf", 10)
    assert code == 0, err
    assert out.startswith(f"{tmp_path / 'out.mp4'}  32x24 → 128x96  6 frames in ")
    assert len(levels(tmp_path / "out.mp4")) == FRAMES
    code, _, err = run(film, "-o", tmp_path / "o.mp4", "-m", nearest_onnx, "--codec", "nosuch")
    assert code == 1 and "nosuch" in err
    assert not (tmp_path / "o.mp4").exists()


def test_what_is_no_film(tmp_path: Path, nearest_onnx: Path) -> None:
    (tmp_path / "f.mp4").write_text("no film")
    code, out, err = run(tmp_path / "f.mp4", "-m", nearest_onnx)
    assert (code, out) == (1, "")
    assert "f.mp4" in err and err.count("\n") == 1
