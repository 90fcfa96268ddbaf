r"""Multipliers for bounds of slopes along single inputs, many at once: what :mod:`certnet.proofs.sectors` proves.

The best bound that such multipliers prove is the largest value of a vector-valued network, as for LipSDP
(:mod:`certnet.searches.vectors`), but of one input that is a unit vector e, and of the output's component along e:

    Z_k = diag(c) P_k + diag(w |P_k|) U_k,   P_1 = b eᵀ,   P_k = B_k Z_{k−1},   max ± v Z_K e   over unit rows of U_k,

b the column of the input, v the row of the output. Backwards from ``g_K = ± v e``,

    q_k = c g_k + w |g_k| p_k / |p_k|,   g_{k−1} = B_kᵀ q_k,

the step ``u_j ← g_j / |g_j|`` never decreases the value: from the outputs back, each layer's part of it is convex in
``P_k`` and so at least its linearisation at the old point, which the next unit vectors maximise. Some tens of steps do,
for one network and many inputs, outputs and sides as a few products of matrices. At a stationary point
``T_kj = |g_kj| / (2 w_j |p_kj|)`` are the multipliers and the value is their bound, but for the slack that P needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float
from certnet.searches.increments import Increments, is_sparse

__all__ = ["Ends", "OneSided"]

_TINY: Final = 1e-300
_LEAST: Final = 1e-9  # of the largest of a layer: the size that a unit's step or cotangent counts with


@dataclass(frozen=True, eq=False)
class Ends:
    """Which bounds are searched, arrays (E,): of the output o along the input i, from above (side 1) or below (−1)."""

    outputs: NDArray[np.intp]
    inputs: NDArray[np.intp]
    sides: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.sides)

    def rows(self, chosen: Any) -> Ends:
        return Ends(self.outputs[chosen], self.inputs[chosen], self.sides[chosen])


@dataclass(eq=False)
class OneSided:
    """A search for some ends, which can go on where it stopped.

    Attributes
    ----------
    net : Increments
    ends : Ends
    first, last : ndarray, shapes (n_1, E) and (n_K, E)
        Columns of the inputs and rows of the outputs, with the sign of the side.
    units : list of ndarray, shape (n, E, r)
        Unit vectors of the units that bend, layer by layer.
    values : ndarray, shape (E,)
        What the vectors reach: no multipliers prove a bound below it (up to rounding).
    """

    net: Increments
    ends: Ends
    first: Float
    last: Float
    units: list[Float]
    values: Float

    @classmethod
    def started(cls, net: Increments, ends: Ends, rng: np.random.Generator, columns: int = 12) -> OneSided:
        """At random unit vectors of so many entries r."""
        columns_of, rows_of = net.maps[0][:, ends.inputs], net.output[ends.outputs]
        first, last = (np.asarray(part.toarray() if is_sparse(part) else part) for part in (columns_of, rows_of))
        units = [_unit(rng.standard_normal((n, len(ends), columns))) for n in net.n_bending]
        return cls(net, ends, first, ends.sides * last.T, units, np.full(len(ends), -np.inf))

    def rows(self, chosen: NDArray[np.intp]) -> OneSided:
        """The search of some of the ends, at the point that it has reached."""
        units = [u[:, chosen] for u in self.units]
        ends, values = self.ends.rows(chosen), self.values[chosen]
        return OneSided(self.net, ends, self.first[:, chosen], self.last[:, chosen], units, values)

    def climb(self, steps: int, until: Until = FOREVER) -> None:
        """So many steps, or fewer."""
        for _ in range(steps):
            P, sizes = self._forward()
            self.units = [_unit(g) for g in self._backward(P, sizes)]
            if until.reached:
                return

    def multipliers(self) -> list[Float]:
        """T of the units that bend, (n, E) for each layer."""
        P, sizes = self._forward()
        found = []
        for g, size, w, bends in zip(self._backward(P, sizes), sizes, self.net.width, self.net.bends):
            length = _lengths(g)
            top, widest = (x.max(axis=0, initial=_TINY) for x in (length, size))
            length, size = np.maximum(length, _LEAST * top), np.maximum(size, _LEAST * widest)
            found.append(length / (2.0 * w[bends][:, None] * size))
        return found

    def _forward(self) -> tuple[list[Float], list[Float]]:
        """P_k of the units that bend and their sizes; the values on the way."""
        n, E, r = self.net, len(self.ends), self.units[0].shape[2]
        Ps, sizes = [], []
        P = np.zeros((len(self.first), E, r))
        P[:, :, 0] = self.first
        Z = P
        for k, (c, w, bends, U) in enumerate(zip(n.centre, n.width, n.bends, self.units)):
            if k:
                P = _times(n.maps[k], Z)
            own = P[bends]
            size = _lengths(own)
            Z = c[:, None, None] * P
            Z[bends] += (w[bends][:, None] * size)[:, :, None] * U
            Ps.append(own)
            sizes.append(size)
        self.values = np.einsum("je,je->e", self.last, Z[:, :, 0])
        return Ps, sizes

    def _backward(self, Ps: Sequence[Float], sizes: Sequence[Float]) -> list[Float]:
        """g_k of the units that bend."""
        n = self.net
        g = np.zeros((len(self.last), *Ps[-1].shape[1:]))
        g[:, :, 0] = self.last
        found: list[Float] = []
        for k in reversed(range(len(Ps))):
            own = g[n.bends[k]]
            found.insert(0, own)
            if k:
                w = n.width[k][n.bends[k]][:, None]
                q = n.centre[k][:, None, None] * g
                q[n.bends[k]] += (w * _lengths(own) / sizes[k])[:, :, None] * Ps[k]
                g = _times(n.maps[k].T, q)
        return found


def _times(matrix: Any, x: Float) -> Float:
    """``A x`` of x (n, E, r)."""
    return np.asarray(matrix @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def _lengths(x: Float) -> Float:
    """Of the vectors (…, r); never zero."""
    return np.asarray(np.sqrt(np.einsum("jer,jer->je", x, x)) + _TINY)


def _unit(x: Float) -> Float:
    return np.asarray(x / _lengths(x)[:, :, None])
