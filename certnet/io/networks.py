"""The simplest type that a network read from elsewhere fits."""

from __future__ import annotations

from collections.abc import Sequence

from certnet.core.validation import Float
from certnet.networks.about import NOTHING, About
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork

__all__ = ["build", "simplest", "summary"]


def build(
    weights: Sequence[Float],
    biases: Sequence[Float],
    activations: Sequence[Activation],
    units: str,
    about: About = NOTHING,
) -> ShallowNetwork | FeedForward:
    """A :class:`ShallowNetwork` for one hidden ReLU layer, a :class:`FeedForward` for anything else."""
    if [phi.name for phi in activations] == ["relu"] and len(weights) == 2:
        return ShallowNetwork(weights[0], biases[0], weights[1], biases[1], units=units).described(about)
    return FeedForward(weights, biases, activations, units=units).described(about)


def simplest(network: FeedForward) -> ShallowNetwork | FeedForward:
    """The same network, as a :class:`ShallowNetwork` where it has one hidden layer with ReLU."""
    return network.shallow() if network.relu_only else network


def summary(network: Network) -> str:
    """Widths and activations in words, such as "6 → 64 → 64 → 1, relu"."""
    widths = network.widths if len(network.widths) <= 12 else (*network.widths[:6], "…", *network.widths[-3:])
    phis = list(dict.fromkeys(map(str, network.activations)))
    return f"{' → '.join(map(str, widths))}, {' and '.join(phis[:4])}{' and others' if len(phis) > 4 else ''}"
