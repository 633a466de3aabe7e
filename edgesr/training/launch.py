"""Start the same `edgesr` command in several processes, through horovodrun, and stay its face.

horovodrun prefixes every worker's lines, ends with 1 for whatever went wrong, and counts any
process that ends with another status than 0 as a lost one. Here only rank 0's lines go to the
user, unprefixed, and its exit code becomes ours (see `edgesr.training.worker`).

Loss is by host: Horovod drops the whole host of a worker that died. On one machine each worker
therefore gets a name of its own, all of which mean 127.0.0.1.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from edgesr.errors import BadConfig, Impossible
from edgesr.training.relay import Relay
from edgesr.training.worker import LAUNCHED
from edgesr.training.world import HOW_TO_INSTALL

START_TIMEOUT_S = 120
STALL_WARNING_S = 3600  # rank 0 measures and writes reports while the others wait
GRACE_S = 20.0
MAX_LOCAL = 1000
DISCOVERY, DISCOVERED = "discover.sh", "discovered"
_HOST = re.compile(r"([\w.-]+):([1-9]\d{0,3})")


@dataclass(frozen=True)
class Host:
    """A machine as ssh knows it, and how many processes it runs."""

    name: str
    slots: int

    def __str__(self) -> str:
        return f"{self.name}:{self.slots}"


def parse_hosts(text: str) -> tuple[Host, ...]:
    """`a:8,b:8` → hosts, in order. Raises `BadConfig` for anything else."""
    hosts = []
    for part in text.split(","):
        found = _HOST.fullmatch(part.strip())
        if found is None:
            raise BadConfig(
                f"--hosts '{text}': cannot read '{part.strip()}'; "
                "write NAME:PROCESSES with commas between, for example a:8,b:8"
            )
        hosts.append(Host(found[1], int(found[2])))
    names = [host.name for host in hosts]
    if len(set(names)) < len(names):
        raise BadConfig(f"--hosts '{text}' names a host twice; add up its processes")
    return tuple(hosts)


def local_hosts(np: int) -> tuple[Host, ...]:
    """`np` hosts of one process each, all this machine, by different names.

    Zeros in front do not change an address, and Horovod compares the names only.
    """
    if not 1 <= np <= MAX_LOCAL:
        raise BadConfig(f"--np {np}: take 1 to {MAX_LOCAL} processes")
    return tuple(Host(f"127.0.{'0' * (i // 50)}0.{'0' * (i % 50)}1", 1) for i in range(np))


def without_launch_options(arguments: Sequence[str]) -> list[str]:
    """The command line that the workers get: without --np and --hosts."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in ("--np", "--hosts"):
            next(words, None)
        elif not word.startswith(("--np=", "--hosts=")):
            kept.append(word)
    return kept


