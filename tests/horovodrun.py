"""Scripts and commands under the real horovodrun, within a time limit."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import missing

LIMIT_S = 400


def need_horovod() -> None:
    """Skip the test without Horovod; in CI, fail it."""
    if importlib.util.find_spec("horovod") is None:
        missing("Horovod is not installed; run: make horovod")


def bounded(
    command: list[str], cwd: Path, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr; the whole process group ends at the time limit."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**(env or os.environ), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"no end within {LIMIT_S} s; its output:\n{out[-2000:]}\n{err[-2000:]}")
    return process.returncode, out, err


def run_script(front: list[str], script: Path, *arguments: object, cwd: Path) -> str:
    """Run a Python script under the horovodrun command `front`; its output."""
    command = [*front, sys.executable, str(script), *map(str, arguments)]
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(Path(root) / "tests")])}
    status, out, err = bounded(command, cwd, env)
    assert status == 0, out[-3000:] + err[-3000:]
    return out + err
