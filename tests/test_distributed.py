"""Two processes under the real Horovod do what one process with twice the batch does."""

from __future__ import annotations

import json
from pathlib import Path

import distributed_worker
import pytest
import torch
from compressing import command, compress_arguments, environment, run
from horovodrun import bounded, need_horovod, run_script

from edgesr.training import data
from edgesr.training.launch import horovodrun, local_hosts
from edgesr.training.world import Alone


@pytest.fixture(scope="module")
def two(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of `distributed_worker.py` in two processes."""
    need_horovod()
    out = tmp_path_factory.mktemp("two")
    front = horovodrun(local_hosts(2), out, elastic=False)
    script = Path(distributed_worker.__file__)
    run_script(front, script, world / "photos", out, cwd=out)
    return out


def facts(two: Path, rank: int) -> dict:
    return json.loads((two / f"rank{rank}.json").read_text())


def test_what_two_processes_tell_each_other(two: Path) -> None:
    for rank in (0, 1):
        found = facts(two, rank)
        assert (found["rank"], found["size"]) == (rank, 2)
        # (x + 2x)/2, (1 + 3)/2, (0.25 + 1.25)/2; what only rank 1 had as NaN, all have.
        assert found["answers"] == {
            "local_rank": rank,
            "channels_last": True,
            "float64": [2.0],
            "nan_reaches_all": [True, False],
            "mean": {"b": 0.75, "a": 4.0},
            "broadcast": {"from": 0},
            "tensor": [0.0, 0.0],
            "nobody": {},
        }


def test_two_processes_with_batch_8_follow_one_with_batch_16(
    two: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The nets here have no BatchNorm. One would take its statistics from the 8 crops of its
    # process and not from all 16, and the two would differ from the first step on.
    monkeypatch.setenv("EDGESR_CACHE", str(world / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one, events = distributed_worker.train(world / "photos", Alone(), batch=16)
    finally:
        torch.set_num_threads(threads)
    states = [torch.load(two / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, expected in one.state_dict().items():
        assert expected.dtype == torch.float64
        assert torch.equal(states[0][name], states[1][name])
        torch.testing.assert_close(states[0][name], expected, rtol=0, atol=1e-9)
    for rank in (0, 1):
        seen = facts(two, rank)["events"]
        assert [e["step"] for e in seen] == list(range(distributed_worker.STEPS))
        for mine, theirs in zip(seen, events, strict=True):
            for key in ("lr", "loss", "pixel", "frequency"):
                assert mine[key] == pytest.approx(theirs[key], rel=0, abs=1e-9)
    assert events[0]["loss"] > events[-1]["loss"] + 1e-3  # they did move


def test_the_two_saw_the_two_halves_of_the_batch(
    two: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGESR_CACHE", str(world / "cache"))
    pack = data.open_pack(data.photographs(world / "photos"), 4)
    whole = data.Batches(pack, patch=12, batch=16, seed=5, teacher=False)[0].lr
    halves = [torch.load(two / f"crops{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(*halves)


def test_compress_np_2_is_compress_with_twice_the_batch(world: Path, tmp_path: Path) -> None:
    need_horovod()
    recipe = (world / "tiny.toml").read_text().replace("steps = 24", "steps = 4")
    recipe = recipe.replace("steps = 25", "steps = 21").replace("feature = 0.1", "feature = 0.0")
    recipe = 'optimizer = "sgd"\nlr_scaling = "none"\n' + recipe.lstrip()
    logs = []
    for name, batch, more in (("two", 2, ("--np", 2)), ("one", 4, ())):
        (tmp_path / f"{name}.toml").write_text(recipe.replace("batch = 2", f"batch = {batch}"))
        arguments = list(compress_arguments(world, tmp_path / name, *more, "--json"))
        arguments[1] = tmp_path / f"{name}.toml"
        if not more:
            done = run(world, *arguments)
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            status, out, err = bounded(command(*arguments), world, environment(world))
        assert status == 0, err[-3000:]
        report = json.loads(out)
        assert report == json.loads((tmp_path / name / "report.json").read_text())
        # Each line once: the other worker's are in its own file.
        assert err.count("held-out PSNR-Y") == 3 and "<stderr>" not in err
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        logs.append([json.loads(line) for line in lines])
    events = [[e["event"] for e in log] for log in logs]
    assert events[0] == events[1] and events[0].count("done") == 1
    steps = [[e for e in log if e["event"] == "step" and e["leg"] == 0] for log in logs]
    assert [e["step"] for e in steps[0]] == [0, 20]
    for two, one in zip(*steps, strict=True):
        for key in ("loss", "pixel", "teacher"):
            assert two[key] == pytest.approx(one[key], rel=1e-4)
    kept = [p.name for p in (tmp_path / "two" / "workers").iterdir()]
    assert kept == ["worker-0.log"]  # the other had nothing to say
