r"""One-sided bounds of slopes along single inputs, from a multiplier per unit. NumPy only.

Let y be a step along one input, ``p_j`` and ``z_j`` what it changes of the pre-activation and of the value of unit j,
and f what it changes of an output. Where its slopes lie in ``[α_j, β_j]``, ``(z_j − α_j p_j)(z_j − β_j p_j) ≤ 0``; and
p and f are linear in y and in the z of units that bend, those with a known slope put into one another. So if

    u y² − y f + Σ_j T_j (z_j − α_j p_j)(z_j − β_j p_j) ≥ 0      for all numbers y and z,        T ≥ 0,

then ``y f ≤ u y²``: the slope f / y is at most u. With −f for f it is at least −u. The left side is a quadratic form,
a matrix P of order 1 + N for N units that bend, and the question whether it is positive semidefinite
(:mod:`certnet.proofs.semidefinite`). Any T that answers it is a proof, whoever found it.

This says at least what LipSDP says of ``f − a y`` for any number a (which bounds ``|f / y − a|``): from
``s² y² − (f − a y)² + Σ ≥ 0`` follows the above for u = a + s and T / 2s, as
``2 s ((a + s) y² − y f) = s² y² − (f − a y)² + (s y − (f − a y))²``.

**Rounding.** With ``p = L (y, z)``, L wrong by at most E entry by entry, and D = diag(α β T),

    P = Lᵀ D L + ( u, −½ F ; −½ Fᵀ, diag(T) ) − ½ (C + Cᵀ),   C = the rows (α + β) T L, one per unit.

Entries of L are sums of products, wrong by γ_n times those of the sizes, and so are those of P; what L is wrong by is
multiplied along. Numbers above 2^400 are refused, so that what underflows is below the floor that is charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.validation import Float
from certnet.networks.layers import LinearOperator
from certnet.networks.network import Network
from certnet.proofs.regions import UnitSlopes
from certnet.proofs.rounding import SAFETY, U, gamma
from certnet.proofs.semidefinite import is_semidefinite_entrywise

__all__ = ["Known", "SectorChecker", "Sectors"]

_FLOOR: Final = 2.0**-600  # more than what underflows of numbers below _LARGEST
_LARGEST: Final = 2.0**400
_MOST_ENTRIES: Final = 1 << 27
_STEPS: Final = (1e-10, 1e-9, 1e-8, 1e-6, 1e-4)  # that a bound is raised by, of the size of what it is summed from


@dataclass(frozen=True, eq=False)
class Known:
    """A matrix, and how much its entries may be wrong."""

    value: Float
    error: Float

    @property
    def T(self) -> Known:
        return Known(self.value.T, self.error.T)


@dataclass(frozen=True, eq=False)
class Sectors:
    """The units that bend: their slopes, and what they and the outputs take of the inputs and of each other.

    Attributes
    ----------
    low, high : ndarray, shape (N,)
        Least and greatest slopes, layer after layer.
    rows : Known, shape (N, d + N)
        ``p = rows (x, z)`` for steps x of the inputs.
    outputs : Known, shape (m, d + N)
        Of the outputs likewise.
    moved, moves : ndarray of bool, shapes (d, N) and (m, N)
        Which units an input moves, and which move an output: where a path of weights that are not zero leads there.
    """

    low: Float
    high: Float
    rows: Known
    outputs: Known
    moved: NDArray[np.bool_]
    moves: NDArray[np.bool_]

    @classmethod
    def of(cls, network: Network, slopes: UnitSlopes) -> Sectors:
        """Of a network of any operators, with these slopes of the units of its hidden layers."""
        bends = [low < high for low, high in slopes]
        d, n = network.n_inputs, sum(int(bend.sum()) for bend in bends)
        # columns are units, rows the d + n variables
        values = Known(np.eye(d + n, d), np.zeros((d + n, d)))
        parts, at = [], d
        with np.errstate(all="ignore"):  # what overflows is refused
            for k, layer in enumerate(network.layers):
                found = _mapped(layer.operator, values, first=k == 0)
                if k == network.depth:
                    break
                (low, high), bend = slopes[k], bends[k]
                parts.append(Known(found.value[:, bend], found.error[:, bend]))
                c = np.where(bend, 0.0, low)
                value, error = found.value * c, found.error * np.abs(c)
                error = np.where(c != 0.0, error + U * np.abs(value) + _FLOOR, 0.0)
                own = at + np.arange(int(bend.sum()))
                value[own, bend] = 1.0
                at += len(own)
                values = Known(value, error)
        rows = Known(*(np.concatenate(part, axis=1) for part in zip(*((p.value, p.error) for p in parts))))
        low, high = (np.concatenate([pair[side][bend] for pair, bend in zip(slopes, bends)]) for side in (0, 1))
        return cls(low, high, rows.T, found.T, *_paths(network, slopes, bends))

    @staticmethod
    def fit(network: Network, slopes: UnitSlopes) -> bool:
        """Do the rows of all units that bend fit into memory?"""
        n = sum(int((low < high).sum()) for low, high in slopes)
        return (n + network.n_inputs) * max(n, *network.widths) <= _MOST_ENTRIES

    @property
    def n(self) -> int:
        """N."""
        return len(self.low)

    @property
    def n_inputs(self) -> int:
        return int(self.outputs.value.shape[1]) - self.n

    def live(self, output: int, along: int) -> NDArray[np.bool_]:
        """The units that bend (N,) which the input moves and which move the output."""
        return np.asarray(self.moved[along] & self.moves[output])


def _paths(
    network: Network, slopes: UnitSlopes, bends: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of the units that bend those that an input moves, (d, N), and those that move an output, (m, N)."""
    weights = [(layer.operator.matrix != 0.0).astype(np.float64) for layer in network.layers]
    pass_on = [((low != 0.0) | (high != 0.0)).astype(np.float64) for low, high in slopes]
    down, moved = np.eye(network.n_inputs), []
    for W, passes, bend in zip(weights, pass_on, bends):
        reached = down @ W.T > 0.0
        moved.append(reached[:, bend])
        down = reached * passes
    up, moves = weights[-1], []
    for W, passes, bend in zip(weights[-2::-1], pass_on[::-1], bends[::-1]):
        reached = up * passes > 0.0
        moves.append(reached[:, bend])
        up = (reached @ W > 0.0).astype(np.float64)
    return np.concatenate(moved, axis=1), np.concatenate(moves[::-1], axis=1)


