"""The events of a run as scalars for TensorBoard, where that is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesr.report.run_curves import TERMS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_S = 20  # how far behind the files may be
_NOT_SCALARS = ("event", "time", "leg", "step", "steps")


class Events:
    """Writes what log.jsonl gets to `folder` too; does nothing without the package `tensorboard`.

    `legs` are (name, steps) of every leg, so that steps are those of the whole run. `start` is
    the (leg, step) that a resumed run goes on from: what an earlier process wrote from there on
    is hidden. One process of a run, the first, makes this.
    """

    def __init__(
        self, folder: Path, legs: Sequence[tuple[str, int]], start: tuple[int, int] | None = None
    ) -> None:
        self._leg = {name: i for i, (name, _) in enumerate(legs)}
        self._end = {i: sum(steps for _, steps in legs[: i + 1]) for i in range(-1, len(legs))}
        self._writer: SummaryWriter | None = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if start is None else self._end[start[0] - 1] + start[1]
            self._writer = SummaryWriter(str(folder), purge_step=purge, flush_secs=FLUSH_S)

    @property
    def active(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def add(self, event: Mapping[str, Any]) -> None:
        """Write the numbers of one event of the log; an event without a step has none."""
        step = self._step(event)
        if self._writer is None or step is None:
            return
        for tag, value in _scalars(event):
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _step(self, event: Mapping[str, Any]) -> int | None:
        """The step of the whole run; a leg is measured at its end."""
        kind, leg = event.get("event"), event.get("leg")
        if kind in ("step", "validated") and isinstance(leg, int):
            return self._end[leg - 1] + int(event["step"])
        return self._end[self._leg[leg]] if kind == "measured" and leg in self._leg else None


def _scalars(event: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Losses under `loss/`, other figures of a step under `train/`, results under the event.

    Those while training and those after a leg differ in the pictures they are measured on.
    """
    for key, value in event.items():
        if key in _NOT_SCALARS or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        group = event["event"]
        if group == "step":
            group = "loss" if key in ("loss", *TERMS) else "train"
        yield f"{group}/{key}", value
