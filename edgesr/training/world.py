"""The processes that train together: one alone, or several under Horovod.

A run asks a `World` for its place and for the four things that need the others: the mean of
gradients, the mean of numbers, what rank 0 knows, and waiting. One process has a form of its
own, so nothing else asks whether there are several.

Only convolutions without BatchNorm train here. A BatchNorm would take its statistics from
each process's own crops and not from the whole batch: the gradients stay the mean over
processes, but a run in two processes would no longer follow one with twice the batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

HOW_TO_INSTALL = "make horovod (in a checkout of EdgeSR), or the steps of: edgesr doctor --horovod"


class Position(Protocol):
    """Where a run is: what every state of a run can say."""

    @property
    def leg(self) -> int:
        """Index of the leg."""

    @property
    def step(self) -> int:
        """Steps done in the leg."""


S = TypeVar("S", bound=Position)
T = TypeVar("T")

Event = dict[str, Any]


class World(Protocol):
    """Several processes that train one network, this one being `rank` of `size`.

    Every method but `run` is collective: all processes call it, in the same order. When one of
    them is lost, the call raises a RuntimeError in the others; leave it to `run`.
    """

    @property
    def rank(self) -> int:
        """0 to size − 1. Rank 0 alone writes files and speaks to the user."""

    @property
    def size(self) -> int:
        """How many processes there are now."""

    @property
    def local_rank(self) -> int:
        """This process's number on its machine, for choosing a GPU; it never changes."""

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place.

        Shapes, dtypes and order are the same in all. A NaN or infinity of one process reaches
        all of them, so that they agree on skipping a step.
        """

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over processes, key by key (the same keys everywhere), summed as float64."""

    def broadcast(self, thing: Any) -> Any:
        """Rank 0's `thing`, which can be pickled; the others' is ignored."""

    def barrier(self) -> None:
        """Return when all processes have come here."""

    def run(
        self,
        start: Callable[[S | None, Callable[[S], None]], T],
        state: S | None,
        on_change: Callable[[Event], None] | None = None,
    ) -> T:
        """Call `start(state, commit)`; when a worker is lost, again from the last committed state.

        `start` builds everything anew from the state (None: from nothing), `rank` and `size`,
        and calls `commit` in all processes at the same steps, say with each checkpoint. It must
        let RuntimeErrors of collective calls pass. `state` counts on rank 0 only. No collective
        call may stand before this one, for a worker that joins later begins with it.
        `on_change` gets, on rank 0 and before `start` is called again, an event of the form
        `{"event": "workers", "from": 2, "to": 1, "leg": 0, "step": 500}`.
        """


class Alone:
    """One process: every mean is its own value."""

    rank = 0
    size = 1
    local_rank = 0

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """A copy of `values`."""
        return dict(values)

    def broadcast(self, thing: Any) -> Any:
        """The thing itself."""
        return thing

    def barrier(self) -> None:
        """Nobody to wait for."""

    def run(
        self,
        start: Callable[[S | None, Callable[[S], None]], T],
        state: S | None,
        on_change: Callable[[Event], None] | None = None,
    ) -> T:
        """Call `start` once; there is nobody who could be lost."""
        return start(state, lambda committed: None)


def under_horovod() -> bool:
    """Whether horovodrun (ours or the user's) started this process."""
    return "HOROVOD_RANK" in os.environ and "HOROVOD_SIZE" in os.environ


def open_world(*, distributed: bool | None = None) -> World:
    """Horovod's world, or a process alone; None asks the environment whether horovodrun is there.

    Raises `Impossible` when it must be Horovod's and Horovod is not installed.
    """
    if not (under_horovod() if distributed is None else distributed):
        return Alone()
    from edgesr.training.horovod import HorovodWorld

    return HorovodWorld()
