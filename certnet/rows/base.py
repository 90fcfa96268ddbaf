"""Samples wherever they are: what is computed with them is a sum over their rows."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, whole_number
from certnet.rows.block import FAN, Block, rows_per_block
from certnet.rows.check import UNNAMED, Columns
from certnet.rows.sums import Part, Sums

if TYPE_CHECKING:
    from certnet.rows.memory import MemoryRows

__all__ = ["PLAIN", "Description", "Layout", "Rows"]


@dataclass(frozen=True, eq=False)
class Description:
    """Means and scales of a table, weighted by the shares of its rows.

    Attributes
    ----------
    mean, scale : ndarray, shape (d,)
        Of the inputs: ``Σ s_i x_ij``, and the root of ``Σ s_i (x_ij − mean_j)²``, which is exactly zero for a constant
        column; infinite where squares overflow.
    target_mean, target_scale : ndarray, shape (m,)
        Of the targets.
    digest : str
        SHA-256 over numbers of rows and columns, names, all values in the order of the rows, and two moments of the
        weights to eight digits: the same wherever the table is stored, and whichever processor computes it.
    """

    mean: Float
    scale: Float
    target_mean: Float
    target_scale: Float
    digest: str


@dataclass(frozen=True)
class Layout:
    """How a table is cut and worked on.

    Attributes
    ----------
    columns : Columns
        Names of inputs and targets.
    n_jobs : int
        Threads that compute blocks side by side.
    rows_in_block : int or None
        None for :func:`~certnet.rows.block.rows_per_block` of the number of columns. Sums of tables with blocks of
        different sizes differ in their last bits.
    """

    columns: Columns = UNNAMED
    n_jobs: int = 1
    rows_in_block: int | None = None


PLAIN: Final = Layout()
"""No names, one thread."""


class Rows(ABC):
    """A table of N samples: inputs (N, d), targets (N, m), shares (N,) of its rows in every mean.

    Attributes
    ----------
    n_samples, n_inputs, n_outputs : int
    layout : Layout
    rows_per_block : int
        Blocks begin at its multiples.
    """

    n_samples: int
    n_inputs: int
    n_outputs: int
    layout: Layout

    def __init__(self, n_samples: int, n_inputs: int, n_outputs: int, layout: Layout) -> None:
        self.n_samples, self.n_inputs, self.n_outputs, self.layout = n_samples, n_inputs, n_outputs, layout
        rows = layout.rows_in_block
        self.rows_per_block: int = rows_per_block(n_inputs + n_outputs) if rows is None else rows

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs; empty where they have none."""
        return self.layout.columns.inputs

    def __len__(self) -> int:
        return self.n_samples

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_samples} rows, {self.n_inputs} inputs, {self.n_outputs} outputs)"

    @property
    def rows_per_chunk(self) -> int:
        """Rows that are read, sent and computed at a time."""
        return FAN * self.rows_per_block

    @abstractmethod
    def chunks(self) -> Iterator[Block]:
        """The table from its first row on, ``rows_per_chunk`` at a time."""

    @abstractmethod
    def total(self, part: Part) -> Sums:
        """``Σ part(block)`` over all blocks, entry by entry.

        Terms are added in an order that the number of rows alone decides (:mod:`certnet.rows.sums`), each block on one
        thread: the same bits whatever the storage, the scheduler and the number of threads, on processors of one kind.

        Parameters
        ----------
        part : callable
            Of a :class:`~certnet.rows.block.Block`, a tuple of arrays and numbers whose shapes are those of any other
            block; it keeps nothing of the block. Picklable where the rows are on other machines.
        """

    @abstractmethod
    def taken(self, indices: NDArray[np.intp]) -> MemoryRows | None:
        """Rows of increasing numbers as a table in memory; None where all of them have weight zero."""

    @property
    def chunk_bounds(self) -> list[tuple[int, int]]:
        """First row of every chunk, and that after its last."""
        step = self.rows_per_chunk
        return [(a, min(a + step, self.n_samples)) for a in range(0, self.n_samples, step)]

    def blocks(self) -> Iterator[Block]:
        """All blocks, in the order of the rows."""
        for chunk in self.chunks():
            yield from chunk.pieces(self.rows_per_block)

    def sample(self, n: int, seed: int) -> Rows:
        """``n`` rows drawn at random without replacement, in memory; the table itself where it has no more.

        Which rows they are depends on ``seed`` and the number of rows alone. Where all of them have weight zero, more
        are drawn.
        """
        n = whole_number(n, "n", least=1)
        while n < self.n_samples:
            drawn = np.random.default_rng(seed).choice(self.n_samples, n, replace=False, shuffle=False)
            drawn.sort()
            table = self.taken(drawn)
            if table is not None:
                return table
            n *= 2
        return self

    def in_memory(self) -> MemoryRows:
        """The table in memory.

        Raises
        ------
        InvalidInputError
            All weights are zero now, though they were not at the door: the table has changed.
        """
        table = self.taken(np.arange(self.n_samples))
        if table is None:
            raise InvalidInputError("no row counts any more: the weights were changed while they were in use")
        return table

    def describe(self) -> Description:
        """Means, scales and digest, by one pass over the rows.

        Moments are about a row of the first block that is nearest to its mean, column by column: what cancels is then
        at most N over the rows of a block times the variance.
        """
        first = next(self.blocks())
        centres = _nearest_to_mean(first.X), _nearest_to_mean(first.y)
        with np.errstate(over="ignore", invalid="ignore"):
            *moments, place, square, values = self.total(_Moments(*centres, self.n_samples))
            mean, scale = _mean_and_scale(centres[0], *moments[:2])
            target_mean, target_scale = _mean_and_scale(centres[1], *moments[2:])
        head = f"{self.n_samples} {self.n_inputs} {self.n_outputs} {self.names} {place:.8e} {square:.8e}"
        sha = hashlib.sha256(head.encode())
        sha.update(values.astype("<u8").tobytes())
        return Description(mean, scale, target_mean, target_scale, sha.hexdigest())


@dataclass(frozen=True, eq=False)
class _Moments:
    """First and second moments about centres, those of the shares, and a sum of hashes of values and their places."""

    inputs: Float
    targets: Float
    n_samples: int

    def __call__(self, block: Block) -> Sums:
        s, rows = block.shares, np.arange(block.first + 1, block.first + 1 + len(block))
        sha = hashlib.sha256(str(block.first).encode())
        for array in (block.X, block.y):
            sha.update(array.astype("<f8", copy=False).tobytes())
        values = np.frombuffer(sha.digest(), dtype="<u8").astype(np.uint64)  # sums wrap around, exactly
        with np.errstate(over="ignore", invalid="ignore"):
            X, y = block.X - self.inputs, block.y - self.targets
            return s @ X, s @ (X * X), s @ y, s @ (y * y), float(s @ rows) / self.n_samples, float(s @ s), values


def _nearest_to_mean(array: Float) -> Float:
    with np.errstate(over="ignore", invalid="ignore"):
        distances = np.abs(array - array.mean(axis=0))
    found: Float = array[np.argmin(distances, axis=0), np.arange(array.shape[1])]
    return found


def _mean_and_scale(centre: Float, first: Float, second: Float) -> tuple[Float, Float]:
    """Of ``Σ s = 1``, ``first = Σ s (x − centre)``, ``second = Σ s (x − centre)²``."""
    return centre + first, np.sqrt(np.maximum(second - first * first, 0.0))
