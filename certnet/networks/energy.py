r"""The energy of a lifted regression/reconstruction network as a frozen value. NumPy only.

    E(z; x) = ½ Σ_{k=0}^{L−1} γᵏ ( ‖z_{k+1} − W_k z_k − b_k‖² + β_k ‖W_kᵀ z_{k+1} − z_k − c_k‖² ),   z_0 = x, z_k ∈ C_k

Høier and Zach (2020), (17); β = 0 is the energy of Zach and Estellers (2019), (2).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import FileFormatError, InvalidInputError, OutputError
from certnet.core.files import path_of, write_atomic
from certnet.core.validation import Float, as_inputs, finite_array, positive_number
from certnet.networks.arrays import read_arrays

__all__ = ["BOXES", "Gradients", "LiftedEnergy", "Unit", "is_interval", "require_lifted"]

_FORMAT: Final = "certnet-lifted-1"

BOXES: Final[Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"linear": (-np.inf, np.inf), "relu": (0.0, np.inf), "hard_sigmoid": (0.0, 1.0)}
)
"""C_k of the named kinds of units: R, the non-negative numbers, [0, 1]."""

Unit = str | tuple[ArrayLike, ArrayLike]
"""A name of :data:`BOXES`, or a box (lower, upper): numbers, or one per unit; infinite where there is no limit."""


@dataclass(frozen=True)
class Gradients:
    """Derivatives by the parameters, in the shapes of the parameters: weights, biases, reconstruction biases."""

    weights: tuple[Float, ...]
    biases: tuple[Float, ...]
    reconstruction_biases: tuple[Float, ...]

    def __sub__(self, other: Gradients) -> Gradients:
        pairs = zip(self.groups, other.groups)
        return Gradients(*(tuple(a - b for a, b in zip(mine, theirs)) for mine, theirs in pairs))

    @property
    def groups(self) -> tuple[tuple[Float, ...], ...]:
        return self.weights, self.biases, self.reconstruction_biases


@dataclass(frozen=True, eq=False, init=False, repr=False)
class LiftedEnergy:
    r"""``E(z; x)`` with ``z_k`` in boxes: strictly convex in z, so that every input has one vector of activations.

    Parameters
    ----------
    weights : sequence of L array_like, shapes (n_{k+1}, n_k)
    biases : sequence of L array_like, shapes (n_{k+1},), or None
        b_k of the regression; zero where not given.
    reconstruction_biases : sequence of L array_like, shapes (n_k,), or None
        c_k of the reconstruction; zero where not given.
    beta : float or sequence of L floats
        ``β_k ≥ 0``: weights of the reconstruction. (H counts them β_1 … β_L.)
    gamma : float
        Feedback ``γ > 0``.
    units : str, pair, or sequence of L of them
        C_1 … C_L: "linear", "relu", "hard_sigmoid", or a box (lower, upper); a name or a pair of numbers alone serves
        the hidden layers, and the last is linear then.

    Attributes
    ----------
    lower, upper : tuple of L ndarrays, shapes (n_{k+1},)
        The boxes.

    Raises
    ------
    InvalidInputError
        Shapes that do not chain, NaN, β < 0, γ ≤ 0, unknown units, an empty box.
    """

    weights: tuple[Float, ...]
    biases: tuple[Float, ...]
    reconstruction_biases: tuple[Float, ...]
    beta: tuple[float, ...]
    gamma: float
    lower: tuple[Float, ...]
    upper: tuple[Float, ...]

    def __init__(
        self,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike] | None = None,
        reconstruction_biases: Sequence[ArrayLike] | None = None,
        *,
        beta: float | Sequence[float] = 1.0,
        gamma: float = 1.0,
        units: Unit | Sequence[Unit] = "relu",
    ) -> None:
        Ws = _chain(weights)
        rows, columns = [W.shape[0] for W in Ws], [W.shape[1] for W in Ws]
        boxes = _boxes(units, rows)
        parts = {
            "weights": Ws,
            "biases": _vectors(biases, rows, "biases"),
            "reconstruction_biases": _vectors(reconstruction_biases, columns, "reconstruction_biases"),
            "lower": tuple(low for low, _ in boxes),
            "upper": tuple(high for _, high in boxes),
        }
        for arrays in parts.values():
            for array in arrays:
                array += 0.0  # -0.0 becomes 0.0: equal networks have equal digests
                array.flags.writeable = False
        for name, value in parts.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "beta", _per_layer(beta, len(Ws)))
        object.__setattr__(self, "gamma", positive_number(gamma, "gamma"))
        digits = (len(Ws) - 1) * math.log10(self.gamma)
        if abs(digits) >= 150.0:
            raise InvalidInputError(
                f"gamma is {self.gamma!r} and gamma^{len(Ws) - 1} is 1e{digits:.0f}: the last layer's energy has no "
                "usable scale; take gamma nearer to one"
            )

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.widths))
        beta = ", ".join(f"{b:g}" for b in self.beta)
        return f"{type(self).__name__}({sizes}, {', '.join(self.unit_names)}, beta=[{beta}], gamma={self.gamma:g})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LiftedEnergy):
            return NotImplemented
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            type(self),
            self.weights,
            self.biases,
            self.reconstruction_biases,
            self.beta,
            self.gamma,
            self.units,
        )

    @property
    def depth(self) -> int:
        """L, the number of layers of activations, the output among them."""
        return len(self.weights)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0 (inputs), n_1 … n_L (outputs)."""
        return (self.weights[0].shape[1], *(W.shape[0] for W in self.weights))

    @property
    def n_inputs(self) -> int:
        return self.widths[0]

    @property
    def n_outputs(self) -> int:
        return self.widths[-1]

    @property
    def n_units(self) -> int:
        """n, the length of the stacked activations ``(z_1, …, z_L)``."""
        return sum(self.widths[1:])

    @property
    def layers(self) -> tuple[slice, ...]:
        """Where z_1 … z_L lie in the stacked activations."""
        ends = np.cumsum([0, *self.widths[1:]]).tolist()
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    @property
    def units(self) -> tuple[tuple[Float, Float], ...]:
        """The boxes as pairs (lower, upper), one per layer."""
        return tuple(zip(self.lower, self.upper))

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Names of :data:`BOXES` where a layer has one, "box" elsewhere."""
        return tuple(map(_name, self.lower, self.upper))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over widths, β, γ, boxes and parameters (float64, little-endian), in hexadecimal."""
        head = json.dumps([_FORMAT, self.widths, [b.hex() for b in self.beta], self.gamma.hex()])
        sha = hashlib.sha256(head.encode())
        for group in (self.weights, self.biases, self.reconstruction_biases, self.lower, self.upper):
            for array in group:
                sha.update(array.astype("<f8").tobytes())
        return sha.hexdigest()

    def split(self, z: Float) -> tuple[Float, ...]:
        """Views of stacked activations (N, n), one per layer, (N, n_k)."""
        return tuple(z[:, layer] for layer in self.layers)

    def project(self, z: Float) -> Float:
        """Stacked activations (N, n) moved to the nearest point of the boxes."""
        return np.clip(z, np.concatenate(self.lower), np.concatenate(self.upper))

    def feed_forward(self, X: ArrayLike) -> Float:
        """``z_{k+1} = Π(W_k z_k + b_k)`` from the inputs on, stacked (N, n): the activations as γ → 0 and β = 0."""
        z = as_inputs(X, self.n_inputs)
        found = []
        for W, b, low, high in zip(self.weights, self.biases, self.lower, self.upper):
            z = np.clip(z @ W.T + b, low, high)
            found.append(z)
        return np.concatenate(found, axis=1)

    def residuals(self, X: Float, z: Float) -> tuple[tuple[Float, ...], tuple[Float, ...]]:
        """``z_{k+1} − W_k z_k − b_k`` and ``W_kᵀ z_{k+1} − z_k − c_k`` (None's place holds zeros where β_k = 0)."""
        below = (X, *self.split(z)[:-1])
        forward, backward = [], []
        for k, (W, before, after) in enumerate(zip(self.weights, below, self.split(z))):
            forward.append(after - before @ W.T - self.biases[k])
            back = after @ W - before - self.reconstruction_biases[k] if self.beta[k] else np.zeros_like(before)
            backward.append(back)
        return tuple(forward), tuple(backward)

    def energy(self, X: ArrayLike, z: ArrayLike) -> Float:
        """``E(z; x)`` for every row, shape (N,).

        Parameters
        ----------
        X : array_like, shape (N, d)
        z : array_like, shape (N, n)
            Stacked activations; whether they lie in the boxes is not asked here.
        """
        inputs, stacked = self.pair(X, z)
        total = np.zeros(len(inputs))
        for k, (forward, backward) in enumerate(zip(*self.residuals(inputs, stacked))):
            here = np.einsum("ij,ij->i", forward, forward) + self.beta[k] * np.einsum("ij,ij->i", backward, backward)
            total += 0.5 * self.gamma**k * here
        return total

    def gradients(self, X: ArrayLike, z: ArrayLike) -> Gradients:
        r"""Derivatives of the mean energy by the parameters, the activations held fixed.

        At minimising activations they are those of the mean of ``min_z E(z; x)`` (Danskin):

            ∂E/∂W_k = γᵏ[ −(z_{k+1} − W_k z_k − b_k) z_kᵀ + β_k z_{k+1} (W_kᵀ z_{k+1} − z_k − c_k)ᵀ ]
            ∂E/∂b_k = −γᵏ (z_{k+1} − W_k z_k − b_k),   ∂E/∂c_k = −γᵏ β_k (W_kᵀ z_{k+1} − z_k − c_k)
        """
        inputs, stacked = self.pair(X, z)
        activations = (inputs, *self.split(stacked))
        N = max(1, len(inputs))
        Ws, bs, cs = [], [], []
        for k, (forward, backward) in enumerate(zip(*self.residuals(inputs, stacked))):
            scale = self.gamma**k / N
            Ws.append(-scale * (forward.T @ activations[k]))
            if self.beta[k]:
                Ws[-1] += (scale * self.beta[k]) * (activations[k + 1].T @ backward)
            bs.append(-scale * forward.sum(axis=0))
            cs.append(-scale * self.beta[k] * backward.sum(axis=0))
        return Gradients(tuple(Ws), tuple(bs), tuple(cs))

    def pair(self, X: ArrayLike, z: ArrayLike) -> tuple[Float, Float]:
        """Inputs (N, d) and stacked activations (N, n), checked to fit."""
        inputs = as_inputs(X, self.n_inputs)
        stacked = finite_array(z, "z", ndim=(2,))
        if stacked.shape != (len(inputs), self.n_units):
            raise InvalidInputError(f"z has shape {stacked.shape}: {(len(inputs), self.n_units)} is needed")
        return inputs, stacked

    def with_parameters(
        self, weights: Sequence[Float], biases: Sequence[Float], reconstruction_biases: Sequence[Float]
    ) -> Self:
        """The same network with other parameters of the same shapes."""
        return type(self)(weights, biases, reconstruction_biases, beta=self.beta, gamma=self.gamma, units=self.units)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the network to an ``.npz`` file (bit-exact, no pickles), complete or not at all."""
        if path_of(path).suffix.lower() != ".npz":
            raise OutputError(f"{path}: a network is written to a file with the suffix .npz")
        buffer = io.BytesIO()
        np.savez(buffer, **self.arrays())
        return write_atomic(path, buffer.getvalue(), force=force)

    def arrays(self) -> dict[str, Any]:
        """What :meth:`save` writes, by name."""
        groups = {
            "W": self.weights,
            "b": self.biases,
            "c": self.reconstruction_biases,
            "low": self.lower,
            "high": self.upper,
        }
        named: dict[str, Any] = {f"{name}{k}": a for name, group in groups.items() for k, a in enumerate(group)}
        return named | {"format": np.array(_FORMAT), "beta": np.array(self.beta), "gamma": np.array(self.gamma)}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileFormatError
            The file is missing, truncated, too large, or not a lifted network.
        """
        return read_arrays(path, cls.from_arrays)

    @classmethod
    def from_arrays(cls, file: Mapping[str, Any], source: Path) -> Self:
        """The network in the arrays of an ``.npz`` file; ``source`` is for messages."""
        written = str(file["format"]) if "format" in file else "none"
        if written != _FORMAT:
            raise FileFormatError(f"{source} has the format {written[:60]!r}: a lifted network has {_FORMAT!r}")
        L = sum(1 for name in file if name.startswith("W"))
        W, b, c, low, high = ([file[f"{name}{k}"] for k in range(L)] for name in ("W", "b", "c", "low", "high"))
        for name, array, shape in (("beta", file["beta"], (L,)), ("gamma", file["gamma"], ())):
            if array.shape != shape:
                raise FileFormatError(f"{source}: {name} has shape {array.shape}: {shape} is needed")
        for k, sides in enumerate(zip(low, high)):
            if any(side.shape != W[k].shape[:1] for side in sides):
                raise FileFormatError(f"{source}: low{k} and high{k} need one limit per row of W{k}")
        return cls(W, b, c, beta=file["beta"].tolist(), gamma=float(file["gamma"]), units=list(zip(low, high)))


