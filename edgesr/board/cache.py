"""The engine cache: an engine beside the description of what it was built from and for."""

import hashlib
import json
import os
import re
from typing import Any, Dict

from edgesr.board.facts import read_text
from edgesr.board.failed import Failed


def sha256_of(path: str) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: str, data: bytes) -> None:
    """The whole file or none of it."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise Failed(f"cannot write {path}: {error.strerror}") from error


def stale(engine: str, key: Dict[str, Any]) -> str:
    """Why the engine must be built; an empty string when it is current."""
    sidecar = engine + ".json"
    if not os.path.isfile(engine) or not os.path.isfile(sidecar):
        return "not built yet"
    try:
        built = json.loads(read_text(sidecar))
        old = built["key"]
        for name in sorted(set(key) | set(old)):
            if old.get(name) != key.get(name):
                return f"{name} was {short(old.get(name))}, is {short(key.get(name))}"
        built["precision"], built["reason"]
        if built["plan_sha256"] != sha256_of(engine):
            return "the engine file is not the one that was built"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its description cannot be read"
    return ""


def described(engine: str) -> Dict[str, Any]:
    """The description beside an engine that is current."""
    built: Dict[str, Any] = json.loads(read_text(engine + ".json"))
    return built


def keep(engine: str, plan: bytes, built: Dict[str, Any]) -> None:
    """Write the plan as it is, so that trtexec loads it, and its description beside it."""
    write_atomically(engine, plan)
    built["plan_bytes"] = len(plan)
    built["plan_sha256"] = hashlib.sha256(plan).hexdigest()
    write_atomically(engine + ".json", json.dumps(built, indent=1, sort_keys=True).encode())


def short(value: object) -> str:
    """A digest by its first digits, anything else as it is."""
    text = "unknown" if value in (None, "") else str(value)
    return text[:12] if re.match("^[0-9a-f]{64}$", text) else text
