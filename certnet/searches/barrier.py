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

__all__ = ["MAX_ORDER", "MAX_UNITS", "polish"]

MAX_ORDER, MAX_UNITS = 400, 1500
"""Orders d + m and units h up to which a Newton step, 2 h² (d + m) + h³ / 3 flops, is worth while."""

_GROWTH = 12.0  # of τ
_STEP_LIMIT = 2.0  # largest change of log t in a step


@dataclass(frozen=True, eq=False)
class _Blocks:
    """S⁻¹ seen by the units: w_jᵀ · w_k, w_jᵀ · V_:k and V_:jᵀ · V_:k, with its trace and that of its square."""

    ww: Float
    wv: Float
    vv: Float
    inverse: Float


class _Barrier:
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

    def factor(self, u: float, x: Float) -> tuple[Float, bool] | None:
        S = -self.bound_matrix(x)
        S[np.diag_indices(len(S))] += u
        try:
            return cho_factor(S, lower=True, check_finite=False)  # type: ignore[no-any-return]
        except LinAlgError:
            return None

    def value(self, u: float, x: Float, tau: float) -> float:
        factor = self.factor(u, x)
        if factor is None:
            return np.inf
        return tau * u - 2.0 * float(np.log(np.diagonal(factor[0])).sum())

    def blocks(self, u: float, x: Float) -> _Blocks | None:
        factor = self.factor(u, x)
        if factor is None:
            return None
        inverse = cho_solve(factor, np.eye(len(factor[0])), check_finite=False)
        first, cross, last = inverse[: self.d, : self.d], inverse[: self.d, self.d :], inverse[self.d :, self.d :]
        half = self.W @ first
        return _Blocks(half @ self.W.T, self.W @ cross @ self.Vt.T, self.Vt @ last @ self.Vt.T, inverse)

    def newton(self, x: Float, tau: float, seen: _Blocks) -> tuple[float, Float, float]:
        """The Newton step in u and x, and the squared decrement."""
        a = 0.5 * self.width * np.exp(x)
        b = 0.5 * self.width * np.exp(-x)
        rise, fall = a * np.diagonal(seen.ww), b * np.diagonal(seen.vv)
        gradient = np.append(rise - fall, tau - np.trace(seen.inverse))
        h = len(x)
        H = np.empty((h + 1, h + 1))
        cross = seen.wv * seen.wv
        H[:h, :h] = np.outer(a, a) * seen.ww**2 + np.outer(b, b) * seen.vv**2
        H[:h, :h] -= np.outer(a, b) * cross + np.outer(b, a) * cross.T
        H[np.arange(h), np.arange(h)] += rise + fall
        to_w, to_v = self.W @ seen.inverse[: self.d], self.Vt @ seen.inverse[self.d :]
        H[:h, h] = H[h, :h] = b * np.sum(to_v * to_v, axis=1) - a * np.sum(to_w * to_w, axis=1)
        H[h, h] = float(np.sum(seen.inverse * seen.inverse))
        H[np.diag_indices(h + 1)] *= 1.0 + 1e-13
        step = -cho_solve(cho_factor(H, check_finite=False), gradient, check_finite=False)
        return float(step[h]), step[:h], float(-gradient @ step)

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
    while spent < max_iterations and (best / below) ** 2 - 1.0 > tol:
        x, u, steps = _centre(barrier, x, u, tau, max_iterations - spent)
        spent += max(steps, 1)
        seen = barrier.blocks(u, x)
        here = bound(x)
        if here < best:
            best_x, best = x, here
        if seen is None or tau * best > 1e14:
            break
        below = max(below, barrier.dual(seen))
        tau *= _GROWTH
    return np.exp(best_x), best, below


def _centre(barrier: _Barrier, x: Float, u: float, tau: float, limit: int) -> tuple[Float, float, int]:
    """Damped Newton steps towards the minimiser for τ."""
    for count in range(1, limit + 1):
        seen = barrier.blocks(u, x)
        if seen is None:
            return x, u, count
        try:
            du, dx, decrement = barrier.newton(x, tau, seen)
        except LinAlgError:
            return x, u, count
        if not decrement > 1e-4:
            return x, u, count
        here = barrier.value(u, x, tau)
        length = min(1.0, _STEP_LIMIT / max(float(np.abs(dx).max()), 1e-300))
        while not barrier.value(u + length * du, x + length * dx, tau) <= here - 0.1 * length * decrement:
            length *= 0.5
            if length < 1e-8:  # rounding has taken over
                return x, u, count
        x, u = x + length * dx, u + length * du
    return x, u, limit
