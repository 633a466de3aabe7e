"""`edgesr compress --hosts` on two hosts, made of one machine's network namespaces.

Two namespaces joined by a veth pair, an sshd in each with its own host key, a client key made
for this run: as far apart as two machines, except that they share the disk (as a cluster's
hosts share the folder with the data and the run). The run must end well, a worker must have
run in each namespace, and gradients must have crossed the wire. Nothing is left behind.

    python benchmarks/two_hosts.py [--json FILE]

Needs root, iproute2 and openssh-server (Debian's package names), and Horovod (make horovod).
Exit code 0: it did; 1: it did not; 4: something it needs is missing, which is said.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TOOLS = {"ip": "iproute2", "ssh": "openssh-client", "ssh-keygen": "openssh-client",
         "sshd": "openssh-server", "unshare": "util-linux", "hostname": "hostname"}  # fmt: skip
NETWORK = "10.98.0"
LIMIT_S = 900.0
STEPS = 60
RECIPE = f"""
name = "two-hosts"
checkpoint_every = 20

[student]
width = 16
depth = 3

[data]
patch = 24
batch = 4
holdout = 4

[[stages]]
kind = "distill"
steps = {STEPS}
loss = {{ pixel = 1.0, teacher = 0.5 }}
"""
SSHD = """
ListenAddress {address}:22
HostKey {folder}/{name}
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
SSH = """
IdentityFile {folder}/client
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile none
BatchMode yes
"""


