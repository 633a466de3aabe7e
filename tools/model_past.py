"""The history that a model takes over from the bundled model that its run started from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesr import checkpoint
from edgesr.models import cards
from edgesr.models.cards import Source, TrainingRun
from edgesr.training.run import weights_hash
from tools.model_run import FinishedRun


@dataclass(frozen=True)
class Past:
    """Runs, data, credits and notes of what came before; all empty for a new network."""

    weights_hash: str | None = None
    training: tuple[TrainingRun, ...] = ()
    trained_on: tuple[Source, ...] = ()
    credits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def past_of(run: FinishedRun, box: Path) -> Past:
    """What the model in `box` that `run` started from says of itself, if one is that network."""
    start = run.inputs.get("student")
    for path in sorted(box.glob("*.json")) if start is not None else []:
        weights = path.with_suffix(".safetensors")
        if weights.is_file() and weights_hash(checkpoint.load(weights).weights) == start:
            card = cards.loads(path.read_text(encoding="utf-8"), path.name)
            kept = tuple(r for r in card.training if r.form == "fp32")
            notes = tuple(n if _told(n) else f"Of the model it began as: {n}" for n in card.notes)
            return Past(start, kept, card.trained_on, card.credits, notes)
    return Past()


def _told(note: str) -> bool:
    return note.startswith("Of the model it began as: ")
