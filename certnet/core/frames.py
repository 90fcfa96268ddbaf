"""Frames, tensors, sparse matrices and objects as plain arrays: recognised by what they do, never imported."""

from __future__ import annotations

import decimal
import math
import numbers
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError

__all__ = ["column_names", "in_order", "is_frame", "plain_array"]

_MAX_DENSE: Final = 1 << 27
"""Most entries of a sparse matrix that is made dense: 1 GiB."""


def is_frame(value: object) -> bool:
    """A table with columns, of pandas, polars or Arrow?"""
    kind = type(value)
    pandas = hasattr(kind, "iloc") and hasattr(kind, "columns")
    polars = hasattr(kind, "to_series") and hasattr(kind, "get_column")
    arrow = hasattr(kind, "column_names") and hasattr(kind, "itercolumns")
    return pandas or polars or arrow


def column_names(frame: Any) -> tuple[str, ...]:
    """The names of a frame's columns; nothing where not all of them are text."""
    names = tuple(frame.column_names if hasattr(type(frame), "itercolumns") else frame.columns)
    return tuple(map(str, names)) if all(isinstance(name, str) for name in names) else ()


def in_order(frame: Any, names: Sequence[str]) -> list[int]:
    """Of every name the position of its column.

    Raises
    ------
    InvalidInputError
        A column is missing, not among the names, or there twice.
    """
    found = column_names(frame)
    inputs = _some(names)
    for name in names:
        if found.count(name) != 1:
            what = "no column" if name not in found else "two columns"
            raise InvalidInputError(f"X has {what} {name!r}: the network's inputs are {inputs}")
    extra = [name for name in found if name not in set(names)]
    if extra:
        raise InvalidInputError(
            f"X has the columns {_some(extra)}, which the network does not take: leave them out; it takes {inputs}"
        )
    places = {name: j for j, name in enumerate(found)}
    return [places[name] for name in names]


def plain_array(value: Any, name: str, order: Sequence[int] | None = None) -> NDArray[Any]:
    """``value`` as an array of real numbers (dtype of kind b, i, u or f), not yet copied.

    Parameters
    ----------
    value : array_like, frame, tensor or sparse matrix
    name : str
        For messages.
    order : sequence of int, optional
        Columns of a frame, in this order.

    Raises
    ------
    InvalidInputError
        Text, dates, objects, complex numbers, missing values; ragged; a large sparse matrix.
    """
    if is_frame(value):
        columns = range(len(value.columns)) if order is None else order
        if not len(columns):
            return np.empty((len(value), 0))
        return np.column_stack([_column(value, j) for j in columns])
    kind = type(value)
    if hasattr(kind, "toarray") and hasattr(kind, "nnz"):
        if math.prod(value.shape) > _MAX_DENSE:
            raise InvalidInputError(
                f"{name} is a sparse matrix of shape {value.shape}, too large to be made dense: give fewer rows"
            )
        value = value.toarray()
    elif hasattr(kind, "detach") and hasattr(kind, "is_sparse"):
        value = _of_tensor(value, name)
    # the first: np.ma takes a while to load, and whoever has such an array has it
    if hasattr(kind, "mask") and isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise InvalidInputError(f"{name} has masked entries: remove or impute them first")
    try:
        raw = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{name} is not a rectangular array: {error}") from error
    if raw.dtype.kind == "O" and raw.ndim and all(map(_is_number, raw.flat)):
        return raw.astype(np.float64)  # decimals, fractions, numbers of mixed kinds
    if raw.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name} has dtype {raw.dtype}: real numbers are needed; encode text or categories as numbers first"
        )
    return raw


def _of_tensor(value: Any, name: str) -> NDArray[Any]:
    tensor = value.detach().cpu()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        raise InvalidInputError(f"{name} is a complex tensor: real numbers are needed")
    # NumPy has no bfloat16
    return np.asarray(tensor.double() if tensor.is_floating_point() else tensor)


def _column(frame: Any, j: int) -> NDArray[Any]:
    """One column of a frame as an array of numbers."""
    kind = type(frame)
    if hasattr(kind, "iloc"):
        name, column = frame.columns[j], frame.iloc[:, j]
    elif hasattr(kind, "itercolumns"):
        name, column = frame.column_names[j], frame.column(j)
    else:
        name, column = frame.columns[j], frame.to_series(j)
    raw = np.asarray(column)
    if raw.dtype.kind in "biuf":
        return raw
    if raw.dtype.kind in "mM":
        raise InvalidInputError(
            f"column {name!r} holds dates or times: turn it into a number, such as days since a day that you choose"
        )
    for row, item in enumerate(raw):
        if _is_number(item):
            continue
        if _is_missing(item):
            raise InvalidInputError(f"column {name!r} has no value in row {row}: remove such rows or impute them first")
        if isinstance(item, str):
            raise InvalidInputError(
                f"column {name!r} is text ({item[:40]!r} in row {row}): encode it as numbers, leave it out, or use a "
                "scikit-learn pipeline that encodes it"
            )
        raise InvalidInputError(
            f"column {name!r} holds an object of type {type(item).__name__} in row {row}: real numbers are needed"
        )
    return raw.astype(np.float64)


def _is_number(item: object) -> bool:
    return isinstance(item, numbers.Real | decimal.Decimal | np.bool_)


def _is_missing(item: object) -> bool:
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
