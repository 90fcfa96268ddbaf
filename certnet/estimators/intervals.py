"""Intervals about predictions that hold the network's outputs for every small perturbation of its inputs."""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.networks.shallow import ShallowNetwork

__all__ = ["interval_about"]


def interval_about(network: ShallowNetwork, upper: float, X: Float, epsilon: float) -> tuple[Float, Float]:
    """Both ends of ``f(x) ∓ (L ε + rounding)`` with ``L ≤ upper``, rounded outward, in the shape of ``predict``."""
    centre = network.predict(X)
    # L ε rounded up, then the rounding of the computed f(x) added to it, rounded up
    radius = np.nextafter(upper * epsilon, np.inf) if epsilon else 0.0
    radius = np.nextafter(radius + _rounding(network, X).reshape(centre.shape), np.inf)
    return np.nextafter(centre - radius, -np.inf), np.nextafter(centre + radius, np.inf)


def _rounding(network: ShallowNetwork, X: Float) -> Float:
    r"""Bound ``γ (|V| (|W| |x| + |b|) + |c|)`` on the rounding of ``forward``, whatever its order; shape (N, m).

    γ counts d + h + 2 operations at twice the unit roundoff: the spare half covers the rounding of the bound itself;
    ``tiny`` covers underflow (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.5).
    """
    tiny = np.finfo(np.float64).tiny
    # |W| |x| + |b|, then |V| (...) + |c|
    hidden = np.abs(X) @ np.abs(network.W).T + np.abs(network.b) + tiny
    size = hidden @ np.abs(network.V).T + np.abs(network.c) + tiny
    gamma = (network.n_inputs + network.n_hidden + 2) * np.finfo(np.float64).eps
    return np.asarray(gamma * size, dtype=np.float64)
