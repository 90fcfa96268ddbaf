"""Rows in memory, or mapped into it: arrays that are cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.rows.base import PLAIN, Layout, Rows
from certnet.rows.block import Block
from certnet.rows.check import Door, weight_sum
from certnet.rows.sums import Part, Sums, total_of

__all__ = ["ArrayRows", "MemoryRows", "table_taken"]


@final
class MemoryRows(Rows):
    """Arrays of float64.

    Attributes
    ----------
    X : ndarray, shape (N, d)
        Contiguous row by row, as y.
    y : ndarray, shape (N, m)
    weights : ndarray, shape (N,), or None
    shares : ndarray, shape (N,)
        ``weights / weight_total``.
    """

    y: Float
    weights: Float | None

    def __init__(self, X: Float, y: Float, weights: Float | None, weight_total: float, layout: Layout) -> None:
        super().__init__(len(X), X.shape[1], y.shape[1], layout)
        self.X, self.y, self.weights = X, y, weights
        self.shares: Float = (np.ones(len(X)) if weights is None else weights) / weight_total

    @classmethod
    def of(cls, X: Float, y: Float, weights: Float | None = None, layout: Layout = PLAIN) -> Self:
        """From arrays of shapes (N, d), (N, m), (N,), not copied where they are contiguous float64.

        Raises
        ------
        InvalidInputError
            A number is NaN or infinite; weights are negative, or all zero.
        """
        X, y = np.ascontiguousarray(X, dtype=np.float64), np.ascontiguousarray(y, dtype=np.float64)
        weights = None if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
        unscaled = cls(X, y, weights, 1.0, layout)
        return cls(X, y, weights, weight_sum(unscaled.total(Door(layout.columns))), layout)

    def _chunk(self, bounds: tuple[int, int]) -> Block:
        a, b = bounds
        return Block(a, self.X[a:b], self.y[a:b], self.shares[a:b])

    def chunks(self) -> Iterator[Block]:
        return map(self._chunk, self.chunk_bounds)

    def total(self, part: Part) -> Sums:
        return total_of(self.chunk_bounds, self._chunk, part, self.rows_per_block, threads=_threads(self))

    def taken(self, indices: NDArray[np.intp]) -> MemoryRows | None:
        weights = None if self.weights is None else self.weights[indices]
        return table_taken(self.X[indices], self.y[indices], weights, self.layout)


@final
class ArrayRows(Rows):
    """Arrays of numbers of any kind, such as memory maps, of which a chunk at a time is made float64."""

    def __init__(
        self,
        X: NDArray[Any],
        y: NDArray[Any],
        weights: NDArray[Any] | None,
        weight_total: float,
        layout: Layout,
    ) -> None:
        super().__init__(len(X), X.shape[1], y.shape[1], layout)
        self._X, self._y, self._weights, self._weight_total = X, y, weights, weight_total

    @classmethod
    def of(cls, X: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None = None, layout: Layout = PLAIN) -> Self:
        """From arrays of shapes (N, d), (N, m), (N,), which are read once, to be checked, and kept as they are.

        Raises
        ------
        InvalidInputError
            A number is NaN or infinite; weights are negative, or all zero.
        """
        unscaled = cls(X, y, weights, 1.0, layout)
        return cls(X, y, weights, weight_sum(unscaled.total(Door(layout.columns))), layout)

    def _chunk(self, bounds: tuple[int, int]) -> Block:
        a, b = bounds
        weights = np.ones(b - a) if self._weights is None else np.asarray(self._weights[a:b], dtype=np.float64)
        X, y = (np.ascontiguousarray(array[a:b], dtype=np.float64) for array in (self._X, self._y))
        return Block(a, X, y, weights / self._weight_total)

    def chunks(self) -> Iterator[Block]:
        return map(self._chunk, self.chunk_bounds)

    def total(self, part: Part) -> Sums:
        return total_of(self.chunk_bounds, self._chunk, part, self.rows_per_block, threads=_threads(self))

    def taken(self, indices: NDArray[np.intp]) -> MemoryRows | None:
        weights = None if self._weights is None else self._weights[indices]
        return table_taken(self._X[indices], self._y[indices], weights, self.layout)


def table_taken(X: NDArray[Any], y: NDArray[Any], weights: NDArray[Any] | None, layout: Layout) -> MemoryRows | None:
    """A table in memory of rows that were taken out of another one; None where none of them counts."""
    return None if weights is not None and not weights.any() else MemoryRows.of(X, y, weights, layout)


def _threads(rows: Rows) -> int:
    """Threads beside the calling one; none where there is one chunk, or one thread is to work."""
    return rows.layout.n_jobs if rows.layout.n_jobs > 1 and rows.n_samples > rows.rows_per_chunk else 0
