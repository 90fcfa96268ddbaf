"""Data sets whose held-out rows are drawn anew for every trial, as in C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.data import Dataset, load_dataset
from certnet.study.kinds.splits import standardised
from certnet.study.spec import Part

__all__ = ["RedrawnSplit", "parts_of", "redrawn"]


class RedrawnSplit(Part):
    """A set that certnet knows by name, all its rows split at random by the seed ``split``."""

    name: str
    split: int
    acknowledge_ethics: bool
    test_fraction: float

    def load(self, folder: str | Path = ".") -> Dataset:
        """Its training part, to which it is standardised, and its test part."""
        # the ethical warning of an acknowledged set is let through: it stands in the row
        whole = load_dataset(self.name, standardise=False, acknowledge_ethics=self.acknowledge_ethics)
        return redrawn(whole, self.test_fraction, self.split)


def redrawn(data: Dataset, test_fraction: float, seed: int) -> Dataset:
    """All rows of a data set in raw units, split anew at random and standardised by the new training part.

    Raises
    ------
    InvalidInputError
        One of the two parts would be empty.
    """
    X, y = np.concatenate([data.X_train, data.X_test]), np.concatenate([data.y_train, data.y_test])
    test, train = parts_of(len(y), test_fraction, seed, data.name)
    return standardised(
        X,
        y,
        train,
        test,
        name=data.name,
        feature_names=data.feature_names,
        target_name=data.target_name,
        split=data.split,
        source=data.source,
        licence=data.licence,
        notes=data.notes,
    )


def parts_of(n: int, fraction: float, seed: int, name: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers of a held-out part and of the rest."""
    held_out = round(fraction * n)
    if not 1 <= held_out < n:
        raise InvalidInputError(f"{name} has {n} rows to split: a share of {fraction:g} leaves one part empty")
    order = np.random.default_rng(seed).permutation(n)
    return order[:held_out], order[held_out:]
