"""A training and a test part, with the scaling that connects them to raw units."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array, one_of
from certnet.data.scaling import Scaling

__all__ = ["Dataset"]

_UNITS = ("standardised", "raw")


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """One split of a named data set, checked once and never changed.

    Attributes
    ----------
    name : str
    X_train, X_test : ndarray of float64, shapes (N, d) and (n, d), read-only
    y_train, y_test : ndarray of float64, shapes (N,) and (n,), read-only
    feature_names : tuple of str, length d
    target_name : str
    scaling : Scaling
        From raw units to the units of the arrays; the identity where these are raw.
    units : {"standardised", "raw"}
        What the arrays are measured in.
    split : int
        Which of the ten splits, 0 to 9.
    source, licence, notes : str
        Where the data come from, on which terms, and what to mind.

    Raises
    ------
    InvalidInputError
        Shapes that do not fit together, an empty part, entries that are NaN or infinite, unknown units.
    """

    name: str
    X_train: Float = field(repr=False)
    y_train: Float = field(repr=False)
    X_test: Float = field(repr=False)
    y_test: Float = field(repr=False)
    feature_names: tuple[str, ...]
    target_name: str
    scaling: Scaling = field(repr=False)
    units: str
    split: int
    source: str = field(repr=False)
    licence: str = field(repr=False)
    notes: str = field(repr=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "feature_names", tuple(self.feature_names))
        for name, ndim in (("X_train", 2), ("y_train", 1), ("X_test", 2), ("y_test", 1)):
            array = finite_array(getattr(self, name), name, ndim=(ndim,))
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        d = len(self.feature_names)
        for part in ("train", "test"):
            _check_part(part, getattr(self, f"X_{part}"), getattr(self, f"y_{part}"), d)
        if self.scaling.n_inputs != d:
            raise InvalidInputError(f"the scaling has {self.scaling.n_inputs} inputs, there are {d} feature names")
        one_of(self.units, "units", _UNITS)
        if self.units == "raw" and not self.scaling.is_identity:
            raise InvalidInputError("units are raw, so the scaling must be the identity (Scaling.identity)")

    def __reduce__(self) -> tuple[Any, ...]:
        # rebuilt through the constructor, so that a copy from another process is read-only too
        return _rebuild, ({item.name: getattr(self, item.name) for item in fields(self)},)


def _check_part(part: str, X: Float, y: Float, d: int) -> None:
    if X.shape[1] != d or X.shape[0] == 0:
        raise InvalidInputError(f"X_{part} has shape {X.shape}: at least one row and {d} named columns are needed")
    if y.shape != X.shape[:1]:
        raise InvalidInputError(f"y_{part} has shape {y.shape}, X_{part} has {X.shape[0]} rows")


def _rebuild(values: dict[str, Any]) -> Dataset:
    return Dataset(**values)
