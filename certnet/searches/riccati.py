r"""The bound of given multipliers, in floating point: a recursion over the layers from the outputs.

    Q_K = VᵀV,   S_k = 2 T_k − (Q_k)_ee ≻ 0,   ρ(T) = λ_max(Q_0),
    Q_{k−1} = B_kᵀ [ c Q c + 2 T w² + c Q_:e S⁻¹ Q_e: c ] B_k

(e: units with w > 0), or in the maximum norm, with weights μ of the inputs,
``ρ(T, μ) = Σ μ · λ_max(D^{−½} Q_0 D^{−½})``, D = diag(μ). What it says is proved by :mod:`certnet.proofs.storage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import sparse
from scipy.linalg import eigh, solve_triangular
from scipy.sparse.linalg import ArpackError, eigsh

from certnet.core.validation import Float
from certnet.searches.increments import Increments, Map, is_sparse

__all__ = ["bound_of"]

_LANCZOS: Final = 1500  # order from which on the largest eigenvalue is found by Lanczos steps


def bound_of(net: Increments, multipliers: Sequence[Float], weights: Float | None = None) -> float:
    """ρ of the multipliers of the bending units; infinite where some S_k is not positive definite."""
    Q = _dense(net.output.T @ net.output)
    layers = list(zip(net.maps, net.centre, net.width, multipliers))
    for k, two in net.steps:
        found = _before_two(Q, layers[k + 1], layers[k]) if two else _before(Q, *layers[k])
        if found is None:
            return float("inf")
        Q = found
    if weights is None:
        return _largest(Q)
    scale = 1.0 / np.sqrt(weights)
    return float(np.sum(weights)) * _largest(scale[:, None] * Q * scale)


_Layer = tuple[Map, Float, Float, Float]


def _before_two(Q: Float, upper: _Layer, lower: _Layer) -> Float | None:
    """Through two layers, of which the lower one is the wider (:func:`certnet.proofs.forms.before_two`)."""
    (B, c, _, t), (B_low, c_low, _, t_low) = upper, lower
    X, X_low, half = _rows(B, 2.0 * c * t), _rows(B_low, 2.0 * c_low * t_low), 0.5 / t_low
    weighted = _rows(X_low, half)
    K = _dense(X @ _rows(X.T, half))
    K = -0.5 * (K + K.T) - Q
    K[np.diag_indices(len(K))] += 2.0 * t
    try:
        R = np.linalg.cholesky(K)
    except np.linalg.LinAlgError:
        return None
    D = solve_triangular(R, _dense(X @ weighted), lower=True, check_finite=False)
    return _symmetric(_dense(X_low.T @ weighted) + D.T @ D)


def _before(Q: Float, B: Map, c: Float, w: Float, t: Float) -> Float | None:
    bends = w > 0.0
    if not bends.any():
        return _symmetric(B.T @ _dense(B.T @ (c[:, None] * Q * c)).T)
    S = -Q if bends.all() else -Q[np.ix_(bends, bends)]
    S[np.diag_indices(len(S))] += 2.0 * t
    try:
        R = np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        return None
    one_sided = bool((np.abs(c[bends]) == w[bends]).all())
    if one_sided and bends.all():
        D = solve_triangular(R, _dense(_rows(B, 2.0 * c * t)), lower=True, check_finite=False)
        return np.asarray(D.T @ D)
    rest = np.flatnonzero(~bends) if one_sided else np.arange(len(c))
    B_rest = B[rest]
    # rows are pushed through B by the transpose, which a sparse array is fast at
    X = _dense(B_rest.T @ (Q[np.ix_(rest, bends)] * c[rest, None])).T
    old = B_rest.T @ _dense(B_rest.T @ (c[rest, None] * Q[np.ix_(rest, rest)] * c[rest])).T
    B_bends = B[np.flatnonzero(bends)]
    if one_sided:
        X = X + _dense(_rows(B_bends, 2.0 * c[bends] * t))
    else:
        old = old + _dense(B_bends.T @ _rows(B_bends, 2.0 * t * w[bends] ** 2))
    D = solve_triangular(R, X, lower=True, check_finite=False)
    return _symmetric(_dense(old) + D.T @ D)


def _rows(B: Map, factors: Float) -> Map:
    """diag(factors) B."""
    return sparse.diags_array(factors) @ B if is_sparse(B) else factors[:, None] * B


def _dense(matrix: Map) -> Float:
    return np.asarray(matrix.toarray() if is_sparse(matrix) else matrix)


def _symmetric(Q: Map) -> Float:
    Q = _dense(Q)
    return np.asarray(0.5 * (Q + Q.T))


def _largest(Q: Float) -> float:
    """The largest eigenvalue; infinite where there is none."""
    if not np.isfinite(Q).all():
        return float("inf")
    last = len(Q) - 1
    try:
        if len(Q) > _LANCZOS:
            start = np.sqrt(np.maximum(np.diagonal(Q), 0.0))
            return float(eigsh(Q, k=1, which="LA", v0=start, tol=1e-12, return_eigenvectors=False)[0])
        return float(eigh(Q, eigvals_only=True, subset_by_index=(last, last))[0])
    except (np.linalg.LinAlgError, ArpackError, ValueError):
        return float("inf")
