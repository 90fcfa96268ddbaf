"""Linear regression on the targets: what a lifted network that stays in its linear range cannot beat by much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array, positive_number, whole_number
from certnet.lifted.targets import accuracy, as_targets

__all__ = ["LinearModel", "linear_regression"]

_ROWS: Final = 8192
"""Samples per factorisation: all of them at once would need several copies of the data."""


@dataclass(frozen=True, eq=False)
class LinearModel:
    """``x ↦ W x + b``.

    Attributes
    ----------
    W : ndarray, shape (m, d)
    b : ndarray, shape (m,)
    train_accuracy : float or None
        Share of training samples whose largest output is that of their label; None where the targets are no labels.
    """

    W: Float
    b: Float
    train_accuracy: float | None

    def predict(self, X: ArrayLike) -> Float:
        """``W x + b`` for every row of X, shape (N, m)."""
        return as_inputs(X, self.W.shape[1]) @ self.W.T + self.b

    def accuracy(self, X: ArrayLike, y: ArrayLike) -> float | None:
        """Share of samples whose largest output is that of their label."""
        outputs = self.predict(X)
        return accuracy(outputs, as_targets(y, len(self.b), len(outputs)))


def linear_regression(X: ArrayLike, y: ArrayLike, *, n_outputs: int | None = None, ridge: float = 0.0) -> LinearModel:
    """Minimise ``(1/N) Σ_i ‖W x_i + b − y_i‖² + ridge · ‖W‖_F²``; of several minimisers the one of least ``‖W‖_F``.

    The last row of Z, Table 1. Solved through the triangular factor of the centred data, without normal equations:
    the many constant pixels of image data do no harm.

    Parameters
    ----------
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
        Real targets, or labels 0 to ``n_outputs − 1``.
    n_outputs : int, optional
        Number of classes where y is labels (N,); without it y of shape (N,) is one real target.
    ridge : float

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, no samples, labels outside of the range, a negative ridge.
    """
    inputs = finite_array(X, "X", ndim=(2,))
    if 0 in inputs.shape:
        raise InvalidInputError(f"X has shape {inputs.shape}: at least one sample and one column are needed")
    columns = np.shape(y)[1] if np.ndim(y) == 2 else 1
    m = columns if n_outputs is None else whole_number(n_outputs, "n_outputs", least=1)
    targets = as_targets(y, m, len(inputs))
    x_mean, y_mean = inputs.mean(axis=0), targets.mean(axis=0)
    R = _triangular(inputs, targets, x_mean, y_mean, positive_number(ridge, "ridge", zero=True))
    d = inputs.shape[1]
    # singular values below rounding are those of directions in which the inputs do not vary
    tiny = np.finfo(np.float64).eps * max(inputs.shape)
    W: Float = np.asarray(np.linalg.lstsq(R[:, :d], R[:, d:], rcond=tiny)[0].T, dtype=np.float64)
    b = y_mean - W @ x_mean
    return LinearModel(W, b, accuracy(inputs @ W.T + b, targets))


def _triangular(X: Float, y: Float, x_mean: Float, y_mean: Float, ridge: float) -> Float:
    """R of the QR factorisation of the centred ``[X y]`` and the rows of the penalty, a block of samples at a time."""
    N, d = X.shape
    R = np.zeros((d if ridge > 0.0 else 0, d + y.shape[1]))
    np.fill_diagonal(R[:, :d], np.sqrt(N * ridge))
    for at in range(0, N, _ROWS):
        block = np.concatenate([X[at : at + _ROWS] - x_mean, y[at : at + _ROWS] - y_mean], axis=1)
        R = np.asarray(np.linalg.qr(np.concatenate([R, block]), mode="r"))
    return R
