"""Feed-forward networks of any depth as frozen values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float, finite_array
from certnet.networks.about import About
from certnet.networks.activations import Activation, activation
from certnet.networks.arrays import about_in, read_arrays
from certnet.networks.layers import Layer, dense, read_only
from certnet.networks.network import Network, known_units
from certnet.networks.operators_written import owned, read_operator, written
from certnet.networks.shallow import ShallowNetwork

__all__ = ["FEED_FORWARD_FORMAT", "STRUCTURED_FORMAT", "FeedForward", "require_network"]

FEED_FORWARD_FORMAT: Final = "certnet-feed-forward-1"
STRUCTURED_FORMAT: Final = "certnet-feed-forward-2"
"""Of networks with operators other than matrices, or with units that are carried past an activation."""

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

    @classmethod
    def chain(cls, layers: Sequence[Layer], *, units: str = "as given") -> FeedForward:
        """A network of layers with any operators (:mod:`certnet.networks.operators`) and with units carried along.

        A residual block ``y + A φ(B y + b)`` is a layer with the operator (B; I), whose last units are carried, and a
        linear one with (A, I).

        Raises
        ------
        InvalidInputError
            No hidden layer, operators or biases that do not chain, entries that are NaN or infinite.
        """
        if len(layers) < 2:
            raise InvalidInputError("at least one hidden layer and an output layer are needed")
        last = layers[-1]
        if last.activation != _IDENTITY or last.carried:
            raise InvalidInputError("the last layer has no activation, and carries nothing")
        held = []
        layers = [replace(layer, operator=owned(layer.operator)) for layer in layers]
        for k, layer in enumerate(layers):
            n = layer.operator.n_outputs
            if k and layer.operator.n_inputs != layers[k - 1].operator.n_outputs:
                raise InvalidInputError(
                    f"layer {k} takes {layer.operator.n_inputs} inputs, the layer before gives "
                    f"{layers[k - 1].operator.n_outputs}"
                )
            if not 0 <= layer.carried < n:
                raise InvalidInputError(f"layer {k} has {n} units, and is to carry {layer.carried}: fewer are needed")
            arrays: list[NDArray[Any]] = []
            written(layer.operator, arrays)
            if not all(np.isfinite(array).all() for array in arrays):
                raise InvalidInputError(f"layer {k} has weights that are NaN or infinite")
            bias = finite_array(layer.bias, f"the bias of layer {k}", ndim=(1,))
            if bias.shape != (n,):
                raise InvalidInputError(f"layer {k} has {n} units and a bias of shape {bias.shape}")
            held.append(replace(layer, bias=read_only(bias)))
        return cls.from_layers(held, known_units(units))

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.widths))
        inner = ", with skips or convolutions" if self.structured else ""
        return f"FeedForward({sizes}, {', '.join(map(str, self.activations))}{inner}, units={self.units!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.arrays(), self.about)

    def _headed(self) -> tuple[str, tuple[Float, ...]]:
        if self.structured:
            arrays: list[NDArray[Any]] = []
            operators = [written(layer.operator, arrays) for layer in self.layers]
            carried = [layer.carried for layer in self.layers]
            shapes = [array.shape for array in arrays]
            spelled = _spelled(self.activations)
            head = json.dumps([STRUCTURED_FORMAT, self.widths, operators, shapes, carried, spelled, self.units])
            return head, (*arrays, *self.biases)
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
        if self.structured:
            raise UnsupportedModelError(f"{self!r}: other weights are for networks of dense layers")
        return FeedForward(weights, biases, self.activations, units=units)

    def arrays(self) -> dict[str, Any]:
        if self.structured:
            held: list[NDArray[Any]] = []
            operators = [written(layer.operator, held) for layer in self.layers]
            structure = {"operators": operators, "carried": [layer.carried for layer in self.layers]}
            found: dict[str, Any] = {f"a{k}": array for k, array in enumerate(held)}
            found |= {f"b{k}": b for k, b in enumerate(self.biases)}
            found |= {"format": np.array(STRUCTURED_FORMAT), "units": np.array(self.units)}
            found |= {"structure": np.array(json.dumps(structure))}
            return found | {"activations": np.array(json.dumps(_spelled(self.activations)))}
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
    if str(file.get("format", "")) == STRUCTURED_FORMAT:
        return _structured(file, source)
    if str(file.get("format", "")) != FEED_FORWARD_FORMAT:
        return FeedForward.of(ShallowNetwork.from_arrays(file, source))
    layers = sum(1 for name in file if name.startswith("W"))
    phis = _read_activations(file, source)
    return FeedForward(
        [file[f"W{k}"] for k in range(layers)],
        [file[f"b{k}"] for k in range(layers)],
        phis,
        units=str(file["units"]),
    ).described(about_in(file))


def _read_activations(file: Mapping[str, Any], source: Path) -> list[Activation]:
    try:
        spelled = json.loads(str(file["activations"]))
        return [Activation(str(name), tuple(float.fromhex(p) for p in parameters)) for name, parameters in spelled]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{source} does not say its activations: {error}") from error


def _structured(file: Mapping[str, Any], source: Path) -> FeedForward:
    """A network with operators other than matrices, or with units that are carried."""
    arrays = {k: file[f"a{k}"] for k in range(sum(1 for name in file if name[:1] == "a" and name[1:].isdigit()))}
    phis = [*_read_activations(file, source), _IDENTITY]
    try:
        structure = json.loads(str(file["structure"]))
        operators, carried = structure["operators"], structure["carried"]
        if not len(operators) == len(carried) == len(phis) or any(type(n) is not int for n in carried):
            raise ValueError("its lists are of different lengths")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileFormatError(f"{source} does not say its layers: {error}") from error
    layers = [
        Layer(read_operator(operator, arrays), file[f"b{k}"], phi, n)
        for k, (operator, phi, n) in enumerate(zip(operators, phis, carried))
    ]
    return FeedForward.chain(layers, units=str(file["units"])).described(about_in(file))


def require_network(network: object) -> Network:
    """``network``, if it is one; otherwise an InvalidInputError that says how to get one."""
    if isinstance(network, Network):
        return network
    raise InvalidInputError(
        f"a ShallowNetwork or FeedForward is needed, got {type(network).__name__}: convert models with "
        "certnet.from_sklearn, from_torch or load_onnx first; a LiftedNetwork has lipschitz_bound()"
    )


def _rebuild(arrays: dict[str, Any], about: About) -> FeedForward:
    return _from_arrays(arrays, Path("a pickle")).described(about)
