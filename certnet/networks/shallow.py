"""One-hidden-layer ReLU networks as frozen values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.networks.about import About
from certnet.networks.activations import Activation
from certnet.networks.arrays import about_in, read_arrays
from certnet.networks.layers import dense
from certnet.networks.network import UNITS, Network, known_units

__all__ = ["SHALLOW_FORMAT", "UNITS", "ShallowNetwork", "require_shallow"]

SHALLOW_FORMAT: Final = "certnet-shallow-network-1"
_RELU: Final = Activation("relu")
_IDENTITY: Final = Activation("identity")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class ShallowNetwork(Network):
    r"""``f(x) = V relu(W x + b) + c``, validated once and never changed.

    Parameters
    ----------
    W : array_like, shape (h, d)
        Weights of the hidden layer.
    b : array_like, shape (h,)
        Biases of the hidden layer.
    V : array_like, shape (m, h) or (h,)
        Output weights; one output may be given as a vector.
    c : array_like, shape (m,), or float
        Output biases.
    units : {"as given", "standardised", "raw"}
        What the inputs and outputs are measured in; part of the digest, repeated by every certificate.

    Attributes
    ----------
    W, b, V, c : ndarray of float64, shapes (h, d), (h,), (m, h), (m,)
        Read-only copies. Weights given in float32 are represented exactly.

    Raises
    ------
    InvalidInputError
        Wrong shapes, entries that are NaN, infinite or not real numbers, unknown units.

    Examples
    --------
    >>> import numpy as np
    >>> net = ShallowNetwork(W=[[1.0, 0.0], [0.0, 2.0]], b=[0.0, 0.0], V=[1.0, -1.0], c=0.5)
    >>> net.predict(np.array([[1.0, 1.0]]))
    array([-0.5])
    """

    def __init__(self, W: ArrayLike, b: ArrayLike, V: ArrayLike, c: ArrayLike, *, units: str = "as given") -> None:
        W = finite_array(W, "W", ndim=(2,))
        b = finite_array(b, "b", ndim=(1,))
        V = finite_array(V, "V", ndim=(1, 2))
        c = finite_array(c, "c", ndim=(0, 1))
        V = V[None, :] if V.ndim == 1 else V
        c = c[None] if c.ndim == 0 else c
        h, d = W.shape
        if h == 0 or d == 0:
            raise InvalidInputError(f"W has shape {W.shape}: at least one hidden unit and one input are needed")
        if b.shape != (h,):
            raise InvalidInputError(f"b has shape {b.shape}, W has {h} rows: b must have shape ({h},)")
        if V.shape[1] != h or V.shape[0] == 0:
            raise InvalidInputError(f"V has shape {V.shape}, W has {h} rows: V must have shape (m, {h}) or ({h},)")
        if c.shape != (V.shape[0],):
            raise InvalidInputError(f"c has shape {c.shape}, V has {V.shape[0]} rows: one bias per output is needed")
        self._hold([dense(W, b, _RELU), dense(V, c, _IDENTITY)], known_units(units))

    def __repr__(self) -> str:
        return f"ShallowNetwork({self.n_inputs}-{self.n_hidden}-{self.n_outputs}, units={self.units!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.W, self.b, self.V, self.c, self.units, self.about)

    @property
    def W(self) -> Float:
        return self.layers[0].operator.matrix

    @property
    def b(self) -> Float:
        return self.layers[0].bias

    @property
    def V(self) -> Float:
        return self.layers[1].operator.matrix

    @property
    def c(self) -> Float:
        return self.layers[1].bias

    def _headed(self) -> tuple[str, tuple[Float, ...]]:
        head = f"{SHALLOW_FORMAT}|{self.W.shape}|{self.V.shape}|{self.units}|"
        return head, (self.W, self.b, self.V, self.c)

    def preactivations(self, X: ArrayLike) -> Float:
        """``X Wᵀ + b``, shape (N, h)."""
        return self.layers[0].preactivations(as_inputs(X, self.n_inputs, self.about.inputs))

    def patterns(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Activation patterns ``1[w_jᵀ x + b_j ≥ 0]``, shape (N, h)."""
        return self.preactivations(X) >= 0.0

    def product_weights(self) -> tuple[Float, Float]:
        """Product weights ``u_j = |v_j| (w_j, b_j)``, shape (h, d+1), and signs s (h,), for one output.

        ``f(x) = Σ_j s_j relu(u_jᵀ (x, 1)) + c``; ``s_j = 1`` where ``v_j ≥ 0``, else −1 (Y, section 3.1).

        Raises
        ------
        InvalidInputError
            The network has several outputs.
        """
        if self.n_outputs != 1:
            raise InvalidInputError(f"product weights are defined for one output, the network has {self.n_outputs}")
        v = self.V[0]
        U = np.abs(v)[:, None] * np.column_stack([self.W, self.b])
        return U, np.where(v >= 0.0, 1.0, -1.0)

    def with_parameters(self, weights: Sequence[Float], biases: Sequence[Float], units: str) -> ShallowNetwork:
        return ShallowNetwork(weights[0], biases[0], weights[1], biases[1], units=units)

    def arrays(self) -> dict[str, Any]:
        named: dict[str, Any] = {"format": np.array(SHALLOW_FORMAT), "units": np.array(self.units)}
        return named | {"W": self.W, "b": self.b, "V": self.V, "c": self.c}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ShallowNetwork:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, too large, or not a certnet network.
        """
        return read_arrays(path, cls.from_arrays)

    @classmethod
    def from_arrays(cls, file: Mapping[str, Any], source: Path) -> ShallowNetwork:
        """The network in the arrays of an ``.npz`` file; ``source`` is for messages."""
        written = str(file["format"]) if "format" in file else SHALLOW_FORMAT
        if written.startswith("certnet-lifted"):
            raise FileFormatError(
                f"{source} holds a lifted network: LiftedNetwork.load reads it, `certnet lifted certify` bounds it"
            )
        if written != SHALLOW_FORMAT:
            raise FileFormatError(
                f"{source} has the format {written[:60]!r}: this version of certnet reads {SHALLOW_FORMAT!r}"
            )
        missing = [name for name in ("W", "b", "V", "c") if name not in file]
        if missing:
            raise FileFormatError(f"{source} lacks {', '.join(missing)}: a certnet network has W, b, V and c")
        units = str(file["units"]) if "units" in file else "as given"
        return cls(file["W"], file["b"], file["V"], file["c"], units=units).described(about_in(file))


def require_shallow(network: object) -> ShallowNetwork:
    """``network``, if it is one; otherwise an InvalidInputError that says how to get one."""
    if isinstance(network, ShallowNetwork):
        return network
    raise InvalidInputError(
        f"a ShallowNetwork is needed, got {type(network).__name__}: convert models with certnet.from_sklearn or "
        "certnet.from_torch first (a FeedForward with one hidden ReLU layer with .shallow())"
    )


def _rebuild(W: Float, b: Float, V: Float, c: Float, units: str, about: About) -> ShallowNetwork:
    return ShallowNetwork(W, b, V, c, units=units).described(about)
