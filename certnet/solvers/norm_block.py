r"""The ℓ2 penalty ``2 λ Σ_j ‖N u_j‖`` in an interior-point method: one second-order cone per unit.

``(t_j, N u_j)`` with duals ``(2 λ, y_j)``, Nesterov–Todd scaled: ``W⁻² = η⁻² (2 q qᵀ − J)``, ``J = diag(1, −1, …)``, q
the reflected scaling point. The heights t_j are eliminated, the units stay uncoupled.
"""

from __future__ import annotations

import numpy as np

from certnet.core.errors import SolverUnavailableError
from certnet.core.validation import Float
from certnet.programs.goal import Weighted
from certnet.programs.restriction import Solution
from certnet.solvers.block import BlockAim
from certnet.solvers.dual_bound import DualPoint
from certnet.solvers.whitened import Whitened

__all__ = ["NormBlock", "NormStep", "NormSystem"]


class NormStep:
    """A direction of the cones: (h, d + 2) arrays, the height first."""

    def __init__(self, T: Float, Z: Float) -> None:
        self.T, self.Z = T, Z


def _determinant(x: Float) -> Float:
    """``x_0² − ‖x_1‖²`` without cancellation of the leading digits."""
    size = np.linalg.norm(x[:, 1:], axis=1)
    return np.asarray((x[:, 0] - size) * (x[:, 0] + size))


def _arrow(x: Float, y: Float) -> Float:
    """Jordan product."""
    out = x[:, :1] * y + y[:, :1] * x
    out[:, 0] = np.sum(x * y, axis=1)
    return out


def _divided(x: Float, y: Float) -> Float:
    """z with ``x ∘ z = y``."""
    inner = np.sum(x[:, 1:] * y[:, 1:], axis=1)
    height = (x[:, 0] * y[:, 0] - inner) / _determinant(x)
    return np.column_stack([height, (y[:, 1:] - height[:, None] * x[:, 1:]) / x[:, :1]])


class _Scaling:
    """Nesterov–Todd scaling of points T and Z inside the cones, with determinants ``primal`` and ``dual``."""

    def __init__(self, T: Float, Z: Float, primal: Float, dual: Float) -> None:
        self.T, self.Z = T, Z
        # the scaling point w = (x + J z) / 2γ of the points normed to determinant one, γ² = (1 + xᵀz) / 2
        x, z = T / np.sqrt(primal)[:, None], Z / np.sqrt(dual)[:, None]
        gamma = np.sqrt(0.5 * (1.0 + np.sum(x * z, axis=1)))
        z[:, 1:] *= -1.0
        self.w: Float = (x + z) / (2.0 * gamma)[:, None]
        self.ratio: Float = (primal / dual) ** 0.25  # η
        self.root: Float = self.scaled(Z)  # W⁻¹ T = W Z

    def scaled(self, x: Float, inverse: bool = False) -> Float:
        """``W x`` or ``W⁻¹ x``."""
        w = self.w.copy()
        if inverse:
            w[:, 1:] *= -1.0
        inner = np.sum(w[:, 1:] * x[:, 1:], axis=1)
        height = w[:, 0] * x[:, 0] + inner
        rest = x[:, 1:] + (x[:, 0] + inner / (1.0 + w[:, 0]))[:, None] * w[:, 1:]
        ratio = 1.0 / self.ratio if inverse else self.ratio
        return np.asarray(ratio[:, None] * np.column_stack([height, rest]))

    def hessian(self, x: Float) -> Float:
        """``W⁻² x``."""
        q = self.w.copy()
        q[:, 1:] *= -1.0
        out = 2.0 * np.sum(q * x, axis=1)[:, None] * q
        out[:, 0] -= x[:, 0]
        out[:, 1:] += x[:, 1:]
        return out / self.ratio[:, None] ** 2

    def head(self) -> Float:
        """``W⁻² e``: the rows of the heights."""
        return self.hessian(np.eye(1, self.T.shape[1]).repeat(len(self.T), axis=0))


