r"""Alternating directions for the whole batch in plain NumPy: one inverse, one matrix product per iteration.

With bounded units only (the others eliminated) and H scaled to a unit diagonal,

    x ← (H + ρ I)^{−1} (q + ρ (v − u)),   x̂ = α x + (1 − α) v,   v ← Π(x̂ + u),   u ← u + x̂ − v

(Boyd et al. 2011, sections 3.4.3 and 5.2). ρ starts at the geometric mean of the extreme eigenvalues, where the slowest
mode contracts best, and follows the ratio of the two residuals (3.4.1); each change computes the inverse anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits
from certnet.solvers.box.eliminated import Eliminated, without_free_units

__all__ = ["solve"]

_RELAXATION = 1.8
_EVERY = 5
"""Iterations between looks at who is done."""
_PATIENCE = 50
"""Iterations before ρ is questioned; a new inverse costs as much as hundreds of samples' iterations."""
_FLOOR = 1e-15


@dataclass(frozen=True, eq=False)
class _Scaled:
    """The reduced program with ``D^{−½} H D^{−½}`` in place of H; root holds ``D^{−½}``."""

    program: Eliminated
    H: Float
    root: Float

    @cached_property
    def penalty(self) -> float:
        """The ρ to start with."""
        eigenvalues = np.linalg.eigvalsh(self.H)
        return float(np.sqrt(max(eigenvalues[0], _FLOOR * eigenvalues[-1]) * eigenvalues[-1]))

    @cached_property
    def inverse(self) -> Float:
        """``(H + ρ I)^{−1}`` for that ρ."""
        return _inverse(self.H, self.penalty)


@dataclass
class _State:
    """Iterates of the samples ``rows`` that are still at work, all (K, m), in scaled units."""

    rows: NDArray[np.int64]
    q: Float
    v: Float
    u: Float
    primal: Float
    dual: Float

    def keep(self, on: NDArray[np.bool_]) -> None:
        for name in ("rows", "q", "v", "u", "primal", "dual"):
            setattr(self, name, getattr(self, name)[on])


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Every sample until its natural residual is at most ``tol`` or ``max_passes`` iterations have passed."""
    try:
        system = _scaled(problem)
        program = system.program
        z = np.zeros((len(q), len(program.H))) if start is None else start[:, program.bounded]
        z = np.clip(z, program.lower, program.upper)
        if z.size:
            _iterate(system, program.linear_term(q), z, limits)
        return program.whole(q, z)
    except np.linalg.LinAlgError:  # H is not positive definite to working precision
        return np.clip(np.zeros_like(q) if start is None else start, problem.lower, problem.upper)


@lru_cache(maxsize=8)
def _scaled(problem: BoxQP) -> _Scaled:
    program = without_free_units(problem)
    root = 1.0 / np.sqrt(np.maximum(np.diag(program.H), np.finfo(float).tiny))
    return _Scaled(program, program.H * np.outer(root, root), root)


def _inverse(H: Float, penalty: float) -> Float:
    n = len(H)
    inverse: Float = scipy.linalg.cho_solve(scipy.linalg.cho_factor(H + penalty * np.eye(n)), np.eye(n))
    return inverse


def _iterate(system: _Scaled, q: Float, z: Float, limits: Limits) -> None:
    """Iterations over the batch, z in place; a sample leaves when its residual, measured, is small enough."""
    program, root = system.program, system.root
    lower, upper = program.lower / root, program.upper / root
    penalty, inverse = system.penalty, system.inverse
    v = z / root
    # u at a start is minus the gradient over ρ: the multiplier that the start implies
    state = _State(np.arange(len(q)), q * root, v, (q * root - v @ system.H) / penalty, v, v)
    state.u *= bool(z.any())
    for count in range(1, limits.max_passes + 1):
        look = count % _EVERY == 0 or count == limits.max_passes
        _step(state, inverse, penalty, lower, upper, measure=look)
        if not look:
            continue
        z[state.rows] = np.clip(state.v * root, program.lower, program.upper)
        state.keep(~_done(system, state, q, z, limits.tol))
        if not state.rows.size:
            return
        if count % _PATIENCE == 0:
            change = _imbalance(state)
            if not 0.2 < change < 5.0:
                penalty *= change
                state.u /= change
                inverse = _inverse(system.H, penalty)


def _step(state: _State, inverse: Float, penalty: float, lower: Float, upper: Float, *, measure: bool) -> None:
    before = state.v
    x = before - state.u
    x *= penalty
    x += state.q
    x = x @ inverse
    if measure:
        plain = x.copy()
    x *= _RELAXATION
    x += (1.0 - _RELAXATION) * before
    x += state.u
    state.v = np.clip(x, lower, upper)
    x -= state.v
    state.u = x
    if measure:
        state.primal = np.abs(plain - state.v).max(axis=1)
        state.dual = penalty * np.abs(state.v - before).max(axis=1)


def _done(system: _Scaled, state: _State, q: Float, z: Float, tol: float) -> NDArray[np.bool_]:
    """Who is done: the change tells whom to ask, the natural residual decides."""
    program = system.program
    small = np.maximum(state.primal, state.dual) * max(1.0, 1.0 / system.root.min()) <= tol
    done = small.copy()
    rows = state.rows[small]
    if rows.size:
        point = z[rows]
        step = point - np.clip(point - (point @ program.H - q[rows]), program.lower, program.upper)
        done[small] = np.abs(step).max(axis=1) <= tol
    return done


def _imbalance(state: _State) -> float:
    """``√(primal / dual)``, its median over the samples at work."""
    return float(np.median(np.sqrt((state.primal + _FLOOR) / (state.dual + _FLOOR))))
