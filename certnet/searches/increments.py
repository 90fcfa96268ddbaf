"""How differences travel through a network: linear maps, and units whose slope lies in an interval.

For two inputs let p_k and z_k be the differences of pre-activations and of activations of layer k. Biases do not enter:

    p_k = B_k z_{k−1},    |z_kj − c_kj p_kj| ≤ w_kj |p_kj|,    c = ½ (low + high),  w = ½ (high − low),  z_0 the input's

and V z_K is the difference of the outputs. Units with w = 0 have the slope c: those carried past an activation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from certnet.core.validation import Float
from certnet.networks.layers import Dense, LinearOperator
from certnet.networks.network import Network
from certnet.proofs.forms import Shape, in_pairs
from certnet.proofs.selection import live_units

__all__ = ["Increments", "Map", "Scaled", "increments_of", "is_sparse", "row_norms"]

Map = Any
"""A matrix, or a sparse array where most entries are zero (convolutions)."""

_FULL: Final = 0.2  # the part of its entries that are not zero from which on a matrix is not kept as a sparse array
_TINY: Final = 1e-300


@dataclass(frozen=True, eq=False)
class Increments:
    """Maps B_1 … B_K (n_k, n_{k−1}) and V (m, n_K), and the slopes' centres and half-widths, K vectors (n_k,) each."""

    maps: tuple[Map, ...]
    output: Map
    centre: tuple[Float, ...]
    width: tuple[Float, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, …, n_K."""
        return (self.maps[0].shape[1], *(B.shape[0] for B in self.maps))

    @cached_property
    def bends(self) -> tuple[NDArray[np.intp] | slice, ...]:
        """The units of every layer whose slope is not known: what picks them out of its rows."""
        return tuple(slice(None) if (w > 0.0).all() else np.flatnonzero(w > 0.0) for w in self.width)

    @cached_property
    def steps(self) -> list[tuple[int, bool]]:
        """How a form is pulled back through the layers, one or two at a time, with the least work."""
        flat = [bool((w > 0.0).all() and (np.abs(c) == w).all()) for c, w in zip(self.centre, self.width)]
        return in_pairs([Shape(B.shape[0], B.shape[1], one, is_sparse(B)) for B, one in zip(self.maps, flat)])

    @property
    def n_bending(self) -> tuple[int, ...]:
        return tuple(int((w > 0.0).sum()) for w in self.width)

    def part(self, alive: Sequence[NDArray[np.bool_]]) -> Increments:
        """Of some inputs, units and outputs alone."""
        chosen = [np.flatnonzero(a) for a in alive]
        maps = [B[b][:, a] for B, a, b in zip((*self.maps, self.output), chosen, chosen[1:])]
        slopes = zip(self.centre, self.width, alive[1:])
        centre, width = zip(*((c[a], w[a]) for c, w, a in slopes))
        return Increments(tuple(maps[:-1]), maps[-1], tuple(centre), tuple(width))


def increments_of(network: Network) -> Increments:
    """Of a network of any operators."""
    low, high = zip(*(layer.unit_slopes for layer in network.layers[:-1]))
    centre = tuple(0.5 * (a + b) for a, b in zip(low, high))
    width = tuple(0.5 * (b - a) for a, b in zip(low, high))
    *maps, output = (_map(layer.operator) for layer in network.layers)
    return Increments(tuple(maps), output, centre, width)


def _map(operator: LinearOperator) -> Map:
    if isinstance(operator, Dense):
        return operator.matrix
    rows, columns, values = operator.entries
    shape = operator.n_outputs, operator.n_inputs
    found = sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()
    return found.toarray() if found.nnz > _FULL * shape[0] * shape[1] else found


def is_sparse(matrix: Map) -> bool:
    return bool(sparse.issparse(matrix))


def row_norms(rows: Float) -> Float:
    """Never zero."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)) + _TINY)


def _sizes(matrix: Map) -> Float:
    """Norms of the rows of a matrix or of a sparse array; never zero."""
    if is_sparse(matrix):
        return np.asarray(np.sqrt((matrix * matrix).sum(axis=1))).ravel() + _TINY
    return row_norms(matrix)


@dataclass(frozen=True, eq=False)
class Scaled:
    """A connected part of a network, rows of B_k of norm about one, inputs reduced to their rank; and the way back.

    Attributes
    ----------
    net : Increments
    alive : list of boolean arrays
        Which inputs, units and outputs of the whole these are.
    exponents : list of integer arrays
        Units are measured in 2^exponent.
    unit : int
        Outputs are measured in 2^unit.
    """

    net: Increments
    alive: list[NDArray[np.bool_]]
    exponents: list[NDArray[np.int32]]
    unit: int

    @classmethod
    def parts(cls, network: Network, *, reduced: bool = True) -> list[Scaled]:
        """The parts that no weight connects; live units alone, so none where no input moves an output.

        ``reduced`` allows other coordinates of the inputs, where there are more of them than units.
        """
        alive = live_units(network.layers)
        if not all(a.any() for a in alive):
            return []
        whole = increments_of(network)
        return [cls._of(whole.part(part), part, reduced) for part in _components(whole, alive)]

    @classmethod
    def _of(cls, net: Increments, alive: list[NDArray[np.bool_]], reduced: bool) -> Scaled:
        # units are measured so that their rows of weights are of order one: powers of two, exact
        maps, exponents = [*net.maps, net.output], []
        for k in range(len(net.maps)):
            exponent = np.frexp(_sizes(maps[k]))[1]
            maps[k] = _times(maps[k], -exponent, axis=0)
            maps[k + 1] = _times(maps[k + 1], exponent, axis=1)
            exponents.append(exponent)
        unit = int(np.frexp(float(abs(maps[-1]).max()))[1])
        maps[-1] = _times(maps[-1], np.full(maps[-1].shape[0], -unit, dtype=np.int32), axis=0)
        first = maps[0]
        if reduced and not is_sparse(first) and first.shape[1] > first.shape[0]:
            # only the Gram matrix of B_1 matters
            maps[0] = np.ascontiguousarray(np.asarray(np.linalg.qr(first.T, mode="r")).T)
        return cls(Increments(tuple(maps[:-1]), maps[-1], net.centre, net.width), alive, exponents, unit)

    def fill(self, own: Sequence[Float], multipliers: Sequence[Float], bending: Sequence[NDArray[np.intp]]) -> None:
        """Write the multipliers of these units, ``T_k 4^{unit − exponent}``, into those of the whole.

        ``bending`` tells, of every unit of the whole, its place among those that bend.
        """
        parts = zip(own, multipliers, self.alive[1:], self.exponents, self.net.width, bending)
        for full, T, alive, exponent, width, places in parts:
            bends = width > 0.0
            with np.errstate(over="ignore", under="ignore"):
                full[places[alive][bends]] = np.ldexp(T, 2 * (self.unit - exponent[bends]))

    def taken(self, multipliers: Sequence[Float], bending: Sequence[NDArray[np.intp]]) -> list[Float]:
        """The multipliers of these units from those of the whole: what :meth:`fill` is undone by."""
        parts = zip(multipliers, self.alive[1:], self.exponents, self.net.width, bending)
        with np.errstate(over="ignore", under="ignore"):
            return [
                np.ldexp(full[places[alive][width > 0.0]], 2 * (exponent[width > 0.0] - self.unit))
                for full, alive, exponent, width, places in parts
            ]


def _times(matrix: Map, exponents: NDArray[np.int32], *, axis: int) -> Map:
    """Rows (axis 0) or columns (axis 1) times powers of two."""
    if is_sparse(matrix):
        found = matrix.tocsr(copy=True)
        rows = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
        found.data = np.ldexp(found.data, exponents[rows if axis == 0 else found.indices])
        return found
    return np.ldexp(matrix, exponents[:, None] if axis == 0 else exponents)


def _components(net: Increments, alive: Sequence[NDArray[np.bool_]]) -> list[list[NDArray[np.bool_]]]:
    """Which inputs, units and outputs belong together."""
    cuts = np.cumsum([0, *(len(a) for a in alive)])
    live = np.concatenate(list(alive))
    if all(not is_sparse(B) and (B != 0.0).all() for B in (*net.maps, net.output)):
        return [list(alive)]
    edges = []
    for k, B in enumerate((*net.maps, net.output)):
        found = B.tocoo() if is_sparse(B) else sparse.coo_array(B)
        some = (found.data != 0.0) & alive[k + 1][found.row] & alive[k][found.col]
        edges.append(np.stack([found.row[some] + cuts[k + 1], found.col[some] + cuts[k]]))
    rows, columns = np.concatenate(edges, axis=1)
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(cuts[-1], cuts[-1]))
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    parts = []
    for one in np.unique(label[live]):
        chosen = live & (label == one)
        part = [chosen[a:b] for a, b in itertools.pairwise(cuts)]
        if all(p.any() for p in part):
            parts.append(part)
    return parts
