"""What the tests of `edgesr upscale` share: a network whose output is known, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from edgesr.atomic import write_bytes
from edgesr.cli.main import app
from edgesr.image import Picture, write

_RNG = np.random.default_rng(11)


class Nearest:
    """Repeats pixels four times; remembers what it was given."""

    name = "nearest"
    scale = 4
    halo = 2
    tile_shapes = ()

    def __init__(self) -> None:
        self.seen: list[NDArray[np.float32]] = []

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.seen.append(batch.copy())
        return batch.repeat(4, axis=2).repeat(4, axis=3)

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def repeat(pixels: NDArray, times: int = 4) -> NDArray:
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def noise(*shape: int, dtype: type = np.uint8) -> NDArray:
    return _RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def pictures(folder: Path, *names: str, side: int = 6) -> dict[str, NDArray]:
    """Small pictures of noise under those names; their pixels."""
    made = {name: noise(side, side, 3) for name in names}
    for name, pixels in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, Picture(pixels))
    return made


def write_nearest(folder: Path) -> Path:
    """A network that repeats pixels, as an ONNX file."""
    pytest.importorskip("onnx")
    from edgesr.graph.onnx import to_onnx
    from edgesr.graph.spec import Graph
    from edgesr.graph.spec import Nearest as NearestLayer

    path = folder / "nearest.onnx"
    write_bytes(path, to_onnx(Graph("nearest", (NearestLayer("up", ("input",), 4),)), {}))
    return path


def run(*args: object, stdin: bytes | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["upscale", *map(str, args)], input=stdin)
    return result.exit_code, result.stdout, result.stderr


def events(out: str) -> list[dict]:
    """The objects that `--json` printed."""
    return [json.loads(line) for line in out.splitlines()]


def all_below(folder: Path) -> set[str]:
    """The files in `folder` and its folders, by their paths from there."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
