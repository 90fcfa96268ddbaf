"""Products and sums of linear operators, made only where no matrix is multiplied by another.

``A B`` is made where A or B moves, drops or scales entries one by one (an identity, a gather, a diagonal), so no entry
of the product is a sum; ``A + B`` where no two entries meet at one place, or meet without rounding. Scalings are folded
into the numbers of the other operator, which rounds them as BatchNorm in a dense layer does; all else is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.networks.layers import Dense, LinearOperator, read_only
from certnet.networks.operators import Convolution, Diagonal, Gather, Identity, Sparse

__all__ = ["composed", "is_light", "summed"]

Index = NDArray[np.int64]


def is_light(operator: LinearOperator) -> bool:
    """Whether an operator is a list of few entries, and not a matrix or a convolution."""
    return isinstance(operator, Identity | Diagonal | Gather | Sparse)


def composed(A: LinearOperator, B: LinearOperator) -> LinearOperator | None:
    """``x ↦ A (B x)`` as one operator, or None where that is a product of two matrices."""
    if isinstance(A, Identity):
        return B
    if isinstance(B, Identity):
        return A
    if is_light(A) and is_light(B):
        return _light_product(A, B)
    match A, B:
        case Diagonal(s), Dense(M):
            return Dense(read_only(s[:, None] * M))
        case Dense(M), Diagonal(s):
            return Dense(read_only(M * s))
        case Gather(index), Dense(M) if len(index) <= len(M):
            return Dense(read_only(np.where(index[:, None] >= 0, M[index], 0.0)))
        case Dense(M), Gather():
            return _dense_of_gather(M, B)
        case Diagonal(s), Convolution():
            factors = _per_channel(s, B.out_image)
            return None if factors is None else _with_kernel(B, B.kernel * factors[:, None, None, None])
        case Convolution(), Diagonal(s):
            factors = _per_channel(s, A.image)
            return None if factors is None else _with_kernel(A, _scaled_inputs(A, factors))
        case Convolution(), Gather():
            return _of_channels(A, B) or _of_padded(A, B)
    return None


def summed(A: LinearOperator, B: LinearOperator) -> LinearOperator | None:
    """``x ↦ A x + B x`` as one operator, or None where a matrix or rounding is involved."""
    if not (is_light(A) and is_light(B)):
        return None
    parts = zip(A.entries, B.entries)
    rows, columns, values = (np.concatenate(pair) for pair in parts)
    return _simplest(rows, columns, values, A.n_outputs, A.n_inputs)


# --------------------------------------------------------------------------------------------------------- few entries


def _light_product(A: LinearOperator, B: LinearOperator) -> LinearOperator | None:
    """A B where each row of A, or each row of B, has one entry at most."""
    if _one_per_row(B):
        rows, columns, values = A.entries
        column, value = _by_row(B)
        known = column[columns] >= 0
        rows, columns = rows[known], columns[known]
        return _simplest(rows, column[columns], values[known] * value[columns], A.n_outputs, B.n_inputs)
    if _one_per_row(A):
        column, value = _by_row(A)
        rows, columns, values = B.entries
        order = np.argsort(rows, kind="stable")
        starts = np.searchsorted(rows[order], np.arange(B.n_outputs + 1))
        used = np.flatnonzero(column >= 0)
        lengths = np.diff(starts)[column[used]]
        # the entries of row column[i] of B, one after another, for every row i of A
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        taken = order[np.repeat(starts[column[used]], lengths) + within]
        out = np.repeat(used, lengths)
        return _simplest(out, columns[taken], value[out] * values[taken], A.n_outputs, B.n_inputs)
    return None


def _one_per_row(operator: LinearOperator) -> bool:
    if isinstance(operator, Sparse):
        return bool((np.diff(operator.rows) > 0).all())
    return True


def _by_row(operator: LinearOperator) -> tuple[Index, Float]:
    """Of every row of an operator with one entry a row at most: its column, −1 where there is none, and its value."""
    rows, columns, values = operator.entries
    column, value = np.full(operator.n_outputs, -1), np.zeros(operator.n_outputs)
    column[rows], value[rows] = columns, values
    return column, value


def _simplest(rows: Index, columns: Index, values: Float, m: int, n: int) -> LinearOperator | None:
    """The simplest operator with these entries; None where some at one place cannot be added without rounding."""
    order = np.lexsort((columns, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    while (same := (np.diff(rows) == 0) & (np.diff(columns) == 0)).any():
        first = np.flatnonzero(same)
        first = first[np.append(True, np.diff(first) > 1)]  # of three at one place, two are added first
        a, b = values[first], values[first + 1]
        total = a + b
        part = total - a
        if np.any((a - (total - part)) + (b - part)):  # what rounding lost, exactly
            return None
        values[first] = total
        left = np.ones(len(rows), dtype=bool)
        left[first + 1] = False
        rows, columns, values = rows[left], columns[left], values[left]
    kept = values != 0.0
    rows, columns, values = rows[kept], columns[kept], values[kept]
    if len(rows) and (np.diff(rows) == 0).any():
        return Sparse(rows, columns, values, m, n)
    if m == n and np.array_equal(rows, columns) and len(rows):
        if len(rows) == n and (values == 1.0).all():
            return Identity(n)
        diagonal = np.zeros(n)
        diagonal[rows] = values
        return Diagonal(read_only(diagonal))
    if (values == 1.0).all():
        index = np.full(m, -1)
        index[rows] = columns
        return Gather(index, n)
    return Sparse(rows, columns, values, m, n)


# ---------------------------------------------------------------------------------------- matrices and convolutions


def _dense_of_gather(M: Float, gather: Gather) -> Dense | None:
    """M with its columns moved, if no two of them meet and the zeros in between are no more than the matrix."""
    used = np.flatnonzero(gather.index >= 0)
    if gather.terms > 1 or gather.n > 2 * M.shape[1] or not len(used):
        return None
    moved = np.zeros((len(M), gather.n))
    moved[:, gather.index[used]] = M[:, used]
    return Dense(read_only(moved))


def _per_channel(s: Float, image: tuple[int, int, int]) -> Float | None:
    """One factor for each channel of an image, if all pixels of a channel have the same."""
    by_channel = s.reshape(image[0], -1)
    return by_channel[:, 0] if (by_channel == by_channel[:, :1]).all() else None


def _with_kernel(convolution: Convolution, kernel: Float) -> Convolution:
    how = convolution.image, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    return Convolution(kernel, *how)


def _scaled_inputs(convolution: Convolution, factors: Float) -> Float:
    """The kernel with a factor for every channel that it takes."""
    kernel, groups = convolution.kernel, convolution.groups
    by_group = kernel.reshape(groups, -1, *kernel.shape[1:])
    scaled = by_group * factors.reshape(groups, 1, -1, 1, 1)
    return np.asarray(scaled.reshape(kernel.shape))


def _of_channels(A: Convolution, gather: Gather) -> Convolution | None:
    """A behind a choice of whole channels: fewer channels, or in another order, each taken once at most."""
    c, high, wide = A.image
    pixels = high * wide
    if A.groups != 1 or gather.n % pixels or gather.terms > 1:
        return None
    planes = gather.index.reshape(c, pixels)
    first = planes[:, 0]
    ramp = np.where(first[:, None] >= 0, first[:, None] + np.arange(pixels), -1)
    if not np.array_equal(planes, ramp) or (first[first >= 0] % pixels).any() or (first < 0).all():
        return None
    source = gather.n // pixels
    if source > 2 * c:
        return None
    kernel = np.zeros((A.kernel.shape[0], source, *A.kernel.shape[2:]))
    kernel[:, first[first >= 0] // pixels] = A.kernel[:, first >= 0]
    return Convolution(kernel, (source, high, wide), A.stride, A.padding, A.dilation)


def _of_padded(A: Convolution, gather: Gather) -> Convolution | None:
    """A behind a padding of images with zeros: a larger padding of its own."""
    c = A.image[0]
    index: NDArray[Any] = gather.index.reshape(A.image)
    inside = np.asarray((index >= 0).any(axis=0))
    if not inside.any():
        return None
    tall, broad = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    (top, bottom), (left, right) = ((int(at[0]), int(at[-1]) + 1) for at in (tall, broad))
    high, wide = bottom - top, right - left
    if gather.n != c * high * wide:
        return None
    box = np.full(A.image, -1)
    box[:, top:bottom, left:right] = np.arange(gather.n).reshape(c, high, wide)
    if not np.array_equal(box, index):
        return None
    (t, b), (x, y) = A.padding
    padding = (t + top, b + A.image[1] - bottom), (x + left, y + A.image[2] - right)
    return Convolution(A.kernel, (c, high, wide), A.stride, padding, A.dilation, A.groups)
