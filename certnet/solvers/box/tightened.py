"""What every solver of somebody else's is held to: its tolerance is tightened until the natural residual is met.

A solver's own tolerance says little about the natural residual (asked for 1e-6, some leave 1e-5, some 1e-3), so each
sample is solved again, asking for more, until the recomputed residual is small enough or the solver can do no better.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

import numpy as np

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP, natural_residual
from certnet.solvers.box import Limits

__all__ = ["Attempt", "one_by_one"]

_TIGHTER: Final = 1e-2


class Attempt(Protocol):
    """One sample, solved once to a tolerance of the solver's own."""

    def __call__(self, q: Float, warm: Float | None, tol: float) -> Float:
        """``argmin ½ zᵀ H z − qᵀ z`` over the box, shape (n,); NaN where the solver gave no point."""
        ...


def one_by_one(
    problem: BoxQP, q: Float, start: Float | None, limits: Limits, attempt: Attempt, *, first: float, floor: float
) -> Float:
    """Activations (N, n) in the box, each the best of its attempts.

    Parameters
    ----------
    attempt : Attempt
    first, floor : float
        What the solver is asked for at first, and the least that it is asked for.
    """
    z = np.empty_like(q)
    deadline = time.monotonic() + limits.seconds
    for i, row in enumerate(q):
        warm = None if start is None else start[i]
        z[i] = _tightened(problem, row, warm, limits.tol, attempt, first, floor, deadline)
    return z


def _tightened(
    problem: BoxQP,
    q: Float,
    warm: Float | None,
    tol: float,
    attempt: Attempt,
    first: float,
    floor: float,
    deadline: float,
) -> Float:
    best = np.clip(np.zeros(problem.n) if warm is None else warm, problem.lower, problem.upper)
    least = _residual(problem, q, best)
    if least <= tol:
        return best
    asked = max(first, floor)
    while time.monotonic() < deadline:
        z = np.clip(attempt(q, warm, asked), problem.lower, problem.upper)
        residual = _residual(problem, q, z)
        if residual < least or not np.isfinite(least):
            best, least = z, residual
        if least <= tol or asked <= floor:
            return best
        warm, asked = best, max(_TIGHTER * asked, floor)
    return best


def _residual(problem: BoxQP, q: Float, z: Float) -> float:
    return float(natural_residual(problem, q[None], z[None])[0])
