"""`bench --host` through a real sshd on the loopback address, with a made-up board behind it.

The board's meter is a tree of files at a constant 5 W; its networks run in ONNX Runtime, or in
a stand-in of TensorRT that runs them there. What is copied, started, cut and counted is real.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgesr import __version__, checkpoint
from edgesr.bench.config import BenchConfig
from edgesr.bench.host import client
from edgesr.bench.host.client import Target, bench_on
from edgesr.bench.host.lower import lowered
from edgesr.bench.host.pack import modules, pack
from edgesr.bench.run import Tools, bench
from edgesr.bench.whole import Upscale
from edgesr.bundle import manifest
from edgesr.cli.main import app
from edgesr.errors import BadConfig, EdgeSRError, Impossible
from edgesr.export import export_bundle
from edgesr.power import energy
from edgesr.remote import ssh
from edgesr.report import dumps, read, to_html, to_markdown
from edgesr.upscaling.files import Options, upscale_array, upscale_file
from tests.kit import bare, cudart
from tests.loopback import Loopback, sshd
from tests.test_export import TILE, tiny
from tests.test_kit_pythons import interpreter

__all__ = ["bare", "cudart", "sshd"]  # fixtures

WATTS = 5.0
ONE_SECOND = BenchConfig(duration_s=1.0, threads=1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for boards with TensorRT: a student of 8 channels, a teacher of 16."""
    folder = tmp_path_factory.mktemp("exported")
    for name, width in (("student", 8), ("teacher", 16)):
        checkpoint.save(folder / f"{name}.safetensors", tiny(width))
    out = folder / "bundle"
    export_bundle(
        folder / "student.safetensors", teacher=folder / "teacher.safetensors",
        target="jetson-orin", out=out, tile=TILE, precision="fp32",
    )  # fmt: skip
    return out


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """The bundle where `edgesr export --host` puts it: in edgesr/ of the board's home."""
    return Path(shutil.copytree(exported, tmp_path / "home" / "edgesr" / "tiny"))


@pytest.fixture
def board(sshd: Loopback, bare: Path, tmp_path: Path) -> Loopback:
    """A board with numpy and ONNX Runtime, and an Orin Nano's meter at 5 W."""
    chip = tmp_path / "sys" / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    chip.mkdir(parents=True)
    millivolts, milliamperes = 5000, 1000 * WATTS / 5
    for name, text in {
        "name": "ina3221", "in1_label": "VDD_IN", "in1_input": f"{millivolts}",
        "curr1_input": f"{milliamperes:.0f}", "in1_enable": "1",
    }.items():  # fmt: skip
        (chip / name).write_text(text + "\n")
    give(sshd, tmp_path, PYTHONPATH=str(bare))
    return sshd


def give(board: Loopback, tmp_path: Path, **more: str) -> None:
    """Set the board's environment and restart its sshd."""
    (tmp_path / "home").mkdir(exist_ok=True)
    home = str(tmp_path / "home")
    board.set_environment(
        {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache",
         "EDGESR_SYSFS_ROOT": str(tmp_path / "sys"), **more}
    )  # fmt: skip
    board.stop()
    board.start()


def on(
    board: Loopback, bundle: Path | None, config: BenchConfig = ONE_SECOND, **more: Any
) -> tuple[dict[str, Any], list[str]]:
    """The report from the loopback board, and what was said."""
    said: list[str] = []
    where = {"bundle": None if bundle is None else str(bundle), "ssh_config": board.config}
    target = Target(**{"host": "board", **where, **more})
    return bench_on(target, config, said.append), said


def left_behind(tmp_path: Path) -> list[str]:
    """What is in the board's cache."""
    return sorted(p.name for p in (tmp_path / "home").glob(".cache/**/*"))


# ---------------------------------------------------------------- the whole way


