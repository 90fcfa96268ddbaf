"""Intervals about predictions that hold the network's outputs for every small perturbation of its inputs."""

from __future__ import annotations

from typing import Final

import numpy as np

from certnet.core.validation import Float
from certnet.networks.network import Network

__all__ = ["interval_about"]

_EPS: Final = np.finfo(np.float64).eps
_TINY: Final = np.finfo(np.float64).tiny
_SMOOTH: Final = 2.0**-46  # what computed values of smooth activations are taken to be right to


def interval_about(network: Network, upper: float, X: Float, epsilon: float) -> tuple[Float, Float]:
    """Both ends of ``f(x) ∓ (L ε + rounding)`` with ``L ≤ upper``, rounded outward, in the shape of ``predict``."""
    centre = network.predict(X)
    # L ε rounded up, then the rounding of the computed f(x) added to it, rounded up
    radius = np.nextafter(upper * epsilon, np.inf) if epsilon else 0.0
    radius = np.nextafter(radius + _rounding(network, X).reshape(centre.shape), np.inf)
    return np.nextafter(centre - radius, -np.inf), np.nextafter(centre + radius, np.inf)


def _rounding(network: Network, X: Float) -> Float:
    r"""Bound on the rounding of ``forward``, whatever the order of its sums, layer by layer; shape (N, m).

    With computed x̂ and ``|x̂ − x| ≤ e``, the computed ``â`` of a layer ``a = W x + b`` with n inputs has

        |â − a| ≤ |W| e + γ (|W| |x̂| + |b|),     e ← s |â − a| + δ

    behind an activation of slopes within ±s. γ counts n + 2 operations at twice the unit roundoff: the spare half
    covers the rounding of the bound itself; ``tiny`` covers underflow (N. J. Higham, *Accuracy and Stability of
    Numerical Algorithms*, section 3.5). δ is one rounding of the value of a piecewise linear φ, and
    ``2⁻⁴⁶ (1 + |â| + |φ(â)|)`` where it is smooth: that NumPy's functions are this exact is taken for granted.
    """
    x, e = X, np.zeros_like(X)
    for W, layer in zip(network.weights, network.layers):
        gamma = (W.shape[1] + 2) * _EPS
        size = np.abs(W).T
        e = (1.0 + gamma) * (e @ size) + gamma * (np.abs(x) @ size + np.abs(layer.bias) + _TINY)
        a = layer.preactivations(x)
        x = layer.activated(a)
        phi = layer.activation
        e = max(map(abs, phi.slopes)) * e
        if phi.smooth:
            e += _SMOOTH * (1.0 + np.abs(a) + np.abs(x))
        elif phi.name not in ("relu", "identity"):
            e += 2.0 * _EPS * (np.abs(a) + np.abs(x)) + _TINY
    return np.asarray(e, dtype=np.float64)
