r"""Multipliers of the matrix inequality by a path-following Newton method. Floating point; the checker decides.

In ``y_i = t_i / t0_i`` (t0 the multipliers of the layerwise bound) unit i enters P of
:mod:`certnet.searches.lifted_program` as ``y_i (e_i a_iᵀ + a_i e_iᵀ)``. For the barrier ``τ ρ − log det P`` with
``Z = P⁻¹``,

    gradient_i = −2 e_iᵀ Z a_i,    Hessian_ij = 2 (a_iᵀ Z e_j)(a_jᵀ Z e_i) + 2 (a_iᵀ Z a_j)(e_iᵀ Z e_j),

a few products of matrices of the order of the network. On the central path ρ is above its least value by
(order of P) / τ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.searches.lifted_program import LiftedProgram
from certnet.searches.path_following import Centring, centre
from certnet.searches.result import SearchResult, dual_value

__all__ = ["Begin", "feasible", "follow", "search_lifted"]

_FAR = 30.0  # factor from one point of the path to the next
_CENTRING = Centring(near=0.3**2, tolerated=0.0, shortest=1e-8, last_step=True)


@dataclass(frozen=True, eq=False)
class Begin:
    """Where a search begins: multipliers t (b,) > 0 and ρ, strictly feasible, and the weight τ of ρ over this ρ.

    ``weight`` is in units of the order of P; a point for which it is right is on the central path.
    """

    t: Float
    rho: float
    weight: float = 1.0


def search_lifted(
    program: LiftedProgram, t: Float, rho: float, *, tol: float = 1e-6, max_iterations: int = 200
) -> SearchResult[Float]:
    """Minimise ρ from the strictly feasible ``(t, ρ)``, t (b,) > 0: multipliers of the units with limits."""
    return follow(program, Begin(t, rho), tol=tol, max_iterations=max_iterations)[0]


@np.errstate(all="ignore")  # what is not finite is never taken
def follow(
    program: LiftedProgram, begin: Begin, *, tol: float, max_iterations: int, far: float = _FAR
) -> tuple[SearchResult[Float], Begin | None]:
    """Minimise ρ along the central path, and the first point of it, for searches of programs that are like this one.

    ``far`` is the factor from one weight to the next.
    """
    t, rho = begin.t, begin.rho
    barrier = _Barrier(program, t, rho)
    x = np.ones(len(t) + 1)
    weight, spent, gap, status = begin.weight * barrier.order, 0, float("inf"), Status.MAX_ITERATIONS
    first: Begin | None = None
    while spent < max_iterations:
        x, steps, centred = centre(barrier, x, weight, max_iterations - spent, _CENTRING)
        spent += steps
        gap = barrier.order / (weight * float(x[-1]))
        if centred and first is None:
            first = Begin(t * x[:-1], rho * float(x[-1]), weight * float(x[-1]) / barrier.order)
        if not centred or gap <= tol:
            status = Status.OPTIMAL if centred else Status.INACCURATE
            break
        weight *= min(far, max(1.1 * gap / tol, 1.5))
    best = t * x[:-1]
    upper = float(np.sqrt(program.rho(best)))
    below = dual_value(upper, gap) if status is Status.OPTIMAL else 0.0
    return SearchResult(best, upper, below, status, steps=spent), first


def feasible(program: LiftedProgram, begin: Begin) -> bool:
    """Is the point strictly inside of the inequality of this program?"""
    return bool(np.isfinite(_Barrier(program, begin.t, begin.rho).value(np.ones(len(begin.t) + 1), 0.0)))


class _Barrier:
    """``τ ρ − log det P`` over x = (y, ρ / ρ_0), P brought to order one by a congruence with a diagonal."""

    def __init__(self, program: LiftedProgram, t: Float, rho: float) -> None:
        b, self.r = program.Q.shape
        self.order = self.r + b
        scale = 1.0 / np.sqrt(2.0 * t * np.diagonal(program.H))  # the diagonal of T H̃ + H̃ T is 1 at the start
        unit = 1.0 / np.sqrt(rho)
        A = np.hstack([-program.Q * unit, program.H * scale])
        self.A = (t * scale)[:, None] * A
        S = np.hstack([program.S_u * unit, program.S_v * scale])
        self.base = -(S.T @ S)

    def matrix(self, x: Float) -> Float:
        rows = x[:-1, None] * self.A
        P = self.base.copy()
        P[self.r :] += rows
        P[:, self.r :] += rows.T
        P[np.diag_indices(self.r)] += x[-1]
        return P

    def value(self, x: Float, weight: float) -> float:
        # P is symmetric and of no further use: factored where it lies, its transpose as Fortran stores it
        R, failed = scipy.linalg.lapack.dpotrf(self.matrix(x).T, lower=1, clean=0, overwrite_a=1)
        if failed:
            return float("inf")
        return weight * float(x[-1]) - 2.0 * float(np.log(np.diagonal(R)).sum())

    def newton(self, x: Float, weight: float) -> tuple[Float, float]:
        """The Newton step and the squared decrement."""
        factor, failed = scipy.linalg.lapack.dpotrf(self.matrix(x).T, lower=1, clean=0, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("P is not positive definite")
        Z = scipy.linalg.lapack.dpotri(factor, lower=1)[0]
        Z = np.tril(Z) + np.tril(Z, -1).T
        ZA = Z @ self.A.T
        cross, inputs = ZA[self.r :], Z[: self.r]
        gradient = np.append(-2.0 * np.diagonal(cross), weight - float(np.trace(inputs[:, : self.r])))
        hessian = np.empty((len(x), len(x)))
        hessian[:-1, :-1] = 2.0 * (cross * cross.T + (self.A @ ZA) * Z[self.r :, self.r :])
        hessian[:-1, -1] = hessian[-1, :-1] = 2.0 * np.sum(inputs[:, self.r :] * ZA[: self.r], axis=0)
        hessian[-1, -1] = float(np.sum(inputs[:, : self.r] ** 2))
        hessian[np.diag_indices(len(x))] *= 1.0 + 1e-13
        # not scipy's solve, which warns of ill-conditioned systems: the end of the path is one
        step = -scipy.linalg.cho_solve(scipy.linalg.cho_factor(hessian, check_finite=False), gradient)
        return step, float(-gradient @ step)

    def longest(self, step: Float) -> float:
        return 1.0
