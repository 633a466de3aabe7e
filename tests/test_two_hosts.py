"""`--hosts` on two hosts with an sshd each, where this machine can play both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "two_hosts.py"
RECORD = ROOT / "benchmarks" / "results" / "two-hosts-2026-11.json"


def test_two_hosts_train_together(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", str(record)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode == 4:  # in CI too: it needs root
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = json.loads(record.read_text())
    assert found["ranks_by_host"] == [["0"], ["1"]]
    assert min(found["sent_bytes_by_host"]) > found["gradient_bytes"] > 0


def test_without_root_it_says_what_it_needs() -> None:
    if os.geteuid() == 0:
        pytest.skip("this is root")
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert done.stderr.startswith("two_hosts: needs root")


def test_the_record_is_of_a_run_that_held() -> None:
    record = json.loads(RECORD.read_text())
    assert record["failures"] == [] and all(record["checks"].values())
    assert record["exit_code"] == 0 and record["ranks_by_host"] == [["0"], ["1"]]
