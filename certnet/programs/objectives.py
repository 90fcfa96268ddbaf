"""The regularised objectives, always recomputed from the network and the data."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.certification import Certificate, certify
from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_samples, positive_number
from certnet.networks.shallow import ShallowNetwork

__all__ = ["PENALTIES", "l2_penalty", "mean_squared_error", "objective"]

PENALTIES: Final = ("lipschitz", "l2")


def mean_squared_error(network: ShallowNetwork, X: ArrayLike, y: ArrayLike) -> float:
    """``(1/N) Σ_i ‖f(x_i) − y_i‖²``: mean over samples, sum over outputs. X (N, d); y (N,) or (N, m)."""
    X, y = as_samples(X, y, network.n_inputs, network.n_outputs)
    return _mse(network, X, y)


def _mse(network: ShallowNetwork, X: Float, y: Float) -> float:
    return float(np.sum((network.forward(X) - y) ** 2) / len(X))


def l2_penalty(network: ShallowNetwork) -> float:
    """``‖W‖_F² + ‖b‖² + ‖V‖_F²``."""
    return float(np.sum(network.W**2) + np.sum(network.b**2) + np.sum(network.V**2))


def objective(
    network: ShallowNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    weight: float,
    penalty: str = "lipschitz",
    certificate: Certificate | None = None,
) -> float:
    """``mse + weight · ρ`` with the certified ρ ≥ L², or ``mse + weight · (‖W‖² + ‖b‖² + ‖V‖²)`` (Y (4a)).

    Parameters
    ----------
    network : ShallowNetwork
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    weight : float
    penalty : {"lipschitz", "l2"}
    certificate : Certificate, optional
        Spares a new certification; its ρ is used as it stands.
    """
    weight = positive_number(weight, "weight", zero=True)
    if penalty not in PENALTIES:
        raise InvalidInputError(f"penalty must be one of {', '.join(map(repr, PENALTIES))}, got {penalty!r}")
    mse = mean_squared_error(network, X, y)
    if penalty == "l2":
        return mse + weight * l2_penalty(network)
    return mse + weight * (certificate or certify(network)).rho
