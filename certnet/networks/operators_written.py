"""Operators as values that nobody else changes, and as JSON with arrays beside it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, finite_array
from certnet.networks.layers import Dense, LinearOperator, read_only
from certnet.networks.operators import Blocks, Convolution, Diagonal, Gather, Identity, Sparse

__all__ = ["owned", "read_operator", "written"]

_MAX_SIDE: Final = 1 << 26  # inputs or outputs of an operator that is read: a few bytes of a file can claim any number
_DEEPEST: Final = 4  # block matrices of block matrices


# ------------------------------------------------------------------------------------- arrays that nobody else changes


def owned(operator: LinearOperator) -> LinearOperator:
    """The operator with matrices and diagonals in double precision that are locked, copied where they were not.

    The others' constructors see to that themselves.

    Raises
    ------
    InvalidInputError
        A matrix or a diagonal of another number of dimensions, without entries, not numeric, NaN or infinite.
    """
    match operator:
        case Dense(matrix) if not _locked(matrix, 2):
            return Dense(read_only(_non_empty(finite_array(matrix, "the matrix of an operator", ndim=(2,)))))
        case Diagonal(values) if not _locked(values, 1):
            return Diagonal(read_only(_non_empty(finite_array(values, "the diagonal of an operator", ndim=(1,)))))
        case Blocks(grid):
            return Blocks(tuple(tuple(None if op is None else owned(op) for op in row) for row in grid))
    return operator


def _locked(array: Any, ndim: int) -> bool:
    known = isinstance(array, np.ndarray) and array.dtype == np.float64 and array.ndim == ndim and array.size > 0
    return known and not array.flags.writeable


def _non_empty(array: Float) -> Float:
    if not array.size:
        raise InvalidInputError(f"an operator of shape {array.shape} has no entries")
    return array


# ------------------------------------------------------------------------------------------------------- written down


def written(operator: LinearOperator, arrays: list[NDArray[Any]], depth: int = 0) -> list[Any]:
    """The operator as JSON holds it; its arrays are appended to ``arrays`` and named by their numbers.

    Raises
    ------
    InvalidInputError
        It is of another type than those of this module, or blocks are nested deeper than is read.
    """
    if depth > _DEEPEST:
        raise InvalidInputError(f"block matrices are nested deeper than {_DEEPEST}")

    def kept(array: NDArray[Any]) -> int:
        arrays.append(array)
        return len(arrays) - 1

    match operator:
        case Dense(matrix):
            return ["dense", kept(matrix)]
        case Identity(n):
            return ["identity", n]
        case Diagonal(values):
            return ["diagonal", kept(values)]
        case Gather(index, n):
            return ["gather", kept(index), n]
        case Sparse(rows, columns, values, m, n):
            return ["sparse", kept(values), kept(rows), kept(columns), m, n]
        case Convolution():
            how = [operator.image, operator.stride, operator.padding, operator.dilation, operator.groups]
            return ["convolution", kept(operator.kernel), *how]
        case Blocks(grid):
            return ["blocks", [[None if op is None else written(op, arrays, depth + 1) for op in row] for row in grid]]
    raise InvalidInputError(f"operators of the type {type(operator).__name__} cannot be written")


def read_operator(content: Any, arrays: MutableMapping[int, NDArray[Any]]) -> LinearOperator:
    """What :func:`written` made; the arrays that it takes are taken out, so that none is copied many times.

    Raises
    ------
    InvalidInputError
        It is something else, or has more inputs or outputs than any network of use.
    """
    try:
        operator = _read(content, arrays, 0)
        if max(operator.n_inputs, operator.n_outputs) > _MAX_SIDE:
            raise InvalidInputError(f"an operator of {operator.n_inputs} inputs and {operator.n_outputs} outputs")
        return operator
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"an operator cannot be read: {error}") from error


def _read(content: Any, arrays: MutableMapping[int, NDArray[Any]], depth: int) -> LinearOperator:
    kind, *rest = content
    if depth > _DEEPEST:
        raise InvalidInputError("block matrices of block matrices, too deep to be read")
    if kind == "identity":
        return Identity(_size(rest[0]))
    if kind == "blocks":
        grid = [[None if op is None else _read(op, arrays, depth + 1) for op in row] for row in rest[0]]
        return Blocks(tuple(map(tuple, grid)))
    array = np.array(arrays.pop(_size(rest[0], least=0)))
    if kind == "gather":
        if array.dtype != np.int64:
            raise InvalidInputError("the index of a gather holds whole numbers")
        return Gather(array, _size(rest[1]))
    array = finite_array(array, "an array of an operator", ndim=(1, 2, 4))
    if kind == "sparse":
        rows, columns = (np.array(arrays.pop(_size(k, least=0))) for k in rest[1:3])
        if rows.dtype != np.int64 or columns.dtype != np.int64:
            raise InvalidInputError("rows and columns of a sparse matrix are whole numbers")
        return Sparse(rows, columns, array, _size(rest[3]), _size(rest[4]))
    if kind == "dense" and array.ndim == 2 and array.size:
        return Dense(read_only(array))
    if kind == "diagonal" and array.ndim == 1 and array.size:
        return Diagonal(read_only(array))
    if kind == "convolution" and array.ndim == 4:
        image, stride, padding, dilation, groups = rest[1:]
        (top, bottom), (left, right) = padding
        pads = (_size(top, least=0), _size(bottom, least=0)), (_size(left, least=0), _size(right, least=0))
        c, high, wide = map(_size, image)
        down, across = map(_size, stride)
        apart = tuple(map(_size, dilation))
        return Convolution(array, (c, high, wide), (down, across), pads, (apart[0], apart[1]), _size(groups))
    raise InvalidInputError(f"an operator of the kind {str(kind)[:40]!r} and shape {array.shape} is not known")


def _size(value: Any, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 1 << 31:
        raise InvalidInputError(f"{str(value)[:40]} is no size")
    return value