class NormSystem:
    """The cones' part of one step; heights are eliminated."""

    columns: Float

    def __init__(self, at: _Scaling, N: Float, slack: Float, H: Float) -> None:
        self._at, self._N, self._slack = at, N, slack  # ζ − 2 λ
        self.D, self.columns = np.zeros((0, 0)), np.zeros((0, 0))
        # W⁻² without the height: η⁻² (I − 2 w₁ w₁ᵀ / (2 w₀² − 1)), between Nᵀ and N
        w, w0 = at.w[:, 1:], at.w[:, 0]
        own = np.broadcast_to(np.eye(w.shape[1]), (len(w), w.shape[1], w.shape[1])).copy()
        own -= (2.0 / (2.0 * w0**2 - 1.0))[:, None, None] * w[:, :, None] * w[:, None, :]
        H += N.T @ (own / at.ratio[:, None, None] ** 2) @ N

    def aim(self, target: float, corrections: Float | None, r: Float) -> BlockAim:
        at = self._at
        # W⁻¹ (root \ (target e − root ∘ root − corrections))
        residual = -_arrow(at.root, at.root)
        residual[:, 0] += target
        if corrections is not None:
            residual -= corrections
        rhs = at.scaled(_divided(at.root, residual), inverse=True)
        # the height's row: rhs_0 − (W⁻² dT)_0 + ζ − weight = 0
        head = at.head()
        height = (rhs[:, 0] + self._slack) / head[:, 0]
        r = r + (rhs[:, 1:] - height[:, None] * head[:, 1:]) @ self._N
        return BlockAim(r, np.zeros(0), np.zeros(0), rhs)

    def direction(self, dU: Float, v: Float, t: Float, aimed: Float) -> NormStep:
        at = self._at
        # the height that was eliminated, then dZ = aimed − W⁻² dT
        head = at.head()
        dV = dU @ self._N.T
        height = (aimed[:, 0] + self._slack - np.sum(head[:, 1:] * dV, axis=1)) / head[:, 0]
        T = np.column_stack([height, dV])
        return NormStep(T, aimed - at.hessian(T))


