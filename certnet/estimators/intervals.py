"""Intervals about predictions that hold the network's outputs for every small perturbation of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, positive_number
from certnet.networks.network import Network
from certnet.robust.intervals import Bound, moved, near_samples

__all__ = ["Perturbed", "interval_about"]

_EPS: Final = np.finfo(np.float64).eps
_TINY: Final = np.finfo(np.float64).tiny
_SMOOTH: Final = 2.0**-46  # what computed values of smooth activations are taken to be right to


@dataclass(frozen=True, eq=False)
class Perturbed:
    """How inputs may move: ``‖δ‖₂ ≤ epsilon``, or ``|δ| ≤ box`` input by input, in the units of X.

    Attributes
    ----------
    epsilon : float or None
    box : array_like, shape () or (d,) or (N, d), or None
        Half-widths.
    relaxed : bool
        Take the smaller of both intervals, that of the Lipschitz bound and that of linear relaxation.
    """

    epsilon: float | None
    box: ArrayLike | None = None
    relaxed: bool = False

    @classmethod
    def of(cls, epsilon: float | None, box: ArrayLike | None, relaxed: bool) -> Perturbed:
        """What is asked for, checked but for the shape of the box."""
        if box is None:
            return cls(positive_number(epsilon, "epsilon", zero=True), None, relaxed)  # type: ignore[arg-type]
        if epsilon is not None:
            raise InvalidInputError("give epsilon or box, not both")
        return cls(None, box, True)

    def rows(self, chosen: list[int]) -> Perturbed:
        """That of some samples."""
        box = None if self.box is None else np.asarray(self.box)
        return self if box is None or box.ndim < 2 else Perturbed(None, box[chosen], True)

    def interval(self, network: Network, upper: float, X: Float) -> tuple[Float, Float]:
        """Both ends of what ``network`` may predict about the rows of X, in the shape of ``predict``; ``L ≤ upper``."""
        if not self.relaxed:
            return interval_about(network, upper, X, float(self.epsilon or 0.0))
        ends = moved(network, near_samples(X, box=self.box, radius=self.epsilon), [Bound(upper)])
        low, high = ((e[:, 0] if network.n_outputs == 1 else e) for e in (ends.left, ends.right))
        if self.epsilon is not None:
            other = interval_about(network, upper, X, self.epsilon)
            low, high = np.maximum(low, other[0]), np.minimum(high, other[1])
        return low, high


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
