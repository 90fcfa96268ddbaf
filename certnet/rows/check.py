"""What every row must satisfy before any work: finite inputs and targets, weights that are not negative."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.rows.block import Block
from certnet.rows.sums import Sums

__all__ = ["UNNAMED", "Columns", "Door", "weight_sum"]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called; where a table has no names they are numbered.

    Attributes
    ----------
    inputs, targets : tuple of str
        One for each column, or empty.
    """

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()

    def input(self, j: int) -> str:
        return f"column {self.inputs[j]!r} of X" if self.inputs else f"column {j} of X"

    def target(self, j: int) -> str:
        return f"column {self.targets[j]!r} of y" if self.targets else f"column {j} of y"


UNNAMED: Final = Columns()


@dataclass(frozen=True)
class Door:
    """Refuses a block with a number that is NaN or infinite, or a negative weight; gives the sum of the weights.

    Attributes
    ----------
    columns : Columns
    places : tuple of (int, str)
        Of every part of the table, such as a file, its first row and its name, in order; where there are parts.
    """

    columns: Columns = UNNAMED
    places: tuple[tuple[int, str], ...] = ()

    def __call__(self, block: Block) -> Sums:
        """``(Σ w_i,)`` of a block whose ``shares`` are the weights themselves.

        Raises
        ------
        InvalidInputError
        """
        for array, name in ((block.X, self.columns.input), (block.y, self.columns.target)):
            bad = _first_bad(array)
            if bad is not None:
                i, j = bad
                raise InvalidInputError(
                    f"{name(j)} is NaN or infinite in row {self._place(block.first + i)}: remove or impute such rows "
                    "first"
                )
        weights = block.shares
        wrong = np.flatnonzero(~((weights >= 0.0) & np.isfinite(weights)))
        if len(wrong):
            i = int(wrong[0])
            raise InvalidInputError(
                f"sample_weight is {weights[i]:g} in row {self._place(block.first + i)}: weights are finite and at "
                "least zero"
            )
        return (float(np.sum(weights)),)

    def _place(self, row: int) -> str:
        """Of a file as people count, from 1; of arrays as their index."""
        if not self.places:
            return str(row)
        first, name = self.places[bisect_right(self.places, row, key=lambda place: place[0]) - 1]
        return f"{row - first + 1} of {name} (counted from 1)"


def weight_sum(total: Sums) -> float:
    """The sum of all weights, from the total of :class:`Door`.

    Raises
    ------
    InvalidInputError
        Zero, or too large for a number.
    """
    value = float(total[0])
    if not 0.0 < value < math.inf:
        raise InvalidInputError(
            f"the entries of sample_weight sum to {value:g}: a positive finite sum is needed; some row must count"
        )
    return value


def _first_bad(array: Float) -> tuple[int, int] | None:
    """Row and column of the first number that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(array)):  # faster than a look at every entry, which follows only where it overflows
            return None
    bad = np.argwhere(~np.isfinite(array))
    return (int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None
