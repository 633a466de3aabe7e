"""Checkpoints of a run: atomic, and enough to go on bit for bit."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgesr.atomic import atomic_file
from edgesr.errors import BadModel, WriteFailed


@dataclass
class RunState:
    """Everything that changes while a run goes on.

    The sampler's position is `step`, since batches are a function of it; nothing else
    draws random numbers after the start. `masked` says that zeros are kept, `quant` is the
    quantisation as it stands (JSON, '' for none), `losses` holds what a loss
    trains along, `adversary` the discriminator and its optimiser. `seconds` were spent on the
    leg so far, `busy_s` of them training and `waited_s` of those waiting for data.
    """

    leg: int
    step: int
    graph_json: str
    masked: bool
    quant: str
    net: dict[str, Any]
    ema: dict[str, Any]
    optimizer: dict[str, Any]
    losses: dict[str, Any]
    adversary: dict[str, Any]
    seconds: float
    busy_s: float
    waited_s: float
    history: list[dict[str, Any]]


def save_state(state: RunState, folder: Path) -> Path:
    """Write `folder`/last.pt atomically. Raises `WriteFailed`, the old one untouched."""
    target = folder / "last.pt"
    try:
        with atomic_file(target) as partial:
            torch.save(vars(state), partial)
    except RuntimeError as e:
        # torch reports a full disk as a RuntimeError of its zip writer.
        raise WriteFailed(
            f"cannot write checkpoint {target} (is the disk full?); --resume goes on from "
            "the last one once there is room"
        ) from e
    return target


def load_state(folder: Path) -> RunState | None:
    """The last checkpoint, or None when there is none yet. Raises `BadModel` if damaged."""
    path = folder / "last.pt"
    if not path.is_file():
        return None
    try:
        return RunState(**torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as e:
        reason = str(e).splitlines()[0]
        raise BadModel(f"{path} is not a checkpoint of this version: {reason}") from e
