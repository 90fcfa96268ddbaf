"""The regularised objectives, always recomputed from the network and the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from certnet.certification import Certificate, certify
from certnet.core.validation import Float, as_samples, positive_number
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.penalties import PENALTIES, l2_penalty, penalty_named

__all__ = ["PENALTIES", "l2_penalty", "mean_squared_error", "mse_of", "objective", "outputs_of"]


def mean_squared_error(network: Network, X: ArrayLike, y: ArrayLike) -> float:
    """``(1/N) Σ_i ‖f(x_i) − y_i‖²``: mean over samples, sum over outputs. X (N, d); y (N,) or (N, m)."""
    X, y = as_samples(X, y, network.n_inputs, network.n_outputs, network.about.inputs)
    return mse_of(network, X, y)


def mse_of(network: Network, X: Float, y: Float) -> float:
    """The same of arrays that were checked at the door: X (N, d), y (N, m)."""
    return float(np.sum((outputs_of(network, X) - y) ** 2) / len(X))


def outputs_of(network: Network, X: Float) -> Float:
    """f at the rows of X (N, d), which was checked at the door: (N, m)."""
    if not isinstance(network, ShallowNetwork):
        return network.outputs(X)
    return np.maximum(X @ network.W.T + network.b, 0.0) @ network.V.T + network.c


def objective(
    network: Network,
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
    network : ShallowNetwork or FeedForward
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    weight : float
    penalty : {"lipschitz", "l2"}
    certificate : Certificate, optional
        Spares a new certification; its ρ is used as it stands.
    """
    weight = positive_number(weight, "weight", zero=True)
    kind = penalty_named(penalty)
    mse = mean_squared_error(network, X, y)
    rho = (certificate or certify(network)).rho if kind.certified else 0.0
    return mse + weight * kind.of(network, rho)
