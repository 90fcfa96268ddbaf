r"""What is minimised over which cell: the convex restriction as data.

With the output directions V fixed (for one output: the signs ``s_j`` of ``v_j``) and the activation patterns
``D_j = diag(1[X̃ w̃_j ≥ 0])`` of a network, ``X̃ = (X, 1)``, the network is linear in its hidden weights u_j over the
cell ``{ U : (2 D_j − I) X̃ u_j ≥ 0 for all j }``. The programs, in U (h, d+1), c (m,) and, for the Lipschitz penalty,
η (h,) and ρ:

    ℓ2      (1/N) ‖ Σ_j V_:j D_j X̃ u_j + c − y ‖² + 2 λ Σ_j ‖u_j‖₂                                         (Y (6))
    joint   (1/N) ‖ Σ_j V_:j D_j X̃ u_j + c − y ‖² + λ ρ   subject to   [ ρ I   Wᵀ        ½ WᵀVᵀ            ]
                                                                       [ W     2 diag η  0                 ]  ⪰ 0
                                                                       [ ½ VW  0         I − ½ V diag(η) Vᵀ ]
    fixed   the same with η fixed: the inner program of the alternating method                              (Y (12))

where W is U without its last column; with a limit on ρ or on the error (:mod:`certnet.programs.goal`) the other alone
is minimised. The matrix inequality is linear in (ρ, W, η) together; Y's LMI is its Schur complement with ``T = 1/η``.
Samples that repeat share their cone constraints, and their targets are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_weights, whole_number
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import Goal
from certnet.programs.loss import SQUARED, Loss, Squared
from certnet.programs.penalties import Penalty
from certnet.programs.slopes import SlopeLimits

__all__ = [
    "Cell",
    "Chunk",
    "Restriction",
    "Samples",
    "Solution",
    "network_from",
    "sampled_cell",
    "whole_cell",
]

_CHUNK = 8192  # samples at a time


@dataclass(frozen=True, eq=False)
class Cell:
    """Activation patterns and output directions that a restriction keeps.

    Attributes
    ----------
    network : ShallowNetwork
        The network whose activation patterns they are.
    units : ndarray of int, shape (k,)
        The network's unit behind each pattern; a unit may occur more than once.
    directions : ndarray, shape (m, k)
        Unit vectors V_:j; ±1 for one output.
    """

    network: ShallowNetwork
    units: NDArray[np.intp]
    directions: Float

    @property
    def point(self) -> tuple[Float, Float]:
        """The network's own ``‖V_:j‖ (w_j, b_j)`` (k, d+1) and c (m,): inside the closed cell.

        A unit's weights lie in the cone of its pattern whatever the sign that the pattern is given.
        """
        net = self.network
        U = np.linalg.norm(net.V, axis=0)[:, None] * np.column_stack([net.W, net.b])
        return U[self.units], net.c

    def patterns(self, rows: Float) -> NDArray[np.bool_]:
        """``1[w_jᵀ x + b_j ≥ 0]`` of the units behind the patterns, (n, k)."""
        net = self.network
        active: NDArray[np.bool_] = rows @ net.W.T + net.b >= 0.0
        return active[:, self.units]


@dataclass(frozen=True, eq=False)
class Solution:
    """A point of a restriction: U (k, d+1), c (m,), η (k,) and ρ (both None for ℓ2), in the data's own units."""

    U: Float
    c: Float
    eta: Float | None
    rho: float | None


def _directions(V: Float) -> Float:
    """Columns of V with norm one; a zero column gets the first unit vector (Y's convention: sign +)."""
    norms = np.linalg.norm(V, axis=0)
    D = V / np.where(norms > 0.0, norms, 1.0)
    D[0, norms == 0.0] = 1.0
    return D


def whole_cell(network: ShallowNetwork) -> Cell:
    """Every unit's pattern with its own output direction: the network itself lies in this cell."""
    return Cell(network, np.arange(network.n_hidden), _directions(network.V))


