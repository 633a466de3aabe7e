"""One board behind the user's own OpenSSH: its configuration, keys, jump hosts, known hosts.

One connection is opened and shared, so that a password or a touch of a key is asked for once.
Nothing about host keys is switched off. Time-outs are set only where the configuration has
none, so that a board which goes away is noticed.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from edgesr.errors import BadConfig, EdgeSRError, Impossible

AGENT = Path(__file__).with_name("agent.py")
# Reads the agent from standard input, and leaves what follows there for it.
_BOOT = "import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])).decode())"
_NO_COMMAND, _SSH_FAILED = 127, 255
_OPEN_S = 120.0  # for a password to be typed
_DEFAULTS = {"connecttimeout": ("none", "ConnectTimeout=20"),
             "serveraliveinterval": ("0", "ServerAliveInterval=15")}  # fmt: skip

Say = Callable[[str], None]


class Cut(EdgeSRError):
    """The connection went away; what was done there stays."""


class Unreachable(Cut):
    """No connection came about."""


class Board:
    """`host` as ssh knows it (`user@board`, or a name of its configuration).

    `config` stands in for the user's configuration file (ssh -F). Raises `BadConfig` for what
    is no host, `Impossible` without an OpenSSH client here.
    """

    def __init__(self, host: str, config: Path | None = None) -> None:
        if not host or host.startswith("-") or any(c.isspace() for c in host):
            raise BadConfig(f"'{host}' is no host: give user@board")
        if shutil.which("ssh") is None:
            raise Impossible("--host needs ssh: install an OpenSSH client")
        self.host = host
        self._base = ["ssh", *(["-F", str(config)] if config else [])]
        self._base += [word for option in self._settings() for word in ("-o", option)]
        self._folder = Path(tempfile.mkdtemp(prefix="edgesr-"))
        self._master: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        master, self._master = self._master, None
        if master is not None and master.poll() is None:
            master.terminate()
            master.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def connect(self) -> None:
        """Open the shared connection unless it is there.

        Raises `Unreachable`, or `EdgeSRError` when the board or ssh refuses.
        """
        if self._master is not None and self._master.poll() is None:
            return
        log = self._folder / "ssh.log"
        with log.open("wb") as errors:
            self._master = subprocess.Popen(
                # With the user's ControlPersist ssh would go to the background, and seem to end.
                [*self._base, "-M", "-N", "-S", self._socket, "-o", "ControlPersist=no",
                 "--", self.host],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        end = time.monotonic() + _OPEN_S
        while time.monotonic() < end:
            if self._master.poll() is not None:
                raise refusal(self.host, log.read_text("utf-8", "replace"))
            if self._shared():
                return
            time.sleep(0.05)
        self._master.terminate()
        raise Unreachable(f"{self.host}: no connection within {_OPEN_S:.0f} s")

    def ask(
        self,
        request: dict[str, Any],
        payload: Iterable[bytes] = (),
        say: Say | None = None,
        *,
        agent: Path = AGENT,
        hear: Callable[[bytes], None] | None = None,
    ) -> dict[str, Any]:
        """Run the agent there with `request`; its answer.

        `payload` follows the request; `say` gets the lines of its stderr as they come, `hear`
        those of its stdout that begin with a space. `agent` is the program to run. Raises
        `Cut` when the connection goes away, `Impossible` where there is no python3,
        `EdgeSRError` with the board's words for the rest.
        """
        self.connect()
        source = agent.read_bytes()
        line = json.dumps(request).encode() + b"\n"
        command = f"python3 -c {shlex.quote(_BOOT)} {len(source)}"
        heard: list[str] = []
        with subprocess.Popen(
            [*self._base, "-S", self._socket, "-o", "ControlMaster=no", "--", self.host, command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin and process.stdout and process.stderr
            threads = [
                threading.Thread(target=_feed, args=(process.stdin, [source, line], payload)),
                threading.Thread(target=_listen, args=(process.stderr, heard, say)),
            ]
            for thread in threads:
                thread.start()
            try:
                out = process.stdout.read() if hear is None else _hear(process.stdout, hear)
            except BaseException:  # Ctrl-C: the step goes on there, and is found again
                process.kill()
                raise
            finally:
                for thread in threads:
                    thread.join()
        return self._answer(process.returncode, out, heard)

    def _answer(self, code: int, out: bytes, heard: list[str]) -> dict[str, Any]:
        if code == _NO_COMMAND:
            raise Impossible(f"{self.host} has no python3: install it (apt-get install python3)")
        try:
            answer: dict[str, Any] = json.loads(out.decode("utf-8").splitlines()[-1])
        except (ValueError, IndexError):
            last = heard[-1] if heard else f"ssh ended with {code}"
            if code == _SSH_FAILED or code < 0:
                raise Cut(f"the connection to {self.host} was cut ({last})") from None
            raise EdgeSRError(f"{self.host}: {last}") from None
        if "error" in answer:
            raise EdgeSRError(f"{self.host}: {answer['error']}")
        return answer

    def _settings(self) -> list[str]:
        """What is added to the user's configuration."""
        done = subprocess.run(
            [*self._base, "-G", "--", self.host], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BadConfig(f"ssh does not take {self.host}: {_last(done.stderr)}")
        has = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
        added = [ours for key, (none, ours) in _DEFAULTS.items() if has.get(key, none) == none]
        if has.get("remotecommand", "none") != "none":
            added.append("RemoteCommand=none")  # ssh takes no other command beside it
        # Without a terminal a question would never be answered.
        return added if sys.stdin.isatty() else [*added, "BatchMode=yes"]

    @property
    def _socket(self) -> str:
        return str(self._folder / "s")

    def _shared(self) -> bool:
        check = [*self._base, "-S", self._socket, "-O", "check", "--", self.host]
        return subprocess.run(check, capture_output=True, check=False).returncode == 0


def refusal(host: str, log: str) -> EdgeSRError:
    """The error for what ssh said when no connection came about."""
    last = _last(log)
    if "HOST IDENTIFICATION HAS CHANGED" in log:
        return EdgeSRError(f"{host}: its host key has changed; ssh {host} says what to do")
    if "Host key verification failed" in log:
        return EdgeSRError(f"{host}: its host key is not known here; run ssh {host} once")
    if "Permission denied" in log or "Too many authentication failures" in log:
        return EdgeSRError(f"{host} refused the key: make 'ssh {host}' work first ({last})")
    if "Bad configuration option" in log or "Bad owner or permissions" in log:
        return BadConfig(f"ssh: {last}")
    return Unreachable(f"{host} is not reachable: {last}")


def _feed(stdin: IO[bytes], first: list[bytes], payload: Iterable[bytes]) -> None:
    """Write all of it; a closed pipe is for whoever waits for the answer to explain."""
    try:
        with stdin:
            for block in first:
                stdin.write(block)
            for block in payload:
                stdin.write(block)
    except OSError:
        pass


def _hear(stdout: IO[bytes], hear: Callable[[bytes], None]) -> bytes:
    """Pass on what begins with a space, whole lines only; the rest."""
    rest = b""
    for line in stdout:
        if line.startswith(b" ") and line.endswith(b"\n"):
            hear(line)
        else:
            rest += line
    return rest


def _listen(stderr: IO[bytes], heard: list[str], say: Say | None) -> None:
    """Keep the last lines, and pass them on."""
    for raw in stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        if line:
            heard[:] = [*heard[-20:], line]
            if say is not None:
                say(line)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "ssh says nothing"
