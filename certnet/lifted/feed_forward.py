r"""The feed-forward network of the same architecture, ``z_{k+1} = Π_{C_{k+1}}(W_k z_k + b_k)``.

It is what a lifted network with β = 0 tends to as γ → 0 (Zach and Estellers 2019, (4)).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float, as_inputs
from certnet.lifted.fractions import fractions_inside
from certnet.networks.activations import Activation
from certnet.networks.energy import BOXES, LiftedEnergy
from certnet.networks.feedforward import FeedForward

__all__ = ["linear_fraction_feed_forward", "to_feed_forward"]

_PHI: Final = {
    "linear": Activation("identity"),
    "relu": Activation("relu"),
    "hard_sigmoid": Activation("hard_sigmoid", (1.0, 0.0)),
}
_LIMITS: Final = {"identity": BOXES["linear"], "relu": BOXES["relu"], "hard_sigmoid": BOXES["hard_sigmoid"]}


def to_feed_forward(net: LiftedEnergy) -> FeedForward:
    """``z_{k+1} = Π(W_k z_k + b_k)`` as a :class:`~certnet.networks.feedforward.FeedForward`; β, γ and c play no part.

    Raises
    ------
    UnsupportedModelError
        A hidden layer has a box without a name, or the output is not linear.
    InvalidInputError
        There is no hidden layer.
    """
    *hidden, last = net.unit_names
    if last != "linear" or "box" in hidden:
        raise UnsupportedModelError(
            f"the layers have the units {', '.join(net.unit_names)}: a FeedForward has {', '.join(_PHI)} units in its "
            "hidden layers and a linear output; evaluate the network by feed_forward(X) instead"
        )
    return FeedForward(net.weights, net.biases, [_PHI[name] for name in hidden])


def linear_fraction_feed_forward(
    network: LiftedEnergy | FeedForward, X: ArrayLike, *, margin: float = 1e-9
) -> tuple[float, ...]:
    """The share of activations strictly inside of C_k in the forward pass (Z, Table 1), for every layer k = 1 … L.

    The same count as of a lifted network's activations; a linear output, layer L, has the share one.

    Parameters
    ----------
    network : LiftedEnergy or FeedForward
        Of a lifted network, its feed-forward pass; of a FeedForward, units that clip: relu, hard_sigmoid with any
        slope, identity.
    X : array_like, shape (N, d), N ≥ 1
    margin : float
        See :func:`~certnet.lifted.fractions.strictly_inside`.

    Raises
    ------
    UnsupportedModelError
        Activations that are not projections on a box.
    InvalidInputError
        No samples, wrong shapes, NaN.
    """
    if isinstance(network, LiftedEnergy):
        return fractions_inside(network.split(network.feed_forward(X)), network.lower, network.upper, margin)
    phis = (*network.activations, Activation("identity"))
    lower, upper = ([np.array(side) for side in sides] for sides in zip(*map(_limits, phis)))
    return fractions_inside(_activations(network, X), lower, upper, margin)


def _activations(network: FeedForward, X: ArrayLike) -> list[Float]:
    x, found = as_inputs(X, network.n_inputs), []
    for W, b, phi in zip(network.weights, network.biases, (*network.activations, Activation("identity"))):
        x = phi(x @ W.T + b)
        found.append(x)
    return found


def _limits(phi: Activation) -> tuple[float, float]:
    if phi.name not in _LIMITS:
        raise UnsupportedModelError(
            f"{phi} has no linear range between limits: relu, hard_sigmoid or identity is needed"
        )
    return _LIMITS[phi.name]
