"""The files of a bundle, sent once each: what the board has already stays where it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesr.bundle import manifest
from edgesr.errors import BadConfig, EdgeSRError
from edgesr.remote.ssh import Board, Cut, Say

_BLOCK = 1 << 18
_SPARE = 16 << 20  # bytes to leave free besides what is sent, for engines and logs


@dataclass(frozen=True)
class Sent:
    """What copying did; `board` is what the board says of itself, `folder` absolute there."""

    folder: str
    board: dict[str, str]
    sent_bytes: int
    kept_bytes: int  # were there already


def files_of(bundle: Path) -> dict[str, dict[str, Any]]:
    """Every file of the bundle with sha256 and bytes, the manifest too.

    Raises `BadConfig` when `bundle` is none, or was changed after its export.
    """
    about = manifest.read(bundle)
    changed = manifest.changed_files(bundle, about)
    if changed:
        raise BadConfig(f"{bundle} was changed after its export: {changed[0]}; export it again")
    found = {name: {"sha256": e.sha256, "bytes": e.bytes} for name, e in about.files.items()}
    data = (bundle / manifest.FILE).read_bytes()
    found[manifest.FILE] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return found


def copy(board: Board, bundle: Path, folder: str, say: Say) -> Sent:
    """Bring the bundle into `folder` of the board; a cut one goes on where it was cut.

    Raises `Cut` when it is cut, `EdgeSRError` when the board has no room or refuses.
    """
    files = files_of(bundle)
    seen = board.ask({"do": "look", "folder": folder, "files": files})
    missing = {about["sha256"]: n for n, about in files.items() if n not in seen["whole"]}
    offsets = {
        sha: min(seen["partial"].get(sha, 0), files[name]["bytes"]) for sha, name in missing.items()
    }
    due = sum(files[name]["bytes"] - offsets[sha] for sha, name in missing.items())
    # Placing a file copies it once more before the first copy goes.
    need = due + sum(files[name]["bytes"] for name in missing.values()) + _SPARE
    if seen["free_bytes"] < need:
        raise EdgeSRError(
            f"{board.host}: {need / 1e6:.0f} MB are needed in {seen['folder']} and "
            f"{seen['free_bytes'] / 1e6:.0f} MB are free; free some, or name another folder"
        )
    total = sum(about["bytes"] for about in files.values())
    if missing:
        say(f"sending {due / 1e6:.1f} MB of {total / 1e6:.1f} MB to {board.host}:{seen['folder']}")
        answer = board.ask(
            {"do": "take", "folder": folder}, _frames(bundle, files, missing, offsets)
        )
        if not answer["whole"]:
            raise Cut(f"the connection to {board.host} was cut while files were sent")
    else:
        say(f"{board.host}:{seen['folder']} has all {len(files)} files already")
    board.ask({"do": "place", "folder": folder, "files": files})
    return Sent(seen["folder"], seen["board"], due, total - due)


def _frames(
    bundle: Path,
    files: dict[str, dict[str, Any]],
    missing: dict[str, str],
    offsets: dict[str, int],
) -> Iterator[bytes]:
    """A line of JSON and the bytes, file by file."""
    for sha, name in missing.items():
        head = {"sha256": sha, "offset": offsets[sha], "bytes": files[name]["bytes"] - offsets[sha]}
        yield json.dumps(head).encode() + b"\n"
        with (bundle / name).open("rb") as file:
            file.seek(offsets[sha])
            while True:
                block = file.read(_BLOCK)
                if not block:
                    break
                yield block
    yield b"{}\n"