def test_the_report_is_that_of_a_local_run(
    board: Loopback, bundle: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "MIN_WINDOW_S", 0.4)
    monkeypatch.setattr(energy, "MIN_SAMPLES", 10)
    monkeypatch.setattr(energy, "LONGEST_GAP", 50)  # constant power, and a machine that is busy
    config = BenchConfig(duration_s=2.0, threads=1, power=True)
    report, said = on(board, bundle, config)
    teacher, student = report["models"]
    assert [m["role"] for m in report["models"]] == ["teacher", "student"]
    assert [m["name"] for m in report["models"]] == ["tiny16", "tiny8"]
    assert (report["settings"]["width"], report["settings"]["height"]) == (TILE, TILE)
    # Energy of a constant power: watts times the time of the calls' turns.
    assert report["energy"]["total"] == "VDD_IN"
    for model in report["models"]:
        assert model["figures"]["power_mean_w"]["value"] == pytest.approx(WATTS, rel=1e-6)
        assert model["raw"]["memory"]["peak_bytes"] > model["raw"]["memory"]["before_bytes"] > 0
        assert len(model["raw"]["samples"]["wall_ms"]) >= 10
        columns = model["raw"]["samples"].values()
        assert len({len(column) for column in columns}) == 1
    assert report["energy"]["loaded_idle_before_w"]["value"] == pytest.approx(WATTS)
    assert teacher["raw"]["counts"]["parameters"] > student["raw"]["counts"]["parameters"]
    assert report["host"] == {
        "name": "board", "bundle": "tiny", "target": "jetson-orin", "edgesr": __version__,
    }  # fmt: skip
    assert report["conditions"]["before"]["system"].startswith("Linux")
    assert left_behind(tmp_path) == []
    assert any("turn 1 of" in line for line in said)
    # The same names as in a run on this machine, but for what only the bundle knows.
    monkeypatch.setenv("EDGESR_SYSFS_ROOT", str(tmp_path / "sys"))
    local = run_here(exported, config)
    there, here = named(report), named(local)
    assert {name for name in there - here if not name.startswith("host")} == ONLY_THERE
    assert here - there == ONLY_HERE
    for mine, theirs in zip(local["models"], report["models"], strict=True):
        assert mine["raw"]["counts"] == theirs["raw"]["counts"]
        assert mine["figures"]["power_mean_w"]["value"] == pytest.approx(
            theirs["figures"]["power_mean_w"]["value"], rel=1e-6
        )
    # And it is replayed like any other.
    path = tmp_path / "report.json"
    path.write_text(dumps(report), encoding="utf-8")
    assert dumps(read(path)) == dumps(report) and to_markdown(read(path)) == to_markdown(report)
    for text in (to_markdown(report), to_html(report)):
        assert "Measured on board, with the bundle tiny (jetson-orin)." in text


ONLY_THERE = {"models.precision", "models.onnx", "models.engine", "models.raw.file.missing"}
COLUMNS = ("repetition", "turn", "frame", "start_s", "wall_ms", "cpu_ms")
ONLY_HERE = {f"models.raw.file.{column}" for column in COLUMNS}


def run_here(exported: Path, config: BenchConfig) -> dict[str, Any]:
    """The networks of the bundle by a local run at the same size."""

    def file(source: Path, runtime: Any, out: Path) -> object:
        return upscale_file(source, runtime, Options(out=out, yes=True))

    here = replace(
        config, models=(str(exported.parent / "student.safetensors"),), width=TILE, height=TILE,
        teacher=str(exported.parent / "teacher.safetensors"),
    )  # fmt: skip
    return bench(here, tools=Tools(upscale=Upscale(upscale_array, file)))


# What is installed, how many samples there were and what a machine tells make these come and go.
VARYING = re.compile(
    r"versions\.|figures\.file_.*_ms|^watch\.|\.drift$|figures\.\w+\.(note|ci95|samples)$"
)


def named(report: dict[str, Any]) -> set[str]:
    """Every name in a report with the names above it, once: models.raw.samples.wall_ms."""
    found = set()

    def walk(value: Any, above: str) -> None:
        if isinstance(value, list):
            for inner in value:
                walk(inner, above)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if not VARYING.search(f"{above}{name}"):
                    found.add(f"{above}{name}")
                walk(inner, f"{above}{name}.")

    walk(report, "")
    return found


