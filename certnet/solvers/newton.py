r"""The linear system of an interior-point step: units coupled by the fit, by the common corner and by a few columns.

For the weights x = vec(U) and the multipliers v of the coupling rows,

    H x + Fᵀ v = r,        D v − F x + C t = g,        Cᵀ v = b,

with H one block per unit. The fit is a part of F (one row per sample and output, D = ½) where samples are few, and is
added to H where ``h (d+1)`` is smaller: then that matrix is factored whole, at its best the cost of one Cholesky
factorisation of order h (d+1) per step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import blas, lapack

from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.solvers.arrow import inverse_factors
from certnet.solvers.whitened import Whitened, WhitenedChunk

__all__ = ["NewtonSystem"]

_CHUNK = 4096  # samples at a time
_FEATURES = 20_000_000  # numbers of their features, at most


class NewtonSystem:
    """Factors once per step, solves for several right-hand sides.

    Parameters
    ----------
    data : Whitened
    n_rows : int
        Coupling rows of the penalty.
    n_columns : int
        Its columns t.
    dense : bool, optional
        Whether to form the whole matrix; None takes what costs fewer operations.
    """

    dense: bool
    h: int
    p: int

    def __init__(self, data: Whitened, n_rows: int, n_columns: int, dense: bool | None = None) -> None:
        n, p = data.X.shape
        m, h = data.directions.shape
        # operations of a factorisation of the whole matrix, and of one by units with samples as coupling rows
        order, samples = h * p, n * m
        whole = order**3 / 3 + order**2 * n_rows
        parts = order * (samples + n_rows) ** 2 * 1.2 + (samples + n_rows) ** 3 / 3
        if dense is None:
            dense = whole < parts
        operations = whole if dense else parts
        self.correctors = 1 if operations < 2e8 else 3 if operations < 2e9 else 5
        """How many right-hand sides more a factorisation of this cost is worth."""
        self.dense, self.h, self.p, self.first = dense, h, p, 0 if dense else samples
        width = self.first + n_rows
        self.rows: Float = np.zeros((h, p, width))
        """Fᵀ: ``rows[j, a]`` is the column of F of weight a of unit j; the penalty fills ``[..., first:]``."""
        self.careful = False
        """Whether solutions are refined, at twice the cost."""
        # the penalty's columns, and where samples are rows one for every output bias
        self._columns = np.zeros((width, n_columns + (0 if dense else m)))
        self._m, self._twice = m, 2.0 * np.sqrt(data.shares)
        self._gram = _gram(data) if dense else np.zeros((0, 0))
        if not dense:
            for chunk in data.chunks(_CHUNK):
                features = _features(data, chunk)
                for o in range(m):
                    here = slice(o * n + chunk.at.start, o * n + chunk.at.stop)
                    self.rows[:, :, here] = features * data.outputs[o][:, None, None]
                    self._columns[here, n_columns + o] = np.sqrt(chunk.shares)
        # of one factorisation: H, D and the factors of both, F turned into their frames
        nothing: Float = np.zeros((0, 0))
        self._H, self._D, self._L, self._Li, self._half = nothing, nothing, nothing, nothing, nothing
        self._inner, self._turned, self._last = nothing, nothing, nothing

    def factor(self, H: Float, D: Float, columns: Float) -> None:
        """Factor at blocks H (h, p, p), D of the penalty's rows (n_rows, n_rows) and their columns (n_rows, n_columns).

        Raises
        ------
        SolverError
            The matrix is not positive definite in floating point, even shifted.
        """
        self._H, self._D = H, D
        order, width, n_rows = self.h * self.p, self.rows.shape[2], len(D)
        # the Schur complement F (H + gram)⁻¹ Fᵀ + D of the rows, from a factor of H + gram or of every block of H
        if self.dense:
            self._L = _factored_whole(self._gram, H)
            flat = np.array(self.rows.reshape(order, width), order="F")  # a copy, for one column too
            self._half = blas.dtrsm(1.0, self._L, flat, lower=1, overwrite_b=1) if n_rows else flat
            inner = blas.dsyrk(1.0, self._half, trans=1, lower=1) if n_rows else np.zeros((0, 0), order="F")
        else:
            self._Li = inverse_factors(H)
            self._half = np.matmul(self._Li, self.rows).reshape(order, width)
            inner = blas.dsyrk(1.0, self._half.T, lower=1)
            inner[np.arange(self.first), np.arange(self.first)] += 0.5
        inner[self.first :, self.first :] += D
        self._inner = _cholesky(inner)
        # and Cᵀ (…)⁻¹ C of the columns
        self._columns[self.first :, : columns.shape[1]] = columns
        self._turned = _solved(self._inner, self._columns)
        last = np.linalg.inv(self._columns.T @ self._turned) if self._columns.shape[1] else np.zeros((0, 0))
        self._last = np.asarray(last)

    def solve(self, r: Float, g: Float, b: Float) -> tuple[Float, Float, Float, Float | None]:
        """x (h, p), v of the penalty's rows and t of its columns, for r (h, p), g (n_rows,) and b (n_columns,).

        Where the fit is among the rows, the change of the residuals (n, m) that balances the first equation to rounding
        comes fourth: the one that x gives may be less exact, where H is nearly singular.
        """
        full, target = np.zeros(self.rows.shape[2]), np.zeros(self._columns.shape[1])
        full[self.first :], target[: len(b)] = g, b
        x, v, t = self._once(r, full, target)
        for _ in range(2 if self.careful else 0):
            dx, dv, dt = self._once(*self._residuals(x, v, t, r, full, target))
            x, v, t = x + dx, v + dv, t + dt
        fit = None if self.dense else (v[: self.first].reshape(self._m, -1) / self._twice).T
        return x, v[self.first :], t[: len(b)], fit

    def _once(self, r: Float, g: Float, b: Float) -> tuple[Float, Float, Float]:
        """One solution, without refinement: forward through H, the rows and the columns, and back."""
        y = self._forward(r)
        full = self._half.T @ y + g
        v = _solved(self._inner, full)
        t = self._last @ (self._turned.T @ full - b)
        v = v - self._turned @ t
        return self._backward(y - self._half @ v), v, t

    def _residuals(self, x: Float, v: Float, t: Float, r: Float, g: Float, b: Float) -> tuple[Float, Float, Float]:
        """What the three equations of the system lack at (x, v, t)."""
        rows = self.rows.reshape(x.size, -1)
        first = r - np.matmul(self._H, x[:, :, None])[:, :, 0] - (rows @ v).reshape(x.shape)
        if self.dense:
            first -= blas.dsymv(1.0, self._gram, x.ravel(), lower=1).reshape(x.shape)
        second = g + rows.T @ x.ravel() - self._columns @ t
        second[self.first :] -= self._D @ v[self.first :]
        second[: self.first] -= 0.5 * v[: self.first]
        return first, second, b - self._columns.T @ v

    def _forward(self, r: Float) -> Float:
        if self.dense:
            return np.asarray(blas.dtrsv(self._L, r.ravel(), lower=1))
        return np.matmul(self._Li, r[:, :, None]).ravel()

    def _backward(self, y: Float) -> Float:
        if self.dense:
            return np.asarray(blas.dtrsv(self._L, y, lower=1, trans=1)).reshape(self.h, self.p)
        return np.matmul(self._Li.transpose(0, 2, 1), y.reshape(self.h, self.p, 1))[:, :, 0]


def _features(data: Whitened, chunk: WhitenedChunk) -> Float:
    """``√share D_ij x̃_i`` of some samples, as (h, p, samples); the bias of units without inequalities has none."""
    n_cone, h = data.n_cone, data.directions.shape[1]
    weighted = np.ascontiguousarray((chunk.X * np.sqrt(chunk.shares)[:, None]).T)
    out = np.empty((h, *weighted.shape))
    out[:n_cone] = np.ascontiguousarray(chunk.pattern.T)[:, None, :] * weighted
    out[n_cone:] = weighted
    out[n_cone:, -1] = 0.0
    return out


def _gram(data: Whitened) -> Float:
    """``2 Σ_i share_i A_iᵀ A_i`` about the mean (lower triangle, Fortran order), a few thousand samples at a time."""
    p, h = data.X.shape[1], data.directions.shape[1]
    gram = np.zeros((h * p, h * p), order="F")
    mean = np.zeros(h * p)
    for chunk in data.chunks(max(256, min(_CHUNK, _FEATURES // (h * p)))):
        A = _features(data, chunk).reshape(h * p, -1)
        gram = blas.dsyrk(2.0, A.T, beta=1.0, c=gram, trans=1, lower=1, overwrite_c=1)
        mean += A @ np.sqrt(chunk.shares)
    gram = blas.dsyr(-2.0, mean, lower=1, a=gram, overwrite_a=1)
    # between units of output directions V_:j and V_:k: times V_:jᵀ V_:k
    alike = np.repeat(data.outputs, p, axis=1)
    for j in range(h):  # a unit's columns at a time: no second matrix of this size
        gram[:, j * p : (j + 1) * p] *= alike.T @ alike[:, j * p : (j + 1) * p]
    return gram


def _factored_whole(gram: Float, H: Float) -> Float:
    """Cholesky factor of ``gram + blocks``, its diagonal raised by a trace of itself where rounding asks for it."""
    h, p = H.shape[:2]
    every = np.arange(h)
    shift = 0.0
    while shift < 1e-6:
        K = gram.copy(order="F")
        K.T.reshape(h, p, h, p)[every, :, every, :] += H
        if shift > 0.0:
            K[np.arange(h * p), np.arange(h * p)] *= 1.0 + shift
        L, failed = lapack.dpotrf(K, lower=1, overwrite_a=1, clean=0)
        if not failed:
            return np.asarray(L)
        shift = 100.0 * shift or 1e-14
    raise SolverError("the Newton matrix is not positive definite in floating point")


def _cholesky(matrix: Float) -> Float:
    if not len(matrix):
        return matrix
    shift = 0.0
    while shift < 1e-6:
        shifted = matrix.copy(order="F")
        if shift > 0.0:
            shifted[np.arange(len(matrix)), np.arange(len(matrix))] *= 1.0 + shift
        L, failed = lapack.dpotrf(shifted, lower=1, overwrite_a=1, clean=0)
        if not failed:
            return np.asarray(L)
        shift = 100.0 * shift or 1e-14
    raise SolverError("the coupling of the Newton matrix is not positive definite in floating point")


def _solved(L: Float, b: Float) -> Float:
    if not L.size or not b.size:
        return np.zeros_like(b)
    x: Any = lapack.dpotrs(L, b, lower=1)[0]
    return np.asarray(x)
