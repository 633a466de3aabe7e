"""`upscale`: arrays, files and the command, mostly on a network whose output is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from edgesr import resources
from edgesr.cli.upscale import Format
from edgesr.errors import BadImage, BadModel, Impossible, UnknownName, WouldOverwrite
from edgesr.image import SUFFIXES, Picture, read, write
from edgesr.upscaling.batch import sources_of, upscale_files
from edgesr.upscaling.files import upscale_array, upscale_file
from edgesr.upscaling.inputs import Source
from edgesr.upscaling.options import DEFAULT_MODEL, FORMATS, Options
from edgesr.upscaling.outputs import output_path
from edgesr.upscaling.results import Done, Failed
from tests.upscale_world import Nearest, noise, repeat, run, write_nearest

_WHERE_TELEMETRY_LOOKS = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 1), (9, 13, 3), (1, 1, 3)])
def test_arrays_keep_layout_and_type(shape: tuple[int, ...], dtype: type) -> None:
    pixels = noise(*shape, dtype=dtype)
    got = upscale_array(pixels, Nearest(), tile=5)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, repeat(pixels))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha(channels: int, dtype: type) -> None:
    pixels = noise(12, 12, channels, dtype=dtype)
    top = np.iinfo(dtype).max
    pixels[..., -1] = top
    got = upscale_array(pixels, Nearest())
    assert got.shape == (48, 48, channels)
    np.testing.assert_array_equal(got[..., :-1], repeat(pixels[..., :-1]))
    assert (got[..., -1] == top).all()
    pixels[:, 6:, -1] = 0
    got = upscale_array(pixels, Nearest())[..., -1]
    assert (got[:, :16] == top).all()
    assert (got[:, -16:] == 0).all()
    middle = got[0, 20:28].astype(int)
    assert (np.diff(middle) <= 0).all()
    assert len(np.unique(middle)) >= 5  # a smooth edge, not a step


def test_hidden_colours_do_not_bleed() -> None:
    """A green disc on transparent magenta: the network must not see any magenta."""
    y, x = np.mgrid[0:40, 0:50]
    inside = (y - 20) ** 2 + (x - 15) ** 2 < 100
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[...] = (255, 0, 255, 0)
    pixels[inside] = (10, 200, 30, 255)
    got = upscale_array(pixels, Nearest())
    visible = got[got[..., 3] > 0]
    assert len(visible) > 16 * inside.sum()  # a soft edge, wider than the disc itself
    np.testing.assert_array_equal(visible[:, :3], np.broadcast_to([10, 200, 30], (len(visible), 3)))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 5), (4, 4, 0), (1, 4, 4, 3), (0, 4, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadImage):
        upscale_array(np.zeros(shape, np.uint8), Nearest())
    with pytest.raises(BadImage):
        upscale_array(np.zeros((4, 4, 3), np.float32), Nearest())


def test_file_keeps_what_belongs_to_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Picture(noise(6, 8, 3, dtype=np.uint16), icc, exif.tobytes(), (300.0, 300.0))
    write(tmp_path / "in.png", picture)
    result = upscale_file(tmp_path / "in.png", Nearest())
    assert isinstance(result, Done)
    assert result.output == str(tmp_path / "in_x4.png")
    assert (result.width, result.height, result.scale) == (6, 8, 4)  # shown upright
    assert (result.new_width, result.new_height) == (24, 32)
    assert 0 < result.network_s < result.total_s
    got = read(tmp_path / "in_x4.png")
    np.testing.assert_array_equal(got.pixels, repeat(np.rot90(picture.pixels, -1)))
    assert got.icc == picture.icc
    assert got.dpi == pytest.approx((300, 300), abs=0.02)
    block = Image.Exif()
    block.load(got.exif)
    assert (block[0x010F], block[0x0112]) == ("Maker", 1)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    write(tmp_path / "in.png", Picture(noise(3, 3, 3)))
    (tmp_path / "in_x4.png").write_text("precious")
    net = Nearest()
    with pytest.raises(WouldOverwrite, match=r"in_x4\.png exists already; -y"):
        upscale_file(tmp_path / "in.png", net)
    assert not net.seen
    assert (tmp_path / "in_x4.png").read_text() == "precious"
    upscale_file(tmp_path / "in.png", net, Options(yes=True))
    assert read(tmp_path / "in_x4.png").pixels.shape == (12, 12, 3)


def test_impossible_outputs_are_refused_before_the_network_runs(tmp_path: Path) -> None:
    write(tmp_path / "in.png", Picture(noise(3, 3, 4)))
    net = Nearest()
    for options, reason in (
        (Options(fmt="jpg"), "no transparency"),
        (Options(out=tmp_path / "a.gif"), "unknown format"),
        (Options(out=tmp_path / "a.png", fmt="webp"), "does not end in .webp"),
    ):
        with pytest.raises(BadImage, match=reason):
            upscale_file(tmp_path / "in.png", net, options)
    assert not net.seen
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


def test_output_names(tmp_path: Path) -> None:
    def name(source: Source, options: Options, size: tuple[int, int] = (8, 8)) -> Path:
        return output_path(source, size, 4, options)

    source = Source(Path("there/photo.of.me.jpeg"))
    beside = {
        Options(): "photo.of.me_x4.png",
        Options(fmt="webp", scale=2.0): "photo.of.me_x2.webp",
        Options(fmt="tiff", scale=1.5): "photo.of.me_x1.5.tiff",
        Options(width=1920): "photo.of.me_1920x1080.png",
        Options(height=1080, fmt="avif"): "photo.of.me_1920x1080.avif",
    }
    for options, expected in beside.items():
        assert name(source, options, (1080, 1920)) == Path("there") / expected
    assert name(source, Options(out=Path("b.jpg"))) == Path("b.jpg")
    assert name(source, Options(out=Path("b.jpeg"), fmt="jpg")) == Path("b.jpeg")
    assert name(source, Options(out=Path("b.tif"), fmt="tiff")) == Path("b.tif")
    assert name(source, Options(out=tmp_path)) == tmp_path / "photo.of.me_x4.png"
    assert name(source, Options(out=Path("new"))) == Path("new/photo.of.me_x4.png")
    (tmp_path / "old").write_text("")  # a file, so it is no folder to write into
    assert name(source, Options(out=tmp_path / "old")) == tmp_path / "old"
    new = Options(out=tmp_path / "new.d", many=True)
    assert name(source, new) == tmp_path / "new.d" / "photo.of.me_x4.png"
    deep = Source(Path("a/b/c/photo.png"), below=Path("b/c"))
    assert name(deep, new) == tmp_path / "new.d" / "b" / "c" / "photo_x4.png"
    for suffix, kept in ((".mkv", ".mkv"), (".avi", ".mp4"), (".MP4", ".mp4")):
        film = Source(Path(f"f{suffix}"), film=True)
        assert name(film, Options(fmt="png")) == Path(f"f_x4{kept}")


def test_memory_that_does_not_suffice(tmp_path: Path) -> None:
    class Hungry(Nearest):
        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            raise MemoryError

    write(tmp_path / "in.png", Picture(noise(3, 3, 3)))
    with pytest.raises(Impossible, match=r"memory.*; close other programs"):
        upscale_file(tmp_path / "in.png", Hungry())
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


def test_a_broken_network_writes_nothing(tmp_path: Path) -> None:
    class Broken(Nearest):
        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().run(batch) * np.float32(np.nan)

    write(tmp_path / "in.png", Picture(noise(3, 3, 3)))
    with pytest.raises(BadModel, match="NaN"):
        upscale_file(tmp_path / "in.png", Broken())
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


def test_many_files_go_on_after_a_bad_one(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        write(tmp_path / name, Picture(noise(3, 3, 3)))
    (tmp_path / "b.png").write_text("not a picture")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "a.png", Picture(noise(3, 3, 3)))
    sources = [tmp_path / n for n in ("a.png", "b.png", "sub/a.png", "c.png")]
    options = Options(out=tmp_path / "new" / "out", yes=True)
    outcomes = list(upscale_files(sources_of(sources), options, Nearest()))
    assert [type(o) for o in outcomes] == [Done, Failed, Failed, Done]
    # -y does not mean that one input may overwrite the result of another
    assert isinstance(outcomes[2], Failed)
    assert isinstance(outcomes[2].error, WouldOverwrite)
    assert "already" in str(outcomes[2].error)
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == ["a_x4.png", "c_x4.png"]


def test_an_unknown_model_is_raised_not_reported_per_file(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no model 'nosuch'"):
        list(upscale_files(sources_of([tmp_path / "a.png"]), Options(), "nosuch"))


def test_names_agree() -> None:
    assert tuple(f.value for f in Format) == FORMATS
    assert all("." + f in SUFFIXES for f in FORMATS)


# The command.


@pytest.fixture(scope="module")
def nearest_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nearest(tmp_path_factory.mktemp("model"))


def test_command_writes_beside_the_input(tmp_path: Path, nearest_onnx: Path) -> None:
    pixels = noise(10, 14, 3)
    write(tmp_path / "in.png", Picture(pixels))
    code, out, err = run(tmp_path / "in.png", "-m", nearest_onnx)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'in_x4.png'}  14x10 → 56x40")
    np.testing.assert_array_equal(read(tmp_path / "in_x4.png").pixels, repeat(pixels))
    code, out, err = run(tmp_path / "in.png", "-m", nearest_onnx)
    assert (code, out) == (1, "")
    assert err == f"edgesr: {tmp_path / 'in_x4.png'} exists already; -y overwrites it\n"
    assert run(tmp_path / "in.png", "-m", nearest_onnx, "-y")[0] == 0


def test_command_prints_only_json(tmp_path: Path, nearest_onnx: Path) -> None:
    write(tmp_path / "in.png", Picture(noise(20, 20, 1)))
    args = ("-m", nearest_onnx, "-t", 16, "-f", "webp", "-o", tmp_path / "out.webp", "--json")
    code, out, err = run(tmp_path / "in.png", tmp_path / "none.png", *args[:-3], "--json")
    assert code == 1
    assert "none.png: no such file" in err
    done, failed, summary = map(json.loads, out.splitlines())
    assert done.pop("network_s") < done.pop("total_s")
    assert done == {
        "event": "done", "input": str(tmp_path / "in.png"), "scale": 4, "streamed": False,
        "output": str(tmp_path / "in_x4.webp"), "width": 80, "height": 80,
    }  # fmt: skip
    assert (failed["event"], failed["input"]) == ("failed", str(tmp_path / "none.png"))
    assert "no such file" in failed["error"]
    assert summary.pop("seconds") > 0
    assert summary == {"event": "summary", "done": 1, "skipped": 0, "failed": 1, "others": 0}
    code, out, err = run(tmp_path / "in.png", *args)
    assert code == 0
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["done"]
    assert "in.png" in err  # progress, since there is more than one tile
    assert (tmp_path / "out.webp").is_file()


def test_onnxruntime_neither_keeps_nor_sends_usage_data(tmp_path: Path, nearest_onnx: Path) -> None:
    """It would lay a database down in the user's cache before it sends anything."""
    write(tmp_path / "in.png", Picture(noise(2, 2, 3)))
    home = tmp_path / "home"
    home.mkdir()
    left = {k: v for k, v in os.environ.items() if k not in _WHERE_TELEMETRY_LOOKS}
    subprocess.run(
        [sys.executable, "-m", "edgesr", "upscale", tmp_path / "in.png", "-m", nearest_onnx],
        env=left | {"HOME": str(home)},
        check=True,
    )
    assert list(home.rglob("*")) == []


