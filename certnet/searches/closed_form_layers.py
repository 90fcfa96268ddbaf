r"""Multipliers in closed form, one number per layer: no search, the work of one proof.

Forward through the layers, with ``N_0 = I`` and slopes [0, b] (or [−b, 0]) of half-width w,

    X_k = B_k N_{k−1}⁻¹ B_kᵀ,   τ_k = 1 / (4 w² λ_max(X_k)),   N_k = 2 τ_k I − 4 w² τ_k² X_k ≻ 0,

and ``ρ = λ_max(V N_K⁻¹ Vᵀ)`` with ``T_k = ρ τ_k I``: the τ_k that leaves the most of every N_k (the closed form of
ECLipsE-Fast, Xu and Sivaranjani 2024).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from certnet.core.validation import Float
from certnet.networks.layers import Dense
from certnet.networks.network import Network
from certnet.proofs.selection import live_units
from certnet.searches.shallow import largest_eigenvalue

__all__ = ["layer_multipliers"]


def layer_multipliers(network: Network) -> tuple[tuple[Float, ...], float] | None:
    """One vector of equal numbers per hidden layer, and the bound on L that they give in floating point.

    None where slopes do not begin or end at zero, where units are carried or operators are no matrices, and where
    numbers overflow.
    """
    layers = network.layers
    one_sided = all(low * high == 0.0 and low < high for low, high in network.slopes)
    if not one_sided or any(layer.carried or not isinstance(layer.operator, Dense) for layer in layers):
        return None
    alive = live_units(layers)
    if not all(units.any() for units in alive):
        return None
    taus: list[float] = []
    reached: Float | None = None  # R⁻¹ with N = R Rᵀ, of the layer before
    with np.errstate(all="ignore"):
        for k, layer in enumerate(layers):
            B = layer.operator.matrix[np.ix_(alive[k + 1], alive[k])]
            half = B.T if reached is None else solve_triangular(reached, B.T, lower=True, check_finite=False)
            X = half.T @ half
            if not np.isfinite(X).all():
                return None
            top = largest_eigenvalue(X)
            if k == network.depth:
                break
            steepest = max(map(abs, network.slopes[k]))
            square = steepest * steepest  # 4 w²
            scale = square * top
            tau = 1.0 / scale if scale > 0.0 else np.inf
            taus.append(tau)
            N = -(square * tau * tau) * X
            N[np.diag_indices(len(N))] += 2.0 * tau
            try:
                reached = np.asarray(np.linalg.cholesky(N))
            except np.linalg.LinAlgError:
                return None
    if not 0.0 < top < np.inf:
        return None
    return tuple(np.full(n, top * tau) for n, tau in zip(network.widths[1:-1], taus)), float(np.sqrt(top))
