"""Where the data folders are: in an installed package or in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal


def folder(name: Literal["devices", "export"]) -> Path:
    """The folder `name`: shipped inside the package, or beside it in a checkout."""
    package = Path(str(files("edgesr")))
    shipped = package / f"_{name}"
    return shipped if shipped.is_dir() else package.parent / name


def zoo() -> Path:
    """The folder of bundled models."""
    return Path(str(files("edgesr"))) / "models" / "zoo"


def samples() -> Path:
    """The folder of sample photographs."""
    return Path(str(files("edgesr"))) / "samples"


def presets() -> Path:
    """The folder of recipe presets (TOML)."""
    return Path(str(files("edgesr"))) / "training" / "presets"