def require_lifted(net: object) -> LiftedEnergy:
    """``net``, if it is a lifted network; otherwise an InvalidInputError."""
    if isinstance(net, LiftedEnergy):
        return net
    raise InvalidInputError(f"net is of type {type(net).__name__}: a LiftedNetwork is needed")


def _chain(weights: Sequence[ArrayLike]) -> tuple[Float, ...]:
    if not isinstance(weights, Sequence | np.ndarray) or isinstance(weights, str):
        kind = type(weights).__name__
        raise InvalidInputError(f"weights is of type {kind}: a list of one matrix per layer is needed")
    Ws = tuple(finite_array(W, f"weights[{k}]", ndim=(2,)) for k, W in enumerate(weights))
    if not Ws:
        raise InvalidInputError("weights is empty: a lifted network has at least one layer")
    for k, W in enumerate(Ws):
        if 0 in W.shape:
            raise InvalidInputError(f"weights[{k}] has shape {W.shape}: a layer needs at least one unit and one input")
        if k and W.shape[1] != Ws[k - 1].shape[0]:
            raise InvalidInputError(
                f"weights[{k}] takes {W.shape[1]} inputs, the layer before gives {Ws[k - 1].shape[0]}"
            )
    return Ws


def _vectors(given: Sequence[ArrayLike] | None, sizes: Sequence[int], name: str) -> tuple[Float, ...]:
    if given is None:
        return tuple(np.zeros(n) for n in sizes)
    if len(given) != len(sizes):
        raise InvalidInputError(f"{name} has {len(given)} entries, the network has {len(sizes)} layers")
    vectors = tuple(finite_array(v, f"{name}[{k}]", ndim=(1,)) for k, v in enumerate(given))
    for k, (v, n) in enumerate(zip(vectors, sizes)):
        if v.shape != (n,):
            raise InvalidInputError(f"{name}[{k}] has shape {v.shape}: ({n},) is needed")
    return vectors


