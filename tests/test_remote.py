"""A bundle onto a board through a real sshd on the loopback address.

The "board" has a stand-in of TensorRT whose engines run in ONNX Runtime on memory of a
stand-in of libcudart: building, verifying and what is lost are real, the kernels are not.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgesr.bundle import manifest
from edgesr.errors import BadConfig, EdgeSRError, Impossible, WouldOverwrite
from edgesr.remote import agent, send, ssh
from edgesr.remote import deploy as deployment
from edgesr.remote.deploy import Report, deploy
from tests.kit import add_int8, bare, copy, cudart, imports, made, seal
from tests.loopback import Loopback, sshd

__all__ = ["bare", "copy", "cudart", "made", "sshd"]  # fixtures


@pytest.fixture
def board(sshd: Loopback, bare: Path, cudart: Path, tmp_path: Path) -> Iterator[Loopback]:
    """A board with TensorRT 10.3, numpy, OpenCV and ONNX Runtime."""
    site = tmp_path / "site"
    site.mkdir()
    shutil.copyfile(Path(__file__).with_name("fake_tensorrt.py"), site / "tensorrt.py")
    (site / "libcudart.so").symlink_to(cudart)
    give(sshd, site, bare)
    yield sshd


def give(board: Loopback, site: Path, bare: Path, **more: str) -> None:
    """Set the board's environment and restart its sshd."""
    board.set_environment(
        {"PYTHONPATH": f"{site}:{bare}", "LD_LIBRARY_PATH": str(site),
         "FAKE_TENSORRT": "10.3.0", "FAKE_TENSORRT_LOG": str(site / "builds.log"), **more}
    )  # fmt: skip
    board.stop()
    board.start()


def target(copy: Path) -> Path:
    """The bundle as one for a board with TensorRT."""
    data = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    data["tensorrt"] = {"oldest": "8.2", "newest": "11.4"}
    seal(copy, data)
    return copy


def to(board: Loopback, bundle: Path, tmp_path: Path, **options: Any) -> tuple[Report, list[str]]:
    """Deploy to the loopback board; the report and what was said."""
    said: list[str] = []
    options = {"folder": str(tmp_path / "there"), "say": said.append} | options
    host = options.pop("host", "board")
    return deploy(bundle, host, config=board.config, **options), said


# ---------------------------------------------------------------- the whole way


def test_a_bundle_is_copied_built_verified_and_reported(
    board: Loopback, copy: Path, tmp_path: Path
) -> None:
    add_int8(copy)
    report, said = to(board, target(copy), tmp_path)
    assert (report.passed, report.exit_code) == (True, 0)
    there = tmp_path / "there"
    for name, about in json.loads((copy / "manifest.json").read_text())["files"].items():
        assert agent.sha256_of(str(there / name)) == about["sha256"]
    assert report.sent_bytes == sum(a["bytes"] for a in send.files_of(copy).values())
    assert report.built["student.tile"]["precision"] == "int8"
    assert report.built["student.tile"]["key"]["tensorrt"] == "tensorrt 10.3.0"
    hops = {hop["name"]: hop["difference"]["psnr_db"] for hop in report.verified["hops"]}
    assert set(hops) == {f"student.{s}.engine on TensorRT" for s in ("tile", "dynamic")}
    assert min(hops.values()) > 36
    out = tmp_path / f"{copy.name}@board"
    kept = json.loads((out / "report.json").read_text())
    assert kept["passed"] and kept["built"] == report.built
    assert "student.tile: building (not built yet)" in (out / "build.log").read_text()
    assert any("building (not built yet)" in line for line in said)  # as it came
    text = "\n".join(report.lines())
    assert "built    student.tile: int8" in text and "ok       student.tile.engine" in text
    # A second time sends and repeats nothing.
    builds = (tmp_path / "site" / "builds.log").read_text()
    report, said = to(board, copy, tmp_path)
    assert report.passed and report.sent_bytes == 0
    assert (tmp_path / "site" / "builds.log").read_text() == builds
    assert any("has all" in line for line in said)
    assert any("done before, and nothing has changed" in line for line in said)
    # One file changes: it alone is sent.
    golden = next((tmp_path / "there" / "golden").iterdir())
    golden.write_bytes(b"damaged there")
    report, _ = to(board, copy, tmp_path)
    assert report.passed and report.sent_bytes == (copy / "golden" / golden.name).stat().st_size


def test_a_board_that_loses_decibels_is_reported_not_hidden(
    board: Loopback, bare: Path, copy: Path, tmp_path: Path
) -> None:
    give(board, tmp_path / "site", bare, FAKE_TENSORRT_GAIN="0.9")
    report, _ = to(board, target(copy), tmp_path)
    assert (report.passed, report.exit_code) == (False, 3)
    assert any(line.startswith("LOST     student.tile.engine") for line in report.lines())


