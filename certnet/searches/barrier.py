r"""A Newton method on the barrier of the bound: multipliers to high accuracy, also of units that the dual misses.

Where a group of units is slack, any multipliers within limits are optimal for it, but the dual point (R, Q) of
:mod:`certnet.searches.shallow` vanishes there and says nothing of these limits. With ``x = log t`` and

    S(u, x) = u I − ½ M(e^x),      F_τ(u, x) = τ u − log det S(u, x),

F is convex, its minimisers tend to the best bound as τ → ∞, and ``P = S⁻¹ / tr S⁻¹`` is a dual point that sees every
unit: with its blocks P_RR, P_QR, P_QQ,

    L* ≥ Σ_j ( (α+β) V_:jᵀ P_QR w_j + (β−α) √(w_jᵀ P_RR w_j · V_:jᵀ P_QQ V_:j) ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from certnet.core.validation import Float
from certnet.searches.path_following import Centring
from certnet.searches.path_following import centre as centre_of

__all__ = ["polish"]

_GROWTH = 12.0  # of τ
_STEP_LIMIT = 2.0  # largest change of log t in a step
_CENTRING = Centring(near=1e-4, tolerated=0.0, shortest=1e-8)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """S⁻¹ seen by the units: w_jᵀ · w_k, w_jᵀ · V_:k and V_:jᵀ · V_:k."""

    ww: Float
    wv: Float
    vv: Float
    inverse: Float


class _Barrier:
    """F_τ over ``(x, u)`` in one vector (h + 1,)."""

    def __init__(self, W: Float, V: Float, centre: Float, width: Float) -> None:
        self.W, self.Vt, self.width = W, np.ascontiguousarray(V.T), width
        self.d = W.shape[1]
        self.G = (V * centre) @ W

    def bound_matrix(self, x: Float) -> Float:
        """½ M(e^x)."""
        t = np.exp(x)
        A = (self.W.T * (self.width * t)) @ self.W
        C = (self.Vt.T * (self.width / t)) @ self.Vt
        return 0.5 * np.block([[A, self.G.T], [self.G, C]])

    def factor(self, z: Float) -> tuple[Float, bool]:
        """The Cholesky factor of S.

        Raises
        ------
        LinAlgError
            S is not positive definite.
        """
        S = -self.bound_matrix(z[:-1])
        S[np.diag_indices(len(S))] += z[-1]
        return cho_factor(S, lower=True, check_finite=False)  # type: ignore[no-any-return]

    def value(self, z: Float, weight: float) -> float:
        """F_τ."""
        try:
            factor = self.factor(z)
        except LinAlgError:
            return np.inf
        return weight * float(z[-1]) - 2.0 * float(np.log(np.diagonal(factor[0])).sum())

    def blocks(self, z: Float) -> _Blocks:
        """Raises LinAlgError where S is not positive definite."""
        factor = self.factor(z)
        inverse = cho_solve(factor, np.eye(len(factor[0])), check_finite=False)
        first, cross, last = inverse[: self.d, : self.d], inverse[: self.d, self.d :], inverse[self.d :, self.d :]
        half = self.W @ first
        return _Blocks(half @ self.W.T, self.W @ cross @ self.Vt.T, self.Vt @ last @ self.Vt.T, inverse)

    def newton(self, z: Float, weight: float) -> tuple[Float, float]:
        """The Newton step in x and u, and the squared decrement."""
        seen, x = self.blocks(z), z[:-1]
        # ∂S/∂x_j = −(a_j w_j w_jᵀ − b_j V_:j V_:jᵀ) with the halves of width · t and width / t
        a = 0.5 * self.width * np.exp(x)
        b = 0.5 * self.width * np.exp(-x)
        rise, fall = a * np.diagonal(seen.ww), b * np.diagonal(seen.vv)
        gradient = np.append(rise - fall, weight - np.trace(seen.inverse))
        h = len(x)
        H = np.empty((h + 1, h + 1))
        # second derivatives in x: products of blocks of S⁻¹, and the curvature of e^±x on the diagonal
        cross = seen.wv * seen.wv
        H[:h, :h] = np.outer(a, a) * seen.ww**2 + np.outer(b, b) * seen.vv**2
        H[:h, :h] -= np.outer(a, b) * cross + np.outer(b, a) * cross.T
        H[np.arange(h), np.arange(h)] += rise + fall
        # mixed derivatives in x and u, and that in u: ‖S⁻¹‖_F²
        to_w, to_v = self.W @ seen.inverse[: self.d], self.Vt @ seen.inverse[self.d :]
        H[:h, h] = H[h, :h] = b * np.sum(to_v * to_v, axis=1) - a * np.sum(to_w * to_w, axis=1)
        H[h, h] = float(np.sum(seen.inverse * seen.inverse))
        H[np.diag_indices(h + 1)] *= 1.0 + 1e-13
        step = -cho_solve(cho_factor(H, check_finite=False), gradient, check_finite=False)
        return step, float(-gradient @ step)

    def longest(self, step: Float) -> float:
        """No multiplier changes by more than a factor of e² at once."""
        return min(1.0, _STEP_LIMIT / max(float(np.abs(step[:-1]).max(initial=0.0)), 1e-300))

    def dual(self, seen: _Blocks) -> float:
        """The dual value at ``S⁻¹ / tr S⁻¹``."""
        cross = float(np.sum(self.G.T * seen.inverse[: self.d, self.d :]))
        products = np.maximum(np.diagonal(seen.ww), 0.0) * np.maximum(np.diagonal(seen.vv), 0.0)
        return (cross + float(self.width @ np.sqrt(products))) / float(np.trace(seen.inverse))


def polish(
    W: Float,
    V: Float,
    t: Float,
    below: float,
    tol: float,
    max_iterations: int,
    *,
    centre: Float,
    width: Float,
) -> tuple[Float, float, float]:
    """Better multipliers than t (h,) for W (h, d), V (m, h), with the bound they give and the dual value reached.

    Parameters
    ----------
    below : float
        The dual value known so far.
    tol : float
        Relative gap of the squared bound at which to stop.
    max_iterations : int
        Newton steps.
    centre, width : ndarray, shape (h,)
        ``α + β`` and ``β − α`` for slopes in [α, β].
    """
    barrier = _Barrier(W, V, centre, width)
    order = W.shape[1] + V.shape[0]

    def bound(x: Float) -> float:
        return float(np.linalg.eigvalsh(barrier.bound_matrix(x))[-1])

    # a unit of slope zero or one contributes nothing that t could change
    x = np.where(width > 0.0, np.log(t), 0.0)
    best_x, best = x, bound(x)
    u = best * 1.05
    tau = order / (u - below) if u > below > 0.0 else order / (0.1 * u)
    spent = 0
    z = np.append(x, u)
    while spent < max_iterations and (best / below) ** 2 - 1.0 > tol:
        z, steps, _ = centre_of(barrier, z, tau, max_iterations - spent, _CENTRING)
        spent += max(steps, 1)
        # the multipliers at the centre, and the dual point beside them
        here = bound(z[:-1])
        if here < best:
            best_x, best = z[:-1], here
        if tau * best > 1e14:
            break
        try:
            below = max(below, barrier.dual(barrier.blocks(z)))
        except LinAlgError:
            break
        tau *= _GROWTH
    return np.exp(best_x), best, below
