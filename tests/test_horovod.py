"""Two processes under Horovod (Gloo, CPU): sums done by hand, and the wheel's recipe."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

from edgesr.doctor import HOROVOD_STEPS
from tests.conftest import missing

ROOT = Path(__file__).parents[1]
LIMIT_S = 150

WORKER = """
import json, sys
from pathlib import Path
import torch
import horovod.torch as hvd

torch.set_num_threads(1)
hvd.init()
rank = hvd.rank()
mine = torch.tensor([1.0, 2.0, 3.0]) * (rank + 1)
total = hvd.allreduce(mine, op=hvd.Sum, name="total")
mean = hvd.allreduce(mine, op=hvd.Average, name="mean")
start = hvd.broadcast(torch.tensor([7.0 + rank]), root_rank=0, name="start")
everyone = hvd.allgather(torch.tensor([rank]), name="everyone")

# One step of SGD on (w - target)^2 / 2: the gradient is the mean of the ranks' gradients.
weight = torch.nn.Parameter(torch.tensor([10.0]))
optimizer = torch.optim.SGD([weight], lr=0.5)
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=[("weight", weight)])
(0.5 * (weight - 2.0 * (rank + 1)) ** 2).sum().backward()
optimizer.step()

result = {
    "size": hvd.size(),
    "total": total.tolist(),
    "mean": mean.tolist(),
    "start": start.tolist(),
    "everyone": everyone.tolist(),
    "weight": weight.item(),
}
Path(sys.argv[1], f"rank{rank}.json").write_text(json.dumps(result))
hvd.shutdown()
"""


def run_bounded(command: list[str], cwd: Path) -> tuple[int, str]:
    """Exit status and output of `command`; its whole process group ends at the time limit."""
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"no answer within {LIMIT_S} s; its output:\n{output[-3000:]}")
    return process.returncode, output


def test_two_processes_add_up(tmp_path: Path) -> None:
    if importlib.util.find_spec("horovod") is None:
        missing("Horovod is not installed; run: make horovod")
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    launcher = Path(sysconfig.get_path("scripts")) / "horovodrun"
    command = [sys.executable, str(launcher), "-np", "2", "--gloo", "--start-timeout", "60"]
    status, output = run_bounded([*command, sys.executable, str(worker), str(tmp_path)], tmp_path)
    assert status == 0, output[-3000:]

    results = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert results[0] == results[1]
    # Rank 0 gives (1, 2, 3), rank 1 gives (2, 4, 6). Gradients of the step: 10 - 2 and
    # 10 - 4, mean 7; so the weight goes from 10 to 10 - 0.5 * 7.
    assert results[0] == {
        "size": 2,
        "total": [3.0, 6.0, 9.0],
        "mean": [1.5, 3.0, 4.5],
        "start": [7.0],
        "everyone": [0, 1],
        "weight": 6.5,
    }


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "horovod_wheel", ROOT / "tools" / "horovod_wheel.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_patch_raises_the_standard_and_notices_another_source(tool: ModuleType) -> None:
    before = "project(x)\nset(CMAKE_CXX_STANDARD 14)\nset(CMAKE_CXX_STANDARD_REQUIRED ON)\n"
    after = "project(x)\nset(CMAKE_CXX_STANDARD 17)\nset(CMAKE_CXX_STANDARD_REQUIRED ON)\n"
    assert tool.patch(before, "CMakeLists.txt") == after
    with pytest.raises(tool.BuildError, match=r"CMakeLists.txt: .* found 0"):
        tool.patch(after, "CMakeLists.txt")
    with pytest.raises(tool.BuildError, match="found 2"):
        tool.patch(before + before, "CMakeLists.txt")


def test_the_cache_tells_builds_apart(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        tool.cache_key("2.13.0"),
        tool.cache_key("2.13.0+cpu"),
        tool.cache_key("2.13.0", "NCCL"),
    }
    assert len(keys) == 3
    assert all(f"cp{sys.version_info.major}{sys.version_info.minor}" in key for key in keys)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tool.cache_folder("k") == tmp_path / "edgesr" / "wheels" / "k"


def test_a_cached_wheel_is_not_built_again(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HOROVOD_GPU_OPERATIONS", raising=False)
    monkeypatch.setattr(tool, "check_machine", lambda: "2.13.0")
    monkeypatch.setattr(tool, "build", lambda target: pytest.fail("it built"))
    folder = tool.cache_folder(tool.cache_key("2.13.0"))
    folder.mkdir(parents=True)
    cached = folder / f"horovod-{tool.HOROVOD}-cp311-cp311-linux_x86_64.whl"
    cached.write_bytes(b"")
    assert tool.wheel() == cached


def test_doctor_prints_the_recipe_that_the_tool_follows(tool: ModuleType) -> None:
    text = "\n".join(HOROVOD_STEPS)
    assert f"horovod=={tool.HOROVOD}" in text
    for name in tool.PATCHED:
        assert name in text
    for key, value in tool.SETTINGS.items():
        assert f"{key}={value}" in text
    for package in tool.RUN_NEEDS:
        assert package in text
