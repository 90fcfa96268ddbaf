"""Cheaper upper bounds of ``L``, for comparison: no search, no multipliers, looser."""

from __future__ import annotations

import numpy as np

from certnet.network import ShallowNetwork

__all__ = ["cheap_upper_bounds", "norm_sum", "spectral_product"]

_ROUND_UP = 1.0 + 1e-10  # covers the rounding of a singular value or a sum of norms


def spectral_product(network: ShallowNetwork) -> float:
    """``‖V‖₂ ‖W‖₂``, the product of the layers' spectral norms."""
    return float(np.linalg.norm(network.V, 2) * np.linalg.norm(network.W, 2)) * _ROUND_UP


def norm_sum(network: ShallowNetwork) -> float:
    """``Σ_j ‖V_:j‖₂ ‖w_j‖₂``, every unit on its own."""
    return float(np.linalg.norm(network.V, axis=0) @ np.linalg.norm(network.W, axis=1)) * _ROUND_UP


def cheap_upper_bounds(network: ShallowNetwork) -> dict[str, float]:
    """Both, by name; in floating point, rounded up by 1e-10."""
    return {"product of spectral norms": spectral_product(network), "sum over units": norm_sum(network)}
