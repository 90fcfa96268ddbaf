r"""The smoothed penalty where units have slopes of their own: those that they have in a region.

In the gauge of :mod:`certnet.refinement.gauge`, multipliers 1 of the units that bend (e), let unit j of a layer have
slopes in [c_j − w_j, c_j + w_j]; w_j = 0 for those that cannot leave one piece of their activation in the region. With
C = diag(c) and E the columns e of the identity the recursion from the outputs is

    S_k = 2 I − (Q_k)_ee ≻ 0,   Y_k = S_k⁻¹ (Q_k)_e:,   N_k = C Q_k C + 2 E w² Eᵀ + C (Q_k)_:e Y_k C,
    Q_{k−1} = W_kᵀ N_k W_k,     ρ ≥ λ_max(Q_0),         Q of the last hidden layer = VᵀV,

and ``ψ_μ = min_ρ λ ρ − μ Σ_i log(ρ − m_i) − μ Σ_k log det S_k − μ log(ρ̄ − ρ)`` as there. Backwards, with K_0 =
∂ψ/∂Q_0 of the eigenvalues,

    ∂ψ/∂W_k = 2 N_k W_k K,   ∂ψ/∂Q_k = J (C W_k K W_kᵀ C) Jᵀ + μ E S_k⁻¹ Eᵀ,   J = I + E Y_k.

The slopes are those of one network; another one may have others, so what a descent finds is certified anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.proofs.regions import UnitSlopes
from certnet.refinement.gauge import inverted, least_rho

__all__ = ["RegionalPenalty", "regional_bound"]

Weights = Sequence[Float]


@dataclass(frozen=True, eq=False)
class _Layer:
    """What one step of the recursion leaves for the way back."""

    bends: NDArray[np.intp]
    c: Float
    Y: Float  # (e, n)
    inverse: Float  # S⁻¹ (e, e)
    N: Float


@dataclass(frozen=True, eq=False)
class _Pass:
    layers: list[_Layer]
    log_det: float
    m: Float
    vectors: Float

    @classmethod
    def of(cls, weights: Weights, slopes: UnitSlopes) -> _Pass | None:
        """None where some S_k is not positive definite."""
        layers, log_det = list[_Layer](), 0.0
        Q = weights[-1].T @ weights[-1]
        for W, (low, high) in zip(weights[-2::-1], slopes[::-1]):
            c, w = 0.5 * (low + high), 0.5 * (high - low)
            e = np.flatnonzero(w > 0.0)
            N = c[:, None] * Q * c
            Y, inverse = np.zeros((len(e), len(c))), np.zeros((len(e), len(e)))
            if len(e):
                found = inverted(2.0 * np.eye(len(e)) - Q[np.ix_(e, e)])
                if found is None:
                    return None
                inverse, log = found
                log_det += log
                Y = inverse @ Q[e]
                N += c[:, None] * (Q[:, e] @ Y) * c
                N[e, e] += 2.0 * w[e] ** 2
            layers.insert(0, _Layer(e, c, Y, inverse, N))
            Q = W.T @ N @ W
            Q = 0.5 * (Q + Q.T)
        if not np.isfinite(Q).all():
            return None
        m, vectors = np.linalg.eigh(Q)
        return cls(layers, log_det, m, vectors)


def regional_bound(weights: Weights, slopes: UnitSlopes) -> float:
    """The least ρ ≥ L² that multipliers 1 prove with these slopes, in floating point; infinite where there is none."""
    found = _Pass.of(weights, slopes)
    return float("inf") if found is None else max(float(found.m[-1]), 0.0)


@dataclass(frozen=True, eq=False)
class RegionalPenalty:
    """``ψ_μ`` with its gradient: the smoothed ``weight · ρ``, with ρ below a limit where there is one.

    Attributes
    ----------
    slopes : list of pairs of ndarray, shape (n_k,)
        Lowest and highest slopes of the units of every hidden layer.
    weight : float
        λ > 0.
    limit : float
        ρ̄, perhaps infinite.
    """

    slopes: UnitSlopes
    weight: float
    limit: float = np.inf

    def __call__(self, weights: Weights, mu: float) -> tuple[float, list[Float]]:
        """ψ_μ and its gradient in every W_k; infinite, with no gradient, where some S_k is not positive definite."""
        found = _Pass.of(weights, self.slopes)
        if found is None or not found.m[-1] < self.limit:
            return float("inf"), []
        rho = least_rho(found.m, np.ones(len(found.m)), self.weight, self.limit, mu)
        if not found.m[-1] < rho < self.limit:
            return float("inf"), []
        value = self.weight * rho - mu * (float(np.log(rho - found.m).sum()) + found.log_det)
        if self.limit < np.inf:
            value -= mu * float(np.log1p(-rho / self.limit))
        K = (found.vectors * (mu / (rho - found.m))) @ found.vectors.T
        gradients = []
        for W, layer in zip(weights, found.layers):
            WK = W @ K
            gradients.append(2.0 * layer.N @ WK)
            M = layer.c[:, None] * (WK @ W.T) * layer.c
            e = layer.bends
            # J M Jᵀ, J = I + E Y
            M[e] += layer.Y @ M
            M[:, e] += M @ layer.Y.T
            M[np.ix_(e, e)] += mu * layer.inverse
            K = 0.5 * (M + M.T)
        return value, [*gradients, 2.0 * weights[-1] @ K]