def lacking() -> list[str]:
    """What this machine lacks, each with what mends it; empty when it can be done."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    found = [f"{tool} ({package})" for tool, package in TOOLS.items()
             if shutil.which(tool, path=path) is None]  # fmt: skip
    if find_spec("horovod") is None:
        found.append("Horovod (make horovod)")
    if os.geteuid() != 0:
        found.insert(0, "root")
    elif subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], check=False).returncode:
        found.append("leave to make namespaces (CAP_SYS_ADMIN)")
    return found


def do(*words: object) -> str:
    """Run a command that must succeed; its stdout."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"two_hosts: {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def namespaces(names: tuple[str, str]) -> Iterator[None]:
    """Two network namespaces joined by `eth0`, 10.98.0.1 and 10.98.0.2; gone afterwards."""
    try:
        for name in names:
            do("ip", "netns", "add", name)
        do("ip", "link", "add", "eth0", "netns", names[0], "type", "veth",
           "peer", "name", "eth0", "netns", names[1])  # fmt: skip
        for number, name in enumerate(names, 1):
            do("ip", "-n", name, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                do("ip", "-n", name, "link", "set", link, "up")
        yield
    finally:
        for name in names:
            for pid in pids_in(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def pids_in(name: str) -> list[int]:
    """The processes in a namespace."""
    done = subprocess.run(
        ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
    )
    return [int(word) for word in done.stdout.split()]


def make_names(folder: Path, names: tuple[str, str]) -> None:
    """The /etc/hosts of both."""
    lines = [f"{NETWORK}.{number} {name}\n" for number, name in enumerate(names, 1)]
    (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(lines))


def make_keys(folder: Path) -> None:
    """A client's key, the hosts' keys, and an `ssh` that uses them and no file of the user's."""
    known = []
    for name in ("client", "host1", "host2"):
        do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
        kind, key = (folder / f"{name}.pub").read_text().split()[:2]
        if name != "client":
            known.append(f"{NETWORK}.{name[-1]} {kind} {key}\n")
    (folder / "known_hosts").write_text("".join(known))
    (folder / "ssh_config").write_text(SSH.format(folder=folder))
    wrapper = folder / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)


def on_host(namespace: str, folder: Path, shell: str) -> list[str]:
    """The command that runs a line of shell in a namespace, with the host's own name and mounts.

    The name has to mean the host's address: Horovod tells that to the others.
    """
    line = f"mount --bind {folder}/hosts /etc/hosts && hostname {namespace} && {shell}"
    return ["ip", "netns", "exec", namespace, "unshare", "--mount", "--uts", "sh", "-c", line]


@contextmanager
def sshd(namespace: str, number: int, folder: Path) -> Iterator[None]:
    """An sshd in a namespace, with a /run of its own; it answers when the block begins."""
    config, log = folder / f"sshd{number}.conf", folder / f"sshd{number}.log"
    address = f"{NETWORK}.{number}"
    config.write_text(SSHD.format(address=address, folder=folder, name=f"host{number}"))
    shell = (
        f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec {shutil.which('sshd')} "
        f"-D -f {config} -E {log}"
    )
    process = subprocess.Popen(on_host(namespace, folder, shell))
    try:
        for _ in range(100):
            listening = "Server listening" in (log.read_text() if log.is_file() else "")
            if listening or process.poll() is not None:
                break
            time.sleep(0.1)
        if not listening:
            raise SystemExit(f"two_hosts: sshd does not start; its log: {log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait()


def workers(namespace: str) -> set[str]:
    """The ranks (at their start) of the EdgeSR workers that run in a namespace."""
    found = set()
    for pid in pids_in(namespace):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            facts = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if words[1:3] == [b"-m", b"edgesr.training.worker"]:
                found |= {f[13:].decode() for f in facts if f.startswith(b"HOROVOD_RANK=")}
    return found


def compress(names: tuple[str, str], folder: Path) -> tuple[int, float, dict[str, set[str]]]:
    """Run it from the first host: exit code, seconds, and the ranks seen in each namespace."""
    recipe = folder / "two-hosts.toml"
    recipe.write_text(RECIPE)
    hosts = f"{NETWORK}.1:1,{NETWORK}.2:1"
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "EDGESR_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-m", "edgesr", "compress", recipe, "--teacher", "balanced",
             "--out", folder / "run", "--threads", 1, "--hosts", hosts]  # fmt: skip
    line = "exec " + shlex.join(map(str, words))
    begun = time.monotonic()
    seen: dict[str, set[str]] = {name: set() for name in names}
    process = subprocess.Popen(
        on_host(names[0], folder, line), env=environment, stdout=subprocess.DEVNULL
    )
    try:
        while process.poll() is None and time.monotonic() - begun < LIMIT_S:
            for name in names:
                seen[name] |= workers(name)
            time.sleep(0.5)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return process.returncode, time.monotonic() - begun, seen


def sent_bytes(namespace: str) -> int:
    """What a namespace has sent over its eth0."""
    facts = json.loads(do("ip", "-n", namespace, "-s", "-j", "link", "show", "eth0"))
    return int(facts[0]["stats64"]["tx"]["bytes"])


def verdict(code: int, seen: list[set[str]], sent: list[int], folder: Path) -> dict[str, Any]:
    """What was found, and in `failures` what should have been otherwise."""
    log = folder / "run" / "log.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    student = folder / "run" / "student.safetensors"
    # Each step sends every gradient (float32); training has more of them than the student.
    parameters = next((e["params"] for e in events if e["event"] == "measured"), 0)
    checks = {
        "exit code is 0": code == 0,
        "the student is there": student.is_file(),
        "rank 0 ran on the first host, rank 1 on the second": seen == [{"0"}, {"1"}],
        "each host sent more than all gradients": min(sent) > 4 * parameters * STEPS > 0,
        "no worker was lost": not any(e["event"] == "workers" for e in events),
        "the log has its end": bool(events) and events[-1]["event"] == "done",
    }
    return {
        "exit_code": code,
        "ranks_by_host": [sorted(ranks) for ranks in seen],
        "sent_bytes_by_host": sent,
        "gradient_bytes": 4 * parameters * STEPS,
        "steps": STEPS,
        "checks": checks,
        "failures": [name for name, held in checks.items() if not held],
    }


def installed(name: str) -> str | None:
    """The version of a package, None without it."""
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def record() -> dict[str, Any]:
    """Do it all; the record."""
    names = (f"edgesr-{os.getpid()}-1", f"edgesr-{os.getpid()}-2")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgesr-hosts-")))
        make_keys(folder)
        make_names(folder, names)
        stack.enter_context(namespaces(names))
        for number, name in enumerate(names, 1):
            stack.enter_context(sshd(name, number, folder))
        code, seconds, seen = compress(names, folder)
        sent = [sent_bytes(name) for name in names]
        found = verdict(code, [seen[name] for name in names], sent, folder)
        if found["failures"]:
            for path in sorted((folder / "run" / "workers").glob("*.log")):
                print(f"--- {path.name}\n{path.read_text()[-2000:]}", file=sys.stderr)
    packages = {name: installed(name) for name in ("edgesr", "torch", "horovod")}
    return {
        "what": "edgesr compress --hosts A:1,B:1, two network namespaces with an sshd each",
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds, 1),
        "note": "one machine, not idle: the seconds are no measure of speed",
        "versions": {"python": sys.version.split()[0], **packages},
        **found,
    }


def main() -> int:
    """Parse, do it, say how it went."""
    parser = argparse.ArgumentParser(description="edgesr compress --hosts on two namespaces.")
    parser.add_argument("--json", type=Path, help="write the record here")
    options = parser.parse_args()
    if missing := lacking():
        print(f"two_hosts: needs {', '.join(missing)}", file=sys.stderr)
        return 4
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(130))
    result = record()
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    for name, held in result["checks"].items():
        print(f"{'yes' if held else 'NO ':3}  {name}")
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
