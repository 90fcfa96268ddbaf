"""Columns of categories as inputs: one of 0 and 1 for every category, named ``colour_red``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.spelling import did_you_mean
from certnet.core.validation import Float

__all__ = ["Categories", "categories_in"]

_MOST: Final = 100  # categories of a column; more are names of rows


@dataclass(frozen=True)
class Categories:
    """What is known of a column of categories.

    Attributes
    ----------
    column : str
    named : tuple of str
        The categories, in their order; empty where they are those of the file, sorted.
    """

    column: str
    named: tuple[str, ...] = ()

    def encoded(self, cells: Sequence[str], lines: Sequence[int], source: Path) -> tuple[Float, tuple[str, ...]]:
        """A column (N, categories) of 0 and 1 for every category, and their names.

        Parameters
        ----------
        cells : sequence of str
        lines : sequence of int
            Lines of the file, counted from 1, that the cells are on.
        source : Path

        Raises
        ------
        InvalidInputError
            A cell that is none of the categories; more categories than a column of categories has.
        """
        known = self.named or tuple(sorted(set(cells)))
        if len(known) > _MOST:
            raise InvalidInputError(
                f"{source}: column {self.column!r} has {len(known)} different values in {len(cells)} rows, more than "
                f"{_MOST}, so it is no column of categories: leave it out"
            )
        places = {name: k for k, name in enumerate(known)}
        for cell, line in zip(cells, lines):
            if cell not in places:
                raise InvalidInputError(
                    f"{source}, line {line}: column {self.column!r} holds {cell!r}, which is none of its categories "
                    f"({', '.join(known)}){did_you_mean(cell, known)}"
                )
        values = np.zeros((len(cells), len(known)))
        values[np.arange(len(cells)), [places[cell] for cell in cells]] = 1.0
        return values, tuple(f"{self.column}_{name}" for name in known)


def categories_in(said: Sequence[str], names: Sequence[str], source: Path) -> Mapping[int, Categories]:
    """By position the columns of categories of a table, from ``"colour"`` or ``"colour=red,green,blue"``.

    Raises
    ------
    InvalidInputError
        No such column, one that is named twice, or categories that are empty or stand twice.
    """
    found: dict[int, Categories] = {}
    for text in said:
        column, equal, listed = (text, "", "") if text in names else text.partition("=")
        if column not in names:
            raise InvalidInputError(
                f"{source} has no column {column!r}, which is to be one of categories: its columns are "
                f"{', '.join(names)}{did_you_mean(column, names)}"
            )
        named = tuple(one.strip() for one in listed.split(",")) if equal else ()
        if "" in named or len(set(named)) < len(named):
            raise InvalidInputError(f"categorical {text!r}: COLUMN=A,B,… is needed, every category once")
        j = names.index(column)
        if j in found:
            raise InvalidInputError(f"categorical names the column {column!r} twice")
        found[j] = Categories(column, named)
    return found