def test_through_a_jump_host_of_the_configuration(sshd: Loopback, tmp_path: Path) -> None:
    """ssh starts the jump itself, without -F: the command says what a user's file would."""
    text = sshd.config.read_text()
    jump = f"ProxyCommand ssh -F {sshd.config} -W %h:%p board"
    sshd.config.write_text(text.replace("ProxyJump board", jump))
    with ssh.Board("behind", sshd.config) as board:
        seen = board.ask({"do": "look", "folder": str(tmp_path / "there"), "files": {}})
    assert seen["whole"] == [] and seen["board"]["machine"] == os.uname().machine


@pytest.mark.parametrize("setting", ["ControlPersist 10m", "RemoteCommand uptime"])
def test_settings_that_would_end_or_replace_a_connection_are_not_in_the_way(
    sshd: Loopback, tmp_path: Path, setting: str
) -> None:
    sshd.config.write_text(f"Host *\n  {setting}\n{sshd.config.read_text()}")
    with ssh.Board("board", sshd.config) as board:
        seen = board.ask({"do": "look", "folder": str(tmp_path / "there"), "files": {}})
    assert seen["board"]["machine"] == os.uname().machine


# ---------------------------------------------------------------- cut connections


def test_a_copy_that_is_cut_goes_on_where_it_was(
    board: Loopback, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = big_file(copy, 6_000_000)
    monkeypatch.setattr(deployment, "PAUSE_S", 0.1)
    frames = send._frames
    cuts = 0

    def cut_halfway(*arguments: Any) -> Iterator[bytes]:
        nonlocal cuts
        sent = 0
        for block in frames(*arguments):
            yield block
            sent += len(block)
            if sent > 3_000_000 and not cuts:
                time.sleep(1.0)  # what is on its way arrives
                cuts = board.cut()

    monkeypatch.setattr(send, "_frames", cut_halfway)
    with pytest.raises(EdgeSRError, match="goes on from here"):
        to(board, copy, tmp_path, retries=0)
    assert cuts > 0
    assert not (tmp_path / "there" / "manifest.json").exists()
    report, said = to(board, copy, tmp_path)
    assert report.passed
    # This one's target has no TensorRT: nothing is built, ONNX Runtime is what is verified.
    assert report.built == {} and report.build_s is None
    assert not any("build.py" in line for line in said)
    total = sum(a["bytes"] for a in send.files_of(copy).values())
    assert size < total < report.sent_bytes + report.kept_bytes + 1
    assert report.kept_bytes > 2_000_000  # of the one large file, a part


def big_file(bundle: Path, size: int) -> int:
    """Add a file that no disk compresses to the bundle."""
    (bundle / "golden" / "large.bin").write_bytes(os.urandom(size))
    data = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    entry = manifest.entry(bundle / "golden" / "large.bin")
    data["files"]["golden/large.bin"] = {"sha256": entry.sha256, "bytes": entry.bytes}
    seal(bundle, data)
    return size


def test_a_build_survives_the_cut_and_is_found_again(
    board: Loopback, bare: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "PAUSE_S", 0.1)
    give(board, tmp_path / "site", bare, FAKE_TENSORRT_SLEEP="3")
    builds = tmp_path / "site" / "builds.log"

    def cut_when_it_builds() -> None:
        end = time.monotonic() + 60
        while not builds.exists() and time.monotonic() < end:
            time.sleep(0.05)
        board.cut()

    thread = threading.Thread(target=cut_when_it_builds)
    thread.start()
    report, said = to(board, target(copy), tmp_path)
    thread.join()
    assert report.passed
    assert any("was cut" in line and "trying again" in line for line in said)
    assert len(builds.read_text().splitlines()) == 2  # tile and dynamic, each once


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("nobody", "nobody is not reachable"),
        ("stranger", "refused the key: make 'ssh stranger' work first"),
        ("unknown", "its host key is not known here; run ssh unknown once"),
    ],
)
def test_each_way_of_not_getting_there_is_one_line(
    sshd: Loopback, copy: Path, tmp_path: Path, host: str, words: str
) -> None:
    with pytest.raises(EdgeSRError, match=words) as e:
        to(sshd, copy, tmp_path, host=host)
    assert "\n" not in str(e.value) and e.value.exit_code == 1
    assert not (sshd.folder / "nobody").exists()  # no host key was accepted


def test_a_changed_host_key_is_refused(sshd: Loopback, copy: Path, tmp_path: Path) -> None:
    known = sshd.folder / "known_hosts"
    other = (sshd.folder / "stranger.pub").read_text().split()[1]
    known.write_text(f"[127.0.0.1]:{sshd.port} ssh-ed25519 {other}\n")
    with pytest.raises(EdgeSRError, match="its host key has changed"):
        to(sshd, copy, tmp_path)


