"""Linear operators with structure: identities, diagonals, gathers, sparse matrices, convolutions, and block matrices.

Every one maps the rows of a batch, knows its adjoint, the operator of the sizes of its entries (for bounds on rounding
errors) and its non-zero entries. All are frozen values; shapes are checked at construction. How they are written down
tells :mod:`certnet.networks.operators_written`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.layers import Entries, LinearOperator, read_only

__all__ = ["Blocks", "Convolution", "Diagonal", "Gather", "Identity", "Sparse", "Structured"]

_MAX_MATRIX: Final = 1 << 28  # entries of an operator as a matrix, or pixels of a padded image
_BATCH_ENTRIES: Final = 1 << 24  # of a batch of images, padded, at a time


class Structured:
    """What all these operators share: the matrix follows from the entries."""

    @cached_property
    def matrix(self: LinearOperator) -> Float:
        m, n = self.n_outputs, self.n_inputs
        if m * n > _MAX_MATRIX:
            raise InvalidInputError(f"an operator of shape ({m}, {n}) is too large to be written out as a matrix")
        rows, columns, values = self.entries
        matrix = np.zeros((m, n))
        np.add.at(matrix, (rows, columns), values)
        return read_only(matrix)


@dataclass(frozen=True, eq=False)
class Identity(Structured):
    """``x ↦ x`` in R^n."""

    n: int

    @property
    def n_inputs(self) -> int:
        return self.n

    @property
    def n_outputs(self) -> int:
        return self.n

    @property
    def terms(self) -> int:
        return 1

    @property
    def absolute(self) -> Identity:
        return self

    @property
    def entries(self) -> Entries:
        n = np.arange(self.n)
        return n, n, np.ones(self.n)

    def __call__(self, x: Float) -> Float:
        return x

    def adjoint(self, y: Float) -> Float:
        return y


@dataclass(frozen=True, eq=False)
class Diagonal(Structured):
    """``x ↦ diag(values) x``."""

    values: Float

    @property
    def n_inputs(self) -> int:
        return len(self.values)

    @property
    def n_outputs(self) -> int:
        return len(self.values)

    @property
    def terms(self) -> int:
        return 1

    @property
    def absolute(self) -> Diagonal:
        return Diagonal(np.abs(self.values))

    @property
    def entries(self) -> Entries:
        n = np.arange(len(self.values))
        return n, n, self.values

    def __call__(self, x: Float) -> Float:
        return x * self.values

    def adjoint(self, y: Float) -> Float:
        return y * self.values


@dataclass(frozen=True, eq=False)
class Gather(Structured):
    """``y_i = x_index[i]``: a permutation, a selection, or copies; an index of −1 gives 0 (padding)."""

    index: NDArray[np.int64]
    n: int

    def __post_init__(self) -> None:
        index = np.array(self.index, dtype=np.int64)
        if index.ndim != 1 or not len(index) or index.min() < -1 or index.max() >= self.n:
            raise InvalidInputError(f"an index does not lie in -1 … {self.n - 1}")
        index.flags.writeable = False
        object.__setattr__(self, "index", index)

    @property
    def n_inputs(self) -> int:
        return self.n

    @property
    def n_outputs(self) -> int:
        return len(self.index)

    @cached_property
    def terms(self) -> int:
        return max(1, int(np.bincount(self.index[self.index >= 0], minlength=1).max()))

    @property
    def absolute(self) -> Gather:
        return self

    @property
    def entries(self) -> Entries:
        rows = np.flatnonzero(self.index >= 0)
        return rows, self.index[rows], np.ones(len(rows))

    def __call__(self, x: Float) -> Float:
        y = x[:, self.index]
        y[:, self.index < 0] = 0.0
        return y

    def adjoint(self, y: Float) -> Float:
        rows = np.flatnonzero(self.index >= 0)
        x = np.zeros((self.n, len(y)))
        if self.terms == 1:
            x[self.index[rows]] = y[:, rows].T
        else:
            np.add.at(x, self.index[rows], y[:, rows].T)
        return np.ascontiguousarray(x.T)


@dataclass(frozen=True, eq=False)
class Sparse(Structured):
    """A matrix with few entries: ``y_i = Σ_k values_k x_{columns_k}`` over the k with ``rows_k = i``.

    Attributes
    ----------
    rows, columns : ndarray of int64, shape (entries,)
        Every place once.
    values : ndarray, shape (entries,)
    n_outputs, n_inputs : int
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    values: Float
    n_outputs: int
    n_inputs: int

    def __post_init__(self) -> None:
        rows, columns = (np.array(index, dtype=np.int64) for index in (self.rows, self.columns))
        values = np.array(self.values, dtype=np.float64)
        if rows.ndim != 1 or not len(rows) or not rows.shape == columns.shape == values.shape:
            raise InvalidInputError("a sparse matrix needs equally many rows, columns and values, at least one")
        for index, size, what in ((rows, self.n_outputs, "rows"), (columns, self.n_inputs, "columns")):
            if index.min() < 0 or index.max() >= size:
                raise InvalidInputError(f"the {what} of a sparse matrix do not lie in 0 … {size - 1}")
        order = np.lexsort((columns, rows))
        rows, columns, values = rows[order], columns[order], values[order]
        if ((np.diff(rows) == 0) & (np.diff(columns) == 0)).any():
            raise InvalidInputError("a sparse matrix has two entries at one place")
        for name, array in (("rows", rows), ("columns", columns), ("values", read_only(values))):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @cached_property
    def terms(self) -> int:
        return int(max(np.bincount(self.rows).max(), np.bincount(self.columns).max()))

    @property
    def absolute(self) -> Sparse:
        return Sparse(self.rows, self.columns, np.abs(self.values), self.n_outputs, self.n_inputs)

    @property
    def entries(self) -> Entries:
        return self.rows, self.columns, self.values

    def __call__(self, x: Float) -> Float:
        return self._added(x, self.rows, self.columns, self.values, self.n_outputs)

    def adjoint(self, y: Float) -> Float:
        order = np.lexsort((self.rows, self.columns))
        return self._added(y, self.columns[order], self.rows[order], self.values[order], self.n_inputs)

    @staticmethod
    def _added(x: Float, rows: NDArray[np.int64], columns: NDArray[np.int64], values: Float, size: int) -> Float:
        """The products of every row one after another in memory, added up; rows are in order."""
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        y = np.zeros((len(x), size))
        step = max(1, _BATCH_ENTRIES // len(values))
        for k in range(0, len(x), step):
            y[k : k + step, rows[starts]] = np.add.reduceat(x[k : k + step, columns] * values, starts, axis=1)
        return y


@dataclass(frozen=True, eq=False)
class Convolution(Structured):
    """A two-dimensional convolution (cross-correlation) of flattened images, row-major (channels, height, width).

    Attributes
    ----------
    kernel : ndarray, shape (c_out, c_in / groups, kh, kw)
    image : (c_in, height, width)
    stride, dilation : (int, int)
    padding : ((top, bottom), (left, right))
        With zeros.
    groups : int
    """

    kernel: Float
    image: tuple[int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", read_only(np.array(self.kernel, dtype=np.float64)))
        if self.kernel.ndim != 4 or 0 in self.kernel.shape:
            raise InvalidInputError(f"a kernel of shape {self.kernel.shape}: (out, in, height, width) is needed")
        c, (k_out, k_in) = self.image[0], self.kernel.shape[:2]
        whole = [*self.image, *self.stride, *self.dilation, self.groups]
        if min(whole) < 1 or min(sum(self.padding, ())) < 0:
            raise InvalidInputError("sizes, strides and dilations of a convolution are at least 1, paddings at least 0")
        if c != k_in * self.groups or k_out % self.groups:
            raise InvalidInputError(
                f"a kernel of shape {self.kernel.shape} in {self.groups} groups does not take {c} channels"
            )
        if min(self.out_image) < 1:
            raise InvalidInputError(f"a kernel of shape {self.kernel.shape} does not fit an image {self.image}")
        if self._padded > _MAX_MATRIX:
            raise InvalidInputError(f"an image {self.image} with paddings {self.padding} is too large")

    @cached_property
    def out_image(self) -> tuple[int, int, int]:
        """(c_out, height, width) of the result."""
        sides = [
            (n + sum(pad) - dilation * (k - 1) - 1) // stride + 1
            for n, k, stride, pad, dilation in zip(
                self.image[1:], self.kernel.shape[2:], self.stride, self.padding, self.dilation
            )
        ]
        return self.kernel.shape[0], sides[0], sides[1]

    @property
    def _padded(self) -> int:
        """Numbers of an image with its padding."""
        return self.image[0] * math.prod(n + sum(pad) for n, pad in zip(self.image[1:], self.padding))

    @property
    def n_inputs(self) -> int:
        return math.prod(self.image)

    @property
    def n_outputs(self) -> int:
        return math.prod(self.out_image)

    @property
    def terms(self) -> int:
        return math.prod(self.kernel.shape[2:]) * max(self.kernel.shape[:2])

    @property
    def absolute(self) -> Convolution:
        return self._with(np.abs(self.kernel))

    def _with(self, kernel: Float) -> Convolution:
        return Convolution(kernel, self.image, self.stride, self.padding, self.dilation, self.groups)

    @cached_property
    def entries(self) -> Entries:
        if self.n_outputs * math.prod(self.kernel.shape[1:]) > _MAX_MATRIX:
            raise InvalidInputError(f"the entries of a convolution of an image {self.image} are too many to be listed")
        # numbers of the input's pixels, padded with -1, seen by every tap of the kernel
        c_out, high, wide = self.out_image
        pixels = np.pad(np.arange(self.n_inputs).reshape(self.image), ((0, 0), *self.padding), constant_values=-1)
        rows, columns, values = [], [], []
        out = np.arange(self.n_outputs).reshape(self.groups, c_out // self.groups, 1, high * wide)
        kernel = self.kernel.reshape(self.groups, c_out // self.groups, *self.kernel.shape[1:])
        for i, j in np.ndindex(self.kernel.shape[2:]):
            seen = pixels[self._view(i, j)].reshape(self.groups, 1, -1, high * wide)
            shape = np.broadcast_shapes(out.shape, seen.shape)
            full = np.broadcast_to(seen, shape)
            inside = full >= 0
            rows.append(np.broadcast_to(out, shape)[inside])
            columns.append(full[inside])
            values.append(np.broadcast_to(kernel[:, :, :, i, j, None], shape)[inside])
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)

    def _view(self, i: int, j: int) -> tuple[slice, slice, slice]:
        """What the tap (i, j) sees of a padded image."""
        _, high, wide = self.out_image
        top, left = i * self.dilation[0], j * self.dilation[1]
        down, right = self.stride
        return (
            slice(None),
            slice(top, top + down * (high - 1) + 1, down),
            slice(left, left + right * (wide - 1) + 1, right),
        )

    def _parts(self, x: Float, one: Callable[[Float], Float]) -> Float:
        """``one`` of some rows at a time: padded images and what a tap sees take memory."""
        size = max(1, _BATCH_ENTRIES // (self._padded + self.n_outputs))
        if len(x) <= size:
            return one(x)
        return np.concatenate([one(x[k : k + size]) for k in range(0, len(x), size)])

    def __call__(self, x: Float) -> Float:
        return self._parts(np.asarray(x), self._apply)

    def adjoint(self, y: Float) -> Float:
        return self._parts(np.asarray(y), self._pull)

    def _kernel(self, i: int, j: int) -> Float:
        taps = self.kernel[:, :, i, j]
        return taps.reshape(self.groups, -1, taps.shape[1])

    def _apply(self, x: Float) -> Float:
        c_out, high, wide = self.out_image
        padded = np.pad(x.reshape(-1, *self.image), ((0, 0), (0, 0), *self.padding))
        total = np.zeros((len(x), self.groups, c_out // self.groups, high * wide))
        for i, j in np.ndindex(self.kernel.shape[2:]):
            seen = padded[:, *self._view(i, j)].reshape(len(x), self.groups, -1, high * wide)
            total += self._kernel(i, j) @ seen
        return total.reshape(len(x), -1)

    def _pull(self, y: Float) -> Float:
        (c, high, wide), (c_out, h, w) = self.image, self.out_image
        (top, bottom), (left, right) = self.padding
        padded = np.zeros((len(y), c, high + top + bottom, wide + left + right))
        y = y.reshape(len(y), self.groups, c_out // self.groups, h * w)
        for i, j in np.ndindex(self.kernel.shape[2:]):
            pulled = np.swapaxes(self._kernel(i, j), 1, 2) @ y
            padded[:, *self._view(i, j)] += pulled.reshape(len(y), c, h, w)
        return np.ascontiguousarray(padded[:, :, top : top + high, left : left + wide]).reshape(len(y), -1)


@dataclass(frozen=True, eq=False)
class Blocks(Structured):
    """A block matrix of operators: ``y_i = Σ_j A_ij x_j`` for parts x_j of the input; None stands for zero.

    Attributes
    ----------
    grid : tuple of tuples of operators or None
        Every row and every column of it has an operator, of sizes that fit.
    """

    grid: tuple[tuple[LinearOperator | None, ...], ...]

    def __post_init__(self) -> None:
        grid = self.grid
        if not grid or len({len(row) for row in grid}) != 1:
            raise InvalidInputError("the rows of a block matrix have different lengths")
        outs = [{op.n_outputs for op in row if op is not None} for row in grid]
        ins = [{row[j].n_inputs for row in grid if row[j] is not None} for j in range(len(grid[0]))]  # type: ignore[union-attr]
        if any(len(sizes) != 1 for sizes in (*outs, *ins)):
            raise InvalidInputError("the operators of a block matrix do not fit together")
        object.__setattr__(self, "_outs", tuple(size for (size,) in outs))
        object.__setattr__(self, "_ins", tuple(size for (size,) in ins))

    _outs: tuple[int, ...] = ()
    _ins: tuple[int, ...] = ()

    @property
    def n_inputs(self) -> int:
        return sum(self._ins)

    @property
    def n_outputs(self) -> int:
        return sum(self._outs)

    @cached_property
    def terms(self) -> int:
        """Of a row or a column, at most."""
        rows = [sum(op.terms + 1 for op in row if op is not None) for row in self.grid]
        columns = [sum(op.terms + 1 for op in column if op is not None) for column in zip(*self.grid)]
        return max(*rows, *columns)

    @cached_property
    def absolute(self) -> Blocks:
        return Blocks(tuple(tuple(None if op is None else op.absolute for op in row) for row in self.grid))

    @cached_property
    def entries(self) -> Entries:
        down, right = _cuts(self._outs), _cuts(self._ins)
        found = [
            (op.entries[0] + down[i], op.entries[1] + right[j], op.entries[2])
            for i, row in enumerate(self.grid)
            for j, op in enumerate(row)
            if op is not None
        ]
        rows, columns, values = zip(*found)
        return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)

    def __call__(self, x: Float) -> Float:
        return _summed(self.grid, _split(x, self._ins), lambda op, part: op(part))

    def adjoint(self, y: Float) -> Float:
        return _summed(tuple(zip(*self.grid)), _split(y, self._outs), lambda op, part: op.adjoint(part))


def _summed(
    grid: Sequence[Sequence[LinearOperator | None]],
    parts: Sequence[Float],
    one: Callable[[LinearOperator, Float], Float],
) -> Float:
    sums = []
    for row in grid:
        terms = [one(op, part) for op, part in zip(row, parts) if op is not None]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        sums.append(total)
    return np.concatenate(sums, axis=1)


def _cuts(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *sizes])


def _split(x: Float, sizes: Sequence[int]) -> list[Float]:
    return [x[:, a:b] for a, b in itertools.pairwise(_cuts(sizes))]
