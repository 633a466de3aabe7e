"""What runs on the board during a deployment: Python 3.6, the standard library, no root.

It is fed to the board's python3 on its standard input, followed by a request (one line of
JSON) and, for `take`, by the bytes of files. It answers with one line of JSON. Files are kept
by their SHA-256 until all are there, so what a cut connection left is not sent again; steps
run on their own, so that a cut connection does not stop them.

    FOLDER/.edgesr/partial/SHA     a file of which some bytes are there
    FOLDER/.edgesr/objects/SHA     a whole file, its hash checked
    FOLDER/.edgesr/steps/NAME.*    a step: what it is (json), its stdout (out), its stderr (log)
"""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from typing import Any, BinaryIO, Dict, Iterator, Optional

KEPT = ".edgesr"
BLOCK = 1 << 20
POLL_S = 0.1
_SHA = re.compile("[0-9a-f]{64}")


class Refused(Exception):
    """One line that says what is wrong, for the user on the other machine."""


def inside(folder: str, *parts: str) -> str:
    """A path in the agent's own folder."""
    return os.path.join(folder, KEPT, *parts)


def checked_name(name: str) -> str:
    """`name`, unless it leads out of the folder."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or any(p in ("", ".", "..", KEPT) for p in parts):
        raise Refused(f"'{name}' is no name of a bundle's file")
    return name


def checked_sha(sha: str) -> str:
    """`sha`, unless it is something else, which would become a path."""
    if not _SHA.fullmatch(sha):
        raise Refused(f"'{sha[:80]}' is no SHA-256")
    return sha


def sha256_of(path: str) -> str:
    """Hex digest of a file; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def read_json(path: str) -> Dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: str, data: Dict[str, Any]) -> None:
    """The whole file or none of it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file)
    os.replace(temporary, path)


# ---------------------------------------------------------------- copying


def look(folder: str, request: Dict[str, Any]) -> Dict[str, Any]:
    """What this board is, what is here already, and how much is free."""
    if os.path.isdir(folder) and os.listdir(folder):
        ours = os.path.isdir(inside(folder)) or "manifest_sha256" in read_json(
            os.path.join(folder, "manifest.json")
        )
        if not ours:
            raise Refused(f"{folder} is there and is no bundle: name another folder")
    for part in ("objects", "partial", "steps"):
        os.makedirs(inside(folder, part), exist_ok=True)
    whole, partial = [], {}
    for name, about in request["files"].items():
        sha = checked_sha(about["sha256"])
        kept = (os.path.join(folder, checked_name(name)), inside(folder, "objects", sha))
        if any(os.path.isfile(p) and sha256_of(p) == sha for p in kept):
            whole.append(name)
        elif os.path.isfile(inside(folder, "partial", sha)):
            partial[sha] = os.path.getsize(inside(folder, "partial", sha))
    return {
        "folder": folder,
        "whole": whole,
        "partial": partial,
        "free_bytes": shutil.disk_usage(folder).free,
        "board": board(),
    }


def board(root: str = "/") -> Dict[str, str]:
    """What this machine says it is."""
    facts = {"python": platform.python_version(), "machine": platform.machine()}
    for name, path in (("model", "proc/device-tree/model"), ("l4t", "etc/nv_tegra_release")):
        try:
            with open(os.path.join(root, path), "rb") as file:
                facts[name] = file.read().decode("utf-8", "replace").strip("\0\n ").split("\n")[0]
        except OSError:
            facts[name] = ""
    return facts


def take(folder: str, request: Dict[str, Any], stream: BinaryIO) -> Dict[str, Any]:
    """Keep the bytes of files: frames of one JSON line (sha256, offset, bytes) and the bytes."""
    taken = 0
    while True:
        frame = json.loads(stream.readline().decode("utf-8") or '{"cut": true}')
        if "sha256" not in frame:
            return {"taken_bytes": taken, "whole": not frame.get("cut", False)}
        sha, part = checked_sha(frame["sha256"]), inside(folder, "partial", frame["sha256"])
        with open(part, "r+b" if os.path.exists(part) else "w+b") as file:
            file.truncate(frame["offset"])
            file.seek(frame["offset"])
            left = frame["bytes"]
            while left:
                block = stream.read(min(left, BLOCK))
                if not block:
                    return {"taken_bytes": taken, "whole": False}
                file.write(block)
                file.flush()  # a cut connection ends this process: what came must stay
                left -= len(block)
                taken += len(block)
            os.fsync(file.fileno())
        if sha256_of(part) != sha:
            os.remove(part)
            raise Refused("a file came damaged (its hash is another); try again")
        os.replace(part, inside(folder, "objects", sha))


def place(folder: str, request: Dict[str, Any]) -> Dict[str, Any]:
    """Put every file under its name, the manifest last; take away what an older bundle had."""
    files = request["files"]
    before = read_json(inside(folder, "placed.json"))
    for name in sorted(files, key=lambda n: (n == "manifest.json", n)):
        target, sha = os.path.join(folder, checked_name(name)), checked_sha(files[name]["sha256"])
        if os.path.isfile(target) and not os.path.islink(target) and sha256_of(target) == sha:
            continue
        if not os.path.isfile(inside(folder, "objects", sha)):
            raise Refused(f"{name} is not here; deploy the bundle again")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = f"{target}.{os.getpid()}.tmp"
        shutil.copyfile(inside(folder, "objects", sha), temporary)
        os.replace(temporary, target)
    for name in set(before) - set(files):
        path = os.path.join(folder, checked_name(name))
        if os.path.isfile(path):
            os.remove(path)
    write_json(inside(folder, "placed.json"), {name: files[name]["sha256"] for name in files})
    for part in ("objects", "partial"):
        for left in os.listdir(inside(folder, part)):
            os.remove(inside(folder, part, left))
    return {"placed": len(files)}


# ---------------------------------------------------------------- steps


def step(folder: str, request: Dict[str, Any]) -> Dict[str, Any]:
    """Run a command in the folder, or go on with the one that runs, or say what it did.

    `name`, `argv`; with `once` a step that ended well is not repeated while the manifest and
    the engines are what they were. Its stderr comes as it appears, also what came while nobody
    was connected.
    """
    name = checked_name(request["name"])
    state_path = inside(folder, "steps", name + ".json")
    state = read_json(state_path)
    same = state.get("key") == key_of(folder, request["argv"])
    if request.get("once") and same and state.get("code") == 0:
        return result(folder, name, state, repeated=False)
    child = None
    if not running(state) or state.get("argv") != request["argv"]:
        agent = inside(folder, "agent.py")
        with open(agent, "w", encoding="utf-8") as file:
            file.write(request["source"])
        for suffix in (".out", ".log"):
            open(inside(folder, "steps", name + suffix), "w").close()
        write_json(state_path, {"argv": request["argv"]})
        null = subprocess.DEVNULL
        child = subprocess.Popen(
            [sys.executable, agent, "--run", folder, name],
            stdin=null, stdout=null, stderr=null, start_new_session=True, cwd=folder,
        )  # fmt: skip
    return result(folder, name, follow(folder, name, child), repeated=True)


def key_of(folder: str, argv: Any) -> str:
    """What a step's result depends on: the manifest, the engines' descriptions, the command."""
    digest = hashlib.sha256(json.dumps(argv).encode())
    digest.update(sha256_of(os.path.join(folder, "manifest.json")).encode())
    engines = os.path.join(folder, "engines")
    for name in sorted(os.listdir(engines)) if os.path.isdir(engines) else ():
        if name.endswith(".json"):
            digest.update((name + sha256_of(os.path.join(engines, name))).encode())
    return digest.hexdigest()


def running(state: Dict[str, Any]) -> bool:
    """Whether the step's process is there; a number used again by another program is not."""
    if "code" in state or "pid" not in state:
        return False
    try:
        with open("/proc/{}/cmdline".format(int(state["pid"])), "rb") as file:
            return b"--run" in file.read().split(b"\0")
    except OSError:
        return False


