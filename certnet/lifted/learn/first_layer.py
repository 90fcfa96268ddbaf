r"""The first layer of a network that learns: the only one whose matrix is large, and what a batch needs of it.

A batch asks for ``[X; c_0] W_0ᵀ`` and ``W_0 W_0ᵀ``, and moves both by the rows ``V = [X; c_0; A W_0]``, A being its
activations:

    W_0 ← W_0 − rate leftᵀ V,   c_0 ← c_0 − rate weightsᵀ V                 (β_0 = 0: ``leftᵀ X`` alone)

:class:`Explicit` does so on the matrix itself. :class:`Spanned` does it for the next few batches in the span of W_0,
c_0 and their inputs (:mod:`certnet.kernels.span`), and writes W_0 and c_0 at the end: at 784-64 and batches of 10 that
is half of the arithmetic, and most of it in two large products for eight batches.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from scipy.linalg.blas import dgemm

from certnet.core.validation import Float
from certnet.kernels.span import span_posed, span_step
from certnet.lifted.learn.parameters import Parameters

__all__ = ["Explicit", "FirstLayer", "Spanned", "batches_of_a_span"]

_INPUTS: Final = 1.25
"""Inputs of a span, in units of the layer's width: two large products a span balance the small ones of each batch."""
_MOST: Final = 16
_SAVING: Final = 1.5
"""Inputs must have so many entries for each dimension of the span."""


class FirstLayer(Protocol):
    """What :class:`~certnet.lifted.learn.phases.Phases` asks of the first layer, batch after batch.

    Attributes
    ----------
    gram : ndarray, shape (n_1, n_1)
        ``W_0 W_0ᵀ`` where β_0 is not zero, after :meth:`pose`.
    """

    gram: Float

    def pose(self, X: Float) -> Float:
        """``[X; c_0] W_0ᵀ``, shape (B + 1, n_1), for the inputs of a batch."""
        ...

    def squares(self, X: Float) -> Float:
        """``‖x + c_0‖²`` of those inputs, shape (B,)."""
        ...

    def advance(self, left: Float, weights: Float, A: Float, out: Parameters, rate: float | None) -> None:
        """Gradients of W_0 and c_0 into ``out``; where there is a rate, move W_0 and leave its gradient out."""
        ...


class Explicit:
    """W_0 and c_0 in ``params``, for inputs of any batch."""

    def __init__(self, params: Parameters, beta: float) -> None:
        self._params, self._beta = params, beta
        m, d = params.weights[0].shape
        self.gram: Float = np.zeros((m, m))
        self._inputs = 0
        self._wide = np.empty((0, d))  # rows [X; c_0; A W_0], or [X; c_0; W_0] where that has fewer

    def pose(self, X: Float) -> Float:
        W, B = self._params.weights[0], len(X)
        if self._inputs != B:
            self._inputs = B
            self._wide = np.empty((B + 1 + min(2 * B, len(W)), W.shape[1]))
        self._wide[:B] = X
        self._wide[B] = self._params.reconstruction_biases[0]
        if self._beta:
            np.dot(W, W.T, out=self.gram)
        return np.dot(self._wide[: B + 1], W.T)

    def squares(self, X: Float) -> Float:
        back = X + self._params.reconstruction_biases[0]
        return np.asarray(np.einsum("ij,ij->i", back, back))

    def advance(self, left: Float, weights: Float, A: Float, out: Parameters, rate: float | None) -> None:
        W, B = self._params.weights[0], self._inputs
        if not self._beta:
            out.reconstruction_biases[0].fill(0.0)
            self._move(left[:B], self._wide[:B], out, rate)
            return
        after = B + 1
        if len(A) > len(W):  # leftᵀ (A W) = (leftᵀ A) W: as many rows as W has
            left = np.concatenate([left[:after], A.T @ left[after:]])
            weights = np.concatenate([weights[:after], weights[after:] @ A])
        wide = self._wide[: len(left)]
        if len(A) > len(W):
            wide[after:] = W
        else:
            np.dot(A, W, out=wide[after:])
        np.dot(weights, wide, out=out.reconstruction_biases[0])
        self._move(left, wide, out, rate)

    def _move(self, left: Float, wide: Float, out: Parameters, rate: float | None) -> None:
        if rate is None:
            np.dot(left.T, wide, out=out.weights[0])
        else:  # W.T is W as Fortran stores it, and is moved in place
            dgemm(-rate, wide.T, left.T, 1.0, self._params.weights[0].T, trans_b=True, overwrite_c=True)


def batches_of_a_span(widths: tuple[int, ...], beta: float, batch_size: int) -> int:
    """How many batches a span should hold; 1 where none is worth it."""
    d, m = widths[:2]
    count = min(_MOST, round(_INPUTS * m / batch_size))
    pays = beta != 0.0 and d >= _SAVING * (m + 1 + count * batch_size)
    return count if pays and count > 1 else 1


class Spanned:
    """The first layer for the next batches; every one of them moves it by a rate.

    Parameters
    ----------
    params : Parameters
        W_0 and c_0 are read by :meth:`begin` and written by :meth:`close`; in between they are those of the start.
    moves : bool
        Does c_0 move?
    """

    gram: Float

    def __init__(self, params: Parameters, *, moves: bool) -> None:
        self._params, self._moves = params, moves
        self._at = 0
        self._rows = self._S = np.empty((0, 0))
        self.gram = self._C = self._v = self._product = self._of_c = np.empty(0)

    def begin(self, X: Float) -> None:
        """With the inputs (R, d) of the batches to come, in their order."""
        W, c = self._params.weights[0], self._params.reconstruction_biases[0]
        m, D = len(W), len(W) + 1 + len(X)
        if len(self._rows) != D:  # large arrays are kept: memory that is new must be cleared first
            self._rows, self._S = np.empty((D, len(c))), np.empty((D, D))
            self._C, self._v, self._of_c = np.empty((D, m)), np.empty(D), np.empty(D)
        self._at = m + 1
        self._rows[:m], self._rows[m], self._rows[m + 1 :] = W, c, X
        np.dot(self._rows, self._rows.T, out=self._S)
        self._C.fill(0.0)
        np.fill_diagonal(self._C, 1.0)
        self._v.fill(0.0)
        self._v[m] = 1.0
        self.gram = self._S[:m, :m].copy()

    def pose(self, X: Float) -> Float:
        self._product = span_posed(self._S, self._C, self._v, self._at, len(X), self._of_c)
        return self._product

    def squares(self, X: Float) -> Float:
        here = slice(self._at, self._at + len(X))
        return np.asarray(np.diag(self._S)[here] + 2.0 * self._of_c[here] + self._of_c @ self._v)

    def advance(self, left: Float, weights: Float, A: Float, out: Parameters, rate: float | None) -> None:
        out.reconstruction_biases[0].fill(0.0)  # it moves here
        state = self._S, self._C, self._v, self.gram, self._at, self._product, self._of_c
        span_step(*state, left, weights, A, rate, self._moves)
        self._at += len(self._product) - 1

    def close(self) -> None:
        """Write W_0 and c_0."""
        np.dot(self._C.T, self._rows, out=self._params.weights[0])
        if self._moves:
            np.dot(self._v, self._rows, out=self._params.reconstruction_biases[0])
