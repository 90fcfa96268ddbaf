r"""Is a matrix positive semidefinite, whatever rounding did to it? The question that all proofs come to. NumPy only.

A Cholesky factor R of ``S − s I`` is only a guess: what counts is the residual ``‖S − s I − R Rᵀ‖``, whose own rounding
is bounded by sums of products (:mod:`certnet.proofs.rounding`). Where that and all errors of S are at most s,

    xᵀ S' x ≥ xᵀ (S − error I) x ≥ xᵀ (R Rᵀ + (s − residual − error) I) x ≥ 0      for every S' within ``error`` of S.
"""

from __future__ import annotations

import math

import numpy as np

from certnet.core.validation import Float
from certnet.proofs.rounding import SAFETY, U, gamma

__all__ = ["is_positive_semidefinite", "is_semidefinite_entrywise", "norm_at_least", "norm_at_most"]


def is_positive_semidefinite(S: Float, error: float) -> bool:
    """Is every symmetric matrix within ``error`` of S (spectral norm) proved to be positive semidefinite?

    A Cholesky factor R of ``S − s I`` is only a guess: what counts is that ``‖S − s I − R Rᵀ‖`` and all errors are at
    most s. False says nothing.
    """
    n = len(S)
    diagonal = float(np.abs(np.diagonal(S)).max())
    error = error + 2.0 * U * diagonal  # taking off the shift is rounded
    shift = 1.125 * error + 4.0 * gamma(n + 8) * n * diagonal
    shifted = S.copy()
    shifted[np.diag_indices(n)] -= shift
    try:
        R = np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return False
    residual = float(np.linalg.norm(shifted - R @ R.T))
    rounding = gamma(n + 4) * (float(np.sum(R * R)) + float(np.linalg.norm(shifted)))
    return SAFETY * (residual + rounding + error) <= shift


def is_semidefinite_entrywise(P: Float, error: Float) -> bool:
    """The same of every symmetric matrix whose entries are within ``error`` (n, n) of those of P."""
    # a congruence with powers of two brings the diagonal to order one, and changes no digit
    unit = -(np.frexp(np.abs(np.diagonal(P)))[1] // 2)
    P = np.ldexp(np.ldexp(P, unit[:, None]), unit)
    error = np.ldexp(np.ldexp(error, unit[:, None]), unit)
    # the Frobenius norm of the errors bounds their spectral norm
    total = float(np.linalg.norm(error)) * (1.0 + 1e-9) + 2.0**-900
    return bool(np.isfinite(P).all()) and math.isfinite(total) and is_positive_semidefinite(P, total)


def norm_at_most(W: Float, s: float) -> bool:
    """Is ``‖W‖₂ ≤ s`` proved?  ``s² I − W Wᵀ ⪰ 0``, of the smaller side."""
    top = float(np.abs(W).max())
    if top == 0.0:
        return True
    if s == 0.0:
        return False
    unit = -int(np.frexp(top)[1])
    W, s = np.ldexp(W, unit), float(np.ldexp(s, unit))
    G = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    terms = max(W.shape)
    square = math.nextafter(s * s, 0.0)
    error = gamma(terms + 4) * float(np.sum(W * W)) + 2.0**-52 * square + 2.0**-900
    S = -0.5 * (G + G.T)
    S[np.diag_indices(len(S))] += square
    return is_positive_semidefinite(S, error)


def norm_at_least(W: Float, s: float) -> bool:
    """Is ``‖Wᵀ v‖ ≥ s ‖v‖`` for all v proved?  ``W Wᵀ − s² I ⪰ 0``."""
    if s == 0.0:
        return True
    if len(W) > W.shape[1] or not 0.0 < s < math.inf:
        return False
    unit = -int(np.frexp(float(np.abs(W).max()))[1])
    W, s = np.ldexp(W, unit), float(np.ldexp(s, unit))
    G = W @ W.T
    square = math.nextafter(s * s, math.inf)
    error = gamma(W.shape[1] + 4) * float(np.sum(W * W)) + 2.0**-52 * (square + float(np.trace(G))) + 2.0**-900
    S = 0.5 * (G + G.T)
    S[np.diag_indices(len(S))] -= square
    return is_positive_semidefinite(S, error)
