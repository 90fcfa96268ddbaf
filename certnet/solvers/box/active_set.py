r"""Active-set Newton steps: from a point near the solution to rounding accuracy, one sample at a time.

With A the units at a limit whose multiplier has the right sign and F the others, ``H_FF z_F = q_F − H_FA z_A`` is the
minimiser on that face. Steps are cut back along the projection arc until the objective falls (Bertsekas 1982). Where
that creeps, as it does on an ill-conditioned H, units are held and released on the way from face to face: the primal
active-set method, which ends after finitely many faces (Nocedal and Wright 2006, algorithm 16.3). Unbounded units are
eliminated before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box.eliminated import without_free_units

__all__ = ["finish"]

_NEWTON_STEPS = 30
_FACES = 5
"""Faces that are visited at most, per unit."""
_RIDGE = 1e-13
"""Relative to the largest diagonal entry: what makes a block of H that is singular in floating point definite again."""


def finish(problem: BoxQP, q: Float, z: Float, tol: float) -> Float:
    """Activations (N, n) with natural residual at most ``tol``, or as near as rounding and a limit on the steps allow.

    Of the points on the way the one with the smallest residual is returned: never a worse one than ``z``.
    """
    try:
        program = without_free_units(problem)
    except np.linalg.LinAlgError:  # the unbounded block is singular in floating point
        box = _Box(problem.H, problem.lower, problem.upper)
        return np.array([box.minimise(row, here, tol) for row, here in zip(q, z)]).reshape(z.shape)
    box = _Box(program.H, program.lower, program.upper)
    linear, start = program.linear_term(q), z[:, program.bounded]
    found = [box.minimise(row, here, tol) for row, here in zip(linear, start)]
    return program.whole(q, np.array(found).reshape(start.shape))


@dataclass
class _Best:
    """The point with the smallest residual so far."""

    z: Float
    residual: float

    def offer(self, z: Float, residual: float) -> None:
        if residual < self.residual:
            self.z, self.residual = z.copy(), residual


class _Box:
    """``min ½ zᵀ H z − qᵀ z`` over a box, for one q after another."""

    def __init__(self, H: Float, lower: Float, upper: Float) -> None:
        self.H, self.lower, self.upper = H, lower, upper
        self.ridge = _RIDGE * float(np.diag(H).max(initial=0.0))

    def minimise(self, q: Float, start: Float, tol: float) -> Float:
        z = np.clip(np.nan_to_num(start), self.lower, self.upper)
        best = _Best(z, self.residual(z, self.H @ z - q))
        self.newton(q, best, tol)
        if best.residual > tol:
            self.faces(q, best, tol)
        return best.z

    def newton(self, q: Float, best: _Best, tol: float) -> None:
        z = best.z
        for _ in range(_NEWTON_STEPS):
            slope = self.H @ z - q
            residual = self.residual(z, slope)
            best.offer(z, residual)
            if residual <= 0.1 * tol:
                return
            moved = self.search(z, self.face_minimiser(q, z, slope, residual) - z, slope, residual)
            if moved is None:
                return
            z = moved

    def faces(self, q: Float, best: _Best, tol: float) -> None:
        z = best.z.copy()
        slope = self.H @ z - q
        held = ((z <= self.lower) & (slope > 0.0)) | ((z >= self.upper) & (slope < 0.0)) | (self.lower == self.upper)
        for _ in range(_FACES * len(z) + 1):
            free = np.flatnonzero(~held)
            hit = self.walk(z, free, self.solved(free, -slope[free]))
            slope = self.H @ z - q
            best.offer(z, self.residual(z, slope))
            if best.residual <= 0.1 * tol:
                return
            if hit is None:
                wrong = held & (np.where(z <= self.lower, -slope, slope) > 0.0) & (self.lower < self.upper)
                if not wrong.any():
                    return
                held &= ~wrong
            else:
                held[hit] = True

    def walk(self, z: Float, free: NDArray[np.int64], step: Float) -> int | None:
        """Move z, in place, along ``step`` to its end, or to the first limit on the way: the unit that hit it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(step > 0.0, self.upper[free] - z[free], self.lower[free] - z[free]) / step
        room = np.where(step == 0.0, np.inf, room)
        first = int(np.argmin(room)) if free.size else 0
        length = min(1.0, float(room[first])) if free.size else 1.0
        z[free] = np.clip(z[free] + length * step, self.lower[free], self.upper[free])
        if length == 1.0:
            return None
        hit = int(free[first])
        z[hit] = self.upper[hit] if step[first] > 0.0 else self.lower[hit]
        return hit

    def residual(self, z: Float, slope: Float) -> float:
        return float(np.abs(z - np.clip(z - slope, self.lower, self.upper)).max(initial=0.0))

    def face_minimiser(self, q: Float, z: Float, slope: Float, residual: float) -> Float:
        """The minimiser over the free units, with those held at a limit there."""
        # units that sit at a limit and are pushed against it stay; those within a residual of it count as there
        near = min(residual, 1e-3)
        low = (z <= self.lower + near) & (slope > 0.0)
        high = (z >= self.upper - near) & (slope < 0.0)
        target = np.where(low, self.lower, np.where(high, self.upper, z))
        free = np.flatnonzero(~(low | high))
        if free.size:
            step = self.solved(free, q[free] - self.H[free] @ target)
            target[free] += step
        return target

    def solved(self, free: NDArray[np.int64], right: Float) -> Float:
        """``H_FF^{−1} right``."""
        block = self.H[np.ix_(free, free)]
        _, found, flag = dposv(block, right, lower=1)
        if flag:
            _, found, flag = dposv(block + self.ridge * np.eye(len(free)), right, lower=1)
        return found if not flag and np.isfinite(found).all() else np.zeros_like(right)

    def search(self, z: Float, direction: Float, slope: Float, residual: float) -> Float | None:
        """The projected point with the longest step of 1, ½, ¼ … that is better; None where none is."""
        length = 1.0
        for _ in range(40):
            moved = np.clip(z + length * direction, self.lower, self.upper)
            change = moved - z
            along = self.H @ change
            # near the solution the objective's fall drowns in rounding before the residual's does
            if change @ (slope + 0.5 * along) < 0.0 or self.residual(moved, slope + along) < 0.5 * residual:
                return moved
            length *= 0.5
        return None
