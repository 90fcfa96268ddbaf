"""What all feed-forward networks are: layers, units of inputs and outputs, and what follows from them."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError, OutputError
from certnet.core.files import path_of, write_atomic
from certnet.core.validation import Float, as_inputs, finite_array, one_of
from certnet.networks.about import NOTHING, About
from certnet.networks.activations import Activation
from certnet.networks.layers import Dense, Layer, read_only

__all__ = ["UNITS", "Network", "known_units"]

UNITS: Final = ("as given", "standardised", "raw")
"""Units in which a network takes inputs and gives outputs, and in which its certificate speaks."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Network(ABC):
    """``x_{k+1} = φ_k(A_k x_k + b_k)``, ``f(x) = A_ℓ x_ℓ + b_ℓ``: abstract, immutable, compared by digest.

    Attributes
    ----------
    layers : tuple of ℓ + 1 Layer
        The hidden layers, and the output layer, whose activation is the identity.
    units : {"as given", "standardised", "raw"}
        What the inputs and outputs are measured in; part of the digest, repeated by every certificate.
    about : About
        Where the network was read from, and the names of its inputs and outputs; no part of the digest.
    """

    layers: tuple[Layer, ...]
    units: str
    about: About

    @classmethod
    def from_layers(cls, layers: Sequence[Layer], units: str, about: About = NOTHING) -> Self:
        """A network of layers that are known to fit, for instance those of another network; nothing is copied."""
        made = object.__new__(cls)
        made._hold(layers, units, about)
        return made

    def _hold(self, layers: Sequence[Layer], units: str, about: About = NOTHING) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "about", about)

    def described(self, about: About) -> Self:
        """The same network with other words about it; names that do not fit its inputs or outputs are left out."""
        return self.from_layers(self.layers, self.units, about.fitting(self.n_inputs, self.n_outputs))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.digest == other.digest  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.digest)

    # ------------------------------------------------------------------------------------------------------ the layers

    @cached_property
    def weights(self) -> tuple[Float, ...]:
        """The layers' operators as matrices, shapes (n_{k+1}, n_k); large where an operator is a convolution."""
        return tuple(layer.operator.matrix for layer in self.layers)

    @cached_property
    def biases(self) -> tuple[Float, ...]:
        return tuple(layer.bias for layer in self.layers)

    @cached_property
    def activations(self) -> tuple[Activation, ...]:
        """φ_0 … φ_{ℓ−1}, of the hidden layers."""
        return tuple(layer.activation for layer in self.layers[:-1])

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """n_0 (inputs), n_1 … n_ℓ (hidden), m (outputs)."""
        return (self.layers[0].operator.n_inputs, *(layer.operator.n_outputs for layer in self.layers))

    @property
    def n_inputs(self) -> int:
        return self.widths[0]

    @property
    def n_outputs(self) -> int:
        return self.widths[-1]

    @property
    def n_hidden(self) -> int:
        """Hidden units of all layers."""
        return sum(self.widths[1:-1])

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.layers) - 1

    @cached_property
    def structured(self) -> bool:
        """Are there operators other than matrices, or units that are carried past an activation?"""
        return any(layer.carried or not isinstance(layer.operator, Dense) for layer in self.layers)

    @property
    def relu_only(self) -> bool:
        """One hidden layer with ReLU: what a :class:`~certnet.networks.shallow.ShallowNetwork` is."""
        return self.depth == 1 and self.layers[0].activation.name == "relu" and not self.structured

    @property
    def slopes(self) -> tuple[tuple[float, float], ...]:
        """Of every hidden layer, the interval (low, high) of its activation's slopes."""
        return tuple(layer.activation.slopes for layer in self.layers[:-1])

    @property
    def has_values(self) -> bool:
        """Can the network be evaluated? An activation that is given by its slopes alone has no values."""
        return all(layer.activation.has_values for layer in self.layers)

    # ---------------------------------------------------------------------------------------------------------- values

    def forward(self, X: ArrayLike) -> Float:
        """``f`` at every row of X (N, d), as an (N, m) array; columns with names are matched with the inputs' names."""
        return self.outputs(as_inputs(X, self.n_inputs, self.about.inputs))

    def outputs(self, x: Float) -> Float:
        """:meth:`forward` of inputs that are checked already."""
        for layer in self.layers:
            x = layer(x)
        return x

    def predict(self, X: ArrayLike) -> Float:
        """``f`` at every row of X (N, d): shape (N,) for one output, else (N, m)."""
        values = self.forward(X)
        return values[:, 0] if self.n_outputs == 1 else values

    def gradients(self, X: ArrayLike) -> Float:
        """Jacobians ``A_ℓ D_{ℓ−1} ⋯ D_0 A_0`` at every row of X, shape (N, m, d).

        On a kink that of the piece to the right.
        """
        x = as_inputs(X, self.n_inputs, self.about.inputs)
        slopes = []
        for layer in self.layers[:-1]:
            z = layer.preactivations(x)
            slopes.append(layer.derivative(z))
            x = layer.activated(z)
        # from the end that has fewer numbers: the product is small on that side all the way
        if self.n_outputs <= self.n_inputs:
            last = self.layers[-1].operator.matrix
            J = np.broadcast_to(last, (len(x), *last.shape))
            for layer, slope in zip(self.layers[-2::-1], slopes[::-1]):
                pulled = layer.operator.adjoint((J * slope[:, None, :]).reshape(-1, slope.shape[1]))
                J = pulled.reshape(len(x), self.n_outputs, pulled.shape[1])
            return np.array(J)
        # rows of its transpose: the derivatives along one input each
        J = np.broadcast_to(np.eye(self.n_inputs), (len(x), self.n_inputs, self.n_inputs))
        for layer, slope in zip(self.layers, [*slopes, np.ones((len(x), self.n_outputs))]):
            J = slope[:, None, :] * layer.operator(J.reshape(-1, J.shape[2])).reshape(len(x), self.n_inputs, -1)
        return np.ascontiguousarray(np.swapaxes(J, 1, 2))

    # -------------------------------------------------------------------------------------------------- other networks

    @abstractmethod
    def with_parameters(self, weights: Sequence[Float], biases: Sequence[Float], units: str) -> Self:
        """The same network with other weights and biases of the same shapes, validated."""

    def _with_ends(self, first: tuple[Float, Float], last: tuple[Float, Float], units: str) -> Self:
        """The same network with other weights and biases of its first and its last layer, validated."""
        if not self.structured:
            (W, b), (V, c) = first, last
            return self.with_parameters([W, *self.weights[1:-1], V], [b, *self.biases[1:-1], c], units)
        layers = list(self.layers)
        for k, (W, b), name in ((0, first, "of the first layer"), (-1, last, "of the last layer")):
            W, b = finite_array(W, f"weights {name}", ndim=(2,)), finite_array(b, f"biases {name}", ndim=(1,))
            layers[k] = replace(layers[k], operator=Dense(read_only(W)), bias=read_only(b))
        return self.from_layers(layers, known_units(units))

    def rescaled(
        self, *, x_shift: ArrayLike, x_scale: ArrayLike, y_shift: ArrayLike, y_scale: ArrayLike, units: str = "raw"
    ) -> Self:
        """The network ``x ↦ y_scale · f((x − x_shift) / x_scale) + y_shift`` with the scaling folded into its weights.

        Shifts and scales of the inputs have shape (d,) or (), of the outputs (m,) or (). The folded weights are
        rounded to float64; a certificate of the result speaks of these stored weights.

        Raises
        ------
        InvalidInputError
            A scale is zero, or the folded weights overflow.
        """
        x_shift, x_scale = (_one_per(a, self.n_inputs, "x scaling", "input") for a in (x_shift, x_scale))
        y_shift, y_scale = (_one_per(a, self.n_outputs, "y scaling", "output") for a in (y_shift, y_scale))
        if not np.all(x_scale) or not np.all(y_scale):
            raise InvalidInputError("a scale is zero: a constant column must have scale 1")
        first, last = self.layers[0], self.layers[-1]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by the new network
            W = first.operator.matrix / x_scale
            b = first.bias - W @ x_shift
            V, c = y_scale[:, None] * last.operator.matrix, y_scale * last.bias + y_shift
        return self._with_ends((W, b), (V, c), units).described(self.about)

    def labelled(self, units: str) -> Self:
        """The same weights with another statement of what they are measured in; nothing is converted."""
        return self.from_layers(self.layers, known_units(units), self.about)

    # ------------------------------------------------------------------------------------------------ digest and files

    @abstractmethod
    def _headed(self) -> tuple[str, tuple[Float, ...]]:
        """What the digest is taken over: a text with format, shapes, activations and units; the arrays."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over format, shapes, activations, units and the float64 weights (little-endian), in hexadecimal."""
        head, arrays = self._headed()
        sha = hashlib.sha256(head.encode())
        for array in arrays:
            sha.update(array.astype("<f8").tobytes())
        return sha.hexdigest()

    @abstractmethod
    def arrays(self) -> dict[str, Any]:
        """What :meth:`save` writes, by name."""

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the network to an ``.npz`` file (bit-exact, no pickles), complete or not at all.

        Raises
        ------
        OutputError
            The file exists (and ``force`` is false) or cannot be written.
        """
        if path_of(path).suffix.lower() != ".npz":
            raise OutputError(f"{path}: a network is written to a file with the suffix .npz")
        buffer = io.BytesIO()
        arrays = self.arrays()
        if self.about:
            arrays["about"] = np.array(self.about.to_json())
        np.savez(buffer, **arrays)
        return write_atomic(path, buffer.getvalue(), force=force)


def known_units(units: str) -> str:
    """``units``, if they are among :data:`UNITS`."""
    one_of(units, "units", UNITS)
    return units


def _one_per(values: ArrayLike, n: int, name: str, what: str) -> Float:
    array = finite_array(values, name, ndim=(0, 1))
    if array.ndim == 1 and array.shape != (n,):
        raise InvalidInputError(f"{name} has shape {array.shape}: one number, or one per {what} ({n}), is needed")
    return np.broadcast_to(array, (n,))
