"""Cheaper upper bounds of ``L``, for comparison: no search, no multipliers, looser."""

from __future__ import annotations

import numpy as np

from certnet.networks.network import Network
from certnet.searches.chain import spectral_norm

__all__ = ["cheap_upper_bounds", "norm_sum", "spectral_product"]

_ROUND_UP = 1.0 + 1e-10  # covers the rounding of a singular value or a sum of norms


def spectral_product(network: Network) -> float:
    """``Π_k ‖W_k‖₂ · Π_k max|slope_k|``, the product of the layers' spectral norms and of the activations' slopes."""
    norms = [spectral_norm(W) for W in network.weights]
    return float(np.prod(norms)) * _steepest(network) * _ROUND_UP


def norm_sum(network: Network, norm: str = "l2") -> float:
    """``max|slope| Σ_j ‖V_:j‖₂ ‖w_j‖``, every unit on its own; ``‖w_j‖₁`` for inputs in the l∞ norm."""
    W, V = network.weights
    sizes = np.linalg.norm(W, 2 if norm == "l2" else 1, axis=1)
    return float(np.linalg.norm(V, axis=0) @ sizes) * _steepest(network) * _ROUND_UP


def cheap_upper_bounds(network: Network, norm: str = "l2") -> dict[str, float]:
    """The product of the layers' operator norms, and for one hidden layer the sum over its units, by name.

    In floating point, rounded up by 1e-10; what overflows is left out. For the l∞ norm: one hidden layer and one
    output.
    """
    with np.errstate(all="ignore"):
        if norm == "l2":
            bounds = {"product of spectral norms": spectral_product(network)}
        else:
            # ‖W x‖_∞ ≤ max_j ‖w_j‖₁ ‖x‖_∞ and |V z| ≤ ‖V‖₁ ‖z‖_∞
            W, V = network.weights
            widest = float(np.linalg.norm(W, 1, axis=1).max())
            bounds = {"product of operator norms": widest * float(np.abs(V).sum()) * _steepest(network) * _ROUND_UP}
        if network.depth == 1:
            bounds["sum over units"] = norm_sum(network, norm)
    return {name: value for name, value in bounds.items() if np.isfinite(value)}


def _steepest(network: Network) -> float:
    return float(np.prod([layer.steepest for layer in network.layers]))
