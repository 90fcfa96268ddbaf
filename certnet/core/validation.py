"""Arrays from outside, checked once at the door."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.frames import column_names, in_order, is_frame, plain_array
from certnet.core.spelling import did_you_mean

__all__ = [
    "Float",
    "as_inputs",
    "as_samples",
    "as_weights",
    "finite_array",
    "one_of",
    "positive_number",
    "whole_number",
]

Float = NDArray[np.float64]


def finite_array(value: ArrayLike, name: str, *, ndim: tuple[int, ...]) -> Float:
    """A float64 copy of ``value`` with a permitted number of dimensions and finite entries.

    Frames of numbers of any kind, tensors and sparse matrices of moderate size are welcome.

    Raises
    ------
    InvalidInputError
        Not numeric (strings, objects, complex), ragged, of another number of dimensions, NaN or infinite.
    """
    return _finite(plain_array(value, name), name, ndim)


def _finite(raw: NDArray[Any], name: str, ndim: tuple[int, ...]) -> Float:
    if raw.ndim not in ndim:
        wanted = " or ".join(str(n) for n in ndim)
        raise InvalidInputError(f"{name} has shape {raw.shape}: an array with {wanted} dimension(s) is needed")
    with np.errstate(over="ignore"):
        array = raw.astype(np.float64, order="C", copy=True)
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InvalidInputError(
            f"{name} has {int(bad.sum())} entries that are NaN or infinite, the first at {where}: "
            "remove or impute them first"
        )
    return array


def positive_number(value: float, name: str, *, zero: bool = False) -> float:
    """``value`` as a finite float that is positive (or zero, where ``zero`` allows it)."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{name} must be a number, got {str(value)[:40]}") from error
    if not np.isfinite(number) or number < 0 or (number == 0 and not zero):
        kind = "non-negative" if zero else "positive"
        raise InvalidInputError(f"{name} must be a finite {kind} number, got {value!r}")
    return number


def whole_number(value: int, name: str, *, least: int = 0, most: int | None = None) -> int:
    """``value`` as an int between ``least`` and ``most``."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InvalidInputError(f"{name} must be a whole number, got {value!r}") from error
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"between {least} and {most}"
        raise InvalidInputError(f"{name} must be {limits}, got {value!r}")
    return number


def one_of(value: str, name: str, known: Collection[str]) -> str:
    """``value``, where it is one of the known words.

    Raises
    ------
    InvalidInputError
        The message lists them, and names the one that may have been meant.
    """
    if value not in known:
        words = ", ".join(map(repr, known))
        raise InvalidInputError(f"{name} must be one of {words}, got {value!r}{did_you_mean(value, known)}")
    return value


def as_inputs(X: ArrayLike, n_inputs: int, names: Sequence[str] = ()) -> Float:
    """Samples as an (N, d) array; a frame of numbers is welcome, a single vector is not guessed at.

    Where the inputs have ``names`` and so have the columns of a frame, they are matched by name.

    Raises
    ------
    InvalidInputError
        Of another shape, not finite numbers, or a frame with other columns.
    """
    order = in_order(X, names) if names and is_frame(X) and column_names(X) else None
    array = _finite(plain_array(X, "X", order), "X", (1, 2))
    if array.ndim == 1:
        raise InvalidInputError(
            f"X has shape {array.shape}: samples are rows of a 2-dimensional array; "
            "use X.reshape(1, -1) for one sample or X.reshape(-1, 1) for one input"
        )
    if array.shape[1] != n_inputs:
        raise InvalidInputError(f"X has {array.shape[1]} columns, the network has {n_inputs} inputs")
    return array


def as_samples(
    X: ArrayLike, y: ArrayLike, n_inputs: int, n_outputs: int, names: Sequence[str] = ()
) -> tuple[Float, Float]:
    """Inputs (N, d) and targets (N, m), at least one sample; y of shape (N,) serves one output."""
    inputs = as_inputs(X, n_inputs, names)
    targets = finite_array(y, "y", ndim=(1, 2))
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.shape[0] != inputs.shape[0]:
        raise InvalidInputError(f"X has {inputs.shape[0]} samples and y has {targets.shape[0]}")
    if targets.shape[1] != n_outputs:
        raise InvalidInputError(f"y has {targets.shape[1]} columns, the network has {n_outputs} output(s)")
    if inputs.shape[0] == 0:
        raise InvalidInputError("X has no samples: at least one is needed")
    return inputs, targets


def as_weights(sample_weight: ArrayLike, n: int) -> Float:
    """Weights of n samples, (n,), as parts that sum to one.

    Raises
    ------
    InvalidInputError
        Of another shape, not finite numbers, negative, or all zero.
    """
    weights = finite_array(sample_weight, "sample_weight", ndim=(1,))
    if len(weights) != n:
        raise InvalidInputError(f"sample_weight has {len(weights)} entries, X has {n} samples: one for each is needed")
    if (weights < 0.0).any():
        where = int(np.argmax(weights < 0.0))
        raise InvalidInputError(f"sample_weight has negative entries, the first at {where}: weights are at least zero")
    if not weights.any():
        raise InvalidInputError("sample_weight is zero for every sample: at least one has to count")
    weights /= weights.max()  # so that no sum overflows
    return np.asarray(weights / weights.sum())
