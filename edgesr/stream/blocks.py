"""Rows in even blocks, worked on by threads, with a bounded number of bytes on the way."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Made = TypeVar("Made")

# A block is compressed without what came before it, which costs less than 1 % from here up.
BLOCK_BYTES = 1 << 19
# So much may wait: the processors go on compressing while the network computes the next strip.
PENDING_BYTES = 32 << 20
_MOST_THREADS = 8


def threads() -> int:
    """How many blocks are worked on at once."""
    return min(len(os.sched_getaffinity(0)), _MOST_THREADS)


def rows_of_block(row_bytes: int) -> int:
    """How many rows of that many bytes make a block; at least one."""
    return max(1, BLOCK_BYTES // row_bytes)


def in_blocks(strips: Iterable[NDArray[Any]], rows: int, values: int) -> Iterator[NDArray[Any]]:
    """Blocks of `rows` rows (the last may have fewer), each with the row above it on top.

    `strips` are arrays whose first axis is rows, of `values` numbers each; a block is
    (1 + its rows, `values`) of their dtype and owns its memory, so that a strip can go when the
    next one is asked for. Above the first row are zeros.
    """
    block: NDArray[Any] | None = None
    filled = 1
    for strip in strips:
        flat = part = strip.reshape(len(strip), values)
        del strip
        while len(flat):
            if block is None:
                block = np.zeros((1 + rows, values), flat.dtype)
            part = flat[: 1 + rows - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            flat = flat[len(part) :]
            if filled == 1 + rows:
                above = block[-1].copy()
                yield block
                block = np.empty_like(block)
                block[0], filled = above, 1
        del flat, part  # views of a strip that can go now
    if block is not None and filled > 1:
        yield block[:filled]


def in_order(
    work: Callable[[NDArray[Any]], Made], blocks: Iterable[NDArray[Any]]
) -> Iterator[Made]:
    """`work(block)` of each block in their order, computed by threads meanwhile.

    `blocks` is advanced in the caller's thread. What waits is bounded by `PENDING_BYTES`, or by
    two blocks a thread where those are larger.
    """
    count = threads()
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="deflate") as pool:
        try:
            for block in blocks:
                most = max(2 * count, PENDING_BYTES // block.nbytes)
                waiting.append(pool.submit(work, block))
                del block
                while waiting and (len(waiting) > most or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
