"""The launcher: what horovodrun is asked, what the user sees of it, and how it ends.

horovodrun is faked at its boundary here: a package `horovod` whose runner prints what the real
one prints. `test_distributed.py` has the real one.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgesr.errors import BadConfig, Impossible
from edgesr.training import launch as launching
from edgesr.training.launch import (
    Host,
    horovodrun,
    launch,
    local_hosts,
    parse_hosts,
    without_launch_options,
    worker_environment,
)
from edgesr.training.relay import Relay
from edgesr.training.worker import LAUNCHED, MARK, exit_status

ROOT = Path(__file__).parents[1]


def test_hosts_are_read_in_order() -> None:
    hosts = parse_hosts("node-1.lab:8, 10.0.0.2:4")
    assert hosts == (Host("node-1.lab", 8), Host("10.0.0.2", 4))
    assert str(hosts[0]) == "node-1.lab:8"


@pytest.mark.parametrize(
    "text", ["", "a", "a:", "a:0", "a:-1", "a:x", "a:2,,b:2", "a:2;b", "a b:2"]
)
def test_hosts_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(BadConfig, match="for example a:8,b:8") as caught:
        parse_hosts(text)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1


def test_a_host_named_twice_is_refused() -> None:
    with pytest.raises(BadConfig, match="names a host twice"):
        parse_hosts("a:2,a:3")


def test_local_workers_have_names_of_their_own_that_mean_this_machine() -> None:
    hosts = local_hosts(120)
    assert len({host.name for host in hosts}) == 120
    assert {host.slots for host in hosts} == {1}
    assert {socket.gethostbyname(host.name) for host in hosts} == {"127.0.0.1"}
    for np in (0, -1, 1001):
        with pytest.raises(BadConfig, match="take 1 to 1000 processes"):
            local_hosts(np)


def test_workers_get_the_command_without_np_and_hosts() -> None:
    given = ["compress", "r.toml", "--np", "2", "--out", "x", "--hosts=a:1,b:1", "--seed", "3"]
    assert without_launch_options(given) == ["compress", "r.toml", "--out", "x", "--seed", "3"]
    assert without_launch_options(["--np=4", "--hosts", "a:1", "--json"]) == ["--json"]


def test_an_elastic_command_and_its_discovery(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    command = horovodrun(parse_hosts("a:2,b:3,c:1"), folder, elastic=True)
    text = " ".join(command)
    assert "--gloo -np 6 " in text and "--min-np 1 --max-np 6" in text and " -H " not in text
    script = command[command.index("--host-discovery-script") + 1]

    def discovered() -> list[str]:
        done = subprocess.run(script, shell=True, capture_output=True, text=True, check=True)
        return done.stdout.split()

    # The first call tells the first host alone, so that it becomes the host of rank 0.
    assert discovered() == ["a:2"]
    assert discovered() == discovered() == ["a:2", "b:3", "c:1"]
    assert shlex.split(script) == [str(folder / "discover.sh")]


def test_one_host_or_a_fixed_size_is_not_elastic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOROVOD_GLOO_IFACE", "eth7")
    for hosts, elastic in (("a:8", True), ("a:2,b:2", False)):
        command = horovodrun(parse_hosts(hosts), tmp_path, elastic=elastic)
        assert command[-2:] == ["-H", hosts]
        assert "--min-np" not in command
        assert command[command.index("--network-interfaces") + 1] == "eth7"


def test_workers_share_the_cores_unless_the_user_says_otherwise() -> None:
    assert worker_environment({"A": "b"}, threads=3)["OMP_NUM_THREADS"] == "3"
    own = worker_environment({"OMP_NUM_THREADS": "5"}, threads=3)
    assert own["OMP_NUM_THREADS"] == "5" and own["EDGESR_LAUNCHED"] == "1"


def test_np_and_hosts_exclude_each_other() -> None:
    for np, hosts in ((None, None), (2, "a:1,b:1")):
        with pytest.raises(BadConfig, match="--np or --hosts"):
            launch(["compress"], np=np, hosts=hosts)


def test_without_horovod_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    with pytest.raises(Impossible, match="make horovod"):
        launch(["compress"], np=2)


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3), (130, 130), ("no", 1)])
def test_exit_status_is_the_interpreters(code: object, status: int) -> None:
    script = f"import sys; sys.exit({code!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert exit_status(code) == status == done.returncode


@pytest.mark.parametrize(("rank", "status"), [("0", 0), ("1", 2)])
def test_a_worker_tells_its_exit_code_and_only_rank_0s_is_hidden_from_horovodrun(
    rank: str, status: int
) -> None:
    command = [sys.executable, "-m", "edgesr.training.worker", "compress", "--no-such-option"]
    environment = os.environ | {"HOROVOD_RANK": rank, LAUNCHED: "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "No such option" in done.stderr
    assert done.stderr.splitlines()[-1] == f"{MARK} exit 2"


def told(tmp_path: Path, *lines: str) -> tuple[Relay, list[str]]:
    said: list[str] = []
    with Relay(tmp_path, said.append) as relay:
        for line in lines:
            relay.line(line + "\n")
    return relay, said


def test_only_rank_0_is_heard_and_everything_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay, said = told(
        tmp_path,
        "[0]<stderr>:step 1\r[0]<stderr>:step 2",
        "[1]<stderr>:from another",
        "[2026-11-25 23:37:20. 23757: E operations.cc:697] no prefix",
        "[0]<stderr>:[2026-11-25 23:37:20. 23757: E /x/horovod/operations.cc:697] [0]: noise",
        '[0]<stdout>:{"a": "[1]<stderr>:"}',
        f"[1]<stderr>:{MARK} exit 1",
    )
    heard = capsys.readouterr()
    assert heard.err == "step 1\rstep 2\n" and heard.out == '{"a": "[1]<stderr>:"}\n'
    assert said == [] and relay.code is None and not relay.ended.is_set()
    assert (tmp_path / "worker-1.log").read_text() == "from another\n"
    assert "noise" in (tmp_path / "worker-0.log").read_text()
    assert "no prefix" in (tmp_path / "horovodrun.log").read_text()


def test_who_takes_over_rank_0_is_heard_and_its_code_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relay, said = told(
        tmp_path,
        f"[0]<stderr>:{MARK} rank 0",
        f"[1]<stderr>:{MARK} rank 1",
        f"[2]<stderr>:{MARK} rank 2",
        "Process 0 exit with status code 137.",
        f"[1]<stderr>:{MARK} rank 0",
        "[1]<stderr>:I go on",
        "[2]<stderr>:edgesr: no room here",
        "Process 2 exit with status code 1.",
        f"[1]<stderr>:{MARK} exit 3",
        "Process 2 exit with status code 143.",
    )
    assert capsys.readouterr().err == "I go on\n"
    assert relay.code == 3 and relay.ended.is_set()
    assert relay.lost == [(0, 137), (2, 1)]
    assert said == [
        "edgesr: worker 0 was lost (killed by signal 9)",
        "edgesr: worker 2 was lost (status 1): edgesr: no room here",
    ]


FAKE = """
import os, sys, time
arguments = sys.argv[1:]
print("[1]<stderr>:not for the user", file=sys.stderr)
print("[0]<stdout>:" + " ".join(arguments[arguments.index("edgesr.training.worker") + 1:]))
print("[0]<stderr>:threads " + os.environ["OMP_NUM_THREADS"], file=sys.stderr, flush=True)
plan = os.environ["FAKE_PLAN"]
if plan == "hang":
    time.sleep(600)
