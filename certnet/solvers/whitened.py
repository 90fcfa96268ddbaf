r"""A restriction in the coordinates of its solver: inputs with covariance I, targets with spread one, no idle units.

``x' = (x − mean) T`` with Tᵀ Cov T = I on the row space of X, ``w = τ T w'`` and ``y' = (y − mean) / τ``. What no
optimum needs is dropped, exactly: weights orthogonal to the data (zero), units that are never active (zero, unless η
is fixed: then their weights can still lower ρ), and, for the Lipschitz penalty, the biases of units that are always or
never active: the output bias does their work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from certnet.core.errors import SolverError
from certnet.core.validation import Float
from certnet.programs.restriction import Restriction
from certnet.solvers.watch import UNWATCHED, Watch

__all__ = ["Whitened", "WhitenedChunk"]

_RANK = 1e-12  # singular values below this fraction of the largest are zero: directions without data
_THIN = 1e-7  # room between the sides, of the largest |x̃ᵀu|, from which a point counts as inside


@dataclass(frozen=True, eq=False)
class WhitenedChunk:
    """Some samples: ``at`` tells which of all; see :class:`Whitened`."""

    at: slice
    X: Float
    shares: Float
    pattern: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Whitened:
    """The program that the interior-point loop sees.

    Attributes
    ----------
    program : Restriction
    X : ndarray, shape (n, p)
        Whitened inputs and a column of ones, p = r + 1 with r the rank of the data.
    shares : ndarray, shape (n,)
    targets : ndarray, shape (n, m)
    pattern : ndarray of uint8, shape (n, n_cone)
        Of the units with inequalities; they come first.
    directions : ndarray, shape (m, h)
        Of all units, those without inequalities last.
    outputs : ndarray, shape (m, h)
        The same, zero for units that are never active.
    start : ndarray, shape (h, p)
        A point strictly inside every cone.
    units : ndarray of int, shape (h,)
        Which of the program's units are left.
    mean, offset : ndarray, shapes (d,), (m,)
        Means of the rows and of the targets.
    basis, singular : ndarray, shapes (d, r), (r,)
        ``T = basis / singular``.
    tau : float
        Spread of the targets; zero where they are constant.
    unit : float
        Mean of the variances of the inputs, ``singular²``.
    n_edges : int
        Units that are left out although their cone may be more than zero: signs leave it no interior.
    """

    program: Restriction
    X: Float
    shares: Float
    targets: Float
    pattern: NDArray[np.uint8]
    directions: Float
    outputs: Float
    start: Float
    units: NDArray[np.intp]
    mean: Float
    basis: Float
    singular: Float
    offset: Float
    tau: float
    unit: float
    n_edges: int = 0

    @classmethod
    def of(cls, program: Restriction, start: Float | None, watch: Watch = UNWATCHED) -> Whitened:
        """The whitened program; ``start`` (k, d+1) is a point of the closed cell, such as the network's weights.

        Raises
        ------
        SolverError
            The cell has no interior in floating point, or the watch has a verdict before one is found.
        """
        rows, shares, penalty = program.rows, program.shares, program.penalty
        # x' = (x − mean) T, y' = (y − offset) / τ
        mean, offset = shares @ rows, shares @ program.targets
        X, basis, singular = _whitened(rows - mean, shares)
        unit = float(np.mean(singular**2)) if len(singular) else 1.0
        if program.slopes is not None and len(singular):
            X, basis, singular = _completed(X, basis, singular, np.sqrt(unit))
        n, d = X.shape
        targets = program.targets - offset
        spread = float(shares @ np.sum(targets**2, axis=1))
        tau = float(np.sqrt(spread)) if spread > 1e-28 * float(np.max(program.targets**2, initial=0.0)) else 0.0
        # units that are left: those with inequalities first, then those whose bias the output bias replaces
        always = np.asarray(program.patterns.all(axis=0))
        never = np.asarray(~program.patterns.any(axis=0))
        free = (always | never) if penalty.free_biases else np.zeros_like(always)
        dropped = np.zeros_like(never) if penalty.uses_idle_units else never
        units = np.concatenate([np.flatnonzero(~free & ~dropped), np.flatnonzero(free & ~dropped)])
        n_cone = int((~free & ~dropped).sum())
        if d == 0 or tau == 0.0:
            units, n_cone = units[:0], 0
        extended = np.column_stack([X, np.ones(n)])
        # the start, its weights w' = Tᵀ⁻¹ w on the data's directions, moved inside
        begin = np.zeros((len(units), d + 1))
        if start is not None:
            W = start[units, :-1]
            begin = np.column_stack([(W @ basis) * singular, start[units, -1] + W @ mean])
        if program.slopes is None:
            pattern = np.ascontiguousarray(program.patterns[:, units[:n_cone]]).astype(np.uint8)
            begin[:n_cone] = _inside(extended, pattern, None if start is None else begin[:n_cone], watch)
            begin[n_cone:], n_edges = 0.0, 0
        else:
            known = None if start is None else begin
            begin, kept = _inside_signs(program, units, n_cone, (extended, basis, singular), known, watch)
            n_edges = int(np.sum(~kept))
            units, begin, n_cone = units[kept], begin[kept], int(np.sum(kept[:n_cone]))
            pattern = np.ascontiguousarray(program.patterns[:, units[:n_cone]]).astype(np.uint8)
        directions = np.ascontiguousarray(program.directions[:, units])
        return cls(
            program=program,
            X=extended,
            shares=shares,
            targets=targets / (tau or 1.0),
            pattern=pattern,
            directions=directions,
            outputs=directions * ~never[units],
            start=begin,
            units=units,
            mean=mean,
            basis=basis,
            singular=singular,
            offset=offset,
            tau=tau,
            unit=unit,
            n_edges=n_edges,
        )

    @property
    def n_cone(self) -> int:
        """Units with inequalities."""
        return int(self.pattern.shape[1])

    def chunks(self, size: int) -> Iterator[WhitenedChunk]:
        """The samples, ``size`` at a time."""
        n = len(self.X)
        for begin in range(0, n, size):
            at = slice(begin, min(begin + size, n))
            yield WhitenedChunk(at, self.X[at], self.shares[at], self.pattern[at])

    def undo(self, U: Float, c: Float) -> tuple[Float, Float]:
        """Weights (k, d + 1) and output biases in the data's units, inside the closed cell.

        Biases that were left out are as small as they may be.
        """
        program, n_cone = self.program, self.n_cone
        k = program.directions.shape[1]
        full, bias = np.zeros((k, program.n_inputs + 1)), c * self.tau + self.offset
        # w = τ T w', b = τ b' − wᵀ mean
        W = self.tau * (U[:, :-1] / self.singular) @ self.basis.T
        shift = W @ self.mean
        full[self.units, :-1] = W
        full[self.units[:n_cone], -1] = self.tau * U[:n_cone, -1] - shift[:n_cone]
        if len(self.units) > n_cone:
            # always active: b ≥ −min z, and the output bias takes it back; never active: b ≤ −max z
            z = program.rows @ W[n_cone:].T
            margin = 8.0 * np.finfo(float).eps * np.abs(z).max(axis=0)
            silent = ~self.outputs[:, n_cone:].any(axis=0)
            b = np.where(silent, -np.maximum(0.0, z.max(axis=0)) - margin, np.maximum(0.0, -z.min(axis=0)) + margin)
            full[self.units[n_cone:], -1] = b
            bias = bias - self.outputs[:, n_cone:] @ (shift[n_cone:] + b)
        return full, bias


def _whitened(centred: Float, shares: Float) -> tuple[Float, Float, Float]:
    """``X = centred @ basis / singular`` with ``Xᵀ diag(shares) X = I``, the basis (d, r) and the divisors (r,)."""
    root = np.sqrt(shares)[:, None]
    triangle = np.linalg.qr(centred * root, mode="r") if len(centred) > centred.shape[1] else centred * root
    _, singular, right = np.linalg.svd(triangle, full_matrices=False)
    scale = np.abs(centred).max(initial=0.0)
    rank = int(np.sum(singular > _RANK * max(float(singular.max(initial=0.0)), 1e-300))) if scale > 0.0 else 0
    basis = right[:rank].T
    return centred @ (basis / singular[:rank]), basis, singular[:rank]


def _inside(X: Float, pattern: NDArray[np.uint8], given: Float | None, watch: Watch) -> Float:
    """A point strictly inside each cone: the given one, its bias moved off the edge, or where that leaves little room
    the deepest one, by a linear program."""
    U = np.zeros((pattern.shape[1], X.shape[1])) if given is None else given.copy()
    for j in range(len(U)):
        active = pattern[:, j] == 1
        low, high, room = _sides(X, U[j], active)
        if not low > high + _THIN * room:  # Newton's matrix is singular to rounding so near to an edge
            if watch.verdict is not None:
                raise SolverError(f"stopped before a point inside the cell of pattern {j} was found")
            deepest = _deepest(X, active, watch.left)
            lower, higher, size = _sides(X, deepest, active)
            if not (low > high and (low - high) * size >= (lower - higher) * room):
                U[j], low, high = deepest, lower, higher
            if not low > high:
                raise SolverError(
                    f"the cell of pattern {j} has no interior in floating point: move its unit off the data"
                )
        U[j] = _middle(X, U[j], active)
    return U


def _completed(X: Float, basis: Float, singular: Float, size: float) -> tuple[Float, Float, Float]:
    """The same with directions without data too, of variance ``size²``: weights there may help to keep a sign."""
    d, rank = basis.shape
    if rank == d:
        return X, basis, singular
    rest = np.linalg.svd(basis, full_matrices=True)[0][:, rank:]
    X = np.column_stack([X, np.zeros((len(X), d - rank))])
    return X, np.column_stack([basis, rest]), np.append(singular, np.full(d - rank, size))


def _inside_signs(
    program: Restriction,
    units: NDArray[np.intp],
    n_cone: int,
    data: tuple[Float, Float, Float],
    given: Float | None,
    watch: Watch,
) -> tuple[Float, NDArray[np.bool_]]:
    """Points strictly inside cones and signs of the units (h, p), and which units have any: others are zero.

    ``data`` are the whitened rows with ones, basis and singular values.
    """
    X, basis, singular = data
    slopes = program.slopes
    signs = np.zeros(len(basis)) if slopes is None else slopes.signs
    signed = np.flatnonzero(signs)
    T = basis / singular
    U, kept = np.zeros((len(units), X.shape[1])), np.ones(len(units), dtype=bool)
    for j, unit in enumerate(units):
        wanted = program.directions[0, unit] * signs
        inward = np.append(np.linalg.solve(T, wanted / np.linalg.norm(T, axis=1)), 0.0)  # all signs kept alike
        if j >= n_cone:
            U[j] = inward / (np.sqrt(np.mean((X @ inward) ** 2)) or 1.0)
            continue
        rows = np.column_stack([wanted[signed, None] * T[signed], np.zeros(len(signed))])
        active = program.patterns[:, unit]
        u: Float | None = None if given is None else _nudged(X, active, rows, given[j], inward)
        if u is None:
            if watch.verdict is not None:
                raise SolverError(f"stopped before a point inside the cell of pattern {unit} was found")
            u = _deepest(X, active, watch.left, rows)
            low, high, room = _sides(X, u, active)
            if not (low > high + _THIN * room and (rows @ u > _THIN * np.linalg.norm(rows, axis=1)).all()):
                kept[j] = False  # no interior: at most an edge, of which zero is a point
                continue
        U[j] = _middle(X, u, active)
    return U, kept


def _nudged(X: Float, active: NDArray[np.bool_], rows: Float, u: Float, inward: Float) -> Float | None:
    """u a little way ``inward``, off the edges of the signs and still inside the cone; None where u is on its edge."""
    low, high, room = _sides(X, u, active)
    if not low > high + _THIN * room or (rows @ u < -_THIN * room * np.linalg.norm(rows, axis=1)).any():
        return None
    gap = low - high if np.isfinite(low) and np.isfinite(high) else room
    moved = u + 0.1 * gap / max(float(np.abs(X @ inward).max()), 1e-300) * inward
    low, high, room = _sides(X, moved, active)
    inside = low > high + _THIN * room and (rows @ moved > 0.0).all()
    return moved if inside else None


def _middle(X: Float, u: Float, active: NDArray[np.bool_]) -> Float:
    """u with its bias between the sides of its pattern, and outputs of size one."""
    u = u.copy()
    low, high, _ = _sides(X, u, active)
    z = X @ u
    if np.isfinite(low) and np.isfinite(high):
        u[-1] -= 0.5 * (low + high)
    else:  # one side is empty: the bias alone decides
        room = float(np.sqrt(np.mean(z**2))) or 1.0
        u[-1] += max(0.0, -low) + room if np.isfinite(low) else -max(0.0, high) - room
    return u / np.sqrt(np.mean((X @ u) ** 2))


def _sides(X: Float, u: Float, active: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Least of ``X u`` on the active side, largest on the other, largest size."""
    z = X @ u
    return float(z[active].min(initial=np.inf)), float(z[~active].max(initial=-np.inf)), float(np.abs(z).max())


def _deepest(X: Float, active: NDArray[np.bool_], seconds: float, rows: Float | None = None) -> Float:
    """u with the largest margin over the inequalities of one pattern and ``rows u ≥ 0``, |u| ≤ 1, within so many
    seconds."""
    signed = np.where(active, 1.0, -1.0)[:, None] * X
    size = np.linalg.norm(X, axis=1)
    p = X.shape[1]
    if rows is not None:
        signed, size = np.vstack([signed, rows]), np.append(size, np.linalg.norm(rows, axis=1))
    found = linprog(
        np.append(np.zeros(p), -1.0),
        A_ub=np.column_stack([-signed, size]),
        b_ub=np.zeros(len(signed)),
        bounds=[(-1.0, 1.0)] * p + [(None, 1.0)],
        method="highs",
        options={"time_limit": max(seconds, 0.1)},
    )
    if found.x is None:
        raise SolverError(f"no interior point of a cell was found: {found.message}")
    return np.asarray(found.x[:p])
