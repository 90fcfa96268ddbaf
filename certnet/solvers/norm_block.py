r"""The ℓ2 penalty ``2 λ Σ_j ‖N u_j‖`` in an interior-point method: one second-order cone per unit.

``(t_j, N u_j)`` with duals ``(2 λ, y_j)``, Nesterov–Todd scaled: ``W⁻² = η⁻² (2 q qᵀ − J)``, ``J = diag(1, −1, …)``, q
the reflected scaling point. The heights t_j are eliminated, the units stay uncoupled.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.solvers.reduced import Reduced

__all__ = ["NormBlock", "NormStep"]


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


class NormBlock:
    """State of the cones along the iterations."""

    n_rows, n_columns = 0, 0

    def __init__(self, reduced: Reduced) -> None:
        self._N, self._weight = reduced.norm, 2.0 * reduced.weight
        self.degree = 2 * reduced.directions.shape[1]
        self.eta, self.rho = None, None

    def begin(self, U: Float, pull: Float, share: float, force: float = 1.0) -> tuple[Float, Float]:
        """A start well inside, exactly dual feasible for residuals zero; see :class:`LipschitzBlock`."""
        V = U @ self._N.T
        sizes = np.linalg.norm(V, axis=1)
        factor = 0.5 * share / (self._weight * float(sizes.sum()))
        y = np.linalg.solve(self._N.T, pull.T).T / factor
        level = 0.5 * self._weight / np.linalg.norm(y, axis=1)
        level = np.minimum(level, 3.0 * float(level.min()))
        self._t = factor * (sizes + sizes.mean())
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

    def prepare(self, U: Float) -> bool:
        T, Z = np.column_stack([self._t, U @ self._N.T]), np.column_stack([self._zeta, self._y])
        primal, dual = _determinant(T), _determinant(Z)
        if not (primal.min() > 0.0 and dual.min() > 0.0):
            return False
        self._T, self._Z = T, Z
        x, z = T / np.sqrt(primal)[:, None], Z / np.sqrt(dual)[:, None]
        gamma = np.sqrt(0.5 * (1.0 + np.sum(x * z, axis=1)))
        z[:, 1:] *= -1.0
        self._w = (x + z) / (2.0 * gamma)[:, None]
        self._ratio = (primal / dual) ** 0.25  # η
        self._root = self._scaled(Z)
        return True

    def _scaled(self, x: Float, inverse: bool = False) -> Float:
        """``W x`` or ``W⁻¹ x``."""
        w = self._w.copy()
        if inverse:
            w[:, 1:] *= -1.0
        inner = np.sum(w[:, 1:] * x[:, 1:], axis=1)
        height = w[:, 0] * x[:, 0] + inner
        rest = x[:, 1:] + (x[:, 0] + inner / (1.0 + w[:, 0]))[:, None] * w[:, 1:]
        ratio = 1.0 / self._ratio if inverse else self._ratio
        return np.asarray(ratio[:, None] * np.column_stack([height, rest]))

    def _hessian(self, x: Float) -> Float:
        """``W⁻² x``."""
        q = self._w.copy()
        q[:, 1:] *= -1.0
        out = 2.0 * np.sum(q * x, axis=1)[:, None] * q
        out[:, 0] -= x[:, 0]
        out[:, 1:] += x[:, 1:]
        return out / self._ratio[:, None] ** 2

    @property
    def complement(self) -> float:
        return float(np.sum(self._T * self._Z))

    def assemble(self, H: Float, rows: Float, first: int) -> tuple[Float, Float]:
        w, w0 = self._w[:, 1:], self._w[:, 0]
        own = np.broadcast_to(np.eye(w.shape[1]), (len(w), w.shape[1], w.shape[1])).copy()
        own -= (2.0 / (2.0 * w0**2 - 1.0))[:, None, None] * w[:, :, None] * w[:, None, :]
        H += self._N.T @ (own / self._ratio[:, None, None] ** 2) @ self._N
        return np.zeros((0, 0)), np.zeros((0, 0))

    def aim(self, target: float, corrections: Float | None, r: Float) -> tuple[Float, Float, Float, Float]:
        residual = -_arrow(self._root, self._root)
        residual[:, 0] += target
        if corrections is not None:
            residual -= corrections
        rhs = self._scaled(_divided(self._root, residual), inverse=True)
        # the height's row: rhs_0 − (W⁻² dT)_0 + ζ − weight = 0
        head = self._hessian(np.eye(1, rhs.shape[1]).repeat(len(rhs), axis=0))
        height = (rhs[:, 0] + self._zeta - self._weight) / head[:, 0]
        r = r + (rhs[:, 1:] - height[:, None] * head[:, 1:]) @ self._N
        return r, np.zeros(0), np.zeros(0), rhs

    def direction(self, dU: Float, v: Float, t: Float, aimed: Float) -> NormStep:
        head = self._hessian(np.eye(1, aimed.shape[1]).repeat(len(aimed), axis=0))
        dV = dU @ self._N.T
        height = (aimed[:, 0] + self._zeta - self._weight - np.sum(head[:, 1:] * dV, axis=1)) / head[:, 0]
        T = np.column_stack([height, dV])
        return NormStep(T, aimed - self._hessian(T))

    def longest(self, step: NormStep, primal: float, dual: float) -> tuple[float, float]:
        return _longest(self._T, step.T, primal), _longest(self._Z, step.Z, dual)

    def ahead(self, step: NormStep, primal: float, dual: float) -> float:
        return float(np.sum((self._T + primal * step.T) * (self._Z + dual * step.Z)))

    def second_order(self, step: NormStep, factor: float) -> Float:
        return factor * _arrow(self._scaled(step.T, inverse=True), self._scaled(step.Z))

    def clipped(
        self, step: NormStep, steps: tuple[float, float], bounds: tuple[float, float], corrections: Float
    ) -> Float:
        """Gondzio's correction: the two eigenvalues of the scaled product brought into the bounds."""
        primal = self._root + steps[0] * self._scaled(step.T, inverse=True)
        dual = self._root + steps[1] * self._scaled(step.Z)
        product = _arrow(primal, dual)
        size = np.linalg.norm(product[:, 1:], axis=1)
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
