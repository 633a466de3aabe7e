"""What starts, follows and ends a benchmark on the board: Python 3.6, standard library, no root.

Fed to the board's python3 like agent.py, followed by a request (one line of JSON) and, for
`start`, by the bytes of files. The benchmark itself is a process of its own that no connection
ends; it writes lines of JSON, which `follow` passes on from any of them. The last line of each
answer is the answer; lines that begin with a space are the benchmark's.

    CACHE/edgesr/bench-ID/state.json     its process
    CACHE/edgesr/bench-ID/records.jsonl  what it found so far
    CACHE/edgesr/bench-ID/log            what it said besides

CACHE is $XDG_CACHE_HOME, ~/.cache, or where that cannot be written the temporary folder.
"""

import contextlib
import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any, BinaryIO, Dict, List

PREFIX = "bench-"
RECORDS, STATE, LOG = "records.jsonl", "state.json", "log"
PROGRAM = "bench.pyz"
POLL_S = 0.5  # seldom, since each look costs the measured machine a little
BEAT_S = 5.0  # an empty line, by which a connection that is gone shows
KEPT_S = 86400.0  # how long what nobody fetched is kept
END_S = 5.0  # to end by itself when it is told to


class Refused(Exception):
    """One line that says what is wrong, for the user on the other machine."""


def cache() -> str:
    """The folder that runs are kept in; made where it can be."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    spare = os.path.join(tempfile.gettempdir(), f"edgesr-{os.getuid()}")
    for folder in (os.path.join(home, "edgesr"), spare):
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            continue
        # In a folder that all may write to, one of that name may be somebody else's.
        if os.access(folder, os.W_OK) and os.stat(folder).st_uid == os.getuid():
            return folder
    raise Refused(f"neither {home} nor {spare} can be written: free some space or set a home")


def run_folder(run: str) -> str:
    """Where a run keeps its files."""
    if not run.isalnum():
        raise Refused(f"'{run}' is no name of a run")
    return os.path.join(cache(), PREFIX + run)


def read_json(path: str) -> Dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def running(folder: str) -> bool:
    """Whether the run's process is there; a number used again by another program is not."""
    pid = read_json(os.path.join(folder, STATE)).get("pid")
    try:
        with open(f"/proc/{int(pid or 0)}/cmdline", "rb") as file:
            return os.path.join(folder, PROGRAM).encode() in file.read().split(b"\0")
    except OSError:
        return False