def test_engines_run_on_the_boards_tensorrt(
    board: Loopback, bundle: Path, bare: Path, cudart: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    shutil.copyfile(Path(__file__).with_name("fake_tensorrt.py"), site / "tensorrt.py")
    (site / "libcudart.so").symlink_to(cudart)
    world = {"PYTHONPATH": f"{site}:{bare}", "LD_LIBRARY_PATH": str(site),
             "FAKE_TENSORRT": "10.3.0"}  # fmt: skip
    give(board, tmp_path, **world)
    subprocess.run(
        [sys.executable, "-S", str(bundle / "build.py")], env={"PATH": "/usr/bin:/bin", **world},
        check=True, capture_output=True,
    )  # fmt: skip
    report, _ = on(board, bundle)
    for model in report["models"]:
        assert model["runtime"] == "tensorrt-10.3.0"
        assert model["engine"] == f"{model['role']}.tile.engine"
        assert model["figures"]["latency_p50_ms"]["value"] > 0
    # A size that the teacher's engine does not take is one line.
    with pytest.raises(EdgeSRError, match=r"board: 'tiny16' of this bundle runs at 64x64 only"):
        on(board, bundle, replace(ONE_SECOND, width=48, height=32), own_size=False)
    give(board, tmp_path, PYTHONPATH=str(bare))
    with pytest.raises(Impossible, match="board: import tensorrt: No module named 'tensorrt'"):
        on(board, bundle)
    assert left_behind(tmp_path) == []


# ---------------------------------------------------------------- cut, stopped, killed


def when(tmp_path: Path, word: str, do: Callable[[], object]) -> threading.Thread:
    """Do something once the board's records hold `word`."""

    def wait() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for path in (tmp_path / "home/.cache/edgesr").glob("bench-*/records.jsonl"):
                with suppress(OSError):
                    if word in path.read_text():
                        do()
                        return
            time.sleep(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_cut_connection_goes_on_and_so_does_the_same_command(
    board: Loopback, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSE_S", 0.1)
    monkeypatch.setattr(client, "RETRIES", -1)
    config = replace(ONE_SECOND, duration_s=6.0, fps=10.0)
    first = when(tmp_path, "turn 1 of", board.cut)
    with pytest.raises(ssh.Cut, match="goes on there: the same command fetches it"):
        on(board, bundle, config)
    first.join()
    runs = left_behind(tmp_path)
    monkeypatch.setattr(client, "RETRIES", 5)
    said: list[str] = []

    def say(line: str) -> None:
        if "turn 1 of" in line and not any("turn 1 of" in told for told in said):
            board.cut()
        said.append(line)

    report = bench_on(Target("board", str(bundle), ssh_config=board.config), config, say)
    assert any("was begun before" in line for line in said)
    assert any("was cut" in line and "trying again" in line for line in said)
    assert any(name.startswith("bench-") for name in runs) and left_behind(tmp_path) == []
    for model in report["models"]:
        # Every turn once, in order: no line was lost and none came twice.
        turns = model["raw"]["samples"]["turn"]
        assert turns == sorted(turns)
        starts = model["raw"]["samples"]["start_s"]
        assert starts == sorted(set(starts))
        assert set(model["raw"]["samples"]["repetition"]) == set(range(config.repetitions))
        assert len(model["raw"]["samples"]["due_s"]) == len(starts)  # --fps


def processes(tmp_path: Path) -> list[int]:
    """The benchmarks that run on the board."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"{tmp_path}/home/.cache/edgesr/bench-" in path.read_text():
                found.append(int(path.parent.name))
    return found


def test_ctrl_c_ends_the_run_there(board: Loopback, bundle: Path, tmp_path: Path) -> None:
    def say(line: str) -> None:
        if "peak memory" in line:  # a process of its own: two are running
            assert processes(tmp_path)
            raise KeyboardInterrupt

    target = Target("board", str(bundle), ssh_config=board.config)
    with pytest.raises(KeyboardInterrupt):
        bench_on(target, replace(ONE_SECOND, duration_s=12.0), say)
    assert processes(tmp_path) == [] and left_behind(tmp_path) == []


def test_a_run_that_is_killed_there_is_one_line(
    board: Loopback, bundle: Path, tmp_path: Path
) -> None:
    def kill() -> None:
        for pid in processes(tmp_path):
            os.kill(pid, signal.SIGKILL)

    killer = when(tmp_path, "peak memory", kill)
    with pytest.raises(EdgeSRError, match="was ended there before it was done") as e:
        on(board, bundle, replace(ONE_SECOND, duration_s=12.0))
    killer.join()
    assert e.value.exit_code == 1 and "\n" not in str(e.value)
    assert left_behind(tmp_path) == []


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("host", "words"),
    [("nobody", "nobody is not reachable"), ("stranger", "refused the key"),
     ("unknown", "its host key is not known here")],
)  # fmt: skip
def test_a_host_that_is_not_reached_is_one_line(
    sshd: Loopback, host: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgeSRError, match=words) as e:
        on(sshd, tmp_path, host=host)
    assert e.value.exit_code == 1 and "\n" not in str(e.value)


def test_which_bundle_is_measured(board: Loopback, bundle: Path, tmp_path: Path) -> None:
    absent = tmp_path / "none"
    with pytest.raises(EdgeSRError, match=rf"board: no bundle in {absent}; `edgesr export --host`"):
        on(board, absent)
    with pytest.raises(BadConfig, match="--teacher-bundle needs --bundle"):
        on(board, None, teacher_bundle="x")
    shutil.copytree(bundle, bundle.with_name("second"))
    with pytest.raises(EdgeSRError, match=r"several bundles in .*: say --bundle .* second, tiny"):
        on(board, None)
    path = bundle / manifest.FILE
    path.write_text(path.read_text().replace("tiny8", "tiny9"))
    with pytest.raises(BadConfig, match=rf"board: {path} was changed after the export") as e:
        on(board, bundle)
    assert "\n" not in str(e.value)
    shutil.rmtree(bundle.parent)
    with pytest.raises(EdgeSRError, match=r"board: no bundle in .*/home/edgesr"):
        on(board, None)


def test_a_second_bundle_is_the_teacher(exported: Path) -> None:
    about = manifest.read(exported)
    size = replace(ONE_SECOND, width=40, height=24)
    job = client._job(Target("me@board", own_size=False), size, [("/a", about), ("/b", about)])
    asked = [(n["bundle"], n["role"], n["as"], n["name"]) for n in job.request["networks"]]
    assert asked == [
        ("/b", "student", "teacher", "tiny8 (teacher)"),
        ("/a", "student", "student", "tiny8 (student)"),
    ]
    assert job.request["size"] == [24, 40] and len(dict(job.files)["frames.bin"]) == 24 * 40 * 3
    assert job.about["name"] == "board" and job.about["bundle"] == "a"
    again = client._job(Target("me@board", own_size=False), size, [("/a", about), ("/b", about)])
    alone = client._job(Target("me@board"), size, [("/a", about)])
    assert job.run == again.run != alone.run
    assert [n["as"] for n in alone.request["networks"]] == ["teacher", "student"]
    assert alone.request["size"] == [TILE, TILE]


def test_what_the_board_lacks_is_exit_code_4(
    board: Loopback, bundle: Path, bare: Path, tmp_path: Path
) -> None:
    give(board, tmp_path)
    with pytest.raises(Impossible, match="board: import numpy: No module named 'numpy'; on a Jet"):
        on(board, bundle)
    numpy_alone = tmp_path / "numpy-alone"
    numpy_alone.mkdir()
    for path in bare.iterdir():
        if path.name.startswith("numpy"):
            (numpy_alone / path.name).symlink_to(path)
    give(board, tmp_path, PYTHONPATH=str(numpy_alone))
    with pytest.raises(Impossible, match=r"no engines in .*/engines \(run build.py there.*"
                       r"No module named 'onnxruntime'"):  # fmt: skip
        on(board, bundle)
    shutil.rmtree(tmp_path / "sys")
    give(board, tmp_path, PYTHONPATH=str(bare))
    with pytest.raises(Impossible, match="board: no power sensor"):
        on(board, bundle, replace(ONE_SECOND, require_power=True))
    assert left_behind(tmp_path) == []


def test_the_command_line(board: Loopback, bundle: Path, tmp_path: Path) -> None:
    """Usage errors, and one line with its exit code."""
    cli = CliRunner()
    for arguments in (["balanced"], ["--teacher", "x"], ["--quality", "."], ["--throughput"]):
        done = cli.invoke(app, ["bench", "--host", "board", *arguments])
        assert done.exit_code == 2 and "--host" in done.output
    done = cli.invoke(app, ["bench", "--bundle", "x"])
    assert done.exit_code == 2 and "--host" in done.output
    with pytest.raises(BadConfig, match="is no host"):
        bench_on(Target("-oProxyCommand=x"), ONE_SECOND)


# ---------------------------------------------------------------- the file that travels


def test_the_file_is_what_is_installed_here_and_nothing_of_the_bundles() -> None:
    assert pack() == pack.__wrapped__()
    with zipfile.ZipFile(BytesIO(pack())) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    main = texts.pop("__main__.py")
    parts = {name.split("/")[1] for name in texts}
    assert not parts & {"runtime", "bundle", "board", "tiling.py", "models", "cli", "training"}
    assert {"edgesr/bench/timing.py", "edgesr/power/sampler.py"} <= set(texts)
    known = set(sys.stdlib_module_names) | {"edgesr", "numpy"}
    for path in modules():
        text = texts[path.relative_to(Path(client.__file__).parents[3]).as_posix()]
        tree = ast.parse(text, feature_version=(3, 8))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= known, path
            elif isinstance(node, ast.ImportFrom):
                assert str(node.module).split(".")[0] in known, path
        named = ast.parse(path.read_text(encoding="utf-8"))
        assert [functions(t) for t in (tree, named)] == [functions(named)] * 2
        # Python 3.6 reads edgesr/__init__.py too, and knows no such import.
        plain = path.name == "__init__.py"
        if not plain and any(isinstance(n, ast.FunctionDef) for n in tree.body):
            assert "from __future__ import annotations" in text, path
    ast.parse(main, feature_version=(3, 6))
    ast.parse(client.AGENT.read_text(encoding="utf-8"), feature_version=(3, 6))


def functions(tree: ast.AST) -> list[str]:
    return [n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]


def test_a_module_is_spelt_for_python_3_8() -> None:
    new = (
        "from typing import Any, TypeAlias\nfrom collections.abc import Callable\n"
        "Clock: TypeAlias = Callable[[], float]\nSIZES = (1, 2)[0]\n"
        "def pairs(a, b):\n    return list(zip(a, b, strict=True))\n"
    )
    old = lowered(new)
    assert "from typing import Any\n" in old and "Clock: TypeAlias = 'Callable[[], float]'" in old
    assert "zip(a, b)" in old and "SIZES = (1, 2)[0]" in old
    scope: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + old, scope)
    assert scope["pairs"]([1, 2], "ab") == [(1, "a"), (2, "b")]
    assert lowered("if x:\n    from typing import TypeAlias\n") == "if x:\n    pass\n"


def test_an_older_board_is_told_so(board: Loopback, bundle: Path, tmp_path: Path) -> None:
    """Python 3.6 (JetPack 4) runs the agent, and hears why no more."""
    python = board.path / "python3"
    python.write_text(f'#!/bin/sh\nexec {interpreter("3.6")} -S "$@"\n')
    with pytest.raises(
        Impossible, match=r"board has Python 3\.6\.\d+, and a bundle runs from 3\.8"
    ):
        on(board, bundle)
    # All that the agent does, it does on 3.6: it runs what is sent, and takes it away.
    run, job = "a1b2", b"open('records.jsonl', 'w').write('{\"kind\": \"end\"}\\n')"
    with ssh.Board("board", board.config) as link:
        request = {"run": run, "files": [["bench.pyz", len(job)]]}
        assert link.ask({"do": "start", **request}, [job], agent=client.AGENT)["begun"]
        heard: list[bytes] = []
        follow = {"do": "follow", "run": run, "start": 0}
        assert link.ask(follow, agent=client.AGENT, hear=heard.append)["ended"]
        assert json.loads(heard[0]) == {"kind": "end"}
        assert not link.ask({"do": "stop", "run": run}, agent=client.AGENT)["stopped"]
    assert left_behind(tmp_path) == []