def _per_layer(beta: float | Sequence[float], L: int) -> tuple[float, ...]:
    values = finite_array(beta, "beta", ndim=(0, 1))  # type: ignore[arg-type]
    if values.ndim == 1 and values.shape != (L,):
        raise InvalidInputError(f"beta has {len(values)} entries: one number, or one per layer ({L}), is needed")
    return tuple(positive_number(b, f"beta[{k}]", zero=True) for k, b in enumerate(np.broadcast_to(values, L).tolist()))


def _boxes(units: Unit | Sequence[Unit], sizes: Sequence[int]) -> list[tuple[Float, Float]]:
    if isinstance(units, str) or is_interval(units):
        units = [units] * (len(sizes) - 1) + ["linear"]  # type: ignore[assignment, list-item]
    if not isinstance(units, Sequence):
        raise InvalidInputError(f"units is {units!r}: a name, a pair of numbers, or one of them per layer is needed")
    if len(units) != len(sizes):
        raise InvalidInputError(f"there are units for {len(units)} layers, the network has {len(sizes)}")
    return [_box(unit, n, k) for k, (unit, n) in enumerate(zip(units, sizes))]  # type: ignore[arg-type]


def is_interval(units: object) -> bool:
    """A pair of numbers: one box for all units of all hidden layers."""
    return isinstance(units, tuple) and len(units) == 2 and all(isinstance(side, Real) for side in units)