def finished(folder: str) -> bool:
    """Whether the run came to its end with a result."""
    try:
        with open(os.path.join(folder, RECORDS), "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 200))
            return b'{"kind": "end"' in file.read().splitlines()[-1]
    except (OSError, IndexError):
        return False


def remove(folder: str) -> None:
    """The run's folder, and the cache's if nothing else is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))


# ---------------------------------------------------------------- requests


def look(request: Dict[str, Any]) -> Dict[str, Any]:
    """The manifests of the bundles asked for, and what this board is.

    Without a name: that of the only bundle in `edgesr/` of the home folder.
    """
    names = list(request["bundles"]) or [only_bundle()]
    found = []
    for name in names:
        folder = os.path.abspath(os.path.expanduser(name))
        try:
            with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
                found.append({"folder": folder, "manifest": file.read()})
        except (OSError, UnicodeDecodeError):
            raise Refused(
                f"no bundle in {folder}; `edgesr export --host` puts one there, --bundle names it"
            ) from None
    version = platform.python_version()
    return {"bundles": found, "python": version, "machine": platform.machine()}


def only_bundle() -> str:
    """The one bundle that `edgesr export --host` left."""
    home = os.path.join(os.path.expanduser("~"), "edgesr")
    names: List[str] = sorted(os.listdir(home)) if os.path.isdir(home) else []
    found = [n for n in names if os.path.isfile(os.path.join(home, n, "manifest.json"))]
    if len(found) == 1:
        return os.path.join(home, found[0])
    if not found:
        raise Refused(f"no bundle in {home}; `edgesr export --host` puts one there")
    raise Refused("several bundles in {}: say --bundle ~/edgesr/NAME with one of {}".format(
        home, ", ".join(found)))  # fmt: skip


def start(request: Dict[str, Any], stream: BinaryIO) -> Dict[str, Any]:
    """Begin the run, or find it begun: by the same request, and not fetched yet."""
    folder = run_folder(request["run"])
    tidy(folder)
    if running(folder) or finished(folder):
        return {"begun": False, "folder": folder}
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    for name, size in request["files"]:
        with open(os.path.join(folder, os.path.basename(name)), "wb") as file:
            left = size
            while left:
                block = stream.read(min(left, 1 << 20))
                if not block:
                    raise Refused("the connection was cut while the program was sent")
                file.write(block)
                left -= len(block)
    program = os.path.join(folder, PROGRAM)
    open(os.path.join(folder, RECORDS), "wb").close()
    with open(os.path.join(folder, LOG), "wb") as log:
        child = subprocess.Popen(
            ["python3", program, folder],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder,
        )  # fmt: skip
    with open(os.path.join(folder, STATE), "w", encoding="utf-8") as state:
        json.dump({"pid": child.pid, "began": time.time()}, state)
    return {"begun": True, "folder": folder}


def tidy(mine: str) -> None:
    """Take away what nobody fetched for a day; refuse where another run would be disturbed."""
    base = os.path.dirname(mine)
    for name in sorted(os.listdir(base)):
        folder = os.path.join(base, name)
        if not name.startswith(PREFIX) or folder == mine:
            continue
        if running(folder):
            pid = read_json(os.path.join(folder, STATE))["pid"]
            raise Refused(
                f"another benchmark runs there and both would be wrong: wait, or end it there "
                f"with kill -- -{pid}"
            )
        if time.time() - os.stat(folder).st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def follow(request: Dict[str, Any], out: BinaryIO) -> Dict[str, Any]:
    """Pass on the run's lines from number `start` on until it has ended."""
    folder, skip = run_folder(request["run"]), int(request["start"])
    if not os.path.isdir(folder):
        raise Refused("the benchmark is not there any more: somebody removed its folder")
    rest, beat = b"", time.time()
    with open(os.path.join(folder, RECORDS), "rb") as file:
        while True:
            alive = running(folder)
            rest += file.read()
            *lines, rest = rest.split(b"\n")
            passed, skip = lines[skip:], max(0, skip - len(lines))
            if passed or time.time() - beat > BEAT_S:
                out.write(b"".join(b" " + line + b"\n" for line in passed) or b"\n")
                out.flush()
                beat = time.time()
            if not alive:
                return {"ended": True, "log": tail(os.path.join(folder, LOG))}
            time.sleep(POLL_S)


def tail(path: str) -> str:
    """The last line that says something; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    except OSError:
        return ""
    return lines[-1][:500] if lines else ""


def stop(request: Dict[str, Any]) -> Dict[str, Any]:
    """End the run if it goes on, with what it started, and take its folder away."""
    folder = run_folder(request["run"])
    was = running(folder)
    pid = int(read_json(os.path.join(folder, STATE)).get("pid") or 0)
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.time() + END_S
        if running(folder):
            os.killpg(pid, number)
        while running(folder) and time.time() < end:
            time.sleep(0.05)
    remove(folder)
    return {"stopped": was}


def answer(stream: BinaryIO, out: BinaryIO) -> Dict[str, Any]:
    """What the request on `stream` is answered with."""
    request = json.loads(stream.readline().decode("utf-8"))
    try:
        if request["do"] == "start":
            return start(request, stream)
        if request["do"] == "follow":
            return follow(request, out)
        return {"look": look, "stop": stop}[request["do"]](request)
    except Refused as error:
        return {"error": str(error)}
    except BrokenPipeError:
        sys.exit(0)  # nobody listens any more
    except OSError as error:
        space = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        words = "no space left: free some" if space else error.strerror
        return {"error": f"{error.filename or 'the board'}: {words}"}


if __name__ == "__main__":
    print(json.dumps(answer(sys.stdin.buffer, sys.stdout.buffer)), flush=True)
