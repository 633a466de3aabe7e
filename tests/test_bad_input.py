"""Bad pictures and full disks: one clear line, exit code 1, nothing written."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from edgesr.atomic import write_bytes
from edgesr.cli.main import app
from edgesr.errors import BadImage, BadModel, Impossible
from edgesr.graph.spec import Graph, Nearest
from edgesr.image import Picture, encode, read, write
from edgesr.runtime.ort import OrtRuntime

PIXELS = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that repeats pixels, as an ONNX file."""
    pytest.importorskip("onnx")
    from edgesr.graph.onnx import to_onnx

    path = tmp_path_factory.mktemp("model") / "nearest.onnx"
    write_bytes(path, to_onnx(Graph("nearest", (Nearest("up", ("input",), 4),)), {}))
    return path


def text(path: Path) -> None:
    path.write_text("This is not a picture at all.\n" * 20)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=95)
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def truncated_16_bit(path: Path) -> None:
    data = encode(Picture(PIXELS.astype(np.uint16) * 257), Path("a.png"))
    path.write_bytes(data[: len(data) // 2])


def folder(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    pass


def animation(path: Path) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:])


def gif(path: Path) -> None:
    Image.fromarray(PIXELS).save(path, "GIF")


CASES: list[tuple[Callable[[Path], None], str, str]] = [
    (text, "text.png", "not a picture that EdgeSR reads (PNG, JPEG, WebP, BMP, TIFF and AVIF)"),
    (empty, "empty.png", "the file is empty"),
    (truncated, "cut.jpg", "the picture is damaged"),
    (truncated_16_bit, "cut16.png", "the picture is damaged"),
    (folder, "folder.png", "no pictures or films in it"),
    (missing, "missing.png", "no such file"),
    (animation, "film.webp", "holds 2 pictures"),
    (gif, "old.png", "not a picture that EdgeSR reads"),
]


@pytest.mark.parametrize(("make", "name", "reason"), CASES, ids=[c[1] for c in CASES])
def test_one_line_and_nothing_written(
    tmp_path: Path, model: Path, make: Callable[[Path], None], name: str, reason: str
) -> None:
    make(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["upscale", str(tmp_path / name), "-m", str(model)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"edgesr: {tmp_path / name}: ")
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [".", "..", "shots"])
def test_a_folder_without_pictures_is_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "shots").mkdir()
    monkeypatch.chdir(tmp_path / "shots" if name == ".." else tmp_path)
    result = CliRunner().invoke(app, ["upscale", name, "-m", str(model)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"edgesr: {name}: no pictures or films in it")


def _onnx(path: Path, metadata: dict[str, str]) -> None:
    """Somebody else's network: three numbers in, three out."""
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = (value(name, onnx.TensorProto.FLOAT, [1, 3]) for name in ("x", "y"))
    graph = onnx.helper.make_graph([node], "g", *([end] for end in ends))
    made = onnx.helper.make_model(
        graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 13)]
    )
    onnx.helper.set_model_props(made, metadata)
    onnx.save(made, path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text, "it is no ONNX file or a damaged one: Protobuf parsing failed."),
        (lambda p: _onnx(p, {}), "has no edgesr.scale and edgesr.halo metadata"),
        (lambda p: _onnx(p, {"edgesr.scale": "4", "edgesr.halo": "3"}), "NCHW float32 'input'"),
    ],
    ids=["text", "foreign", "mislabelled"],
)
def test_models_that_are_none_of_ours(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    write(tmp_path / "a.png", Picture(PIXELS))
    make(tmp_path / "m.onnx")
    done = CliRunner().invoke(
        app, ["upscale", str(tmp_path / "a.png"), "-m", str(tmp_path / "m.onnx")]
    )
    assert done.exit_code == 1
    assert done.stderr.startswith(f"edgesr: {tmp_path / 'm.onnx'} ") and reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "m.onnx"]


class _Failing:
    """A session of onnxruntime that runs out of something."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def run(self, *_: object) -> None:
        raise RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {self.reason}")


def test_what_fails_inside_onnxruntime_is_ours_to_say(model: Path) -> None:
    runtime = OrtRuntime(model)
    batch = np.zeros((1, 3, 2, 5), np.float32)
    runtime._session = _Failing("Failed to allocate memory for requested buffer of size 9")
    with pytest.raises(Impossible, match=r"^5x2 pixels at once do not fit in memory"):
        runtime.run(batch)
    runtime._session = _Failing("Non-zero status code")
    with pytest.raises(BadModel, match=r"^the model fails on 5x2 pixels: Non-zero status code$"):
        runtime.run(batch)


def test_one_pixel_works(tmp_path: Path, model: Path) -> None:
    write(tmp_path / "dot.png", Picture(np.full((1, 1, 3), 99, np.uint8)))
    result = CliRunner().invoke(app, ["upscale", str(tmp_path / "dot.png"), "-m", str(model)])
    assert result.exit_code == 0, result.stderr
    assert (read(tmp_path / "dot_x4.png").pixels == 99).all()


def test_no_permission(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root every file opens, so the refusal is put in by hand."""
    write(tmp_path / "a.png", Picture(PIXELS))

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadImage, match=r"a\.png: no permission to read it"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk(tmp_path: Path, model: Path, existing: bool) -> None:
    """The system itself refuses: the child's files may not grow beyond 2 kB."""
    write(tmp_path / "a.png", Picture(PIXELS))
    if existing:
        (tmp_path / "a_x4.png").write_text("old")
    before = sorted(tmp_path.rglob("*"))
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
        "from edgesr.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", str(tmp_path / "a.png"), "-m", str(model), "-y"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith(f"edgesr: cannot write {tmp_path / 'a_x4.png'}: File too large")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    if existing:
        assert (tmp_path / "a_x4.png").read_text() == "old"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    suffix=st.sampled_from([".png", ".jpg", ".webp", ".bmp", ".tif"]),
    cut=st.floats(0, 0.9),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4),
)
def test_any_damage_is_a_bad_image_or_a_picture(
    tmp_path: Path, suffix: str, cut: float, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path / f"a{suffix}"
    data = bytearray(encode(Picture(PIXELS[:12, :9]), path))
    for where, value in flips:
        data[int(where * len(data))] = value
    path.write_bytes(data[: int(len(data) * (1 - cut))])
    try:
        assert read(path).pixels.dtype == np.uint8
    except BadImage as e:
        assert "\n" not in str(e)