def _mapped(operator: LinearOperator, x: Known, *, first: bool) -> Known:
    """``A x`` for every row of x; the rows of the identity come out as they are in A."""
    if first:
        d = operator.n_inputs
        value = np.zeros((len(x.value), operator.n_outputs))
        value[:d] = operator.matrix.T
        return Known(value, np.zeros_like(value))
    sizes = operator.absolute
    value, reach = operator(x.value), sizes(np.abs(x.value))
    return Known(value, SAFETY * (sizes(x.error) + gamma(operator.terms + 8) * reach) + _FLOOR)


class SectorChecker:
    """Multipliers that may bound the slope of an output along an input from one side, prepared to test many bounds.

    Parameters
    ----------
    sectors : Sectors
    output, along : int
    side : {1, -1}
        1: the slope is at most a bound; −1: the negative slope is.
    multipliers : array_like, shape (N,)
        One per unit that bends, positive where the input moves it and it moves the output; the others' do not matter:
        they have z = 0, or nothing takes it.
    """

    def __init__(self, sectors: Sectors, output: int, along: int, side: int, multipliers: ArrayLike) -> None:
        self._parts: _Parts | None = None
        self._P: Float | None = None
        T = np.asarray(multipliers, dtype=np.float64)
        if T.shape != (sectors.n,):
            return
        live = np.flatnonzero(sectors.live(output, along))
        if not (np.isfinite(T[live]).all() and bool((T[live] > 0.0).all())):
            return
        with np.errstate(all="ignore"):
            parts = _Parts.of(sectors, output, along, float(side), T[live], live)
            if parts.largest <= _LARGEST:
                self._parts, self._P = parts, parts.matrix()

    @cached_property
    def _error(self) -> Float:
        return np.zeros((0, 0)) if self._parts is None else self._parts.error()

    def proves(self, bound: float) -> bool:
        """Is the slope (side 1), or the negative slope (side −1), proved to be at most ``bound``?"""
        if self._P is None or not abs(bound) <= _LARGEST:
            return False
        with np.errstate(all="ignore"):
            P, error = self._P.copy(), self._error.copy()
            P[0, 0] += bound
            error[0, 0] += 4.0 * U * (abs(bound) + abs(P[0, 0]))
            return is_semidefinite_entrywise(P, error)

    @cached_property
    def _schur(self) -> tuple[float, float]:
        """The least u for which P is semidefinite, in floating point, and the size of what it is summed from."""
        if self._P is None:
            return np.inf, np.inf
        M, q, corner = self._P[1:, 1:], self._P[0, 1:], float(self._P[0, 0])
        try:
            np.linalg.cholesky(M)
            taken = float(q @ np.linalg.solve(M, q))
        except np.linalg.LinAlgError:
            return np.inf, np.inf
        return taken - corner, abs(taken) + abs(corner)

    @property
    def guess(self) -> float:
        """What these multipliers may prove; infinite where that is nothing."""
        return self._schur[0]

    def least(self) -> float | None:
        """A bound that is proved, near the least one: the guess, raised by as little as it takes."""
        guess, size = self._schur
        if not np.isfinite(size):
            return None
        bounds = (guess + step * size for step in _STEPS)
        return next((bound for bound in bounds if self.proves(bound)), None)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What P is made of, units that are live alone: L with its errors E, ± F with its own, T, α + β, and α β."""

    L: Float
    E: Float
    F: Float
    F_error: Float
    T: Float
    sums: Float
    products: Float

    @classmethod
    def of(cls, sectors: Sectors, output: int, along: int, side: float, T: Float, live: NDArray[np.intp]) -> _Parts:
        chosen = np.concatenate([[along], sectors.n_inputs + live])
        low, high = sectors.low[live], sectors.high[live]
        rows, outputs = sectors.rows, sectors.outputs
        return cls(
            rows.value[live][:, chosen],
            rows.error[live][:, chosen],
            side * outputs.value[output, chosen],
            outputs.error[output, chosen],
            T,
            low + high,
            low * high,
        )

    @property
    def largest(self) -> float:
        parts = (self.L, self.F, self.T, self.sums * self.T, self.products * self.T)
        return max(float(np.abs(part).max(initial=0.0)) for part in parts)

    def matrix(self) -> Float:
        """P without u."""
        P = _bordered(-0.5 * self.F, (-0.5 * self.sums * self.T)[:, None] * self.L)
        P[1:, 1:][np.diag_indices(len(self.T))] += self.T
        D = self.products * self.T
        return P + self.L.T @ (D[:, None] * self.L) if D.any() else P

    def error(self) -> Float:
        """What its entries are wrong by at most."""
        sizes, k = np.abs(self.L), gamma(16)
        wrong = (np.abs(self.sums) * self.T)[:, None] * (self.E + k * sizes)
        error = _bordered(self.F_error + k * np.abs(self.F), wrong)
        error[1:, 1:][np.diag_indices(len(self.T))] += k * self.T
        D = np.abs(self.products) * self.T
        if D.any():
            own = self.E + gamma(len(self.T) + 24) * sizes
            wrong = (sizes + own).T @ (D[:, None] * own)
            error += wrong + wrong.T
        return np.asarray(SAFETY * error + _FLOOR)


def _bordered(row: Float, rows: Float) -> Float:
    """The matrix of these rows, plus its transpose."""
    P = np.concatenate([row[None], rows])
    return np.asarray(P + P.T)
