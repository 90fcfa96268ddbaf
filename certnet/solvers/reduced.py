r"""A restriction in the coordinates of its solver: inputs with covariance I, targets with spread one, no idle units.

``x' = (x − mean) T`` with Tᵀ Cov T = I on the row space of X, ``w = τ T w'`` and ``y' = (y − mean) / τ``. What no
optimum needs is dropped, exactly: weights orthogonal to the data (zero), units that are never active (zero, unless η
is fixed: then their weights can still lower ρ), and, for the Lipschitz penalty, the biases of units that are always or
never active: the output bias does their work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.programs.restriction import Restriction, Solution

__all__ = ["Reduced"]

_RANK = 1e-12  # singular values below this fraction of the largest are zero: directions without data
_THIN = 1e-7  # room between the sides, of the largest |x̃ᵀu|, from which a point counts as inside
_IDLE = 1e-9  # what units that are left out get of Σ η, so that 1 / η exists


@dataclass(frozen=True, eq=False)
class Reduced:
    """The program that the interior-point loop sees.

    Attributes
    ----------
    X : ndarray, shape (n, d + 1)
        Whitened inputs and a column of ones.
    shares : ndarray, shape (n,)
    targets : ndarray, shape (n, m)
    pattern : ndarray of uint8, shape (n, n_cone)
        Of the units with inequalities; they come first.
    directions : ndarray, shape (m, h)
        Of all units, those without inequalities last.
    outputs : ndarray, shape (m, h)
        The same, zero for units that are never active.
    metric : ndarray, shape (d, d)
        M: the corner of the matrix inequality is ρ' M.
    weight : float
        Of ρ', or of ``2 Σ_j ‖norm u'_j‖``.
    norm : ndarray, shape (d + 1, d + 1)
        N of the ℓ2 penalty: ``‖N u'‖`` is the least norm of data weights that act on the rows as u' does.
    eta : ndarray, shape (h,), or None
        Where η is fixed.
    start : ndarray, shape (h, d + 1)
        A point strictly inside every cone.
    """

    program: Restriction
    X: Float
    shares: Float
    targets: Float
    pattern: NDArray[np.uint8]
    directions: Float
    outputs: Float
    metric: Float
    weight: float
    norm: Float
    seen: Float
    eta: Float | None
    start: Float
    units: NDArray[np.intp]
    mean: Float
    basis: Float
    singular: Float
    offset: Float
    tau: float
    unit: float

    @classmethod
    def of(cls, program: Restriction, start: Float | None) -> Reduced:
        """The reduced program; ``start`` (k, d+1) is a point of the closed cell, such as the network's weights.

        Raises
        ------
        SolverError
            The cell has no interior in floating point.
        """
        rows, shares = program.rows, program.shares
        mean, offset = shares @ rows, shares @ program.targets
        X, basis, singular = _whitened(rows - mean, shares)
        T = basis / singular
        n, d = X.shape
        targets = program.targets - offset
        spread = float(shares @ np.sum(targets**2, axis=1))
        tau = float(np.sqrt(spread)) if spread > 1e-28 * float(np.max(program.targets**2, initial=0.0)) else 0.0
        always = np.asarray(program.patterns.all(axis=0))
        never = np.asarray(~program.patterns.any(axis=0))
        lipschitz = program.penalty == "lipschitz"
        free = (always | never) if lipschitz else np.zeros_like(always)
        dropped = never if program.eta is None else np.zeros_like(never)
        units = np.concatenate([np.flatnonzero(~free & ~dropped), np.flatnonzero(free & ~dropped)])
        n_cone = int((~free & ~dropped).sum())
        if d == 0 or tau == 0.0:
            units, n_cone = units[:0], 0
        unit = float(np.mean(singular**2)) if d else 1.0
        extended = np.column_stack([X, np.ones(n)])
        seen, affine = _seen(rows, d), _affine(mean, T)
        pattern = np.ascontiguousarray(program.patterns[:, units[:n_cone]]).astype(np.uint8)
        directions = np.ascontiguousarray(program.directions[:, units])
        eta = None if program.eta is None else program.eta[units]
        begin = np.zeros((len(units), d + 1))
        if n_cone:
            given = None
            if start is not None:
                W = start[units[:n_cone], :-1]
                given = np.column_stack([(W @ basis) * singular, start[units[:n_cone], -1] + W @ mean])
            begin[:n_cone] = _inside(extended, pattern, given)
        weight = program.weight / unit if lipschitz else program.weight / max(tau, 1e-300)
        return cls(
            program=program,
            X=extended,
            shares=shares,
            targets=targets / (tau or 1.0),
            pattern=pattern,
            directions=directions,
            outputs=directions * ~never[units],
            metric=np.diag(singular**2 / unit),
            weight=weight,
            norm=np.asarray(np.linalg.qr(seen @ affine, mode="r")),
            seen=seen,
            eta=eta,
            start=begin,
            units=units,
            mean=mean,
            basis=basis,
            singular=singular,
            offset=offset,
            tau=tau,
            unit=1.0 / unit,
        )

    def rho(self, rho: float) -> float:
        """ρ in the data's units."""
        return rho * self.unit * self.tau**2

    def undo(self, U: Float, c: Float, eta: Float | None, rho: float | None) -> Solution:
        """The point in the data's units, inside the closed cell, biases that were left out as small as they may be."""
        program = self.program
        k = program.directions.shape[1]
        full, bias = np.zeros((k, program.rows.shape[1] + 1)), c * self.tau + self.offset
        W = self.tau * (U[:, :-1] / self.singular) @ self.basis.T
        shift = W @ self.mean
        full[self.units, :-1] = W
        n_cone = self.pattern.shape[1]
        full[self.units[:n_cone], -1] = self.tau * U[:n_cone, -1] - shift[:n_cone]
        if len(self.units) > n_cone:
            z = program.rows @ W[n_cone:].T
            margin = 8.0 * np.finfo(float).eps * np.abs(z).max(axis=0)
            silent = ~self.outputs[:, n_cone:].any(axis=0)
            b = np.where(silent, -np.maximum(0.0, z.max(axis=0)) - margin, np.maximum(0.0, -z.min(axis=0)) + margin)
            full[self.units[n_cone:], -1] = b
            bias = bias - self.outputs[:, n_cone:] @ (shift[n_cone:] + b)
        if program.penalty == "l2" and len(self.singular) < len(self.basis):
            full = full @ self.seen.T @ self.seen
        every = None
        if eta is not None:
            idle = np.ones(k, dtype=bool)
            idle[self.units] = False
            if program.eta is not None:
                every = program.eta
            else:
                every = np.full(k, _IDLE / k)
                every[self.units] = eta * (1.0 - _IDLE) if idle.any() else eta
        return Solution(full, bias, every, None if rho is None else self.rho(rho))


