"""build.py through trtexec: JetPack 4, and boards whose TensorRT has no Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgesr.board import engine, trtexec
from edgesr.board.failed import NoTensorRT
from tests.kit import add_int8, copy, made

__all__ = ["copy", "made"]  # fixtures

FAKE = Path(__file__).with_name("fake_trtexec.py")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`trtexec` in a folder of its own."""
    path = tmp_path / "bin" / "trtexec"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S {FAKE} "$@"\n')
    path.chmod(0o755)
    return path


def build(
    folder: Path, program: Path, version: str, *arguments: str, limit: str = "999999"
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """build.py with that trtexec on PATH and no Python TensorRT; what trtexec was asked."""
    log = folder.parent / "trtexec.log"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-S", str(folder / "build.py"), *arguments],
        env={"PATH": f"{program.parent}:/usr/bin:/bin", "FAKE_TENSORRT": version,
             "FAKE_TENSORRT_LOG": str(log), "FAKE_TENSORRT_LIMIT": limit},
        capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip
    return done, log.read_text().splitlines() if log.is_file() else []


@pytest.mark.parametrize(
    ("version", "wanted", "never"),
    [
        ("8.2.1", "--int8 --fp16", "--memPoolSize"),
        ("8.5.2", "--int8 --fp16", "--workspace"),
        ("10.3.0", "--stronglyTyped", "--fp16"),
        ("11.4.1", "student.int8.trt-fp16.onnx", "--int8"),
    ],
)
def test_each_version_is_asked_in_its_own_words(
    copy: Path, program: Path, version: str, wanted: str, never: str
) -> None:
    add_int8(copy)
    done, asked = build(copy, program, version, "--json")
    assert done.returncode == 0, done.stderr
    assert "building with" in done.stderr and "no module 'tensorrt'" in done.stderr
    assert wanted in asked[0] and f"{never}=" not in asked[0] and f"{never} " not in asked[0]
    found = json.loads(done.stdout)
    assert found["student.tile"]["precision"] == "int8"
    assert found["student.tile"]["key"]["tensorrt"] == f"trtexec {version}"
    weak = version.startswith("8")  # one fp32 file serves both precisions there
    assert ("--fp16" if weak else "--noTF32") in asked[1]  # the network of open shape
    assert "--minShapes=input:1x3x1x1" in asked[1] and "--maxShapes=input:1x3x64x64" in asked[1]


def test_it_times_what_it_builds_and_keeps_it(copy: Path, program: Path) -> None:
    done, _ = build(copy, program, "8.2.1", "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert "student.tile: fp16, 0.0" in done.stderr and "13.6698 ms a tile" in done.stderr
    sidecar = json.loads((copy / "engines" / "student.tile.engine.json").read_text())
    assert sidecar["timing"] == {
        "by": "trtexec, GPU compute time of one tile", "min_ms": 13.5784, "median_ms": 13.6698,
    }  # fmt: skip
    again, asked = build(copy, program, "8.2.1", "--precision", "fp16")
    assert "student.tile: current, fp16" in again.stderr and asked == []
    names = [f"student.{shape}.engine" for shape in ("dynamic", "tile")]
    left = sorted(p.name for p in (copy / "engines").iterdir())
    assert left == sorted([*names, *(f"{name}.json" for name in names)])  # no temporary plan


def test_it_goes_down_the_ladder_of_memory_and_counts_sparse_layers(
    copy: Path, program: Path
) -> None:
    done, asked = build(
        copy, program, "8.5.2", "--workspace-mb", "512", "--sparse-weights", limit="200"
    )
    assert done.returncode == 0, done.stderr
    pools = [word for line in asked[:3] for word in line.split() if "memPoolSize" in word]
    assert pools == [f"--memPoolSize=workspace:{mib}" for mib in (512, 256, 128)]
    assert "2:4: eligible 2, picked 0 (dense kernels were faster)" in done.stderr


def test_what_trtexec_refuses_is_a_reason(copy: Path, program: Path) -> None:
    program.write_text(program.read_text().replace("exec ", "FAKE_TENSORRT_LIMIT=1 exec ", 1))
    done, _ = build(copy, program, "8.2.1", "--workspace-mb", "32", "--model", "student")
    assert done.returncode == 1
    assert "trtexec 8.2.1 could not build student.fp32.onnx" in done.stderr
    assert "OutOfMemory" in done.stderr and "Traceback" not in done.stderr
    assert not list(copy.rglob("*.engine"))


def test_jetpack_4_takes_trtexec_even_where_python_has_tensorrt(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_TENSORRT", "8.2.1")
    found = engine.open_tool("auto", "sys", None, "32.7.4")  # any module that imports
    assert found.name == "trtexec 8.2.1" and found.version == (8, 2)


def test_versions_of_both_eras_are_read() -> None:
    assert trtexec.version_of(8201) == ((8, 2), "8.2.1")
    assert trtexec.version_of(8502) == ((8, 5), "8.5.2")
    assert trtexec.version_of(100300) == ((10, 3), "10.3.0")
    assert trtexec.version_of(110401) == ((11, 4), "11.4.1")


def test_without_either_it_is_exit_code_4(copy: Path, tmp_path: Path) -> None:
    done, _ = build(copy, tmp_path / "nowhere" / "trtexec", "8.2.1")
    assert done.returncode == 4
    assert "no module 'tensorrt'" in done.stderr
    asked, _ = build(copy, tmp_path / "nowhere" / "trtexec", "8.2.1", "--builder", "trtexec")
    assert asked.returncode == 4
    assert "no trtexec on PATH" in asked.stderr


def test_a_program_that_is_no_trtexec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoTensorRT, match="does not say which TensorRT"):
        trtexec.Trtexec("/bin/true")
    with pytest.raises(NoTensorRT, match="No such file"):
        trtexec.Trtexec(str(tmp_path / "none"))
