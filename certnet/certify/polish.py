r"""Multipliers of units that the dual point does not see: descent on a smoothed largest eigenvalue.

Where a group of units is slack, any multipliers within limits are optimal for it, but the dual point (R, Q) of
:mod:`certnet.certify.search` vanishes there and says nothing of these limits. With ``x = log t``,

    F_μ(x) = μ log tr exp( ½ M(e^x) / μ )   lies between λ_max(½ M) and λ_max(½ M) + μ log(d + m),

is convex and smooth, and ``P = exp(½ M / μ) / tr exp(½ M / μ)`` is a dual point that sees every unit.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize

from certnet.validation import Float

__all__ = ["MAX_ORDER", "polish"]

MAX_ORDER = 400
"""Orders d + m up to which a full eigenvalue decomposition per step is worth while."""


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
        Quasi-Newton steps, one eigenvalue decomposition of order d + m each.
    centre, width : ndarray, shape (h,)
        ``α + β`` and ``β − α`` for slopes in [α, β].
    """
    d = W.shape[1]
    G = (V * centre) @ W

    def pieces(x: Float, mu: float) -> tuple[Float, Float, Float]:
        """Eigenvalues of ½ M, weights of the smoothing, and P."""
        t = np.exp(np.clip(x, -80.0, 80.0))
        M = np.block([[(W.T * (width * t)) @ W, G.T], [G, (V * (width / t)) @ V.T]])
        values, vectors = eigh(0.5 * M, check_finite=False)
        weights = np.exp((values - values[-1]) / mu)
        total = weights.sum()
        return values, weights, (vectors * (weights / total)) @ vectors.T

    def smoothed(x: Float, mu: float) -> tuple[float, Float]:
        values, weights, P = pieces(x, mu)
        t = np.exp(np.clip(x, -80.0, 80.0))
        rise = np.einsum("hd,de,he->h", W, P[:d, :d], W, optimize=True)
        fall = np.einsum("mh,mn,nh->h", V, P[d:, d:], V, optimize=True)
        return float(values[-1] + mu * np.log(weights.sum())), 0.5 * width * (t * rise - fall / t)

    def dual(P: Float) -> float:
        """``Σ_j ( (α+β) w_jᵀ P_RQ V_:j + (β−α) √(w_jᵀ P_RR w_j · V_:jᵀ P_QQ V_:j) )``: below L*, as tr P = 1."""
        rise = np.einsum("hd,de,he->h", W, P[:d, :d], W, optimize=True)
        fall = np.einsum("mh,mn,nh->h", V, P[d:, d:], V, optimize=True)
        cross = float(np.sum(G.T * P[:d, d:]))
        return cross + float(width @ np.sqrt(np.maximum(rise, 0.0) * np.maximum(fall, 0.0)))

    x = np.log(t)
    best_x, best = x, float(pieces(x, 1.0)[0][-1])
    spent, mu = 0, 0.1 * best
    while spent < max_iterations and (best / below) ** 2 - 1.0 > tol and mu > 1e-12 * best:
        done = minimize(smoothed, x, args=(mu,), jac=True, method="L-BFGS-B", options={"maxiter": 60, "maxcor": 20})
        x = done.x
        values, _, P = pieces(x, mu)
        below = max(below, dual(P))
        if values[-1] < best:
            best_x, best = x, float(values[-1])
        spent += max(int(done.nit), 5)
        mu *= 0.2
    return np.exp(best_x), best, below
