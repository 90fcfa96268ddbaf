"""Lower bounds on the Lipschitz constant: gradients at real inputs, found by local search over activation patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from certnet.certify.search import row_norms
from certnet.certify.verify import gradient_norm_below
from certnet.certify.verify_deep import gradient_below, in_ball
from certnet.feedforward import FeedForward
from certnet.network import ShallowNetwork
from certnet.validation import Float, as_inputs

__all__ = ["LowerBound", "lower_bound"]

_BATCH = 64
_CLIMBS = 3
_MAX_DATA = 2000


@dataclass(frozen=True, eq=False)
class LowerBound:
    """``value ≤ L``, proved by the gradient at ``point`` (d,): f is differentiable there with this slope or more."""

    value: float
    point: Float


def lower_bound(
    network: ShallowNetwork | FeedForward,
    X: ArrayLike | None = None,
    *,
    ball: tuple[Float, float] | None = None,
    n_steps: int = 20,
    random_state: int = 0,
) -> LowerBound:
    """The largest gradient norm found, rounded down; a lower bound, never a certificate of robustness.

    Starts from the rows of ``X`` (N, d) if given (2000 of them at most), from points around the kinks of the network,
    and from directions at infinity; then crosses one hyperplane of a hidden unit at a time while the norm grows.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        Networks of several layers or with other activations are searched by random steps.
    X : array_like, shape (N, d), optional
    ball : (ndarray of shape (d,), float), optional
        Centre and radius of the ball that the point must lie in; ``X`` is not used then.
    n_steps : int
        Limit on the crossings (on the rounds of random steps) of the local search.
    random_state : int
    """
    rng = np.random.default_rng(random_state)
    if ball is not None:
        return _in_ball(FeedForward.of(network), *ball, rng)
    if isinstance(network, FeedForward):
        return _by_random_steps(network, X, n_steps, rng)
    search = _Slopes(network)
    points = search.starts(rng)
    if X is not None:
        data = as_inputs(X, network.n_inputs)
        if len(data) > _MAX_DATA:
            data = data[rng.choice(len(data), _MAX_DATA, replace=False)]
        points = np.vstack([points, data])
    norms = search.norms(points)
    order = np.argsort(-norms, kind="stable")[:_CLIMBS]
    # a point too close to a kink proves nothing: the starts themselves stand by
    candidates = [*(search.climb(points[i], norms[i], n_steps, rng) for i in order), *points[order]]
    values = [gradient_norm_below(network, point) for point in candidates]
    best = int(np.argmax(values))
    return LowerBound(values[best], candidates[best])


class _Slopes:
    """Gradient norms of one network at many points, and the moves between its linear pieces."""

    def __init__(self, network: ShallowNetwork) -> None:
        live = network.W.any(axis=1) & network.V.any(axis=0)
        norm, exponent = row_norms(network.W[live])
        with np.errstate(over="ignore", under="ignore"):
            # rows of norm one; a bias beyond 1e100 of them puts the hyperplane where nobody looks
            self.W = np.ldexp(network.W[live], -exponent[:, None]) / norm[:, None]
            self.b = np.clip(np.ldexp(network.b[live] / norm, -exponent), -1e100, 1e100)
            V = np.ldexp(network.V[:, live], -row_norms(network.V[:, live].T)[1])
            weight = row_norms(network.V[:, live].T)[1] + exponent
            # slopes up to a common factor, which the search for the steepest does not need
            self.V = np.ldexp(V, np.maximum(weight - weight.max(initial=-4000), -1000)) * norm

    def norms(self, points: Float) -> Float:
        """``‖V D(x) W‖₂`` at every row of ``points``, up to a common factor."""
        active = (points @ self.W.T + self.b > 0.0).astype(np.float64)
        if len(self.V) == 1:
            return np.linalg.norm(active @ (self.V[0][:, None] * self.W), axis=1)
        return np.array([np.linalg.norm((self.V * a) @ self.W, 2) for a in active])

    def starts(self, rng: np.random.Generator) -> Float:
        """Points around the units' hyperplanes, and far away along directions that align with their own gradient."""
        d = self.W.shape[1]
        if len(self.W) == 0:
            return np.zeros((1, d))
        distance = np.abs(self.b)
        usual = (
            distance <= 1e3 * np.partition(distance, (len(distance) - 1) // 2)[(len(distance) - 1) // 2]
        )  # dying units have their hyperplanes far out
        feet = -self.b[usual, None] * self.W[usual]
        centre, spread = feet.mean(axis=0), feet.std(axis=0).max() + np.abs(feet).max() + 1e-3
        near = centre + spread * rng.standard_normal((_BATCH, d))
        directions = _unit(rng.standard_normal((_BATCH // 4, d)))
        for _ in range(3):
            active = (directions @ self.W.T > 0.0).astype(np.float64)
            pull = (active * self.V.sum(axis=0)) @ self.W
            directions = _unit(np.where(np.linalg.norm(pull, axis=1, keepdims=True) > 0.0, pull, directions))
        far = 1e6 * spread * directions
        return np.vstack([near, far, -far])

    def climb(self, point: Float, norm: float, n_steps: int, rng: np.random.Generator) -> Float:
        """Cross the hyperplane whose far side is steepest, while that is steeper than here."""
        h = len(self.W)
        for _ in range(n_steps if h else 0):
            units = np.arange(h) if h <= 2 * _BATCH else rng.choice(h, 2 * _BATCH, replace=False)
            z = self.W[units] @ point + self.b[units]
            step = z + np.where(z > 0.0, 1.0, -1.0) * (1e-3 * np.abs(z) + 1e-6)
            across = point - step[:, None] * self.W[units]
            norms = self.norms(across)
            best = int(np.argmax(norms))
            if norms[best] <= norm * (1.0 + 1e-12):
                return point
            point, norm = across[best], norms[best]
        return point


def _unit(directions: Float) -> Float:
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)


def _by_random_steps(network: FeedForward, X: ArrayLike | None, n_steps: int, rng: np.random.Generator) -> LowerBound:
    """The steepest of Gaussian points of several scales and the data, and then of points around it, ever closer."""
    d = network.n_inputs
    if not all(phi.has_values for phi in network.activations):
        return LowerBound(0.0, np.zeros(d))
    points = np.vstack([scale * rng.standard_normal((_BATCH, d)) for scale in (0.1, 1.0, 10.0, 1e3)])
    if X is not None:
        data = as_inputs(X, d)
        points = np.vstack([points, data[:_MAX_DATA]])
    with np.errstate(all="ignore"):
        best, norm = points[0], -1.0
        radius = 0.0
        for step in range(n_steps + 1):
            norms = np.nan_to_num(np.linalg.norm(network.gradients(points), 2, axis=(1, 2)), nan=-1.0, posinf=-1.0)
            i = int(np.argmax(norms))
            if norms[i] > norm:
                best, norm = points[i], float(norms[i])
            radius = 0.5 * (float(np.linalg.norm(best)) + 0.1) * 0.7**step
            points = best + radius / np.sqrt(d) * rng.standard_normal((_BATCH, d))
    return LowerBound(gradient_below(network, best), best)


def _in_ball(network: FeedForward, centre: Float, radius: float, rng: np.random.Generator) -> LowerBound:
    """The steepest of the centre and points drawn in the ball, a little inside of its boundary."""
    d = network.n_inputs
    if not all(phi.has_values for phi in network.activations):
        return LowerBound(0.0, centre)
    drawn = _unit(rng.standard_normal((4 * _BATCH, d))) * rng.uniform(size=(4 * _BATCH, 1)) ** (1.0 / d)
    points = np.vstack([centre, centre + 0.999999 * radius * drawn])
    with np.errstate(all="ignore"):
        norms = np.nan_to_num(np.linalg.norm(network.gradients(points), 2, axis=(1, 2)), nan=-1.0, posinf=-1.0)
    inside = [points[i] for i in np.argsort(-norms, kind="stable") if in_ball(points[i], centre, radius)]
    for point in inside[:5]:  # a point too close to a kink proves nothing: the next best is asked then
        value = gradient_below(network, point)
        if value > 0.0:
            return LowerBound(value, point)
    return LowerBound(0.0, centre)