def sampled_cell(network: ShallowNetwork, n_patterns: int, rng: np.random.Generator) -> Cell:
    """``n_patterns`` units drawn without replacement, each pattern with both signs (Y, section 4, "samp").

    The network itself need not lie in this cell.

    Raises
    ------
    InvalidInputError
        Several outputs, or more patterns than units.
    """
    if network.n_outputs != 1:
        raise InvalidInputError('patterns="sampled" is defined for one output: use patterns="all"')
    n_patterns = whole_number(n_patterns, "n_patterns", least=1, most=network.n_hidden)
    drawn = np.sort(rng.choice(network.n_hidden, n_patterns, replace=False))
    signs = np.concatenate([np.ones(n_patterns), -np.ones(n_patterns)])
    return Cell(network, np.concatenate([drawn, drawn]), signs[None, :])


@dataclass(frozen=True, eq=False)
class Samples:
    """Distinct samples: those that repeat share a row, those of weight zero have none.

    Attributes
    ----------
    rows : ndarray, shape (n, d)
        Distinct rows of X.
    shares : ndarray, shape (n,)
        Part of the samples' weight that each row stands for; sums to one.
    targets : ndarray, shape (n, m)
        Weighted mean target of each row.
    spread : float
        ``Σ_i w_i ‖y_i − target of its row‖² / Σ_i w_i``, which no network can avoid.
    """

    rows: Float
    shares: Float
    targets: Float
    spread: float

    @classmethod
    def of(cls, X: Float, y: Float, sample_weight: ArrayLike | None = None, loss: Loss = SQUARED) -> Samples:
        """Samples X (N, d), y (N, m), merged; weights (N,) are one where none are given.

        Samples that repeat are merged where the loss is squared, and beside that only where their targets agree.

        Raises
        ------
        InvalidInputError
            See :func:`certnet.core.validation.as_weights`.
        """
        if sample_weight is not None:
            weights = as_weights(sample_weight, len(X))
            used = weights > 0.0
            X, y, weights = X[used], y[used], weights[used]
        rows: Float
        if isinstance(loss, Squared):
            rows, index, where = np.unique(X, axis=0, return_index=True, return_inverse=True)
        else:
            both, index, where = np.unique(np.column_stack([X, y]), axis=0, return_index=True, return_inverse=True)
            rows = np.ascontiguousarray(both[:, : X.shape[1]])
        where = where.ravel()
        parts: Float = np.full(len(X), 1.0 / len(X)) if sample_weight is None else weights
        shares: Float = np.bincount(where, None if sample_weight is None else parts, len(rows)).astype(float)
        shares /= shares.sum()
        # targets about the first of their row: those that agree keep their digits
        first = y[index]
        sums = np.zeros_like(first)
        np.add.at(sums, where, parts[:, None] * (y - first[where]))
        targets = first + sums / shares[:, None]
        return cls(rows, shares, targets, float(parts @ np.sum((y - targets[where]) ** 2, axis=1)))


