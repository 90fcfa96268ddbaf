r"""Projected Newton steps for ``½ zᵀ H z − qᵀ z + weight · ℓ(z_L, y)`` over a box, many samples at once.

Units at a limit that they are pushed against are sent to it; the others take the Newton step of what is left. The step
is cut along the projection arc until the function falls (Bertsekas 1982); where the gradient of ℓ has kinks the steps
are semismooth. H keeps every step well defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.lifted.loss_functions import Loss
from certnet.programs.box_qp import BoxQP

__all__ = ["Augmented", "newton"]

_CUTS: Final = 50
_NEAR: Final = 1e-3
_ENOUGH: Final = 0.1
"""The part of the fall that the slope promises which a step must bring."""


@dataclass(frozen=True, eq=False)
class Augmented:
    """The programs of N samples: one box, one H, linear terms q (N, n), targets (N, m) of the last layer's loss."""

    problem: BoxQP
    q: Float
    loss: Loss
    targets: Float
    weight: float

    @property
    def last(self) -> slice:
        return self.problem.layers[-1]

    def loss_at(self, z: Float, rows: NDArray[np.intp]) -> Float:
        """``weight · ℓ``, shape (len(rows),); z holds these rows alone, here and below."""
        return self.weight * _shaped(self.loss.value(z[:, self.last], self.targets[rows]), (len(rows),), "value")

    def slope(self, z: Float, rows: NDArray[np.intp]) -> Float:
        """The gradient of the whole function, shape (len(rows), n)."""
        slope = z @ self.problem.H - self.q[rows]
        output = z[:, self.last]
        slope[:, self.last] += self.weight * _shaped(
            self.loss.gradient(output, self.targets[rows]), output.shape, "gradient"
        )
        return slope

    def bend(self, z: Float, rows: NDArray[np.intp]) -> Float:
        """``weight · ∇²ℓ``, shape (len(rows), m, m)."""
        output = z[:, self.last]
        shape = (*output.shape, output.shape[1])
        return self.weight * _shaped(self.loss.hessian(output, self.targets[rows]), shape, "hessian")


def newton(program: Augmented, start: Float, tol: float, max_steps: int) -> tuple[Float, NDArray[np.bool_]]:
    """Activations (N, n) in the box with natural residual at most ``tol`` where that was reached.

    Returns
    -------
    z : ndarray, shape (N, n)
    running : ndarray of bool, shape (N,)
        Samples that ``max_steps`` stopped.
    """
    lower, upper = program.problem.lower, program.problem.upper
    z = np.clip(start, lower, upper)
    rows = np.arange(len(z))
    for _ in range(max_steps):
        slope = program.slope(z[rows], rows)
        residual = np.abs(z[rows] - np.clip(z[rows] - slope, lower, upper)).max(axis=1, initial=0.0)
        going = ~(residual <= 0.1 * tol)
        rows, slope, residual = rows[going], slope[going], residual[going]
        if rows.size == 0:
            break
        direction = _directions(program, z[rows], slope, residual, rows)
        z[rows], moved = _search(program, z[rows], slope, direction, rows)
        rows = rows[moved]
    return z, np.isin(np.arange(len(z)), rows)


def _directions(program: Augmented, z: Float, slope: Float, residual: Float, rows: NDArray[np.intp]) -> Float:
    lower, upper = program.problem.lower, program.problem.upper
    near = np.minimum(residual, _NEAR)[:, None]
    held = ((z <= lower + near) & (slope > 0.0)) | ((z >= upper - near) & (slope < 0.0))
    direction = np.where(held, np.where(slope > 0.0, lower, upper) - z, 0.0)
    bends = program.bend(z, rows)
    for i, free in enumerate(~held):
        if free.any():
            direction[i, free] = _newton_step(program, bends[i], slope[i], direction[i], free)
    return direction


def _newton_step(program: Augmented, bend: Float, slope: Float, direction: Float, free: NDArray[np.bool_]) -> Float:
    """``M_FF d_F = −s_F − M_FA d_A`` with M the second derivative of the whole function."""
    M = program.problem.H.copy()
    M[program.last, program.last] += bend
    right = -slope[free] - M[np.ix_(free, ~free)] @ direction[~free]
    try:
        factor = scipy.linalg.cho_factor(M[np.ix_(free, free)], lower=True, check_finite=False)
        return np.asarray(scipy.linalg.cho_solve(factor, right, check_finite=False))
    except np.linalg.LinAlgError:
        return -slope[free] / np.diag(M)[free]


def _search(
    program: Augmented, z: Float, slope: Float, direction: Float, rows: NDArray[np.intp]
) -> tuple[Float, NDArray[np.bool_]]:
    """The projected points with the longest steps of 1, ½, ¼ … that fall enough, and which samples have one."""
    found, moved = z.copy(), np.zeros(len(z), dtype=bool)
    before = program.loss_at(z, rows)
    length = 1.0
    for _ in range(_CUTS):
        left = np.flatnonzero(~moved)
        if left.size == 0:
            break
        trial = np.clip(z[left] + length * direction[left], program.problem.lower, program.problem.upper)
        good = _falls(program, z[left], trial, slope[left], before[left], rows[left])
        found[left[good]] = trial[good]
        moved[left[good]] = True
        length *= 0.5
    return found, moved


def _falls(
    program: Augmented, z: Float, trial: Float, slope: Float, before: Float, rows: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Does the function fall by a tenth of what the slope promises? By slopes near the end: values are rounded."""
    change = trial - z
    promised = np.einsum("ij,ij->i", slope, change)
    after = program.loss_at(trial, rows)
    output = change[:, program.last]
    gradient = program.weight * program.loss.gradient(z[:, program.last], program.targets[rows])
    quadratic = 0.5 * np.einsum("ij,ij->i", change @ program.problem.H, change)
    bent = after - before - np.einsum("ij,ij->i", gradient, output)
    fall = promised + quadratic + bent
    noise = 1e-14 * (program.weight + np.abs(before) + np.abs(after))
    # the mean of both slopes is the fall of a quadratic (the approximate Wolfe condition of Hager and Zhang 2005)
    mean = 0.5 * (promised + np.einsum("ij,ij->i", program.slope(trial, rows), change))
    by_value = fall <= _ENOUGH * promised
    by_slope = (mean <= _ENOUGH * promised) & (fall <= noise)
    passed: NDArray[np.bool_] = (promised < 0.0) & (by_value | by_slope)
    return passed


def _shaped(array: Float, shape: tuple[int, ...], name: str) -> Float:
    made = np.asarray(array, dtype=np.float64)
    if made.shape != shape:
        raise InvalidInputError(f"the loss gives a {name} of shape {made.shape}: {shape} is needed")
    return made
