"""Consecutive rows of a table: what every sum over a table is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from certnet.core.validation import Float

__all__ = ["BLOCK", "FAN", "Block", "rows_per_block"]

BLOCK: Final = 1024
"""Rows of a block of a narrow table: the activations of a layer then stay in a processor's own cache."""

FAN: Final = 16
"""Blocks of a chunk, which is what is read, sent and computed at a time."""

_MOST_NUMBERS: Final = 1 << 22  # of a chunk: 32 MiB
_FEWEST_ROWS: Final = 16


@dataclass(frozen=True, eq=False)
class Block:
    """Rows ``first, …, first + n − 1`` of a table.

    Attributes
    ----------
    first : int
        Number of the first row, from 0.
    X : ndarray of float64, shape (n, d)
        Inputs, contiguous row by row, as y; neither is to be written to.
    y : ndarray of float64, shape (n, m)
        Targets.
    shares : ndarray of float64, shape (n,)
        ``w_i / Σ_k w_k`` over all rows of the table; 1/N without weights.
    """

    first: int
    X: Float
    y: Float
    shares: Float

    def __len__(self) -> int:
        return len(self.shares)

    def pieces(self, rows: int) -> Iterator[Block]:
        """Blocks of ``rows`` rows each, the last one of what remains."""
        for a in range(0, len(self), rows):
            b = a + rows
            yield Block(self.first + a, self.X[a:b], self.y[a:b], self.shares[a:b])


def rows_per_block(columns: int) -> int:
    """Rows of every block of a table with so many columns of inputs and targets: of nothing else they depend."""
    rows = BLOCK
    while rows > _FEWEST_ROWS and FAN * rows * columns > _MOST_NUMBERS:
        rows //= 2
    return rows
