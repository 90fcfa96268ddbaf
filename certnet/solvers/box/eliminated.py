r"""Elimination of unbounded units: what is left is a program over the bounded ones alone, exactly equivalent.

With u the units whose box is the whole line and f the others, ``z_u = H_uu^{−1}(q_u − H_uf z_f)`` at a minimiser, and

    (H_ff − H_fu H_uu^{−1} H_uf) z_f − (q_f − H_fu H_uu^{−1} q_u)

is the gradient of the whole program by z_f once z_u has that value: residuals of the two programs agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP

__all__ = ["Eliminated", "without_free_units"]


@dataclass(frozen=True, eq=False)
class Eliminated:
    """A program without its unbounded units, and the way back.

    Attributes
    ----------
    problem : BoxQP
        The whole program.
    bounded, unbounded : ndarray of int
        Units f that stay, and units u that were eliminated.
    H : ndarray, shape (m, m)
        The Schur complement of H_uu, symmetric.
    lower, upper : ndarray, shape (m,)
    back : ndarray, shape (u, m)
        ``H_uu^{−1} H_uf``.
    """

    problem: BoxQP
    bounded: NDArray[np.int64]
    unbounded: NDArray[np.int64]
    H: Float
    lower: Float
    upper: Float
    back: Float

    @cached_property
    def factor(self) -> tuple[Float, bool]:
        """The Cholesky factor of H_uu, as scipy's ``cho_solve`` takes it."""
        pair: tuple[Float, bool] = scipy.linalg.cho_factor(
            self.problem.H[np.ix_(self.unbounded, self.unbounded)], lower=True
        )
        return pair

    def linear_term(self, q: Float) -> Float:
        """``q_f − H_fu H_uu^{−1} q_u`` for every row of q, shape (N, m)."""
        if self.unbounded.size == 0:
            return np.ascontiguousarray(q)
        return np.ascontiguousarray(q[:, self.bounded] - q[:, self.unbounded] @ self.back)

    def whole(self, q: Float, z: Float) -> Float:
        """All units (N, n) from the bounded ones (N, m), the others at their minimisers."""
        if self.unbounded.size == 0:
            return z
        found = np.empty_like(q)
        found[:, self.bounded] = z
        own = scipy.linalg.cho_solve(self.factor, q[:, self.unbounded].T, check_finite=False).T
        found[:, self.unbounded] = own - z @ self.back.T
        return found


@lru_cache(maxsize=8)  # problems are compared by identity; a network keeps its own
def without_free_units(problem: BoxQP) -> Eliminated:
    """The program over the bounded units of ``problem``.

    Raises
    ------
    numpy.linalg.LinAlgError
        H_uu is not positive definite to working precision.
    """
    free = np.isneginf(problem.lower) & np.isposinf(problem.upper)
    f, u = np.flatnonzero(~free), np.flatnonzero(free)
    lower, upper = problem.lower[f], problem.upper[f]
    if u.size == 0:
        return Eliminated(problem, f, u, problem.H, lower, upper, np.zeros((0, problem.n)))
    across = problem.H[np.ix_(u, f)]
    back = scipy.linalg.cho_solve(scipy.linalg.cho_factor(problem.H[np.ix_(u, u)], lower=True), across)
    H = problem.H[np.ix_(f, f)] - across.T @ back
    return Eliminated(problem, f, u, 0.5 * (H + H.T), lower, upper, back)
