"""Workers that are killed do not lose the run, and a run that is killed as a whole goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import elastic_worker
import pytest
from compressing import RECIPE, command, compress_arguments, environment
from horovodrun import need_horovod, run_script

from edgesr.training.launch import local_hosts

LIMIT_S = 400
EVERY = 10  # steps between checkpoints
STEPS = 150


class Job:
    """`edgesr compress` in two processes, which a test can watch and kill."""

    def __init__(self, world: Path, out: Path, *arguments: object) -> None:
        self.out = out
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=world,
            env={**environment(world), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def events(self) -> list[dict[str, Any]]:
        """What log.jsonl says now; a line that is being written is left out."""
        path = self.out / "log.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.is_file() else []
        return [json.loads(line) for line in lines]

    def checkpoint(self) -> tuple[int, int]:
        """Leg and step of the checkpoint on disk, (0, 0) before the first."""
        import torch

        path = self.out / "checkpoints" / "last.pt"
        if not path.is_file():
            return 0, 0
        state = torch.load(path, weights_only=True)
        return state["leg"], state["step"]

    def wait_for_step(self, step: int) -> tuple[int, int]:
        """Until a checkpoint at `step` of the first leg or later is on disk."""
        for _ in range(20 * LIMIT_S):
            at = self.checkpoint()
            if at >= (0, step):
                return at
            if self.process.poll() is not None:
                pytest.fail(f"the run ended too early: {self.process.stderr.read()}")
            time.sleep(0.05)
        pytest.fail("no checkpoint in time")

    def worker(self, rank: int) -> int:
        """The process of the worker that had `rank` at the start."""
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                facts = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if words[1:3] == [b"-m", b"edgesr.training.worker"] and (
                    f"HOROVOD_RANK={rank}".encode() in facts
                ):
                    return pid
        pytest.fail(f"there is no worker {rank}")

    def end(self) -> tuple[int, str]:
        """Its exit code and stderr."""
        _, err = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, err

    def kill_everything(self) -> None:
        """SIGKILL to the launcher, horovodrun and the workers, all at once."""
        pids = [self.process.pid, *descendants(self.process.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


def descendants(pid: int) -> Iterator[int]:
    """Children of each of its threads, their children and so on."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for word in (task / "children").read_text().split():
                yield int(word)
                yield from descendants(int(word))


@pytest.fixture
def job(world: Path, tmp_path: Path) -> Iterator[Job]:
    need_horovod()
    recipe = RECIPE.replace("steps = 25", f"steps = {STEPS}").replace("steps = 24", "steps = 4")
    recipe = recipe.replace("checkpoint_every = 7", f"checkpoint_every = {EVERY}")
    (tmp_path / "long.toml").write_text(recipe)
    arguments = list(compress_arguments(world, tmp_path / "run", "--np", 2))
    arguments[1] = tmp_path / "long.toml"
    started = Job(world, tmp_path / "run", *arguments)
    yield started
    if started.process.poll() is None:
        started.kill_everything()


def check_loss(job: Job, err: str, number: int) -> None:
    """The log, the report and the terminal tell of one worker lost, after a checkpoint."""
    (lost,) = [e for e in job.events() if e["event"] == "workers"]
    assert (lost["from"], lost["to"]) == (2, 1)
    assert lost["leg"] == 0 and lost["step"] >= 2 * EVERY and lost["step"] % EVERY == 0
    assert f"worker {number} was lost (killed by signal 9)" in err
    report = (job.out / "report.md").read_text()
    assert "2 became 1" in report and str(lost["step"]) in report
    assert (job.out / "student.safetensors").is_file()
    events = job.events()
    assert events[-1]["event"] == "done"
    assert [e["leg"] for e in events if e["event"] == "measured"] == [
        "0-distill", "1-prune-1of2", "1-prune-2of2"
    ]  # fmt: skip
    # It went on from the last commit: what was logged before, in order, and nothing left out.
    at = events.index(lost)
    after = [e["step"] for e in events[at:] if e["event"] == "step" and e["leg"] == 0]
    first = -(-lost["step"] // 20) * 20
    assert after == list(range(first, STEPS, 20))


def test_the_run_outlives_its_rank_0(job: Job) -> None:
    job.wait_for_step(2 * EVERY)
    os.kill(job.worker(0), signal.SIGKILL)
    code, err = job.end()
    assert code == 0, err
    check_loss(job, err, 0)
    # The one that took over speaks now.
    assert "held-out PSNR-Y" in err


def test_killed_as_a_whole_it_resumes_and_outlives_a_worker(
    job: Job, world: Path, tmp_path: Path
) -> None:
    job.wait_for_step(EVERY)
    job.kill_everything()
    leg, step = job.checkpoint()
    assert leg == 0 and step >= EVERY and step % EVERY == 0
    assert not (job.out / "student.safetensors").exists()
    before = [e["step"] for e in job.events() if e["event"] == "step"]
    assert max(before) < step + EVERY  # at most one interval is lost

    resumed = Job(world, job.out, "compress", "--resume", job.out)
    try:
        resumed.wait_for_step(step + 2 * EVERY)
        os.kill(resumed.worker(1), signal.SIGKILL)
        code, err = resumed.end()
    finally:
        if resumed.process.poll() is None:
            resumed.kill_everything()
    assert code == 0, err
    (again,) = [e for e in resumed.events() if e["event"] == "resumed"]
    assert (again["leg"], again["step"]) == (leg, step)
    check_loss(resumed, err, 1)


def test_a_worker_that_joins_begins_with_the_state_of_the_others(tmp_path: Path) -> None:
    need_horovod()
    names = [host.name for host in local_hosts(2)]
    script = tmp_path / "discover.sh"
    script.write_text(
        f"#!/bin/sh\necho {names[0]}:1\n[ ! -e {tmp_path}/more ] || echo {names[1]}:1\n"
    )
    script.chmod(0o755)
    front = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", "1", "--min-np", "1",
             "--max-np", "2", "--network-interfaces", "lo", "--start-timeout", "120",
             "--host-discovery-script", str(script)]  # fmt: skip
    run_script(front, Path(elastic_worker.__file__), tmp_path, cwd=tmp_path)
    found = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("worker*.json"))]
    one, two = sorted(found, key=lambda facts: facts["rank"])
    (change,) = one["changes"]
    assert (change["from"], change["to"]) == (1, 2) and two["changes"] == []
    joined = change["step"]
    assert joined > 0 and joined % 5 == 0
    # Alone each step adds 1, in company (1 + 2) / 2.
    assert one["starts"][0] == {"step": 0, "total": 0.0, "size": 1}
    assert one["starts"][1] == two["starts"][0] == {"step": joined, "total": joined, "size": 2}
    for facts in (one, two):
        assert facts["together"] == 20 and facts["step"] == joined + 20
        assert facts["total"] == joined + 30
