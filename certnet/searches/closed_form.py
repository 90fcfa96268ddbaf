"""Cheaper upper bounds of ``L``, for comparison: no search, no multipliers, looser."""

from __future__ import annotations

import numpy as np

from certnet.networks.layers import Dense, LinearOperator
from certnet.networks.network import Network
from certnet.searches.chain import spectral_norm

__all__ = ["cheap_upper_bounds", "norm_sum", "spectral_product"]

_ROUND_UP = 1.0 + 1e-10  # covers the rounding of a singular value or a sum of norms


def spectral_product(network: Network) -> float:
    """``Π_k ‖W_k‖₂ · Π_k max|slope_k|``, the product of the layers' spectral norms and of the activations' slopes.

    Of operators that are no matrices ``√(‖A‖₁ ‖A‖_∞)`` stands for the spectral norm.
    """
    norms = [_norm(layer.operator) for layer in network.layers]
    return float(np.prod(norms)) * _steepest(network) * _ROUND_UP


def _norm(operator: LinearOperator) -> float:
    if isinstance(operator, Dense):
        return spectral_norm(operator.matrix)
    sizes = operator.absolute
    rows, columns = sizes(np.ones((1, operator.n_inputs))), sizes.adjoint(np.ones((1, operator.n_outputs)))
    return float(np.sqrt(rows.max() * columns.max()))


def norm_sum(network: Network, norm: str = "l2") -> float:
    """``max|slope| Σ_j ‖V_:j‖₂ ‖w_j‖``, every unit on its own; ``‖w_j‖₁`` for inputs in the l∞ norm."""
    W, V = network.weights
    sizes = np.linalg.norm(W, 2 if norm == "l2" else 1, axis=1)
    return float(np.linalg.norm(V, axis=0) @ sizes) * _steepest(network) * _ROUND_UP


def cheap_upper_bounds(network: Network, norm: str = "l2") -> dict[str, float]:
    """The product of the layers' operator norms, and for one hidden layer the sum over its units, by name.

    In floating point, rounded up by 1e-10; what overflows is left out.
    """
    with np.errstate(all="ignore"):
        if norm == "l2":
            bounds = {"product of spectral norms": spectral_product(network)}
        else:
            # ‖A x‖_∞ ≤ max_j Σ_i |a_ji| ‖x‖_∞, and of the last layer the Euclidean norm of these sums
            *sums, last = (layer.operator.absolute(np.ones((1, layer.operator.n_inputs))) for layer in network.layers)
            widest = float(np.prod([rows.max() for rows in sums])) * float(np.linalg.norm(last))
            bounds = {"product of operator norms": widest * _steepest(network) * _ROUND_UP}
        if network.depth == 1 and not network.structured:
            bounds["sum over units"] = norm_sum(network, norm)
    return {name: value for name, value in bounds.items() if np.isfinite(value)}


def _steepest(network: Network) -> float:
    return float(np.prod([layer.steepest for layer in network.layers]))
