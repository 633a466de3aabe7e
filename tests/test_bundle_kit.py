"""What travels in a bundle, and what it does alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesr.bundle import kit
from edgesr.export import Bundle, export_bundle
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
from tests.kit import (
    FakeEngine,
    FakeTensorRt,
    bare,
    built,
    copy,
    cudart,
    imports,
    made,
    run,
    script,
    trt,
    with_engine,
)
from tests.test_export import TILE

__all__ = [  # fixtures, and what test_bundle_boards.py takes from here
    "FakeEngine",
    "FakeTensorRt",
    "bare",
    "built",
    "copy",
    "cudart",
    "made",
    "run",
    "script",
    "trt",
    "with_engine",
]

# ---------------------------------------------------------------- what travels


def test_copied_modules_are_verbatim_complete_and_free_of_torch(made: Bundle) -> None:
    package = made.path / "edgesr"
    copied = sorted(p.relative_to(package) for p in package.rglob("*.py"))
    source = Path(str(files("edgesr")))
    for module in copied:
        assert (package / module).read_bytes() == (source / module).read_bytes()
    assert Path("tiling.py") in copied
    assert Path("runtime/ort.py") in copied
    allowed = {"edgesr", "numpy", "onnxruntime", "cv2", "trt", *sys.stdlib_module_names}
    for path in made.path.rglob("*.py"):
        assert imports(path) <= allowed, path
    # The closure of the copies is the copies: nothing is missing from the bundle.
    scripts = [made.path / name for name in kit.SCRIPTS]
    assert [p.relative_to(package) for p in kit.closure(scripts, package)] == copied


def test_closure_skips_what_only_a_type_checker_reads(tmp_path: Path) -> None:
    package = tmp_path / "edgesr"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__", "a", "b", "c", "deep/__init__", "deep/d"):
        (package / f"{name}.py").write_text("")
    (package / "a.py").write_text("def f():\n    from edgesr.deep import d\n")
    start = tmp_path / "run.py"
    start.write_text(
        "from typing import TYPE_CHECKING\nfrom edgesr import a\n"
        "if TYPE_CHECKING:\n    from edgesr import b\n"
    )
    found = [p.relative_to(package).as_posix() for p in kit.closure([start], package)]
    assert found == ["__init__.py", "a.py", "deep/__init__.py", "deep/d.py"]


def test_scripts_keep_to_the_boards_pythons(made: Bundle) -> None:
    for path in made.path.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    builder = kit.closure([made.path / "build.py"], made.path / "edgesr")
    assert {path.parent.name for path in builder} == {"edgesr", "board"}
    for path in [made.path / "build.py", *builder]:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
        later = {"__future__", "dataclasses", "importlib.metadata", "contextvars"}
        assert not imports(path) & later, path  # what 3.6 has not
        assert imports(path) <= {"edgesr", *sys.stdlib_module_names}, path


# ---------------------------------------------------------------- the bundle alone


def test_edgesr_is_out_of_reach_there(bare: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-S", "-c", "import numpy, cv2, onnxruntime, edgesr"],
        env={"PYTHONPATH": str(bare)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No module named 'edgesr'" in found.stderr


def test_the_bundle_verifies_itself_alone(bare: Path, copy: Path) -> None:
    good = run(bare, copy, "--verify", "--json")
    assert good.returncode == 0, good.stderr
    assert len(json.loads(good.stdout)["hops"]) == 3
    data = bytearray((copy / "student.fp32.onnx").read_bytes())
    data[-2000] ^= 64
    (copy / "student.fp32.onnx").write_bytes(data)
    bad = run(bare, copy, "--verify")
    assert bad.returncode == 1
    assert "CHANGED  student.fp32.onnx" in bad.stdout


def test_numpy_of_jetpack_5_is_enough(bare: Path, copy: Path) -> None:
    """Ubuntu 20.04's numpy 1.17 has no numpy.typing."""
    code = (
        "import sys, runpy; sys.modules['numpy.typing'] = None; "
        f"sys.argv = ['run.py', '--verify']; sys.path.insert(0, {str(copy)!r}); "
        f"runpy.run_path({str(copy / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(bare)}, cwd=copy.parent,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ok       student.fp32.onnx" in done.stdout


@pytest.mark.parametrize(("height", "width"), [(150, 201), (40, 130), (1, 1), (64, 64)])
def test_the_bundle_alone_gives_the_untiled_picture(
    bare: Path, copy: Path, photograph: Any, height: int, width: int
) -> None:
    """Larger than the tile, one side smaller, one pixel, exactly the tile: 8-bit identical."""
    cv2 = pytest.importorskip("cv2")
    picture = np.ascontiguousarray(photograph("coffee")[100 : 100 + height, 50 : 50 + width])
    cv2.imwrite(str(copy.parent / "in.png"), picture[:, :, ::-1])
    done = run(bare, copy, str(copy.parent / "in.png"))
    assert done.returncode == 0, done.stderr
    found = cv2.imread(str(copy.parent / "in_x4.png"))[:, :, ::-1]
    whole = upscale_tiles(picture, OrtRuntime(copy / "student.dynamic.fp32.onnx"))
    np.testing.assert_array_equal(found, whole)


def test_fixed_tiles_in_half_precision_differ_by_one_level_at_most(
    bare: Path, made: Bundle, tmp_path: Path, photograph: Any
) -> None:
    """What a board does: the fp16 file of fixed shape on large pictures, the open one on small."""
    cv2 = pytest.importorskip("cv2")
    half = tmp_path / "half"
    export_bundle(
        made.path.parent / "student.safetensors", teacher=None, target="jetson-orin", out=half,
        tile=TILE,
    )  # fmt: skip
    for height, width in ((100, 130), (40, 130)):
        picture = np.ascontiguousarray(photograph("coffee")[:height, :width])
        cv2.imwrite(str(tmp_path / "in.png"), picture[:, :, ::-1])
        done = run(bare, half, str(tmp_path / "in.png"), "-y")
        assert done.returncode == 0, done.stderr
        found = cv2.imread(str(tmp_path / "in_x4.png"))[:, :, ::-1].astype(int)
        whole = upscale_tiles(picture, OrtRuntime(half / "student.dynamic.fp32.onnx"))
        assert np.abs(found - whole).max() <= 1


def test_alpha_grey_and_16_bits_are_kept(bare: Path, copy: Path, photograph: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = photograph("chelsea")[:30, :40]
    alpha = np.full((30, 40), 77, np.uint8)
    kinds = {
        "rgba": np.dstack([picture[:, :, ::-1], alpha]),
        "grey": picture[:, :, 0],
        "deep": picture[:, :, ::-1].astype(np.uint16) * 257,
    }
    for name, pixels in kinds.items():
        path = copy.parent / f"{name}.png"
        cv2.imwrite(str(path), pixels)
        done = run(bare, copy, str(path), "-o", str(copy.parent / f"{name}-out.png"))
        assert done.returncode == 0, done.stderr
        found = cv2.imread(str(copy.parent / f"{name}-out.png"), cv2.IMREAD_UNCHANGED)
        assert found.dtype == pixels.dtype
        assert found.shape == (120, 160, *pixels.shape[2:])
        assert abs(float(found.mean()) - float(pixels.mean())) < 0.05 * np.iinfo(found.dtype).max
    rgba = cv2.imread(str(copy.parent / "rgba-out.png"), cv2.IMREAD_UNCHANGED)
    assert (rgba[:, :, 3] == 77).all()


@pytest.mark.parametrize("damage", ["lost", "cut"])
@pytest.mark.parametrize(
    ("name", "module"), [("run.py", "tiling.py"), ("build.py", "board/choice.py")]
)
def test_a_lost_or_damaged_module_is_one_line(
    bare: Path, copy: Path, name: str, module: str, damage: str
) -> None:
    path = copy / "edgesr" / module
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"def (")
    done = script_of(copy / name, str(bare))
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: its own modules do not load")
    assert done.stderr.count("\n") == 1 and "copy the bundle again" in done.stderr


def test_without_numpy_it_is_one_line_and_exit_code_4(copy: Path) -> None:
    done = script_of(copy / "run.py", "")
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "python3-numpy" in done.stderr


def script_of(path: Path, modules: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", str(path), *(["--verify"] if path.name == "run.py" else [])],
        env={"PYTHONPATH": modules, "PATH": "/usr/bin:/bin"}, cwd=path.parent.parent,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_bad_input_is_one_line_and_nothing_is_written(bare: Path, copy: Path) -> None:
    text = copy.parent / "text.png"
    text.write_text("no picture")
    for arguments, code, words in [
        ((str(text),), 1, "not a picture"),
        ((str(copy.parent / "none.png"),), 1, "No such file"),
        (("--model", "teacher", str(text)), 1, "not a picture"),
        (("--verify", "--runtime", "tensorrt"), 4, "no engines"),
        ((), 2, "give a picture"),
    ]:
        done = run(bare, copy, *arguments)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (copy.parent / "text_x4.png").exists()
