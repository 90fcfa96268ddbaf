"""Feed-forward networks of any depth as frozen values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float, finite_array
from certnet.networks.about import About
from certnet.networks.activations import Activation, activation
from certnet.networks.arrays import about_in, read_arrays
from certnet.networks.layers import dense
from certnet.networks.network import Network, known_units
from certnet.networks.shallow import ShallowNetwork

__all__ = ["FEED_FORWARD_FORMAT", "FeedForward", "require_network"]

FEED_FORWARD_FORMAT: Final = "certnet-feed-forward-1"
_IDENTITY: Final = Activation("identity")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class FeedForward(Network):
    r"""``x_{k+1} = φ_k(W_k x_k + b_k)``, ``f(x) = W_ℓ x_ℓ + b_ℓ``, validated once and never changed.

    Parameters
    ----------
    weights : sequence of ℓ + 1 array_like, shapes (n_{k+1}, n_k)
        ℓ ≥ 1 hidden layers and the output layer.
    biases : sequence of ℓ + 1 array_like, shapes (n_{k+1},)
    activations : sequence of ℓ activations
        Names (``certnet.networks.activations.ACTIVATIONS``), :class:`~certnet.networks.activations.Activation`
        values, or pairs of slopes (low, high) for functions that certnet does not know; one alone serves all layers.
    units : {"as given", "standardised", "raw"}

    Raises
    ------
    InvalidInputError
        Shapes that do not chain, no hidden layer, entries that are NaN or infinite, unknown units.
    UnsupportedModelError
        Unknown activation.

    Examples
    --------
    >>> import numpy as np
    >>> net = FeedForward([[[1.0]], [[1.0], [-1.0]], [[1.0, 1.0]]], [[0.0], [0.0, 0.0], [0.0]], "relu")
    >>> net.predict(np.array([[2.0], [-2.0]]))
    array([2., 0.])
    """

    def __init__(
        self,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike],
        activations: str | Activation | Sequence[str | Activation | tuple[float, float]] = "relu",
        *,
        units: str = "as given",
    ) -> None:
        Ws = tuple(finite_array(W, f"weights[{k}]", ndim=(2,)) for k, W in enumerate(weights))
        bs = tuple(finite_array(b, f"biases[{k}]", ndim=(1,)) for k, b in enumerate(biases))
        if len(Ws) < 2 or len(bs) != len(Ws):
            raise InvalidInputError(
                f"there are {len(Ws)} weight matrices and {len(bs)} biases: at least one hidden layer and an output "
                "layer are needed, each with its bias"
            )
        for k, (W, b) in enumerate(zip(Ws, bs)):
            if 0 in W.shape or b.shape != W.shape[:1]:
                raise InvalidInputError(f"weights[{k}] has shape {W.shape} and biases[{k}] {b.shape}: they do not fit")
            if k and W.shape[1] != Ws[k - 1].shape[0]:
                raise InvalidInputError(
                    f"weights[{k}] takes {W.shape[1]} inputs, the layer before gives {Ws[k - 1].shape[0]}"
                )
        one = isinstance(activations, str | Activation)
        phis = tuple(map(activation, [activations] * (len(Ws) - 1) if one else activations))  # type: ignore[arg-type]
        if len(phis) != len(Ws) - 1:
            raise InvalidInputError(f"there are {len(phis)} activations and {len(Ws) - 1} hidden layers")
        phis = (*phis, _IDENTITY)
        self._hold([dense(W, b, phi) for W, b, phi in zip(Ws, bs, phis)], known_units(units))

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.widths))
        return f"FeedForward({sizes}, {', '.join(map(str, self.activations))}, units={self.units!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.weights, self.biases, self.activations, self.units, self.about)

    def _headed(self) -> tuple[str, tuple[Float, ...]]:
        head = json.dumps([FEED_FORWARD_FORMAT, self.widths, _spelled(self.activations), self.units])
        return head, (*self.weights, *self.biases)

    @classmethod
    def of(cls, network: Network) -> FeedForward:
        """Any network of layers, a shallow one say, as one of this type: the same layers; a FeedForward as it is."""
        return (
            network
            if isinstance(network, FeedForward)
            else cls.from_layers(network.layers, network.units, network.about)
        )

    def shallow(self) -> ShallowNetwork:
        """The same network as a :class:`ShallowNetwork`.

        Raises
        ------
        UnsupportedModelError
            More than one hidden layer, or an activation other than ReLU.
        """
        if not self.relu_only:
            raise UnsupportedModelError(f"{self!r} is not a one-hidden-layer ReLU network, which this needs")
        return ShallowNetwork.from_layers(self.layers, self.units, self.about)

    def with_parameters(self, weights: Sequence[Float], biases: Sequence[Float], units: str) -> FeedForward:
        return FeedForward(weights, biases, self.activations, units=units)

    def arrays(self) -> dict[str, Any]:
        named: dict[str, Any] = {f"W{k}": W for k, W in enumerate(self.weights)}
        named |= {f"b{k}": b for k, b in enumerate(self.biases)}
        named |= {"format": np.array(FEED_FORWARD_FORMAT), "units": np.array(self.units)}
        return named | {"activations": np.array(json.dumps(_spelled(self.activations)))}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeedForward:
        """Read what :meth:`save` wrote, or what :meth:`ShallowNetwork.save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, too large, or not a certnet network.
        """
        return read_arrays(path, cls.from_arrays)

    @classmethod
    def from_arrays(cls, file: Mapping[str, Any], source: Path) -> FeedForward:
        """The network in the arrays of an ``.npz`` file; ``source`` is for messages."""
        return _from_arrays(file, source)


def _spelled(activations: Sequence[Activation]) -> list[list[Any]]:
    return [[phi.name, [float(p).hex() for p in phi.parameters]] for phi in activations]


def _from_arrays(file: Mapping[str, Any], source: Path) -> FeedForward:
    if str(file.get("format", "")) != FEED_FORWARD_FORMAT:
        return FeedForward.of(ShallowNetwork.from_arrays(file, source))
    layers = sum(1 for name in file if name.startswith("W"))
    try:
        spelled = json.loads(str(file["activations"]))
        phis = [Activation(str(name), tuple(float.fromhex(p) for p in parameters)) for name, parameters in spelled]
    except (ValueError, TypeError, OverflowError) as error:
        raise FileFormatError(f"{source} does not say its activations: {error}") from error
    return FeedForward(
        [file[f"W{k}"] for k in range(layers)],
        [file[f"b{k}"] for k in range(layers)],
        phis,
        units=str(file["units"]),
    ).described(about_in(file))


def require_network(network: object) -> Network:
    """``network``, if it is one; otherwise an InvalidInputError that says how to get one."""
    if isinstance(network, Network):
        return network
    raise InvalidInputError(
        f"a ShallowNetwork or FeedForward is needed, got {type(network).__name__}: convert models with "
        "certnet.from_sklearn, from_torch or load_onnx first; a LiftedNetwork has lipschitz_bound()"
    )


def _rebuild(
    weights: tuple[Float, ...], biases: tuple[Float, ...], activations: tuple[Activation, ...], units: str, about: About
) -> FeedForward:
    return FeedForward(weights, biases, activations, units=units).described(about)
