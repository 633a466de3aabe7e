"""The bundle alone under the boards' Pythons: 3.6 builds; 3.8, 3.10 and 3.12 verify and run.

Interpreters come from PATH or from pyenv; each runs in a clean virtual environment with
numpy, OpenCV and ONNX Runtime 1.19 from the package index, nothing else. What is missing here
is the reason of the skip.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgesr.bench.host.pack import pack
from edgesr.remote import ssh
from edgesr.runtime.ort import OrtRuntime
from edgesr.tiling import upscale_tiles
from tests.kit import add_int8, copy, made

__all__ = ["copy", "made"]  # fixtures

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime==1.19.*")


def interpreter(version: str) -> str:
    """A CPython of that version; skips the test where there is none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [shutil.which(f"python{version}")]
    found += [str(p / "bin" / "python") for p in sorted(root.glob(f"{version}.*"), reverse=True)]
    for path in filter(None, found):
        # A shim of pyenv is there for versions that are not chosen, and only says so.
        done = subprocess.run(
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.stdout.strip() == version:
            return path
    pytest.skip(f"no CPython {version} on this machine")


@pytest.fixture(scope="module", params=["3.8", "3.10", "3.12"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean environment."""
    base = interpreter(request.param)
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    made = subprocess.run(
        [base, "-m", "venv", "--without-pip", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"CPython {request.param} makes no virtual environment: {made.stderr[-200:]}")
    # This Python's pip fills it: it is quicker than an old one, and needs none of its own there.
    target = folder / "lib" / f"python{request.param}" / "site-packages"
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile",
         "--only-binary=:all:", "--python-version", request.param, "--target", str(target),
         *PACKAGES],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"pip installs no packages for {request.param}: {installed.stderr[-200:]}")
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), str(folder / "run.py"), *arguments], env={"PATH": "/usr/bin:/bin"},
        cwd=folder.parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_bundle_verifies_and_upscales(python: Path, copy: Path, photograph: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    alone = subprocess.run(
        [str(python), "-c", "import edgesr"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "No module named 'edgesr'" in alone.stderr
    add_int8(copy)
    verified = run(python, copy, "--verify", "--json")
    assert verified.returncode == 0, verified.stderr + verified.stdout
    assert json.loads(verified.stdout)["passed"]
    picture = np.ascontiguousarray(photograph("coffee")[100:190, 50:171])
    cv2.imwrite(str(copy.parent / "in.png"), picture[:, :, ::-1])
    for precision, most in (("fp32", 1), ("int8", 2)):
        out = copy.parent / f"{precision}.png"
        done = run(
            python, copy, str(copy.parent / "in.png"), "-o", str(out), "--precision", precision
        )
        assert done.returncode == 0, done.stderr
        form = "dynamic.fp32" if precision == "fp32" else "int8.ort"
        whole = upscale_tiles(picture, OrtRuntime(copy / f"student.{form}.onnx"))
        found = cv2.imread(str(out))[:, :, ::-1].astype(int)
        # Another ONNX Runtime: its kernels may round another way.
        assert np.abs(found - whole).max() <= most


def test_the_builder_chooses_on_python_3_6(copy: Path, tmp_path: Path) -> None:
    """JetPack 4: Python 3.6 without packages, TensorRT 8.2; and a 3.6 that meets a newer one."""
    python = interpreter("3.6")
    add_int8(copy)
    site = tmp_path / "site"
    site.mkdir()
    shutil.copyfile(Path(__file__).with_name("fake_tensorrt.py"), site / "tensorrt.py")
    for version, form in (("8.2.1", "int8.trt"), ("10.3.0", "int8.trt-fp16")):
        done = subprocess.run(
            [python, "-S", str(copy / "build.py"), "--json", "--builder", "python"],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), "FAKE_TENSORRT": version},
            capture_output=True, text=True, timeout=60, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["student.tile"]["onnx"] == f"student.{form}.onnx"
        assert found["student.tile"]["key"]["tensorrt"] == f"tensorrt {version}"


def test_the_agent_of_a_deployment_runs_on_python_3_6(tmp_path: Path) -> None:
    """Copies, places and runs a step, fed through standard input as ssh does it."""
    python = interpreter("3.6")
    source, data = ssh.AGENT.read_bytes(), b"print('built')"
    about = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def ask(do: str, payload: bytes = b"", **more: Any) -> Any:
        request = {"do": do, "folder": str(tmp_path / "b"), "files": {"build.py": about}} | more
        line = json.dumps(request).encode() + b"\n"
        done = subprocess.run(
            [python, "-c", ssh._BOOT, str(len(source))], input=source + line + payload,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert ask("look")["board"]["python"].startswith("3.6.")
    frame = json.dumps(dict(about, offset=0)).encode() + b"\n"
    assert ask("take", frame + data + b"{}\n") == {"taken_bytes": len(data), "whole": True}
    assert ask("place") == {"placed": 1}
    step = {"name": "build", "argv": [python, "build.py"], "source": source.decode()}
    found = ask("step", **step)
    assert (found["code"], found["out"], found["repeated"]) == (0, "built\n", True)
    assert not ask("step", once=True, **step)["repeated"]


def test_the_benchmark_of_a_board_runs(python: Path, copy: Path, tmp_path: Path) -> None:
    """The one file of `bench --host`, with a meter at 5 W."""
    chip = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    chip.mkdir(parents=True)
    for name, text in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000",
                       "curr1_input": "1000"}.items():  # fmt: skip
        (chip / name).write_text(text)
    folder = tmp_path / "run"
    folder.mkdir()
    network = {"bundle": str(copy), "role": "student", "as": "student", "name": "tiny"}
    request = {
        "networks": [network], "size": [48, 64], "runtime": "auto", "threads": 1, "fps": None,
        "duration_s": 0.5, "repetitions": 2, "warm_up_s": 0.1, "idle_s": 0.1, "whole_s": 0.1,
        "power": True, "require_power": True,
    }  # fmt: skip
    (folder / "bench.pyz").write_bytes(pack())
    (folder / "request.json").write_text(json.dumps(request))
    (folder / "frames.bin").write_bytes(bytes(48 * 64 * 3))
    done = subprocess.run(
        [str(python), str(folder / "bench.pyz"), str(folder)], cwd="/",
        env={"PATH": "/usr/bin:/bin", "EDGESR_SYSFS_ROOT": str(tmp_path / "sys")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert done.returncode == 0, (done.stderr, rows[-1])
    assert rows[-1] == {"kind": "end"}
    readings = [row["found"]["values"]["VDD_IN"] for row in rows if row["kind"] == "readings"]
    assert {watts for some in readings for watts in some} == {5.0}
    memory = next(row["found"] for row in rows if row["kind"] == "memory")
    assert memory["peak_bytes"] > memory["before_bytes"] > 0
