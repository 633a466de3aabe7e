"""build.py against each TensorRT: which file, which flags, what it falls back to and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgesr.board import builder, cache, facts, sparse_log
from edgesr.board.choice import attempts
from tests.kit import FakeTensorRt, add_int8, built, copy, made

__all__ = ["copy", "made"]  # fixtures

FILES = {"fp32": "m.fp32.onnx", "fp16": "m.fp16.onnx"}
INT8 = FILES | {"int8.trt": "m.int8.trt.onnx", "int8.trt-fp16": "m.int8.trt-fp16.onnx"}
# Table of the versions on boards: JetPack 4.6.1 to 7.2.2, and what lies between.
ROWS = ("8.2.1.8", "8.4.1", "8.5.2.2", "8.6.2", "9.0.1", "10.3.0", "10.13.0", "10.16.2", "11.4.1")


def numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


# ---------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("version", "rtx", "onnx", "flags", "network"),
    [
        ((8, 2), False, "m.fp32.onnx", ["FP16"], ["EXPLICIT_BATCH"]),
        ((8, 5), False, "m.fp32.onnx", ["FP16"], ["EXPLICIT_BATCH"]),
        ((8, 6), False, "m.fp32.onnx", ["FP16"], ["EXPLICIT_BATCH"]),
        ((10, 3), False, "m.fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((10, 16), False, "m.fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((11, 4), False, "m.fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((1, 7), True, "m.fp16.onnx", [], []),
    ],
)
def test_file_and_flags_follow_the_version(
    version: tuple[int, int], rtx: bool, onnx: str, flags: list[str], network: list[str]
) -> None:
    first, last = attempts(version, rtx, "fp16", FILES)
    assert (first["onnx"], first["flags"], first["network"]) == (onnx, flags, network)
    assert (last["onnx"], last["flags"], last["precision"]) == ("m.fp32.onnx", [], "fp32")
    (only,) = attempts(version, rtx, "fp32", FILES)
    assert only["flags"] == []
    without = attempts(version, rtx, "fp16", {"fp32": "m.fp32.onnx"})
    assert all(t["onnx"] == "m.fp32.onnx" for t in without)


@pytest.mark.parametrize(
    ("version", "rtx", "onnx", "flags", "network"),
    [
        ((8, 2), False, "m.int8.trt.onnx", ["INT8", "FP16"], ["EXPLICIT_BATCH"]),
        ((9, 0), False, "m.int8.trt.onnx", ["INT8", "FP16"], ["EXPLICIT_BATCH"]),
        ((10, 3), False, "m.int8.trt-fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((11, 4), False, "m.int8.trt-fp16.onnx", [], ["STRONGLY_TYPED"]),
        ((1, 7), True, "m.int8.trt-fp16.onnx", [], []),
    ],
)
def test_int8_takes_the_form_of_the_version_and_falls_back_in_steps(
    version: tuple[int, int], rtx: bool, onnx: str, flags: list[str], network: list[str]
) -> None:
    found = attempts(version, rtx, "int8", INT8)
    assert [t["precision"] for t in found] == ["int8", "fp16", "fp32"]
    assert (found[0]["onnx"], found[0]["flags"], found[0]["network"]) == (onnx, flags, network)
    assert all(t["why"] == "" for t in found)


def test_ten_with_the_older_int8_file_takes_flags_and_eleven_its_types() -> None:
    files = FILES | {"int8.trt": "m.int8.trt.onnx"}
    ten, eleven = (attempts(v, False, "int8", files)[0] for v in ((10, 3), (11, 4)))
    assert ten["onnx"] == eleven["onnx"] == "m.int8.trt.onnx"
    assert (ten["flags"], ten["network"]) == (["INT8", "FP16"], ["EXPLICIT_BATCH"])
    assert (eleven["flags"], eleven["network"]) == ([], ["STRONGLY_TYPED"])


def test_int8_of_a_bundle_without_it_says_so() -> None:
    for version in ((8, 5), (10, 3)):
        first = attempts(version, False, "int8", FILES)[0]
        assert first["precision"] == "fp16"
        assert first["why"] == "the bundle has this shape in fp32, fp16 only"


# ---------------------------------------------------------------- each version as it is


@pytest.mark.parametrize("version", ROWS)
def test_each_version_is_asked_only_for_what_it_has(
    copy: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    fake = FakeTensorRt(version)
    code, found = built(copy, monkeypatch, fake, "--precision", "fp16", "--sparse-weights")
    assert code == 0
    assert found["precision"] == "fp16"
    assert (found["scale"], found["halo"] > 0) == (4, True)
    typed = numbers(version) >= (10, 0)
    assert found["onnx"] == ("student.fp16.onnx" if typed else "student.fp32.onnx")
    flags = {"SPARSE_WEIGHTS", "TF32"} | (set() if typed else {"FP16"})
    assert set(fake.tries[0]["flags"]) == flags
    assert fake.tries[0]["bits"] == (2 if typed else 1)  # STRONGLY_TYPED, or EXPLICIT_BATCH
    timings = copy / "engines" / f"timing-tensorrt-{version}-unknown.cache"
    assert timings.read_bytes() == b"tt"  # two engines, the second began with the first's timings


@pytest.mark.parametrize("version", ROWS)
def test_each_version_gets_int8_in_its_form(
    copy: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """The bundle's own default is int8 there; the network of open shape has none, and says so."""
    add_int8(copy)
    fake = FakeTensorRt(version)
    code, found = built(copy, monkeypatch, fake)
    assert (code, found["precision"], found["reason"]) == (0, "int8", "")
    typed = numbers(version) >= (10, 0)
    form = "int8.trt-fp16" if typed else "int8.trt"
    assert (found["onnx"], fake.tries[0]["kind"]) == (f"student.{form}.onnx", form)
    assert set(fake.tries[0]["flags"]) - {"TF32"} == (set() if typed else {"FP16", "INT8"})
    dynamic = json.loads((copy / "engines" / "student.dynamic.engine.json").read_text())
    assert dynamic["reason"] == "the bundle has this shape in fp32 only"


