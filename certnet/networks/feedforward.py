"""Feed-forward networks of any depth as frozen values."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import FileFormatError, InvalidInputError, UnsupportedModelError
from certnet.core.files import write_atomic
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.networks.activations import Activation, activation
from certnet.networks.shallow import UNITS, ShallowNetwork, read_arrays

__all__ = ["FeedForward", "require_network"]

_FORMAT = "certnet-feed-forward-1"


@dataclass(frozen=True, eq=False, init=False, repr=False)
class FeedForward:
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

    weights: tuple[Float, ...]
    biases: tuple[Float, ...]
    activations: tuple[Activation, ...]
    units: str

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
        if units not in UNITS:
            raise InvalidInputError(f"units must be one of {', '.join(map(repr, UNITS))}, got {units!r}")
        for array in (*Ws, *bs):
            array += 0.0  # -0.0 becomes 0.0: equal networks have equal digests
            array.flags.writeable = False
        for name, value in (("weights", Ws), ("biases", bs), ("activations", phis), ("units", units)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.widths))
        return f"FeedForward({sizes}, {', '.join(map(str, self.activations))}, units={self.units!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FeedForward):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.weights, self.biases, self.activations, self.units)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0 (inputs), n_1 … n_ℓ (hidden), m (outputs)."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))

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
        return len(self.activations)

    @property
    def digest(self) -> str:
        """SHA-256 over widths, activations, units and the float64 weights (little-endian), in hexadecimal."""
        head = json.dumps([_FORMAT, self.widths, _spelled(self.activations), self.units])
        sha = hashlib.sha256(head.encode())
        for array in (*self.weights, *self.biases):
            sha.update(array.astype("<f8").tobytes())
        return sha.hexdigest()

    @classmethod
    def of(cls, network: ShallowNetwork | FeedForward) -> FeedForward:
        """A shallow ReLU network as one of depth 1; a feed-forward network as it is."""
        if isinstance(network, FeedForward):
            return network
        return cls([network.W, network.V], [network.b, network.c], "relu", units=network.units)

    def shallow(self) -> ShallowNetwork:
        """The same network as a :class:`ShallowNetwork`.

        Raises
        ------
        UnsupportedModelError
            More than one hidden layer, or an activation other than ReLU.
        """
        if self.depth != 1 or self.activations[0].name != "relu":
            raise UnsupportedModelError(f"{self!r} is not a one-hidden-layer ReLU network, which this needs")
        return ShallowNetwork(self.weights[0], self.biases[0], self.weights[1], self.biases[1], units=self.units)

    def forward(self, X: ArrayLike) -> Float:
        """``f`` at every row of X (N, d), as an (N, m) array."""
        x = as_inputs(X, self.n_inputs)
        for W, b, phi in zip(self.weights, self.biases, self.activations):
            x = phi(x @ W.T + b)
        return x @ self.weights[-1].T + self.biases[-1]

    def predict(self, X: ArrayLike) -> Float:
        """``f`` at every row of X (N, d): shape (N,) for one output, else (N, m)."""
        values = self.forward(X)
        return values[:, 0] if self.n_outputs == 1 else values

    def gradients(self, X: ArrayLike) -> Float:
        """Jacobians at every row of X, shape (N, m, d); on a kink that of the piece to the right."""
        x = as_inputs(X, self.n_inputs)
        slopes = []
        for W, b, phi in zip(self.weights, self.biases, self.activations):
            z = x @ W.T + b
            slopes.append(phi.derivative(z))
            x = phi(z)
        # from the end that has fewer numbers: the product is small on that side all the way
        if self.n_outputs <= self.n_inputs:
            J = np.broadcast_to(self.weights[-1], (len(x), *self.weights[-1].shape))
            for W, slope in zip(self.weights[-2::-1], slopes[::-1]):
                J = (J * slope[:, None, :]) @ W
            return np.array(J)
        J = np.broadcast_to(np.eye(self.n_inputs), (len(x), self.n_inputs, self.n_inputs))
        for W, slope in zip(self.weights, slopes):
            J = slope[:, :, None] * (W @ J)
        return np.asarray(self.weights[-1] @ J)

    def rescaled(
        self, *, x_shift: ArrayLike, x_scale: ArrayLike, y_shift: ArrayLike, y_scale: ArrayLike, units: str = "raw"
    ) -> FeedForward:
        """``x ↦ y_scale · f((x − x_shift) / x_scale) + y_shift``, folded into the first and the last layer."""
        outer = ShallowNetwork(self.weights[0], self.biases[0], np.ones((1, self.widths[1])), 0.0)
        first = outer.rescaled(x_shift=x_shift, x_scale=x_scale, y_shift=0.0, y_scale=1.0)
        inner = ShallowNetwork(
            np.ones((self.widths[-2], 1)), np.zeros(self.widths[-2]), self.weights[-1], self.biases[-1]
        )
        last = inner.rescaled(x_shift=0.0, x_scale=1.0, y_shift=y_shift, y_scale=y_scale)
        return FeedForward(
            [first.W, *self.weights[1:-1], last.V],
            [first.b, *self.biases[1:-1], last.c],
            self.activations,
            units=units,
        )

    def labelled(self, units: str) -> FeedForward:
        """The same weights with another statement of what they are measured in; nothing is converted."""
        return FeedForward(self.weights, self.biases, self.activations, units=units)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the network to an ``.npz`` file (bit-exact, no pickles), complete or not at all."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {f"W{k}": W for k, W in enumerate(self.weights)}
        arrays |= {f"b{k}": b for k, b in enumerate(self.biases)}
        arrays |= {"format": np.array(_FORMAT), "units": np.array(self.units)}
        arrays["activations"] = np.array(json.dumps(_spelled(self.activations)))
        np.savez(buffer, **arrays)
        return write_atomic(path, buffer.getvalue(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FeedForward:
        """Read what :meth:`save` wrote, or what :meth:`ShallowNetwork.save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, too large, or not a certnet network.
        """
        return read_arrays(path, _from_arrays)


def _spelled(activations: Sequence[Activation]) -> list[list[Any]]:
    return [[phi.name, [float(p).hex() for p in phi.parameters]] for phi in activations]


def _from_arrays(file: Mapping[str, Any], source: Path) -> FeedForward:
    if str(file.get("format", "")) != _FORMAT:
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
    )


def require_network(network: object) -> ShallowNetwork | FeedForward:
    """``network``, if it is one; otherwise an InvalidInputError that says how to get one."""
    if isinstance(network, ShallowNetwork | FeedForward):
        return network
    raise InvalidInputError(
        f"a ShallowNetwork or FeedForward is needed, got {type(network).__name__}: convert models with "
        "certnet.from_sklearn, from_torch or load_onnx first; a LiftedNetwork has lipschitz_bound()"
    )


def _rebuild(
    weights: tuple[Float, ...], biases: tuple[Float, ...], activations: tuple[Activation, ...], units: str
) -> FeedForward:
    return FeedForward(weights, biases, activations, units=units)
