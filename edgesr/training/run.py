"""A run folder: what a run was asked, what it has done, and where it writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgesr
from edgesr import atomic, config
from edgesr.errors import BadConfig, WouldOverwrite, WriteFailed
from edgesr.training.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """What the user asked, beside the recipe; kept so that a resume asks the same."""

    teacher: str
    data: str
    max_drop: float | None = None
    device: str = "cpu"
    threads: int = 0


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
        """Raise `WouldOverwrite` if something is there already."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise WouldOverwrite(
                f"{self.path} exists; continue it with --resume {self.path}, "
                "or choose another --out"
            )

    def create(self, recipe: Recipe, request: Request, inputs: Mapping[str, Any]) -> None:
        """Make the folder with recipe.toml and manifest.json."""
        self.check_free()
        manifest = {
            "format": 1,
            "request": dataclasses.asdict(request),
            "inputs": dict(inputs),
            "seed": recipe.seed,
            "versions": _versions(),
        }
        atomic.write_text(self.path / "recipe.toml", config.dumps(recipe))
        atomic.write_text(self.path / "manifest.json", json.dumps(manifest, indent=1))

    def reopen(self) -> tuple[Recipe, Request, dict[str, Any]]:
        """What an earlier run was asked. Raises `BadConfig` for any other folder."""
        manifest_path = self.path / "manifest.json"
        if not manifest_path.is_file():
            raise BadConfig(f"{self.path} is not a run folder: it has no manifest.json")
        try:
            manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
            request = Request(**manifest["request"])
        except (ValueError, KeyError, TypeError) as e:
            raise BadConfig(f"{manifest_path} is damaged: {e}") from e
        return config.load(Recipe, self.path / "recipe.toml"), request, manifest

    def log(self, event: Mapping[str, Any]) -> None:
        """Append one event to log.jsonl."""
        line = json.dumps({"time": round(time.time(), 3), **event})
        try:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as f:
                f.write(line + "\n")
        except OSError as e:
            raise WriteFailed(
                f"cannot write {self.path}/log.jsonl: {e.strerror}; --resume goes on from the "
                "last checkpoint"
            ) from e


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


def _versions() -> dict[str, str]:
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
