"""Several processes under Horovod: ring all-reduce over Gloo or NCCL, elastic.

Sergeev and Del Balso, "Horovod: fast and easy distributed deep learning in TensorFlow"
(arXiv:1802.05799). Horovod is imported when a world is opened, not before.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from edgesr.errors import Impossible
from edgesr.training.worker import tell_launcher
from edgesr.training.world import HOW_TO_INSTALL, Event, S, T

_LOOPBACK = ("localhost", "127.")


def horovod_torch() -> Any:
    """The module `horovod.torch`; raises `Impossible` where it does not import."""
    try:
        import horovod.torch as hvd
    except (ImportError, OSError) as e:
        reason = " ".join(str(e).split())
        raise Impossible(
            f"training in several processes needs Horovod ({reason}): {HOW_TO_INSTALL}"
        ) from e
    return hvd


def check_host_name() -> None:
    """Raise `Impossible` when the other hosts could not reach this one.

    Horovod 0.28.1 tells them the address that this host's name has here, whatever the network
    interface it was given (gloo_context.cc, InitializeForProcessSet). It waits in vain where
    that is a loopback address, as in a fresh Debian's /etc/hosts, and crashes where it is none.
    """
    name = socket.gethostname()
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(name, None)}
    except OSError:
        found = set()
    if not found or all(address == "::1" or address.startswith("127.") for address in found):
        means = f"means {', '.join(sorted(found))}" if found else "has no address"
        raise Impossible(
            f"on host {name} its own name {means}, where Horovod takes the address for the other "
            f"hosts from: write its network address before {name} into /etc/hosts there"
        )


class HorovodWorld:
    """This process's place among those that horovodrun started; see `edgesr.training.world`."""

    def __init__(self) -> None:
        self._hvd = horovod_torch()
        # On one machine the launcher gives each worker a host name of its own, all loopback.
        here = os.environ.get("HOROVOD_HOSTNAME", "localhost").startswith(_LOOPBACK)
        if not here and os.environ.get("HOROVOD_CROSS_SIZE", "1") != "1":
            check_host_name()
        self._hvd.init()
        self._local_rank = int(self._hvd.rank() if here else self._hvd.local_rank())
        self._announce()

    @property
    def rank(self) -> int:
        """0 to size − 1; may become smaller when a worker is lost."""
        return int(self._hvd.rank())

    @property
    def size(self) -> int:
        """How many processes there are now."""
        return int(self._hvd.size())

    @property
    def local_rank(self) -> int:
        """This process's number on its machine, as it was at the start."""
        return self._local_rank

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place.

        One all-reduce for each dtype, over a flat copy: Horovod takes no channels-last tensors.
        """
        groups: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            groups.setdefault(tensor.dtype, []).append(tensor)
        with torch.no_grad():
            for dtype, group in groups.items():
                flat = torch.cat([t.detach().reshape(-1) for t in group])
                name = f"edgesr.average.{dtype}"
                self._hvd.allreduce_(flat, op=self._hvd.Average, name=name)
                at = 0
                for tensor in group:
                    tensor.copy_(flat[at : at + tensor.numel()].view(tensor.shape))
                    at += tensor.numel()

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over processes, key by key, in float64."""
        names = sorted(values)
        mine = torch.tensor([values[name] for name in names], dtype=torch.float64)
        if names:
            self._hvd.allreduce_(mine, op=self._hvd.Average, name="edgesr.mean")
        means = dict(zip(names, mine.tolist(), strict=True))
        return {name: means[name] for name in values}

    def broadcast(self, thing: Any) -> Any:
        """Rank 0's `thing`."""
        # With a name, for Horovod's own is the type's, which need not be the same everywhere.
        return self._hvd.broadcast_object(thing, root_rank=0, name="edgesr.broadcast")

    def barrier(self) -> None:
        """Return when all processes have come here."""
        self._hvd.barrier()

    def run(
        self,
        start: Callable[[S | None, Callable[[S], None]], T],
        state: S | None,
        on_change: Callable[[Event], None] | None = None,
    ) -> T:
        """Call `start(state, commit)`; see `World.run`.

        Elastic only when horovodrun is; otherwise a lost worker ends the others.
        """
        if os.environ.get("HOROVOD_ELASTIC") == "1":
            return run_elastic(self, start, state, on_change)
        result = start(self.broadcast(state), lambda committed: None)
        self.barrier()
        return result

    def _announce(self) -> None:
        # Horovod sets the new rank where Python's copy of the environment does not see it.
        os.environ["HOROVOD_RANK"] = str(self.rank)
        tell_launcher("rank", self.rank)


def run_elastic(
    world: HorovodWorld,
    start: Callable[[S | None, Callable[[S], None]], T],
    state: S | None,
    on_change: Callable[[Event], None] | None = None,
) -> T:
    """`World.run` through Horovod's elastic loop.

    A committed state is kept as bytes in every process, so it is a copy, on the CPU. When a
    collective call fails, those who are left find each other again, take rank 0's bytes, and
    call `start` anew. The run ends for all when rank 0 has ended: who is done waits, to take
    over should rank 0 be lost while it writes the report.
    """
    hvd = world._hvd
    kept = hvd.elastic.TorchState(saved=_packed(state))
    sizes: list[int] = []

    def commit(committed: S) -> None:
        kept.saved = _packed(committed)
        kept.commit()

    def attempt(kept: Any) -> T:
        now: S | None = _unpacked(kept.saved)
        world._announce()
        if sizes and world.rank == 0 and on_change is not None:
            on_change(_change(sizes[-1], world.size, now))
        sizes.append(world.size)
        result = start(now, commit)
        world.barrier()
        return result

    result: T = hvd.elastic.run(attempt)(kept)
    return result


def _change(before: int, after: int, state: S | None) -> Event:
    leg, step = (state.leg, state.step) if state is not None else (0, 0)
    return {"event": "workers", "from": before, "to": after, "leg": leg, "step": step}


def _packed(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpacked(data: bytes) -> Any:
    # Bytes of this run's own processes, never a file: any class may be in them.
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