def test_command_wrong_usage(tmp_path: Path, nearest_onnx: Path) -> None:
    write(tmp_path / "in.png", Picture(noise(2, 2, 3)))
    assert run()[0] == 2
    for tile in (15, -1, "many"):  # windows that are nearly all halo take hours
        code, _, err = run(tmp_path / "in.png", "-m", nearest_onnx, "-t", tile)
        assert code == 2 and "--tile" in err and "16" in err
    assert run(tmp_path / "in.png", "-f", "gif")[0] == 2
    (tmp_path / "file").write_text("")
    code, _, err = run(tmp_path / "in.png", tmp_path / "in.png", "-o", tmp_path / "file")
    assert code == 2
    assert "several inputs need a folder" in err
    code, _, err = run(tmp_path / "in.png", "-m", "nosuch")
    assert code == 1
    assert "no model 'nosuch'" in err


def test_default_model_tiled_is_untiled(tmp_path: Path, photograph) -> None:
    if not (resources.zoo() / f"{DEFAULT_MODEL}.fp32.onnx").is_file():
        pytest.skip(f"the bundled model '{DEFAULT_MODEL}' is not there")
    write(tmp_path / "in.png", Picture(photograph("chelsea")[20:157, 30:221]))
    for tile, name in ((1000, "whole.png"), (64, "tiled.png"), (31, "odd.png")):
        code, _, err = run(tmp_path / "in.png", "-t", tile, "-o", tmp_path / name)
        assert code == 0, err
    whole = read(tmp_path / "whole.png").pixels
    np.testing.assert_array_equal(read(tmp_path / "tiled.png").pixels, whole)
    np.testing.assert_array_equal(read(tmp_path / "odd.png").pixels, whole)
