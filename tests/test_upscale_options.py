"""The options of `edgesr upscale`: what is refused, planned, completed and compared."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgesr import image, resources
from edgesr.cli import upscale_checks as checks
from edgesr.image import Picture, read, write
from edgesr.report.compare_page import Pair, to_html
from edgesr.resize import upscale_bicubic
from edgesr.upscaling.comparing import HEIGHT, WIDTH, busiest
from tests.upscale_world import noise, pictures, repeat, run, write_nearest


@pytest.fixture(scope="module")
def nearest_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nearest(tmp_path_factory.mktemp("model"))


def refusal(*args: object) -> str:
    code, out, err = run(*args)
    assert (code, out) == (2, ""), err
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("-s", 2, "--width", 100), "give --scale, or --width and --height"),
        (("-s", 0), "the scale is above 0 and at most 64"),
        (("-s", 65), "the scale is above 0 and at most 64"),
        (("--width", 0), "--width"),
        (("--denoise", "-m", "fast"), "--denoise is a model of its own"),
        (("--dry-run", "--compare"), "--dry-run writes nothing"),
        (("--quality", 80), "is for JPEG, WebP and AVIF: add -f jpg"),
        (("--quality", 80, "-f", "tiff"), "is for JPEG, WebP and AVIF"),
        (("--quality", 80, "-o", "x.png"), "is for JPEG, WebP and AVIF"),
        (("--max-memory", "much"), "is no amount of memory"),
        (("--max-pixels", "many"), "a number of pixels, as 400M"),
        (("-t", 8), "16 pixels and more"),
        (("--crf", 20), "--crf is for films, and there is none"),
        (("--codec", "libx265"), "--codec is for films, and there is none"),
        (("--frames", 5), "--frames is for live sources"),
        (("--seconds", 5), "--seconds is for live sources"),
        (("-",), "- is one picture; leave out the other inputs"),
        (("rtsp://camera/1", "-o", "x.mp4"), "a live source is upscaled alone"),
        (("one.html", "two.html", "--compare"), "--compare writes one page"),
    ],
)
def test_what_contradicts_or_does_nothing(tmp_path: Path, args: tuple, why: str) -> None:
    pictures(tmp_path, "a.png")
    assert why in refusal(tmp_path / "a.png", *args)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("-", "--resume"), "--resume does nothing with -"),
        (("-", "--json"), "--json does nothing with -"),
        (("-", "-y"), "-y does nothing for standard output"),
        (("-", "--dry-run"), "--dry-run does nothing with -"),
        (("rtsp://camera/1",), "needs the film to write: -o NAME.mp4"),
        (("/dev/video0", "-o", "x.mp4", "-f", "png"), "-f does nothing for a live source"),
        (("/dev/video0", "-o", "x.mp4", "--resume"), "--resume does nothing for a live source"),
        (("film.mkv", "-f", "png"), "-f is for pictures, and there are only films"),
        (("film.mkv", "--compare"), "--compare is for pictures, and there are only films"),
        (("page.html", "--compare"), "name a picture to upscale"),
    ],
)
def test_other_sources_take_other_options(args: tuple, why: str) -> None:
    assert why in refusal(*args)


def test_a_live_source_that_is_not_there(tmp_path: Path, nearest_onnx: Path) -> None:
    pytest.importorskip("av")
    code, out, err = run("/dev/video99", "-o", tmp_path / "o.mp4", "-m", nearest_onnx)
    assert code in (1, 4) and out == ""
    assert err.startswith("edgesr: ") and "/dev/video99" in err
    assert list(tmp_path.iterdir()) == []


def test_limits_of_pixels(tmp_path: Path, nearest_onnx: Path) -> None:
    write(tmp_path / "a.png", Picture(np.zeros((20, 20, 3), np.uint8)))
    args = (tmp_path / "a.png", "-m", nearest_onnx, "--max-pixels")
    code, _, err = run(*args, 399)
    assert code == 1
    assert "raise the limit with --max-pixels" in err
    assert run(*args, "0.4k")[0] == 0
    assert [checks.count("--max-pixels", t) for t in ("12", "1.5k", "400M", "2G")] == [
        12, 1500, 400_000_000, 2_000_000_000
    ]  # fmt: skip


def test_denoise_is_the_model_gan(tmp_path: Path) -> None:
    if not (resources.zoo() / "gan.fp32.onnx").is_file():
        pytest.skip("the bundled model 'gan' is not there")
    pictures(tmp_path, "a.png", side=12)
    assert run(tmp_path / "a.png", "--denoise", "-o", tmp_path / "one.png")[0] == 0
    assert run(tmp_path / "a.png", "-m", "gan", "-o", tmp_path / "two.png")[0] == 0
    one, two = (read(tmp_path / n).pixels for n in ("one.png", "two.png"))
    np.testing.assert_array_equal(one, two)


def test_the_ensemble_is_asked_for(tmp_path: Path, nearest_onnx: Path) -> None:
    """Repeating pixels commutes with flips and turns: the mean over them changes nothing."""
    pixels = pictures(tmp_path, "a.png")["a.png"]
    assert run(tmp_path / "a.png", "-m", nearest_onnx, "-x")[0] == 0
    np.testing.assert_array_equal(read(tmp_path / "a_x4.png").pixels, repeat(pixels))


def test_dry_run_writes_nothing(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, "a.png", "sub/b.png", side=20)
    (tmp_path / "bad.png").write_text("no")
    args = (tmp_path, "-o", tmp_path / "out", "-m", nearest_onnx, "--dry-run", "-s", 2)
    code, out, err = run(*args)
    assert code == 1  # as the real run will
    first, second = out.splitlines()
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path / 'a.png'))} → {re.escape(str(tmp_path / 'out/a_x2.png'))}"
        r"  20x20 → 40x40  tiles of 20x20, \d+ MB", first,
    )  # fmt: skip
    assert str(tmp_path / "out/sub/b_x2.png") in second
    assert "edgesr: 2 planned, 1 failed; " in err
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_x2.png").write_text("")
    code, out, err = run(*args, "-y", "--json")
    planned = [json.loads(line) for line in out.splitlines()]
    assert [p["event"] for p in planned] == ["planned", "failed", "planned", "summary"]
    assert [p.get("overwrites") for p in planned] == [True, None, False, None]
    assert (planned[0]["width"], planned[0]["tile"]) == (40, [20, 20])
    assert planned[0]["memory_bytes"] > 40 * 40 * 3
    assert (tmp_path / "out" / "a_x2.png").read_text() == ""


def pngs_in(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [image.decode(base64.b64decode(text), "piece").pixels for text in found]


def test_compare_shows_bicubic_beside_the_result(tmp_path: Path, nearest_onnx: Path) -> None:
    large = np.full((300, 310, 3), 128, np.uint8)
    large[200:280, 10:120] = noise(80, 110, 3)
    write(tmp_path / "a.png", Picture(large))
    small = noise(8, 10, 3) // 4 + 96  # nothing is clipped between the two passes
    write(tmp_path / "b <i>.png", Picture(small))
    (tmp_path / "bad.png").write_text("no")
    args = (tmp_path, "-o", tmp_path / "out", "-m", nearest_onnx, "--compare")
    code, _, err = run(*args)
    assert code == 1  # for bad.png
    assert f"edgesr: {tmp_path / 'out' / 'compare.html'} shows bicubic beside the result" in err
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")  # nothing from outside
    assert "b &lt;i&gt;.png" in page and "b <i>.png" not in page
    one_bicubic, one, two_bicubic, two = pngs_in(page)
    np.testing.assert_array_equal(two, repeat(small))
    off = np.abs(two_bicubic.astype(int) - upscale_bicubic(small, 4))
    # Pillow's bicubic is MATLAB's but at the border, where it leaves taps out.
    assert off[8:-8, 8:-8].max() <= 1
    # Of the large one a piece at 100 %, where the noise is.
    assert one.shape == one_bicubic.shape == (HEIGHT, WIDTH, 3)
    x, y = map(int, re.search(r"720×480 of them at \((\d+), (\d+)\)", page).groups())  # type: ignore[union-attr]
    np.testing.assert_array_equal(one, repeat(large)[y : y + HEIGHT, x : x + WIDTH])
    assert (one != 128).any(axis=2).mean() > 0.35
    code, _, err = run(*args)
    assert code == 1
    assert "compare.html exists already; -y" in err


def test_compare_to_a_named_page(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path, "a.png")
    page = tmp_path / "sub" / "Page.HTML"
    args = (tmp_path / "a.png", "-m", nearest_onnx)
    assert run(*args, "--compare", page)[0] == 0
    assert len(pngs_in(page.read_text(encoding="utf-8"))) == 2
    assert run("--compare", *args, "-y")[0] == 0  # what stands behind it is a picture here
    assert (tmp_path / "compare.html").is_file()


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (2, np.uint16), (4, np.uint8)])
def test_compare_takes_all_layouts(
    tmp_path: Path, nearest_onnx: Path, channels: int, dtype: type
) -> None:
    write(tmp_path / "a.png", Picture(noise(7, 1, channels, dtype=dtype)))
    code, _, err = run(tmp_path / "a.png", "-m", nearest_onnx, "--compare", "-s", 1.5)
    assert code == 0, err
    before, after = pngs_in((tmp_path / "compare.html").read_text(encoding="utf-8"))
    assert before.shape == after.shape == (11, 2, channels)


def test_the_busiest_piece() -> None:
    pixels = np.zeros((50, 60, 3), np.uint8)
    pixels[20:30, 40:55] = noise(10, 15, 3)
    top, left = busiest(pixels, 14, 20)
    assert top <= 20 and top + 14 >= 30
    assert left <= 40 and left + 20 >= 55
    hidden = np.dstack([pixels, np.zeros((50, 60), np.uint8)])
    hidden[2:6, 2:6] = noise(4, 4, 4) | 128
    top, left = busiest(hidden, 10, 10)
    assert top <= 4 and left <= 4
    assert busiest(np.zeros((3, 4, 1), np.uint8), 3, 4) == (0, 0)


def test_the_page_counts_what_it_leaves_out() -> None:
    pair = Pair("in", "out", (1, 1), (4, 4), (0, 0), (4, 4), "", "")
    assert "more picture" not in to_html([pair], "tiny")
    assert "1 more picture of the run" in to_html([pair], "tiny", missing=1)
    assert "2 more pictures of the run" in to_html([], "<x>", missing=2)


def test_completion_of_models_and_runtimes() -> None:
    assert {"tiny", "fast", "balanced", "gan", "tiny:int8"} <= set(checks.complete_model(""))
    assert checks.complete_model("bal") == ["balanced", "balanced:int8"]
    assert checks.complete_runtime("ort-") == ["ort-cuda", "ort-tensorrt"]


def test_completion_is_light() -> None:
    probe = (
        "import sys\nfrom edgesr.cli import upscale_checks as c\n"
        "assert c.complete_model('t') and c.complete_runtime('o')\n"
        "print(*(m for m in ('torch', 'onnx', 'onnxruntime', 'cv2', 'av') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_shell_completes_options(tmp_path: Path) -> None:
    """What the script of `edgesr --install-completion` asks of the command."""
    for line, expected in (
        ("edgesr upscale a.png -m bal", {"balanced", "balanced:int8"}),
        ("edgesr upscale a.png -f t", {"tiff"}),
    ):
        words = line.split()
        done = subprocess.run(
            [sys.executable, "-c", "from edgesr.cli.main import main; main()"],
            env={
                "_EDGESR_COMPLETE": "complete_bash", "COMP_WORDS": line, "PATH": "/usr/bin",
                "COMP_CWORD": str(len(words) - 1), "HOME": str(tmp_path),
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert set(done.stdout.split()) == expected, done.stderr
