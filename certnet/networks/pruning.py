r"""Networks without the units that do not matter.

Of a layer ``z = φ(W y + b)`` with ``V z + c`` after it, without a change of the function but for rounding:

- a unit with no weight onwards is left out;
- a unit with no weight into it is constant, and left out with ``c + V_:j φ(b_j)``;
- units with (w_j, b_j) = r (w_i, b_i), r > 0, become one with ``V_:i + r V_:j``, where φ is positively homogeneous
  (ReLU, leaky ReLU, the identity); where it is not, units that are equal do.

With a tolerance, units that move the outputs little on given inputs are replaced by their means there. A certificate
speaks of the network that it was made for: the smaller one needs a certificate of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float, as_inputs, positive_number
from certnet.networks.activations import Activation
from certnet.networks.feedforward import require_network
from certnet.networks.network import Network

__all__ = ["Pruned", "pruned"]

_ALIKE = 8.0 * 2.0**-52  # of each entry: rows that are proportional but for rounding
_MOST_ROWS = 4096  # of the inputs, to rank units by
_HOMOGENEOUS = ("relu", "leaky_relu", "identity")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pruned:
    """A network with fewer units.

    Attributes
    ----------
    network : Network
        Of the type that was given; one unit is left in every hidden layer at least.
    kept : tuple of ndarray
        Of every hidden layer, which units of the given network are left, in order.
    change : float or None
        The largest change of an output on the given inputs; None where there were none.
    """

    network: Network
    kept: tuple[NDArray[np.intp], ...]
    change: float | None


def pruned(network: Network, X: ArrayLike | None = None, *, tol: float = 0.0) -> Pruned:
    """The network without units that do not matter.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        Dense layers.
    X : array_like, shape (N, d), optional
        Inputs to measure changes on; needed where ``tol`` is positive.
    tol : float
        0: only what leaves the function as it is, but for rounding. Otherwise so many more of the units that matter
        least that the root mean square of the change of the outputs on X stays within ``tol`` of that of the outputs
        about their means.

    Raises
    ------
    InvalidInputError
        ``tol`` is negative, not below 1, or positive without X; X does not fit the network.
    UnsupportedModelError
        Convolutions or skips; a tolerance for activations that are known by their slopes alone.
    """
    network = require_network(network)
    if network.structured:
        raise UnsupportedModelError(f"{network!r}: pruning is for layers given by matrices, without skips")
    tol = positive_number(tol, "tol", zero=True)
    if tol >= 1.0:
        raise InvalidInputError(f"tol is a part of the outputs' spread, below 1; got {tol!r}")
    if tol > 0.0 and X is None:
        raise InvalidInputError("tol > 0 needs X: what a unit matters is measured on inputs")
    if not network.has_values and X is not None:
        raise UnsupportedModelError("an activation known by its slopes has no values: leave X and tol out")
    inputs = None if X is None else as_inputs(X, network.n_inputs, network.about.inputs)
    units = _Units.of(network)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # the new network refuses what overflows
        units.simplify()
    if inputs is not None and len(inputs) and tol > 0.0:
        units = _fewer(units, network, inputs, tol)
    made = network.with_parameters(units.weights, units.biases, network.units).described(network.about)
    change = None
    if inputs is not None:
        change = float(np.abs(made.outputs(inputs) - network.outputs(inputs)).max(initial=0.0))
    return Pruned(made, tuple(units.kept), change)


@dataclass
class _Units:
    """Weights and biases that lose units, and which are left of every hidden layer."""

    weights: list[Float]
    biases: list[Float]
    activations: Sequence[Activation]
    kept: list[NDArray[np.intp]]

    @classmethod
    def of(cls, network: Network) -> _Units:
        kept = [np.arange(n) for n in network.widths[1:-1]]
        return cls([W.copy() for W in network.weights], [b.copy() for b in network.biases], network.activations, kept)

    def copy(self) -> _Units:
        return _Units(
            [W.copy() for W in self.weights], [b.copy() for b in self.biases], self.activations, list(self.kept)
        )

    @property
    def n_hidden(self) -> int:
        return sum(map(len, self.kept))

    def simplify(self) -> None:
        """All that leaves the function as it is, until there is nothing more."""
        before = -1
        while before != (before := self.n_hidden):
            for k in range(len(self.kept)):
                self._fold_constant(k)
                self._merge_alike(k)
            for k in reversed(range(len(self.kept))):
                self.drop(k, np.asarray(~self.weights[k + 1].any(axis=0)))

    def drop(self, k: int, gone: Mask) -> None:
        """Units of hidden layer k that give nothing; the last one is silenced instead."""
        if gone.all():
            gone = gone.copy()
            gone[0] = False
            self.weights[k + 1][:, 0] = 0.0
            self.weights[k][0] = 0.0  # so that nothing below is kept for it
        stays = ~gone
        self.weights[k], self.biases[k] = self.weights[k][stays], self.biases[k][stays]
        self.weights[k + 1], self.kept[k] = self.weights[k + 1][:, stays], self.kept[k][stays]

    def replace(self, k: int, gone: Mask, values: Float) -> None:
        """Units of hidden layer k that give these values (n_k,) from now on."""
        self.biases[k + 1] = self.biases[k + 1] + self.weights[k + 1][:, gone] @ values[gone]
        self.drop(k, gone)

    def _fold_constant(self, k: int) -> None:
        still = np.asarray(~self.weights[k].any(axis=1))
        if still.any() and self.activations[k].has_values:
            self.replace(k, still, self.activations[k](self.biases[k]))

    def _merge_alike(self, k: int) -> None:
        rows = np.column_stack([self.weights[k], self.biases[k]])
        size = np.abs(self.weights[k]).max(axis=1)
        if self.activations[k].name in _HOMOGENEOUS:
            rows = rows / np.where(size > 0.0, size, 1.0)[:, None]
        else:
            size = np.ones(len(rows))
        gone = np.zeros(len(rows), dtype=bool)
        for first, rest in _alike(rows):
            ratio = size[rest] / (size[first] if size[first] > 0.0 else 1.0)
            self.weights[k + 1][:, first] += self.weights[k + 1][:, rest] @ ratio
            gone[rest] = True
        if gone.any():
            self.drop(k, gone)


def _alike(rows: Float) -> list[tuple[int, NDArray[np.intp]]]:
    """Rows that are equal but for rounding: the first of each kind, and the others."""
    along = rows @ np.random.default_rng(0).standard_normal(rows.shape[1])
    order = np.argsort(along, kind="stable")
    groups: list[tuple[int, NDArray[np.intp]]] = []
    at = 0
    while at < len(order):
        first = order[at]
        end = at + 1
        near = _ALIKE * np.abs(rows[first])
        while end < len(order) and (np.abs(rows[order[end]] - rows[first]) <= near).all():
            end += 1
        if end > at + 1:
            groups.append((int(first), order[at + 1 : end]))
        at = end
    return groups


def _fewer(units: _Units, network: Network, X: Float, tol: float) -> _Units:
    """The most units replaced by their means, from the least on, for which the outputs change within ``tol``."""
    wanted = network.outputs(X)
    allowed = tol * _spread(wanted - wanted.mean(axis=0))
    means, effects = _effects(units, X)
    ranks = np.argsort(np.concatenate(effects), kind="stable").argsort(kind="stable")
    ends = np.cumsum([0, *map(len, effects)])

    def without(number: int) -> _Units:
        made = units.copy()
        for k in range(len(effects)):
            made.replace(k, ranks[ends[k] : ends[k + 1]] < number, means[k])
        made.simplify()
        return made

    best, low, high = units, 0, len(ranks) + 1
    while high - low > 1:
        number = (low + high) // 2
        made = without(number)
        smaller = network.with_parameters(made.weights, made.biases, network.units)
        if _spread(smaller.outputs(X) - wanted) <= allowed:
            best, low = made, number
        else:
            high = number
    return best


def _spread(values: Float) -> float:
    """The root of the mean over samples of the square norm."""
    return float(np.sqrt(np.mean(np.sum(values**2, axis=1))))


def _effects(units: _Units, X: Float) -> tuple[list[Float], list[Float]]:
    """Of every hidden layer the means of its units on X, and to first order what each moves the outputs about it."""
    values, slopes, means, x = [], [], [], X
    some = np.linspace(0, len(X) - 1, min(len(X), _MOST_ROWS)).astype(np.intp)
    for W, b, phi in zip(units.weights, units.biases, units.activations):
        z = x @ W.T + b
        x = phi(z)
        slopes.append(phi.derivative(z[some]))
        means.append(x.mean(axis=0))
        values.append(x[some] - means[-1])
    effects = []
    J = np.broadcast_to(units.weights[-1], (len(some), *units.weights[-1].shape))
    for k in reversed(range(len(values))):
        effects.append(np.sqrt(np.mean(np.sum((J * values[k][:, None, :]) ** 2, axis=1), axis=0)))
        if k:
            J = (J * slopes[k][:, None, :]) @ units.weights[k]
    return means, effects[::-1]