if plan != "silent":
    print("[0]<stderr>:#edgesr-worker exit " + plan, file=sys.stderr, flush=True)
sys.exit(1)
"""

CALL = """
import signal, sys
from edgesr.training.launch import launch
# A shell starts what runs in the background with SIGINT ignored; these tests may be there.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    sys.exit(launch(["compress", "--np", "1", "--out", "a b"], np=1))
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(tmp_path: Path, plan: str) -> subprocess.Popen[str]:
    runner = tmp_path / "fake" / "horovod" / "runner"
    runner.mkdir(parents=True)
    for folder in (runner.parent, runner):
        (folder / "__init__.py").write_text("")
    (runner / "launch.py").write_text(FAKE)
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {
        "PYTHONPATH": f"{tmp_path / 'fake'}:{ROOT}",
        "FAKE_PLAN": plan,
        "OMP_NUM_THREADS": "3",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    return subprocess.Popen(
        [sys.executable, "-c", CALL],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_rank_0_gives_the_exit_code_whatever_horovodrun_says(tmp_path: Path, code: int) -> None:
    process = start(tmp_path, str(code))
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == "compress --out a b\n"
    assert "threads 3\n" in err and "not for the user" not in err
    kept = list((tmp_path / "tmp").glob("edgesr-workers-*"))
    assert len(kept) == (0 if code in (0, 3) else 1)


def test_workers_that_end_without_a_word_are_a_failure(tmp_path: Path) -> None:
    process = start(tmp_path, "silent")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no result from the workers" in err
    (kept,) = (tmp_path / "tmp").glob("edgesr-workers-*")
    assert (kept / "worker-1.log").read_text() == "not for the user\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_launcher_is_the_end_of_horovodrun(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, "hang")
    assert process.stderr is not None
    assert "threads 3" in process.stderr.readline()
    (child,) = children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or is_zombie(child):
            return
        time.sleep(0.1)
    pytest.fail("horovodrun outlived its launcher")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
