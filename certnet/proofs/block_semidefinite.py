r"""Is a symmetric block tridiagonal matrix positive semidefinite, whatever rounding did to it? NumPy only.

Blocks ``P_kk`` (n_k, n_k) and ``P_{k+1,k}``; all others are zero. A factor with the same bands is only a guess,

    R_k R_kᵀ ≈ P_kk − s I − B_k B_kᵀ,      B_{k+1} ≈ P_{k+1,k} R_k^{−ᵀ},

what counts is the residual ``F = P − s I − R Rᵀ``, block tridiagonal too:

    F_kk = P_kk − s I − R_k R_kᵀ − B_k B_kᵀ,     F_{k+1,k} = P_{k+1,k} − B_{k+1} R_kᵀ,
    ‖F‖₂² ≤ Σ_k ‖F_kk‖_F² + 2 Σ_k ‖F_{k+1,k}‖_F².

A product of matrices with n terms is wrong by at most ``γ_n`` times that of the absolute values
(:mod:`certnet.proofs.rounding`), whose Frobenius norm is at most the product of theirs; so F as computed is wrong by at
most the sum over the blocks of ``γ_{n+8} (‖R_k‖_F² + ‖B_k‖_F² + ‖P_kk − s I‖_F)`` and twice
``γ_{n+8} (‖B_{k+1}‖_F ‖R_k‖_F + ‖P_{k+1,k}‖_F)``. Where ``‖F‖ + error ≤ s``, every symmetric P' with
``‖P' − P‖₂ ≤ error`` is positive semidefinite. The work is Σ n_k³, no matrix of the order of P is formed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from certnet.core.validation import Float
from certnet.proofs.rounding import SAFETY, U, gamma

__all__ = ["is_block_semidefinite"]


def is_block_semidefinite(
    diagonal: Sequence[Float],
    below: Sequence[Float],
    diagonal_error: Sequence[Float | float],
    below_error: Sequence[float],
) -> bool:
    """Is every matrix within the errors of P proved to be positive semidefinite? False says nothing.

    Parameters
    ----------
    diagonal : sequence of K + 1 ndarrays
        P_kk, shape (n_k, n_k), or (n_k,) for a diagonal one.
    below : sequence of K ndarrays, shapes (n_{k+1}, n_k)
        P_{k+1,k}.
    diagonal_error, below_error : sequences of K + 1 and K floats
        Bounds on the Frobenius norms of the blocks' errors.
    """
    sizes = [len(block) for block in diagonal]
    tops = [np.diagonal(block) if block.ndim == 2 else block for block in diagonal]
    top = max(float(np.abs(d).max()) for d in tops)
    square = sum(float(e) ** 2 for e in diagonal_error) + 2.0 * sum(float(e) ** 2 for e in below_error)
    # taking the shift off the diagonal is rounded
    error = math.sqrt(square) * (1.0 + 1e-9) + 2.0 * U * top + 2.0**-900
    if not (math.isfinite(error) and math.isfinite(top)):
        return False
    widest = max(a + b for a, b in zip([0, *sizes], sizes))
    shift = 1.125 * error + 4.0 * gamma(widest + 8) * sum(sizes) * top
    residual, rounding = 0.0, 0.0
    B = np.zeros((sizes[0], 0))
    for k, block in enumerate(diagonal):
        off = below[k] if k < len(below) else np.zeros((0, sizes[k]))
        if k == 0 and block.ndim == 1:  # ρ I, of many inputs perhaps: roots and quotients
            S = block - shift
            if not S.min() > 0.0:
                return False
            R = np.sqrt(S)
            B_next = off / R
            lost, lost_below, terms = S - R * R, off - B_next * R, gamma(16)
        else:
            S = np.diag(block - shift) if block.ndim == 1 else block - shift * np.eye(len(block))
            # what is left for R_k R_kᵀ once the layer before is taken off
            left = S - B @ B.T
            try:
                R = np.linalg.cholesky(left)
            except np.linalg.LinAlgError:
                return False
            B_next = np.linalg.solve(R, off.T).T
            lost, lost_below, terms = left - R @ R.T, off - B_next @ R.T, gamma(2 * len(S) + B.shape[1] + 8)
        residual += _square(lost) + 2.0 * _square(lost_below)
        rounding += terms * (_square(R) + _square(B) + float(np.linalg.norm(S)))
        rounding += 2.0 * terms * (math.sqrt(_square(B_next) * _square(R)) + float(np.linalg.norm(off)))
        B = B_next
    total = math.sqrt(residual) + rounding + error
    return math.isfinite(total) and SAFETY * total <= shift


def _square(A: Float) -> float:
    return float(np.sum(A * A))