def _box(unit: Unit, n: int, k: int) -> tuple[Float, Float]:
    name = f"units[{k}]"
    if isinstance(unit, str):
        if unit not in BOXES:
            raise InvalidInputError(f"{name} is {unit!r}: one of {', '.join(BOXES)}, or a pair (lower, upper)")
        unit = BOXES[unit]
    try:
        low, high = (np.array(np.broadcast_to(np.asarray(side, dtype=np.float64), (n,))) for side in unit)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} is no box: a pair (lower, upper) of numbers, or of {n} each") from error
    if np.isnan(low).any() or np.isnan(high).any() or not (low <= high).all():
        raise InvalidInputError(f"{name} is an empty box: lower must be at most upper, and neither NaN")
    if np.isposinf(low).any() or np.isneginf(high).any():
        raise InvalidInputError(f"{name} has a lower limit of +inf or an upper one of -inf: no activation fits")
    return low, high


def _name(low: Float, high: Float) -> str:
    for name, (a, b) in BOXES.items():
        if (low == a).all() and (high == b).all():
            return name
    return "box"


def _rebuild(
    kind: type[LiftedEnergy],
    weights: tuple[Float, ...],
    biases: tuple[Float, ...],
    reconstruction_biases: tuple[Float, ...],
    beta: tuple[float, ...],
    gamma: float,
    units: tuple[tuple[Float, Float], ...],
) -> LiftedEnergy:
    return kind(weights, biases, reconstruction_biases, beta=beta, gamma=gamma, units=units)
