"""Cheaper upper bounds of ``L``, for comparison: no search, no multipliers, looser."""

from __future__ import annotations

import numpy as np

from certnet.feedforward import FeedForward
from certnet.network import ShallowNetwork

__all__ = ["cheap_upper_bounds", "norm_sum", "spectral_product"]

_ROUND_UP = 1.0 + 1e-10  # covers the rounding of a singular value or a sum of norms


def spectral_product(network: ShallowNetwork | FeedForward) -> float:
    """``Π_k ‖W_k‖₂ · Π_k max|slope_k|``, the product of the layers' spectral norms and of the activations' slopes."""
    deep = FeedForward.of(network)
    norms = [np.linalg.norm(W, 2) for W in deep.weights]
    slopes = [max(map(abs, phi.slopes)) for phi in deep.activations]
    return float(np.prod(norms) * np.prod(slopes)) * _ROUND_UP


def norm_sum(network: ShallowNetwork) -> float:
    """``Σ_j ‖V_:j‖₂ ‖w_j‖₂``, every unit on its own."""
    return float(np.linalg.norm(network.V, axis=0) @ np.linalg.norm(network.W, axis=1)) * _ROUND_UP


def cheap_upper_bounds(network: ShallowNetwork | FeedForward) -> dict[str, float]:
    """The product of spectral norms, and for a shallow network the sum over its units, by name.

    In floating point, rounded up by 1e-10.
    """
    bounds = {"product of spectral norms": spectral_product(network)}
    if isinstance(network, ShallowNetwork):
        bounds["sum over units"] = norm_sum(network)
    return bounds