def test_a_board_without_python3_is_exit_code_4(sshd: Loopback, copy: Path, tmp_path: Path) -> None:
    (sshd.path / "python3").unlink()
    for folder in ("/usr/bin", "/bin"):  # only what the board's PATH has
        text = (sshd.folder / "sshd_config").read_text()
        (sshd.folder / "sshd_config").write_text(text.replace(f":{folder}", ""))
    sshd.stop()
    sshd.start()
    with pytest.raises(Impossible, match="has no python3"):
        to(sshd, copy, tmp_path)


def test_a_board_without_tensorrt_is_exit_code_4_and_its_log_is_here(
    sshd: Loopback, bare: Path, copy: Path, tmp_path: Path
) -> None:
    sshd.set_environment({"PYTHONPATH": str(bare)})
    sshd.stop()
    sshd.start()
    with pytest.raises(Impossible, match=r"board: build\.py: no module 'tensorrt'") as e:
        to(sshd, target(copy), tmp_path)
    assert e.value.exit_code == 4
    assert "python3-libnvinfer" in (tmp_path / f"{copy.name}@board" / "build.log").read_text()


def test_a_full_disk_is_said_before_anything_is_sent(
    sshd: Loopback, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_SPARE", 1 << 60)
    with pytest.raises(EdgeSRError, match=r"MB are needed in .*there and .* MB are free"):
        to(sshd, copy, tmp_path)
    assert not (tmp_path / "there" / "manifest.json").exists()


def test_a_folder_that_is_no_bundle_is_left_alone(
    sshd: Loopback, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("mine")
    with pytest.raises(EdgeSRError, match="is there and is no bundle: name another folder"):
        to(sshd, copy, tmp_path)
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["thesis.txt"]


def test_what_is_wrong_here_is_said_before_ssh(copy: Path, tmp_path: Path) -> None:
    for host in ("-oProxyCommand=touch x", "", "two words"):
        with pytest.raises(BadConfig, match="is no host"):
            ssh.Board(host)
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(WouldOverwrite):
        deploy(copy, "board", out=foreign)
    (tmp_path / "b@board").mkdir()
    (tmp_path / "b@board" / "thesis.txt").write_text("mine")
    with pytest.raises(WouldOverwrite):
        deployment.check(tmp_path / "b", "me@board")
    (copy / "run.py").write_text("changed")
    with pytest.raises(BadConfig, match=r"changed after its export: run\.py"):
        send.files_of(copy)
    with pytest.raises(BadConfig, match="no bundle"):
        deploy(tmp_path, "board")


@pytest.mark.parametrize(
    ("name", "sha"),
    [("../x", "0" * 64), ("/etc/x", "0" * 64), (".edgesr/agent.py", "0" * 64), ("x", "../../y")],
)
def test_the_agent_writes_nowhere_else(tmp_path: Path, name: str, sha: str) -> None:
    with pytest.raises(agent.Refused):
        agent.look(str(tmp_path / "b"), {"files": {name: {"sha256": sha, "bytes": 1}}})


def test_a_newer_bundle_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    """What only the older one had goes; engines and what is nobody's stay."""

    def deliver(texts: dict[str, bytes]) -> None:
        files = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in texts.items()
        }
        agent.look(str(tmp_path), {"files": files})
        frames = b"".join(
            json.dumps(dict(files[name], offset=0)).encode() + b"\n" + data
            for name, data in texts.items()
        )
        assert agent.take(str(tmp_path), {}, io.BytesIO(frames + b"{}\n"))["whole"]
        agent.place(str(tmp_path), {"files": files})

    deliver({"manifest.json": b"1", "a/old.onnx": b"old", "both": b"same"})
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "x.engine").write_bytes(b"plan")
    deliver({"manifest.json": b"2", "a/new.onnx": b"same", "both": b"same"})
    left = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*")
            if p.is_file() and ".edgesr" not in p.parts}  # fmt: skip
    assert left == {
        "manifest.json": b"2", "a/new.onnx": b"same", "both": b"same", "engines/x.engine": b"plan",
    }  # fmt: skip


def test_a_damaged_file_is_not_kept(tmp_path: Path) -> None:
    folder = str(tmp_path)
    agent.look(folder, {"files": {}})
    frame = json.dumps({"sha256": "0" * 64, "offset": 0, "bytes": 3}).encode()
    with pytest.raises(agent.Refused, match="damaged"):
        agent.take(folder, {}, io.BytesIO(frame + b"\nabc{}\n"))
    assert not list((tmp_path / ".edgesr" / "partial").iterdir())
    assert not list((tmp_path / ".edgesr" / "objects").iterdir())


def test_the_agent_keeps_to_python_3_6() -> None:
    tree = ast.parse(ssh.AGENT.read_text(encoding="utf-8"), feature_version=(3, 6))
    names = imports(ssh.AGENT)
    assert isinstance(tree, ast.Module)
    assert names <= set(sys.stdlib_module_names) - {"dataclasses", "__future__"}