def _whitened(centred: Float, shares: Float) -> tuple[Float, Float, Float]:
    """``X = centred @ basis / singular`` with ``Xᵀ diag(shares) X = I``, the basis (d, r) and the divisors (r,)."""
    root = np.sqrt(shares)[:, None]
    triangle = np.linalg.qr(centred * root, mode="r") if len(centred) > centred.shape[1] else centred * root
    _, singular, right = np.linalg.svd(triangle, full_matrices=False)
    scale = np.abs(centred).max(initial=0.0)
    rank = int(np.sum(singular > _RANK * max(float(singular.max(initial=0.0)), 1e-300))) if scale > 0.0 else 0
    basis = right[:rank].T
    return centred @ (basis / singular[:rank]), basis, singular[:rank]


def _affine(mean: Float, T: Float) -> Float:
    """The data weights (w, b) of u' = (w', b'): (d + 1, r + 1)."""
    d, r = T.shape
    E = np.zeros((d + 1, r + 1))
    E[:d, :r] = T
    E[d, :r] = -mean @ T
    E[d, r] = 1.0
    return E


def _seen(rows: Float, rank: int) -> Float:
    """Orthonormal rows that span those of (X, 1): weights across them act on no sample."""
    extended = np.column_stack([rows, np.ones(len(rows))])
    if rank == rows.shape[1]:
        return np.eye(rank + 1)
    return np.asarray(np.linalg.svd(extended, full_matrices=False)[2][: rank + 1])


def _inside(X: Float, pattern: NDArray[np.uint8], given: Float | None) -> Float:
    """A point strictly inside each cone: the given one, its bias moved off the edge, or where that leaves little room
    the deepest one, by a linear program."""
    U = np.zeros((pattern.shape[1], X.shape[1])) if given is None else given.copy()
    for j in range(len(U)):
        active = pattern[:, j] == 1
        low, high, room = _sides(X, U[j], active)
        if not low > high + _THIN * room:  # Newton's matrix is singular to rounding so near to an edge
            deepest = _deepest(X, active)
            lower, higher, size = _sides(X, deepest, active)
            if not (low > high and (low - high) * size >= (lower - higher) * room):
                U[j], low, high = deepest, lower, higher
            if not low > high:
                raise SolverError(
                    f"the cell of pattern {j} has no interior in floating point: move its unit off the data"
                )
        z = X @ U[j]
        if np.isfinite(low) and np.isfinite(high):
            U[j, -1] -= 0.5 * (low + high)
        else:  # one side is empty: the bias alone decides
            room = float(np.sqrt(np.mean(z**2))) or 1.0
            U[j, -1] += max(0.0, -low) + room if np.isfinite(low) else -max(0.0, high) - room
        U[j] /= np.sqrt(np.mean((X @ U[j]) ** 2))
    return U


def _sides(X: Float, u: Float, active: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Least of ``X u`` on the active side, largest on the other, largest size."""
    z = X @ u
    return float(z[active].min(initial=np.inf)), float(z[~active].max(initial=-np.inf)), float(np.abs(z).max())


def _deepest(X: Float, active: NDArray[np.bool_]) -> Float:
    """u with the largest margin over the inequalities of one pattern, |u| ≤ 1."""
    signed = np.where(active, 1.0, -1.0)[:, None] * X
    size = np.linalg.norm(X, axis=1)
    p = X.shape[1]
    found = linprog(
        np.append(np.zeros(p), -1.0),
        A_ub=np.column_stack([-signed, size]),
        b_ub=np.zeros(len(X)),
        bounds=[(-1.0, 1.0)] * p + [(None, 1.0)],
        method="highs",
    )
    if found.x is None:
        raise SolverError(f"no interior point of a cell was found: {found.message}")
    return np.asarray(found.x[:p])
