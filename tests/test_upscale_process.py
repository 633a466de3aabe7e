"""The command as a process: memory, interruptions, pipes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgesr.image import Picture, read, write
from tests.upscale_world import all_below, events, noise, pictures, repeat, run, write_nearest


@pytest.fixture(scope="module")
def nearest_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nearest(tmp_path_factory.mktemp("model"))


def start(*args: object, **kwargs: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "edgesr", "upscale", *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **kwargs)  # type: ignore[call-overload]


def test_memory_is_kept(tmp_path: Path, nearest_onnx: Path) -> None:
    """A picture whose result alone is larger than the limit."""
    made = np.zeros((900, 1000, 3), np.uint16)
    made[:] = np.arange(1000, dtype=np.uint16)[None, :, None] * 60
    write(tmp_path / "in.png", Picture(made))
    script = (
        "import re, sys\nfrom edgesr.cli.main import main\n"
        f"sys.argv = ['edgesr', 'upscale', {str(tmp_path / 'in.png')!r}, '-m', "
        f"{str(nearest_onnx)!r}, '--max-memory', '250M', '--json']\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        # Not ru_maxrss, which a process begins with at its parent's.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, text=True
    ).stdout.splitlines()
    assert json.loads(out[0])["streamed"] is True
    assert int(out[1]) * 1024 < 250 * 2**20
    np.testing.assert_array_equal(read(tmp_path / "in_x4.png").pixels, repeat(made))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed(tmp_path: Path, nearest_onnx: Path, how: signal.Signals) -> None:
    names = [f"{n:03}.png" for n in range(60)]
    pictures(tmp_path / "in", *names, side=100)
    args = (tmp_path / "in", "-o", tmp_path / "out", "-m", nearest_onnx)
    process = start(*args, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "002_x4.png").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    last = err.splitlines()[-1]
    assert last.startswith("edgesr: interrupted; ")
    assert last.endswith(" of 60 done; the same command with --resume goes on")
    finished = all_below(tmp_path / "out")
    assert 1 <= len(finished) < 60  # 001 may end after 002
    for name in finished:  # also no temporary file
        assert read(tmp_path / "out" / name).pixels.shape == (400, 400, 3)
    code, out, _ = run(*args, "--resume", "--json")
    assert code == 0
    assert events(out)[-1]["skipped"] == len(finished)
    assert all_below(tmp_path / "out") == {n.replace(".png", "_x4.png") for n in names}


def test_a_broken_pipe_ends_quietly(tmp_path: Path, nearest_onnx: Path) -> None:
    pictures(tmp_path / "in", *(f"{n}.png" for n in range(40)), side=60)
    args = (tmp_path / "in", "-o", tmp_path / "out", "-m", nearest_onnx, "--json")
    with start(*args, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "done"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) != 0
    for name in all_below(tmp_path / "out"):
        assert read(tmp_path / "out" / name).pixels.shape == (240, 240, 3)


def test_standard_input_and_output(tmp_path: Path, nearest_onnx: Path) -> None:
    pixels = noise(5, 7, 3)
    write(tmp_path / "in.png", Picture(pixels))
    data = (tmp_path / "in.png").read_bytes()
    command = [sys.executable, "-m", "edgesr", "upscale", "-m", str(nearest_onnx)]
    for args, stdin in ((["-"], data), ([str(tmp_path / "in.png"), "-o", "-"], b"")):
        done = subprocess.run([*command, *args], input=stdin, capture_output=True, check=True)
        assert done.stderr == b""
        (tmp_path / "out.png").write_bytes(done.stdout)
        np.testing.assert_array_equal(read(tmp_path / "out.png").pixels, repeat(pixels))


def test_standard_input_to_other_formats(tmp_path: Path, nearest_onnx: Path) -> None:
    pixels = noise(5, 7, 1)
    write(tmp_path / "in.tif", Picture(pixels))
    data = (tmp_path / "in.tif").read_bytes()
    code, out, err = run("-", "-m", nearest_onnx, "-o", tmp_path / "o.tiff", stdin=data)
    assert (code, out, err) == (0, "", "")
    np.testing.assert_array_equal(read(tmp_path / "o.tiff").pixels, repeat(pixels))
    code, out, err = run("-", "-m", nearest_onnx, "-o", tmp_path / "o.tiff", stdin=data)
    assert code == 1 and "o.tiff exists already; -y" in err
    for stdin, why in (
        (b"", "standard input: the file is empty"),
        (b"GIF89a" + b"\0" * 100, "standard input: it is GIF, not a picture that EdgeSR reads"),
        (data[:-20], "standard input: the picture is damaged"),
    ):
        code, out, err = run("-", "-m", nearest_onnx, stdin=stdin)
        assert (code, out) == (1, "")
        assert why in err
