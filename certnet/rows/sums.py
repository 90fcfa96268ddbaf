"""Sums over blocks, added up in an order that the number of blocks alone decides.

Floating-point sums depend on their order. Here :data:`~certnet.rows.block.FAN` consecutive blocks are added from left
to right, then so many of these sums, and so on: a tree, the same for every storage and number of threads.
Whoever computes its lower nodes elsewhere hands them in one level higher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from threading import Lock
from typing import Any, Final, TypeVar, final

from threadpoolctl import ThreadpoolController

from certnet.rows.block import FAN, Block

__all__ = ["Part", "Sums", "TreeSum", "added", "in_order", "one_thread", "sum_of_chunk", "total_of"]

Sums = tuple[Any, ...]
"""Arrays and numbers, to be added entry by entry."""

Part = Callable[[Block], Sums]
"""What one block contributes; it is pickled where blocks are elsewhere."""

S = TypeVar("S")
T = TypeVar("T")


def added(parts: Iterable[Sums]) -> Sums:
    """The sum from left to right of at least one part; no part is written to."""
    remaining = iter(parts)
    total = next(remaining)
    for part in remaining:
        total = tuple(a + b for a, b in zip(total, part, strict=True))
    return total


def sum_of_chunk(part: Part, rows: int, chunk: Block) -> Sums:
    """The sum of ``part`` over the blocks of a chunk, of ``rows`` rows each."""
    return added(map(part, chunk.pieces(rows)))


@final
class TreeSum:
    """A sum of chunks that come in order: at most :data:`FAN` terms a node, the root is the total."""

    def __init__(self) -> None:
        self._levels: list[
            tuple[int, Sums]
        ] = []  # of every level, from the leaves up: terms of its last node, their sum

    def push(self, term: Sums) -> None:
        """The next leaf."""
        for level, (count, value) in enumerate(self._levels):
            if count == 0:
                self._levels[level] = 1, term
                return
            value = added((value, term))
            if count + 1 < FAN:
                self._levels[level] = count + 1, value
                return
            self._levels[level] = 0, ()
            term = value
        self._levels.append((1, term))

    @property
    def total(self) -> Sums:
        """The sum of at least one leaf."""
        open_nodes = [value for count, value in self._levels if count]
        total = open_nodes[0]
        for value in open_nodes[1:]:
            total = added((value, total))
        return total


def total_of(chunks: Iterable[S], read: Callable[[S], Block], part: Part, rows: int, *, threads: int = 0) -> Sums:
    """``Σ part(block)`` over the blocks of all chunks, in the order of the rows.

    Parameters
    ----------
    chunks : iterable
        What ``read`` makes chunks of :data:`FAN` blocks from; only the last may be shorter.
    read : callable
    part : callable
    rows : int
        Of a block.
    threads : int
        Beside the calling one, which computes itself where there are none.
    """
    tree = TreeSum()
    with one_thread():
        for term in in_order(partial(_sum_of, read, part, rows), chunks, threads):
            tree.push(term)
    return tree.total


def _sum_of(read: Callable[[S], Block], part: Part, rows: int, chunk: S) -> Sums:
    return sum_of_chunk(part, rows, read(chunk))


def in_order(call: Callable[[S], T], items: Iterable[S], threads: int) -> Iterator[T]:
    """``call(item)`` of all items, in their order; the next items are fetched while threads work on these.

    At most ``threads + 1`` items are held.
    """
    if not threads:
        yield from map(call, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="certnet-rows")
    running: deque[Future[T]] = deque()
    try:
        for item in items:
            running.append(pool.submit(call, item))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def one_thread() -> AbstractContextManager[object]:
    """No threads of linear algebra's own within it, for what they compute depends on how many they are."""
    return _LIMIT


@final
class _OneThread(AbstractContextManager[object]):
    """A limit for the whole process while any thread is within it; what was before is restored by the last to leave."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._limit: AbstractContextManager[object] = nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit = _controller().limit(limits=1)
                self._limit.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.__exit__(None, None, None)


_LIMIT: Final = _OneThread()  # the number of these threads is a state of the process: so is this


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
