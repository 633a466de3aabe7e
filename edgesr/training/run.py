"""A run folder: what a run was asked, what it has done, and where it writes."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgesr
from edgesr import atomic, config
from edgesr.errors import BadConfig, WouldOverwrite, WriteFailed
from edgesr.training.recipe import Recipe

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Request:
    """What the user asked, beside the recipe; kept so that a resume asks the same.

    `student` names a network to start from; None starts from the recipe's own, untrained.
    An empty `teacher` is training without one. `compile` runs the network through
    torch.compile. `verb` is the command that this is a run of. `processes` and `hosts` are
    those of Horovod. `threads` 0: to be found by each process.
    """

    teacher: str
    data: str
    max_drop: float | None = None
    device: str = "cpu"
    threads: int = 0
    student: str | None = None
    compile: bool = False
    verb: str = "compress"
    processes: int = 1
    hosts: str = ""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and its log."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def student(self) -> Path:
        """The result."""
        return self.path / "student.safetensors"

    def leg_checkpoint(self, leg: int) -> Path:
        """The student as it was at the end of that leg."""
        return self.checkpoints / f"leg-{leg}.safetensors"

    def check_free(self) -> None:
        """Raise `WouldOverwrite` if something is there already, `WriteFailed` if none can be."""
        parent = self.path.absolute()
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            what = "may not be written to" if parent.is_dir() else "is a file"
            raise WriteFailed(f"cannot write {self.path}: {parent} {what}; choose another --out")
        if self.path.exists() and any(self.path.iterdir()):
            resumable = (self.path / MANIFEST).is_file()
            how = f"continue it with --resume {self.path}, or " if resumable else ""
            raise WouldOverwrite(f"{self.path} exists; {how}choose another --out")

    def create(self, recipe: Recipe, request: Request, inputs: Mapping[str, Any]) -> None:
        """Make the folder with recipe.toml and manifest.json."""
        self.check_free()
        manifest = {
            "format": 1,
            "request": dataclasses.asdict(request),
            "inputs": dict(inputs),
            "seed": recipe.seed,
            "versions": versions(),
        }
        atomic.write_text(self.path / "recipe.toml", config.dumps(recipe))
        atomic.write_text(self.path / MANIFEST, json.dumps(manifest, indent=1))

    def reopen(self) -> tuple[Recipe, Request, dict[str, Any]]:
        """What an earlier run was asked, and the hashes of its inputs.

        Raises `BadConfig` for any other folder.
        """
        path = self.path / MANIFEST
        if not path.is_file():
            raise BadConfig(f"{self.path} is not a run folder: it has no {MANIFEST}")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            request, inputs = Request(**manifest["request"]), dict(manifest["inputs"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise BadConfig(f"{path} is damaged, or not that of a compression run") from e
        return config.load(Recipe, self.path / "recipe.toml"), request, inputs

    def log(self, event: Mapping[str, Any]) -> None:
        """Append one event to log.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), **event})
        try:
            with (self.path / "log.jsonl").open("ab+") as f:
                # A process that was killed may have left half a line.
                if f.tell() and (f.seek(-1, os.SEEK_END), f.read(1))[1] != b"\n":
                    line = "\n" + line
                f.write(line.encode() + b"\n")
        except OSError as e:
            raise WriteFailed(
                f"cannot write {self.path}/log.jsonl: {e.strerror}; --resume goes on from the "
                "last checkpoint"
            ) from e

    def log_lines(self) -> list[str]:
        """The lines of log.jsonl so far."""
        path = self.path / "log.jsonl"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

    def other_versions(self) -> list[str]:
        """What was of another version when the run began: `torch 2.13.0, now 2.14.1`."""
        before = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))["versions"]
        now = versions()
        return [f"{k} {v}, now {now.get(k)}" for k, v in before.items() if now.get(k) != v]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of this folder; raises `BadConfig` when one is in it.

        The lock goes with the process, however it ends.
        """
        try:
            file = (self.path / MANIFEST).open("r+")  # NFS locks only what may be written
        except OSError as e:
            raise WriteFailed(f"cannot write {self.path}: {e.strerror}") from e
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise BadConfig(
                    f"another process trains in {self.path}; wait for it, or choose another --out"
                ) from e
            yield

    def sweep(self) -> None:
        """Remove what a process that was killed while writing left in `checkpoints`."""
        for stale in self.checkpoints.glob(".*.tmp.*"):
            stale.unlink(missing_ok=True)

    def begun(self) -> bool:
        """Whether a process has trained here before."""
        return (self.path / "log.jsonl").is_file()

    def missed(self) -> str | None:
        """What a finished run missed ('' for nothing); None when it has not finished."""
        path = self.path / "report.json"
        if not path.is_file():
            return None
        return str(json.loads(path.read_text(encoding="utf-8"))["missed"])

    def appears_within(self, seconds: float) -> bool:
        """Wait until the run folder is there, made by another process."""
        until = time.monotonic() + seconds
        while not (self.path / MANIFEST).is_file():
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True


def data_manifest(paths: Sequence[Path]) -> str:
    """sha256 over the names and contents of the pictures, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def weights_hash(weights: Mapping[str, Any]) -> str:
    """sha256 over the names and bytes of the weights, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of what a run depends on."""
    import numpy
    import onnxruntime
    import torch

    return {
        "edgesr": edgesr.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
    }