def follow(folder: str, name: str, child: Optional[Any]) -> Dict[str, Any]:
    """Pass the step's stderr on until it has ended; its last state."""
    path = inside(folder, "steps", name + ".json")
    with open(inside(folder, "steps", name + ".log"), "rb") as log:
        while True:
            state = read_json(path)
            alive = running(state) if child is None else child.poll() is None
            sys.stderr.buffer.write(log.read())
            sys.stderr.buffer.flush()
            if not alive:
                state = read_json(path)
                sys.stderr.buffer.write(log.read())
                sys.stderr.buffer.flush()
                return state
            time.sleep(POLL_S)


def result(folder: str, name: str, state: Dict[str, Any], repeated: bool) -> Dict[str, Any]:
    """What the other machine is told of a step."""
    texts = {}
    for kind in ("out", "log"):
        with open(inside(folder, "steps", name + "." + kind), "rb") as file:
            texts[kind] = file.read().decode("utf-8", "replace")
    return dict(texts, code=state.get("code"), seconds=state.get("seconds"), repeated=repeated)


def run(folder: str, name: str) -> None:
    """The step itself, in a process of its own that no connection ends."""
    path, start = inside(folder, "steps", name + ".json"), time.time()
    state = dict(read_json(path), pid=os.getpid())
    write_json(path, state)
    base = inside(folder, "steps", name)
    with open(base + ".out", "wb") as out, open(base + ".log", "wb", buffering=0) as log:
        try:
            code = subprocess.call(
                state["argv"], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )
        except OSError as error:
            log.write(f"{state['argv'][0]}: {error.strerror}\n".encode())
            code = 127
    # What it built is in the key by now.
    ended = dict(state, code=code, seconds=round(time.time() - start, 2))
    write_json(path, dict(ended, key=key_of(folder, state["argv"])))


def answers(stream: BinaryIO) -> Iterator[Dict[str, Any]]:
    """What the request on `stream` is answered with."""
    request = json.loads(stream.readline().decode("utf-8"))
    folder = os.path.abspath(os.path.expanduser(request["folder"]))
    try:
        if request["do"] == "take":
            yield take(folder, request, stream)
        else:
            yield {"look": look, "place": place, "step": step}[request["do"]](folder, request)
    except Refused as error:
        yield {"error": str(error)}
    except OSError as error:
        space = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        words = "no space left: free some, or name another folder" if space else error.strerror
        yield {"error": f"{error.filename or folder}: {words}"}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], sys.argv[3])
    else:
        for answer in answers(sys.stdin.buffer):
            print(json.dumps(answer), flush=True)
