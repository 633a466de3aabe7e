"""A board on this machine: a real sshd on the loopback address, its own port, keys and home.

The user's ssh configuration, keys and known hosts are not read nor written: all of it is in
the folder of the test, through `ssh -F`.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

TOOLS = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
SERVER = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv {environment}
"""
CLIENT = """
Host board
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/client
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
Host stranger
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/stranger
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
Host unknown
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/client
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/nobody
  GlobalKnownHostsFile none
Host nobody
  HostName 127.0.0.1
  Port {dead}
Host behind
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/client
  IdentitiesOnly yes
  HostKeyAlias behind
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
  ProxyJump board
"""


class Loopback:
    """An sshd that runs until `stop`; `path` is the first folder of the board's PATH."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        for name in ("host", "client", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
                check=True,
            )  # fmt: skip
        self.port, dead = free_port(), free_port()
        self.config = folder / "ssh_config"
        here = {"folder": folder, "port": self.port, "user": getpass.getuser(), "dead": dead}
        self.config.write_text(CLIENT.format(**here))
        key = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\nbehind {key}\n")
        self.path = folder / "bin"
        self.path.mkdir()
        python = self.path / "python3"
        # The board's Python: this one, without what is installed for it.
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        python.chmod(0o755)
        self.set_environment(environment)

    def set_environment(self, environment: dict[str, str]) -> None:
        """What commands there see from the next connection on."""
        known = {"PATH": f"{self.path}:/usr/bin:/bin"} | environment
        pairs = " ".join(f'"{key}={value}"' for key, value in known.items())
        (self.folder / "sshd_config").write_text(
            SERVER.format(folder=self.folder, port=self.port, environment=pairs)
        )

    def start(self) -> None:
        """Listen; returns when it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where sshd puts its unprivileged half
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.sshd), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        """End it and its connections."""
        self.cut()
        self.process.terminate()
        self.process.wait()

    def cut(self) -> int:
        """Kill the processes that serve connections, as a pulled cable does; how many there were.

        What runs there in a session of its own goes on.
        """
        killed = 0
        for pid in children(self.process.pid):
            for inner in [*children(pid), pid]:
                if "sshd" in name_of(inner):
                    with suppress(ProcessLookupError):
                        os.kill(inner, signal.SIGKILL)
                        killed += 1
        return killed


def children(pid: int) -> list[int]:
    """The processes that `pid` started and that are still there."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def name_of(pid: int) -> str:
    """The program's name; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def lacking() -> str:
    """What this machine lacks to play a board; empty when nothing."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [f"{t} ({of})" for t, of in TOOLS.items() if shutil.which(t, path=path) is None]
    return f"no {', '.join(missing)}" if missing else ""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Loopback]:
    """A board without anything but Python; skips where there is no sshd."""
    reason = lacking()
    if reason:
        pytest.skip(reason)
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    board = Loopback(folder, {})
    board.start()
    try:
        yield board
    finally:
        board.stop()