class Chunk(NamedTuple):
    """Some rows of a program: ``at`` tells which of all."""

    at: slice
    rows: Float
    shares: Float
    targets: Float
    patterns: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Restriction:
    """One convex program: distinct samples, patterns, and what is charged and limited.

    Attributes
    ----------
    rows, shares, targets, spread
        Of :class:`Samples`.
    patterns : ndarray of bool, shape (n, k)
    directions : ndarray, shape (m, k)
    penalty : Penalty
    goal : Goal
    loss : Loss
        What the fit is the weighted mean of.
    slopes : SlopeLimits or None
        Of the features, for one output.
    """

    rows: Float
    shares: Float
    targets: Float
    spread: float
    patterns: NDArray[np.bool_]
    directions: Float
    penalty: Penalty
    goal: Goal
    loss: Loss = SQUARED
    slopes: SlopeLimits | None = None

    @classmethod
    def of(
        cls,
        cell: Cell,
        X: Float,
        y: Float,
        penalty: Penalty,
        goal: Goal,
        *,
        sample_weight: ArrayLike | None = None,
        loss: Loss = SQUARED,
        slopes: SlopeLimits | None = None,
    ) -> Restriction:
        """The restriction to ``cell`` on samples X (N, d), y (N, m), checked at the door.

        Raises
        ------
        InvalidInputError
            Weights that are none (:func:`certnet.core.validation.as_weights`), limits on the slopes for several outputs
            or another number of inputs.
        """
        if slopes is not None:
            slopes.require(len(cell.directions), X.shape[1])
        data = Samples.of(X, y, sample_weight, loss)
        patterns = cell.patterns(data.rows)
        about = (data.rows, data.shares, data.targets, data.spread)
        return cls(*about, patterns, cell.directions, penalty, goal, loss, slopes)

    @property
    def n_samples(self) -> int:
        """Distinct ones, n."""
        return len(self.shares)

    @property
    def n_inputs(self) -> int:
        return int(self.rows.shape[1])

    def chunks(self, size: int = _CHUNK) -> Iterator[Chunk]:
        """The rows, ``size`` at a time."""
        for begin in range(0, self.n_samples, size):
            at = slice(begin, min(begin + size, self.n_samples))
            yield Chunk(at, self.rows[at], self.shares[at], self.targets[at], self.patterns[at])

    def constant(self) -> Solution:
        """The constant network: weights zero, and the mean of the targets."""
        k = self.directions.shape[1]
        return Solution(np.zeros((k, self.n_inputs + 1)), self.shares @ self.targets, *self.penalty.at_rest(k))

    def fit(self, U: Float, c: Float) -> float:
        """The mean loss of the linear model at (U, c): that of the network where U lies in the cell."""
        total = 0.0
        for chunk in self.chunks():
            total += self.loss.value(self.residual(chunk, U, c), chunk.shares)
        return total + self.spread

    def residual(self, chunk: Chunk, U: Float, c: Float) -> Float:
        """Outputs of the linear model less the targets, for some rows."""
        active = np.where(chunk.patterns, chunk.rows @ U[:, :-1].T + U[:, -1], 0.0)
        return active @ self.directions.T + c - chunk.targets

    def cell_violation(self, U: Float) -> float:
        """Largest ``−(2 D_j − I) x̃ᵀ u_j`` relative to ``‖x̃‖ ‖U‖``, limits on the slopes included; 0 inside."""
        largest = max(float(np.abs(U).max()), 1e-300)
        worst = 0.0 if self.slopes is None else self.slopes.violation(self.directions, U)
        for chunk in self.chunks():
            z = chunk.rows @ U[:, :-1].T + U[:, -1]
            inside = np.where(chunk.patterns, z, -z)
            size = np.sqrt(1.0 + np.sum(chunk.rows**2, axis=1))[:, None] * largest
            worst = float(np.max(-inside / size, initial=worst))
        return worst

    def objective(self, solution: Solution) -> float:
        """The objective at a point, the penalty recomputed from its weights and η; infinite outside the closed cell."""
        if not self.cell_violation(solution.U) <= 1e-12:
            return float("inf")
        fit = self.fit(solution.U, solution.c)
        return self.goal.objective(fit, self.penalty.at(self.directions, solution.U, solution.eta))


def network_from(solution: Solution, directions: Float, units: str) -> ShallowNetwork:
    """Back-mapping ``w̃_j = u_j / √‖u_j‖``, ``V_:j = direction_j √‖u_j‖`` (Y (7), (13)); zero units become zero."""
    norms = np.linalg.norm(solution.U, axis=1)
    root = np.sqrt(norms)
    hidden = solution.U / np.where(norms > 0.0, root, 1.0)[:, None]
    return ShallowNetwork(hidden[:, :-1], hidden[:, -1], directions * root, solution.c, units=units)
