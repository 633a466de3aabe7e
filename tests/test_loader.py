"""Batches are made ahead, in order, no further than the leg goes, and faults come through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch

from edgesr.training.data import Batch
from edgesr.training.loader import AHEAD, Loader


class Numbered:
    """The batch of a step holds the number of the step; `work` is done for each before."""

    def __init__(self, work: Callable[[int], None] = lambda step: None) -> None:
        self.work = work
        self.asked: list[int] = []

    def __getitem__(self, step: int) -> Batch:
        self.asked.append(step)
        self.work(step)
        value = torch.tensor(float(step))
        return Batch(value, value, None)


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("edgesr-crops")]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_order_and_none_is_made_past_the_last_step(workers: int) -> None:
    # The later of each pair is made sooner, so that several workers finish out of order.
    source = Numbered(lambda step: time.sleep(0.004 * (step % 2 == 0)))
    with Loader(source, 5, 15, workers=workers) as loader:
        got = [int(loader.next().lr) for _ in range(10)]
        with pytest.raises(IndexError):
            loader.next()
    assert got == list(range(5, 15))
    assert sorted(source.asked) == list(range(5, 15))
    assert not threads()


def test_no_more_than_a_few_are_kept_in_memory() -> None:
    made = threading.Event()
    source = Numbered(lambda step: made.set() if step == AHEAD - 1 else None)
    with Loader(source, 0, 1000) as loader:
        assert made.wait(10)
        time.sleep(0.02)  # room for one too many to be asked for
        assert source.asked == list(range(AHEAD))
        loader.next()
    assert len(source.asked) <= AHEAD + 1


def test_the_wait_is_what_a_slow_source_costs() -> None:
    with Loader(Numbered(lambda step: time.sleep(0.02)), 0, 10) as slow:
        begun = time.perf_counter()
        for _ in range(10):
            slow.next()
        took_s = time.perf_counter() - begun
    assert 0.17 < slow.waited_s <= took_s  # the first of ten may have begun before
    with Loader(Numbered(), 0, 10) as fast:
        for _ in range(10):
            time.sleep(0.02)  # the network's step
            fast.next()
    assert fast.waited_s < 0.5 * slow.waited_s


def test_an_error_of_the_source_reaches_the_step_that_needs_it_and_threads_end() -> None:
    def work(step: int) -> None:
        if step == 3:
            raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"), Loader(Numbered(work), 0, 9) as loader:
        for step in range(9):
            assert int(loader.next().lr) == step
    assert step == 3
    assert not threads()


def test_an_interrupted_loop_leaves_no_thread_and_starts_nothing_more() -> None:
    source = Numbered(lambda step: time.sleep(0.01))
    with pytest.raises(KeyboardInterrupt), Loader(source, 0, 1000):
        raise KeyboardInterrupt
    assert not threads()
    assert len(source.asked) <= 2