@pytest.mark.parametrize("version", ["8.5.2", "10.3.0"])
def test_int8_that_does_not_build_falls_back_to_fp16_with_the_reason(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    add_int8(copy)
    code, found = built(copy, monkeypatch, FakeTensorRt(version, broken=("int8",)))
    assert (code, found["precision"]) == (0, "fp16")
    assert found["reason"].startswith("int8: ") and "Conv_3" in found["reason"]
    assert "trying fp16" in capsys.readouterr().err


def test_a_gpu_without_fast_int8_gets_fp16(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jetson Nano and TX2: int8 would run, slower than fp16."""
    add_int8(copy)
    _, found = built(copy, monkeypatch, FakeTensorRt("8.2.1", slow=("int8",)))
    assert (found["precision"], found["reason"]) == ("fp16", "int8: this GPU has no fast int8")
    again = FakeTensorRt("8.2.1", slow=("int8", "fp16"))
    _, found = built(copy, monkeypatch, again, "--force")
    assert found["precision"] == "fp32" and "no fast fp16" in found["reason"]


def test_fp32_is_not_tf32(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt("8.5.2")
    code, found = built(copy, monkeypatch, fake, "--precision", "fp32")
    assert (code, found["precision"]) == (0, "fp32")
    assert fake.tries[0]["flags"] == []


def test_workspace_shrinks_until_it_fits(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTensorRt("10.3.0", limit=300 << 20)
    code, found = built(copy, monkeypatch, fake, "--workspace-mb", "1024")
    assert code == 0
    assert [t["workspace"] >> 20 for t in fake.tries[:3]] == [1024, 512, 256]
    assert found["workspace_bytes"] == 256 << 20


def test_workspace_is_a_share_of_what_is_free(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    # Orin Nano 8 GB, JetPack 6.2, desktop running.
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal:        7802900 kB\nMemFree:          312200 kB\nMemAvailable:    4718592 kB\n"
    )
    assert facts.available_bytes(str(tmp_path)) == 4718592 * 1024
    assert facts.default_workspace(str(tmp_path)) == 1_932_735_283  # 40 %
    assert facts.default_workspace(str(tmp_path / "none")) == 32 << 20  # never nothing


def test_l4t_is_read_as_the_board_writes_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    )
    assert facts.l4t_version(str(tmp_path)) == "36.4.3"


def test_fp16_that_does_not_build_falls_back_with_the_reason(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeTensorRt("8.5.2", broken=("FP16",))
    code, found = built(copy, monkeypatch, fake, "--precision", "fp16")
    assert code == 0
    assert found["precision"] == "fp32"
    assert "Conv_3" in found["reason"]
    assert "trying fp32" in capsys.readouterr().err


def test_a_tensorrt_that_is_too_old_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = built(copy, monkeypatch, FakeTensorRt("8.0.1"))
    assert code == 4
    assert "older than 8.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'tensorrt'", name="tensorrt"), "python3-libnvinfer"),
        (ImportError("libnvdla_compiler.so: cannot open shared object file"), "DLA"),
        (OSError("libnvinfer.so.10: cannot open shared object file"), "reinstall"),
    ],
)
def test_a_tensorrt_that_does_not_load_gets_cause_and_remedy(error: Exception, words: str) -> None:
    line = builder.import_remedy("tensorrt", error)
    assert words in line
    assert "\n" not in line


# ---------------------------------------------------------------- the engine cache


def test_what_changed_is_said_in_one_line(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(fake: FakeTensorRt, *arguments: str) -> str:
        built(copy, monkeypatch, fake, "--precision", "fp16", *arguments)
        return capsys.readouterr().err.splitlines()[0]

    board = {"device": "Orin Nano", "compute_capability": "8.7", "l4t": "36.4.3"}
    monkeypatch.setattr(facts, "machine", lambda: board)
    assert words(FakeTensorRt("10.3.0")) == "student.tile: building (not built yet)"
    assert words(FakeTensorRt("10.3.0")) == "student.tile: current, fp16"
    changed = words(FakeTensorRt("10.7.0"))
    assert changed == "student.tile: building (tensorrt was tensorrt 10.3.0, is tensorrt 10.7.0)"
    changed = words(FakeTensorRt("10.7.0"), "--sparse-weights")
    assert changed == "student.tile: building (sparse_weights was False, is True)"
    board["l4t"] = "36.5.0"
    changed = words(FakeTensorRt("10.7.0"), "--sparse-weights")
    assert changed == "student.tile: building (l4t was 36.4.3, is 36.5.0)"
    board["device"] = "Orin NX"
    changed = words(FakeTensorRt("10.7.0"), "--sparse-weights")
    assert changed == "student.tile: building (device was Orin Nano, is Orin NX)"


def test_the_engine_file_is_the_plan_and_nothing_else(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trtexec --loadEngine takes it: what we know of it lies beside it."""
    built(copy, monkeypatch, FakeTensorRt("10.3.0"))
    plan = (copy / "engines" / "student.tile.engine").read_bytes()
    head, _, network = plan.partition(b"\n")
    assert json.loads(head)["version"] == "10.3.0"
    assert network == (copy / "student.fp32.onnx").read_bytes()
    assert cache.stale(str(copy / "engines" / "student.tile.engine"), {}) != ""


# ---------------------------------------------------------------- 2:4


# Lines as TensorRT wrote them: 8.x in NVIDIA/TensorRT issues 1403 and 4056, 10.x in build logs.
LOGS: list[tuple[list[str], Any]] = [
    (["(Sparsity) Layers eligible for sparse math: Conv_0",
      "(Sparsity) TRT inference plan picked sparse implementation for layers:"],
     {"eligible": 1, "picked": 0, "names": ""}),
    (["[I] [TRT] (Sparsity) Layers eligible for sparse math: MatMul_401, Conv_619 + Relu_620, "
      "Conv_621 + Add_627 + Relu_628",
      "[I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers: "
      "Conv_619 + Relu_620"],
     {"eligible": 3, "picked": 1, "names": "Conv_619 + Relu_620"}),
    (["[I] (Sparsity) Found 39 layer(s) eligible to use sparse tactics",
      "[I] (Sparsity) Chose 0 layer(s) using sparse tactics"],
     {"eligible": 39, "picked": 0, "names": ""}),
    (["(Sparsity) Found 2 layer(s) eligible to use sparse tactics: Conv_1, Conv_2",
      "(Sparsity) Chose 1 layer(s) using sparse tactics: Conv_2"],
     {"eligible": 2, "picked": 1, "names": "Conv_2"}),
    (["Local timing cache in use."], None),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), LOGS)
def test_sparse_layers_are_counted_in_every_form_of_the_log(
    lines: list[str], expected: Any
) -> None:
    assert sparse_log.from_lines(lines).facts() == expected


@pytest.mark.parametrize("version", ["8.5.2", "10.3.0"])
def test_eligible_and_picked_are_printed_and_kept(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    fake = FakeTensorRt(version, sparse=(7, 2))
    _, found = built(copy, monkeypatch, fake, "--sparse-weights")
    assert "2:4: eligible 7, picked 2\n" in capsys.readouterr().err
    assert (found["sparse_layers"]["eligible"], found["sparse_layers"]["picked"]) == (7, 2)
    _, found = built(copy, monkeypatch, FakeTensorRt(version, sparse=(7, 0)), "--force")
    assert "sparse_layers" not in found
    assert "2:4" not in capsys.readouterr().err


def test_a_bundle_for_2_4_asks_for_it_by_itself(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "manifest.json"
    about = json.loads(path.read_text())
    about["sparsity"]["choice"] = "2:4"
    path.write_text(json.dumps(about))
    xavier = {"device": "Xavier NX", "compute_capability": "7.2", "l4t": "35.6.0"}
    monkeypatch.setattr(facts, "machine", lambda: xavier)
    fake = FakeTensorRt("8.5.2")
    built(copy, monkeypatch, fake)
    assert "SPARSE_WEIGHTS" in fake.tries[0]["flags"]
    assert "compute capability 7.2 has no sparse kernels" in capsys.readouterr().err
    fake = FakeTensorRt("8.5.2")
    built(copy, monkeypatch, fake, "--no-sparse-weights")
    assert "SPARSE_WEIGHTS" not in fake.tries[0]["flags"]


def test_a_log_that_is_silent_is_said_to_be() -> None:
    assert "says nothing" in sparse_log.SparseLayers().words()
