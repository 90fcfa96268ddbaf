"""Lower bounds on the Lipschitz constant: gradients at real inputs, found by local search over activation patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from certnet.certify.search import row_norms
from certnet.certify.verify import gradient_norm_below
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
    network: ShallowNetwork, X: ArrayLike | None = None, *, n_steps: int = 20, random_state: int = 0
) -> LowerBound:
    """The largest gradient norm found, rounded down; a lower bound, never a certificate of robustness.

    Starts from the rows of ``X`` (N, d) if given (2000 of them at most), from points around the kinks of the network,
    and from directions at infinity; then crosses one hyperplane of a hidden unit at a time while the norm grows.

    Parameters
    ----------
    network : ShallowNetwork
    X : array_like, shape (N, d), optional
    n_steps : int
        Limit on the crossings of the local search.
    random_state : int
    """
    rng = np.random.default_rng(random_state)
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