class NormBlock:
    """State of the cones along the iterations; see :class:`~certnet.solvers.block.Block`.

    Raises
    ------
    SolverUnavailableError
        The goal is a limit.
    """

    n_rows: int = 0
    n_columns: int = 0

    def __init__(self, data: Whitened) -> None:
        goal = data.program.goal
        if not isinstance(goal, Weighted):
            raise SolverUnavailableError("a limit needs the Lipschitz penalty")
        h, p = data.start.shape
        self.degree: int = 2 * h
        self._data = data
        self._weight = 2.0 * goal.weight / max(data.tau, 1e-300)
        # ‖N u'‖ is the least norm of data weights that act on the rows as u' does
        self._seen = _seen(data.program.rows, p - 1)
        self._N = np.asarray(np.linalg.qr(self._seen @ _affine(data.mean, data.basis / data.singular), mode="r"))
        # heights t, duals (ζ, y)
        self._t, self._zeta, self._y = np.zeros(h), np.zeros(h), np.zeros((h, p))
        inside = np.eye(1, p + 1).repeat(h, axis=0)
        self._at = _Scaling(inside, inside, np.ones(h), np.ones(h))  # until the first step

    @staticmethod
    def unit_weight(data: Whitened) -> float:
        """The data's weight that is one here."""
        return data.tau

    def metric(self) -> Float:
        return np.asarray(self._N.T @ self._N)

    def start(self, U: Float, pull: Float, share: float, force: float) -> tuple[Float, Float]:
        V = U @ self._N.T
        sizes = np.linalg.norm(V, axis=1)
        # weights half of whose allowance is their norms, the rest the room above them
        factor = 0.5 * share / (self._weight * float(sizes.sum()))
        self._t = factor * (sizes + sizes.mean())
        # y = −level N⁻ᵀ pull, halfway to ‖y‖ = ζ = 2 λ for the unit that is pulled most
        y = np.linalg.solve(self._N.T, pull.T).T / factor
        level = 0.5 * self._weight / np.linalg.norm(y, axis=1)
        level = np.minimum(level, 3.0 * float(level.min()))
        self._y, self._zeta = -level[:, None] * y, np.full(len(U), self._weight)
        return U * factor, level

    @property
    def value(self) -> float:
        return self._weight * float(self._t.sum())

    @property
    def dual_value(self) -> float:
        return 0.0

    @property
    def dual_pull(self) -> Float:
        return np.asarray(self._y @ self._N)

    def solution(self, U: Float, c: Float) -> Solution:
        full, bias = self._data.undo(U, c)
        if len(self._data.singular) < len(self._data.basis):  # the least norm that acts on the samples alike
            full = full @ self._seen.T @ self._seen
        return Solution(full, bias, None, None)

    def dual_point(self, residual: Float, z: Float) -> DualPoint:
        return DualPoint(residual, z)

    def scale(self, U: Float) -> bool:
        T, Z = np.column_stack([self._t, U @ self._N.T]), np.column_stack([self._zeta, self._y])
        primal, dual = _determinant(T), _determinant(Z)
        if not (primal.min() > 0.0 and dual.min() > 0.0):
            return False
        self._at = _Scaling(T, Z, primal, dual)
        return True

    @property
    def complement(self) -> float:
        return float(np.sum(self._at.T * self._at.Z))

    def linearise(self, H: Float, rows: Float, first: int) -> NormSystem:
        return NormSystem(self._at, self._N, self._zeta - self._weight, H)

    def longest(self, step: NormStep, primal: float, dual: float) -> tuple[float, float]:
        return _longest(self._at.T, step.T, primal), _longest(self._at.Z, step.Z, dual)

    def ahead(self, step: NormStep, primal: float, dual: float) -> float:
        return float(np.sum((self._at.T + primal * step.T) * (self._at.Z + dual * step.Z)))

    def second_order(self, step: NormStep) -> Float:
        return _arrow(self._at.scaled(step.T, inverse=True), self._at.scaled(step.Z))

    def clipped(
        self, step: NormStep, steps: tuple[float, float], bounds: tuple[float, float], corrections: Float
    ) -> Float:
        # products ahead, x ∘ z in the scaled frame, and their two eigenvalues
        primal = self._at.root + steps[0] * self._at.scaled(step.T, inverse=True)
        dual = self._at.root + steps[1] * self._at.scaled(step.Z)
        product = _arrow(primal, dual)
        size = np.linalg.norm(product[:, 1:], axis=1)
        # what brings the eigenvalues into the bounds, back in the frame of the product
        low, high = bounds
        ends = np.column_stack([product[:, 0] - size, product[:, 0] + size])
        moves = np.maximum(np.clip(ends, low, high) - ends, -high)
        out = corrections.copy()
        out[:, 0] -= 0.5 * (moves[:, 0] + moves[:, 1])
        unit = product[:, 1:] / np.where(size > 0.0, size, 1.0)[:, None]
        out[:, 1:] -= 0.5 * (moves[:, 1] - moves[:, 0])[:, None] * unit
        return out

    def move(self, step: NormStep, primal: float, dual: float) -> None:
        self._t = self._t + primal * step.T[:, 0]
        self._zeta = self._zeta + dual * step.Z[:, 0]
        self._y = self._y + dual * step.Z[:, 1:]


def _longest(x: Float, dx: Float, most: float) -> float:
    """The largest step up to ``most`` that keeps every row inside its second-order cone."""
    for _ in range(60):
        moved = x + most * dx
        if (moved[:, 0] > 0.0).all() and (_determinant(moved) > 1e-14 * moved[:, 0] ** 2).all():
            return most
        most *= 0.9
    return 0.0


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