def launch(
    arguments: Sequence[str],
    *,
    np: int | None = None,
    hosts: str | None = None,
    elastic: bool = True,
    workdir: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> int:
    """Run `edgesr ARGUMENTS` in `np` processes here, or on `hosts` (`a:8,b:8`); rank 0's exit code.

    Rank 0 starts on the first host. The other hosts are reached with ssh as the user's
    configuration has it (port, key), without a password; Python, EdgeSR, the data and the run
    folder must be at the same paths there. The whole environment goes along. Where hosts have
    several networks, `HOROVOD_GLOO_IFACE` names the interface to use.

    Unless `elastic` is false, the run goes on when a worker is lost; `say` gets a line then.
    Each worker's output is in `workdir`; None takes a temporary folder, which is kept when the
    run fails. Raises `BadConfig`, `Impossible` (no Horovod), and KeyboardInterrupt once all
    workers have ended after Ctrl-C or SIGTERM.
    """
    if (np is None) == (hosts is None):
        raise BadConfig("give --np or --hosts, one of them")
    chosen = local_hosts(np) if np is not None else parse_hosts(hosts or "")
    _need_horovod(remote=hosts is not None)
    say = say or _say
    cores = len(os.sched_getaffinity(0))
    if np is not None and np > cores:
        say(f"edgesr: {np} processes on {cores} cores: each will wait for the others")
    slots = np or max(host.slots for host in chosen)
    environment = worker_environment(os.environ, threads=max(1, cores // slots))
    folder = workdir or Path(tempfile.mkdtemp(prefix="edgesr-workers-"))
    folder.mkdir(parents=True, exist_ok=True)
    worker = [sys.executable, "-m", "edgesr.training.worker", *without_launch_options(arguments)]
    command = [*horovodrun(chosen, folder, elastic=elastic), *worker]
    code = _watched(command, environment, folder, say)
    if workdir is None and code in (0, 3):
        shutil.rmtree(folder, ignore_errors=True)
    return code


def _watched(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, say: Callable[[str], None]
) -> int:
    """Rank 0's exit code, 1 when it told none."""
    try:
        with Relay(folder, say) as relay:
            status = _run(command, environment, relay)
    finally:
        for name in (DISCOVERY, DISCOVERED):
            (folder / name).unlink(missing_ok=True)
    if relay.code is None:
        say(f"edgesr: no result from the workers (horovodrun: {status}); their output: {folder}")
        return 1
    return relay.code


def horovodrun(hosts: Sequence[Host], folder: Path, *, elastic: bool) -> list[str]:
    """The command in front of the workers'; `folder` gets the host discovery script.

    One host alone cannot be elastic: Horovod would drop it as a whole.
    """
    total = sum(host.slots for host in hosts)
    command = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", str(total),
               "--start-timeout", str(START_TIMEOUT_S), "--disable-cache"]  # fmt: skip
    if interface := os.environ.get("HOROVOD_GLOO_IFACE"):
        command += ["--network-interfaces", interface]
    if not (elastic and len(hosts) > 1):
        return [*command, "-H", ",".join(map(str, hosts))]
    # Hosts can be lost only once; what fails more often would start over for ever.
    command += ["--min-np", "1", "--max-np", str(total), "--reset-limit", str(2 * len(hosts))]
    return [*command, "--host-discovery-script", shlex.quote(str(_discovery(hosts, folder)))]


def _discovery(hosts: Sequence[Host], folder: Path) -> Path:
    # Horovod shuffles hosts that it learns of at once, and keeps the order of those it knows.
    # So the first call tells the first host only, and rank 0 is there.
    script, called = folder / DISCOVERY, folder / DISCOVERED
    called.unlink(missing_ok=True)
    first, rest = str(hosts[0]), " ".join(map(str, hosts[1:]))
    script.write_text(
        f"#!/bin/sh\necho {first}\nif [ -e {shlex.quote(str(called))} ]; then\n"
        f"    printf '%s\\n' {rest}\nelse\n    : > {shlex.quote(str(called))}\nfi\n"
    )
    script.chmod(0o755)
    return script


def worker_environment(environment: Mapping[str, str], *, threads: int) -> dict[str, str]:
    """The launcher's environment with what workers need; the user's own settings win."""
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        "HOROVOD_STALL_CHECK_TIME_SECONDS": str(STALL_WARNING_S),
        "COLUMNS": str(shutil.get_terminal_size().columns),
    }
    return {**defaults, **environment, LAUNCHED: "1"}


def _run(command: Sequence[str], environment: Mapping[str, str], relay: Relay) -> int:
    """horovodrun's exit status, after it and all workers have ended."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    with _sigterm_interrupts():
        try:
            relay.follow(process)
            while not relay.ended.wait(0.2):
                if process.poll() is not None:
                    break
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
        finally:
            relay.muted = process.poll() is None
            _end(process)
    return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask horovodrun to end its workers, and make sure of it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _die_with_parent() -> None:
    # When this launcher is killed, horovodrun gets SIGTERM and ends its workers.
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: Any = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _need_horovod(*, remote: bool) -> None:
    if find_spec("horovod") is None:
        raise Impossible(f"training in several processes needs Horovod: {HOW_TO_INSTALL}")
    if remote and shutil.which("ssh") is None:
        raise Impossible("--hosts needs ssh to reach them: install an OpenSSH client")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
