"""The simplest type that a network read from elsewhere fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from certnet.core.errors import UnsupportedModelError
from certnet.core.validation import Float
from certnet.networks.about import NOTHING, About
from certnet.networks.activations import Activation
from certnet.networks.feedforward import FeedForward
from certnet.networks.layers import LinearOperator
from certnet.networks.network import Network
from certnet.networks.operators import Blocks, Convolution
from certnet.networks.shallow import ShallowNetwork

__all__ = ["build", "require_dense", "simplest", "structure", "summary"]


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


def structure(network: Network) -> list[str]:
    """Remarks on convolutions and on units that are carried past activations; none for dense layers."""
    count = sum(isinstance(part, Convolution) for layer in network.layers for part in _parts(layer.operator))
    carried = max(layer.carried for layer in network.layers)
    remarks = [f"convolutions are kept as such: {count}"] if count else []
    if carried:
        remarks.append(f"up to {carried} units of a layer are carried past its activation, as skip connections are")
    return remarks


def _parts(operator: LinearOperator) -> Iterator[LinearOperator]:
    if isinstance(operator, Blocks):
        for part in (part for row in operator.grid for part in row if part is not None):
            yield from _parts(part)
    else:
        yield operator


def require_dense(network: Network, what: str) -> None:
    """Refuse a network with convolutions or skips for ``what``, such as "scikit-learn's MLPRegressor".

    Raises
    ------
    UnsupportedModelError
        It has other operators than matrices, or units that are carried.
    """
    if network.structured:
        raise UnsupportedModelError(
            f"{network!r} has convolutions, skips or other structure, and {what} is a chain of dense layers: save it "
            "as .npz, which keeps all"
        )
