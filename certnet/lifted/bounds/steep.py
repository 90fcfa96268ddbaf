r"""Steep slopes of ``x ↦ z_L*(x)``, found by search: candidates for the lower bound. Floating point.

On a fixed active set z* is affine in x with the Jacobian ``Sᵀ H_FF⁻¹ Q_F``. From random points and data, x moves
along the direction that is stretched most, across the limits of units, while the slope grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from certnet.claims.claim import Output
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.networks.quadratic import linear_term
from certnet.programs.box_qp import BoxQP, assemble
from certnet.proofs.lifted_energy import out_of_range, selector
from certnet.proofs.lifted_slope import slope_below
from certnet.solvers.box.active_set import finish

__all__ = ["Steep", "steep_slope"]

_STEPS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_MISSES = 6  # directions without a gain after which a climb ends
_WORK = 1e11  # floating-point operations of about a second, which bound the number of points


@dataclass(frozen=True, eq=False)
class Steep:
    """A point x (d,), its activations z (n,), and the slope that is proved there."""

    x: Float
    z: Float
    value: float


@dataclass(frozen=True, eq=False)
class _Point:
    x: Float
    z: Float
    slope: float
    direction: Float


@np.errstate(all="ignore")  # what is not finite is never proved
def steep_slope(net: LiftedEnergy, output: Output = None, X: Float | None = None, *, random_state: int = 0) -> Steep:
    """The steepest slope that was found and could be proved; value 0 where none could.

    Parameters
    ----------
    X : ndarray, shape (N, d), optional
        Inputs to start from beside random ones; the first 64 are tried.
    """
    if out_of_range(net) is not None:
        return _nothing(net)
    rng = np.random.default_rng(random_state)
    problem, S = assemble(net), selector(net, output)
    # directions are what it is for: of weights near the end of the number range not all are finite
    lift = np.nan_to_num(np.linalg.pinv(net.weights[0]), nan=0.0, posinf=0.0, neginf=0.0)
    lift = lift / max(float(np.abs(lift).max()), 1e-300)
    budget = max(60, min(400 + 5 * net.n_units, int(_WORK / (4.0 * net.n_units**3))))
    starts = _starts(net, X, rng, max(4, budget // 20))
    points = sorted(_points(net, problem, S, starts, None), key=lambda p: -p.slope)
    budget -= len(points)
    best: list[_Point] = list(points)
    for point in points:
        if budget <= 0:
            break
        climbed, spent = _climb(net, problem, S, lift, point, rng, budget)
        budget -= spent
        best.append(climbed)
    return _proved(net, problem, output, sorted(best, key=lambda p: -p.slope)[:8])


def _starts(net: LiftedEnergy, X: Float | None, rng: np.random.Generator, count: int) -> Float:
    d = net.n_inputs
    sizes = 10.0 ** rng.uniform(-1.0, 2.0, size=count)
    random = rng.standard_normal((count, d)) * (sizes / np.sqrt(d))[:, None]
    return random if X is None or not len(X) else np.vstack([X[: min(64, count)], random])


def _points(net: LiftedEnergy, problem: BoxQP, S: Float, X: Float, start: Float | None) -> list[_Point]:
    q = linear_term(net, X)
    z = np.zeros_like(q) if start is None else np.broadcast_to(start, q.shape)
    z = finish(problem, q, np.clip(z, problem.lower, problem.upper), 1e-9 * (1.0 + float(np.abs(q).max(initial=0.0))))
    return [_Point(x, row, *_slope(net, problem, S, row)) for x, row in zip(X, z)]


def _free(problem: BoxQP, z: Float) -> np.ndarray:
    near = 1e-9 * (1.0 + np.abs(z))
    return np.asarray((z > problem.lower + near) & (z < problem.upper - near))


def _slope(net: LiftedEnergy, problem: BoxQP, S: Float, z: Float) -> tuple[float, Float]:
    """The slope on the active set of z, and the input direction that it stretches."""
    free = np.flatnonzero(_free(problem, z))
    first = free[free < net.widths[1]]
    nothing = 0.0, np.zeros(net.n_inputs)
    if len(first) == 0 or not S[free].any():
        return nothing
    try:
        factor = scipy.linalg.cho_factor(problem.H[np.ix_(free, free)], check_finite=False)
        y = scipy.linalg.cho_solve(factor, S[free], check_finite=False)
    except np.linalg.LinAlgError:
        return nothing
    J = y[: len(first)].T @ net.weights[0][first]
    gram, vectors = np.linalg.eigh(J @ J.T)
    direction = vectors[:, -1] @ J
    size = float(np.linalg.norm(direction))
    if not size > 0.0:
        return nothing
    return (1.0 + net.beta[0]) * float(np.sqrt(max(gram[-1], 0.0))), direction / size


def _climb(
    net: LiftedEnergy, problem: BoxQP, S: Float, lift: Float, point: _Point, rng: np.random.Generator, budget: int
) -> tuple[_Point, int]:
    """Steps along the stretched direction, and beside it, while the slope grows; how many points were looked at."""
    spent, misses = 0, 0
    while spent < budget and misses < _MISSES:
        size = max(float(np.linalg.norm(point.x)), 1e-3)
        way = point.direction if misses == 0 else _aside(lift, rng)
        X = point.x + np.array([sign * step * size for step in _STEPS for sign in (1.0, -1.0)])[:, None] * way
        found = max(_points(net, problem, S, X, point.z), key=lambda p: p.slope)
        spent += len(X)
        better = found.slope > point.slope * (1.0 + 1e-9)
        point, misses = (found, 0) if better else (point, misses + 1)
    return point, spent


def _aside(lift: Float, rng: np.random.Generator) -> Float:
    """A direction of unit length that moves the input of few units of the first layer, chosen at random."""
    n = lift.shape[1]
    few = rng.random(n) < rng.choice([1.0 / n, 3.0 / n, 0.3])
    few[rng.integers(n)] = True
    way = lift @ (few * rng.standard_normal(n))
    return way / max(float(np.linalg.norm(way)), 1e-300)


def _proved(net: LiftedEnergy, problem: BoxQP, output: Output, points: list[_Point]) -> Steep:
    """The first of the points whose slope the checker confirms."""
    for point in points:
        z = _polished(problem, linear_term(net, point.x[None])[0], point.z)
        value = slope_below(net, point.x, z, output)
        if value > 0.5 * point.slope > 0.0:
            return Steep(point.x, z, value * (1.0 - 1e-12))  # room for another machine's rounding
    return _nothing(net)


def _nothing(net: LiftedEnergy) -> Steep:
    return Steep(np.zeros(net.n_inputs), np.zeros(net.n_units), 0.0)


def _polished(problem: BoxQP, q: Float, z: Float) -> Float:
    """z with held units exactly at their limits, and the others solved for and refined once."""
    inside = _free(problem, z)
    z = np.where(
        inside, z, np.where(np.abs(z - problem.lower) <= np.abs(z - problem.upper), problem.lower, problem.upper)
    )
    try:
        factor = scipy.linalg.cho_factor(problem.H[np.ix_(inside, inside)], check_finite=False)
    except np.linalg.LinAlgError:
        return z
    for _ in range(3):
        z[inside] -= scipy.linalg.cho_solve(factor, (problem.H @ z - q)[inside], check_finite=False)
    return np.clip(z, problem.lower, problem.upper)
