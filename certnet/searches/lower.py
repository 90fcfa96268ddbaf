"""Lower bounds on the Lipschitz constant: gradients at real inputs, found by local search over activation patterns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certnet.claims.region import ALL, All, Ball, Box, Region
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.hidden import HiddenLayer
from certnet.networks.network import Network
from certnet.proofs.gradients import gradient_below, gradient_norm_below
from certnet.searches.climbing import climb
from certnet.searches.lower_deep import FEW_INPUTS, steep_points, steep_points_in, unit_rows
from certnet.searches.shallow import row_norms

__all__ = ["STEPS", "LowerBound", "Slopes", "drawn_rows", "first_proved", "lower_bound", "somewhere"]

_BATCH = 64
STEPS = 20  # crossings of the local search, at most
_CLIMBS = 3  # starts of the local search
_CLIMBS_WITH_DATA = 30  # the same for who gives data, as long as starts times weights are below
_WORK = 2_000_000
_TRIED = 128  # crossings tried in a step of the local search
_TRIED_AT_ONCE = 16  # the same for several outputs, where every trial is a spectral norm
_MAX_DATA = 2000
_EFFORT_IN_REGIONS = 0.25
_TRIES = 3  # searches, as long as none finds a slope


@dataclass(frozen=True, eq=False)
class LowerBound:
    """``value ≤ L``, proved by the gradient at ``point`` (d,): f is differentiable there with this slope or more."""

    value: float
    point: Float


def lower_bound(
    network: Network,
    X: Float | None = None,
    *,
    region: Region = ALL,
    random_state: int = 0,
) -> LowerBound:
    """The largest gradient norm found, rounded down; a lower bound, never a certificate of robustness.

    Starts from the rows of ``X`` (N, d) if given (2000 of them at most; the search is then from more starts and takes
    milliseconds longer), from points around the kinks of the network, and from directions at infinity; then crosses one
    hyperplane of a hidden unit at a time while the norm grows.

    Parameters
    ----------
    network : Network
        One hidden layer of ReLU is searched as said; any other by many points that move together
        (:mod:`certnet.searches.lower_deep`).
    X : ndarray, shape (N, d), optional
    region : Region
        Where the point must lie; rows of ``X`` outside are not used.
    random_state : int
    """
    rng = np.random.default_rng(random_state)
    data = None if X is None else drawn_rows(X, rng)
    if not isinstance(region, All):
        return _steepest_in(network, region, data, rng)
    if not network.relu_only:
        return _steepest(network, data, rng)
    layer = FeedForward.of(network).shallow()
    search = Slopes(layer)
    points = search.starts(rng)
    if data is not None:
        points = np.vstack([points, data])
    n_climbs = _CLIMBS if data is None else int(np.clip(_WORK // layer.W.size, _CLIMBS, _CLIMBS_WITH_DATA))
    order = np.argsort(-search.norms(points), kind="stable")[:n_climbs]
    climbed = np.array([search.climb(points[i]) for i in order])
    climbed = climbed[np.argsort(-search.norms(climbed), kind="stable")]
    return first_proved(lambda point: gradient_norm_below(layer, point), [*climbed, *points[order]])


def _steepest(network: Network, data: Float | None, rng: np.random.Generator) -> LowerBound:
    best = LowerBound(0.0, np.zeros(network.n_inputs))
    for _ in range(_TRIES if network.has_values else 0):  # again where f seems constant
        best = first_proved(lambda point: gradient_below(network, point), steep_points(network, data, rng))
        if best.value > 0.0:
            break
    return best


def _steepest_in(network: Network, region: Ball | Box, data: Float | None, rng: np.random.Generator) -> LowerBound:
    # where gradients lead, a few points of a region are as good as many
    effort = _EFFORT_IN_REGIONS if network.n_inputs > FEW_INPUTS else 1.0
    points = steep_points_in(network, region, data, rng, effort=effort) if network.has_values else []
    return first_proved(lambda point: gradient_below(network, point), points or [somewhere(region)])


def somewhere(region: Ball | Box) -> Float:
    """A point of the region."""
    if isinstance(region, Ball):
        return region.centre
    return np.clip(np.zeros(len(region.lower)), region.lower, region.upper)


def drawn_rows(data: Float, rng: np.random.Generator) -> Float:
    """At most 2000 rows of ``data``, drawn at random where there are more."""
    return data if len(data) <= _MAX_DATA else data[rng.choice(len(data), _MAX_DATA, replace=False)]


def first_proved(prove: Callable[[Float], float], points: Sequence[Float]) -> LowerBound:
    """The first of ``points``, steepest first, whose gradient proves something: one too close to a kink does not."""
    for point in points:
        value = prove(point)
        if value > 0.0:
            return LowerBound(value, point)
    return LowerBound(0.0, points[0])


class Slopes:
    """Gradient norms of one network at many points, and the moves between its linear pieces."""

    def __init__(self, layer: HiddenLayer) -> None:
        live = layer.W.any(axis=1) & layer.V.any(axis=0)
        norm, exponent = row_norms(layer.W[live])
        with np.errstate(over="ignore", under="ignore"):
            # rows of norm one; a bias beyond 1e100 of them puts the hyperplane where nobody looks
            self.W = np.ldexp(layer.W[live], -exponent[:, None]) / norm[:, None]
            self.b: Float = np.clip(np.ldexp(layer.b[live] / norm, -exponent), -1e100, 1e100)
            V = np.ldexp(layer.V[:, live], -row_norms(layer.V[:, live].T)[1])
            weight = row_norms(layer.V[:, live].T)[1] + exponent
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
        directions = unit_rows(rng.standard_normal((_BATCH // 4, d)))
        for _ in range(2):
            active = (directions @ self.W.T > 0.0).astype(np.float64)
            pull = (active * self.V.sum(axis=0)) @ self.W
            directions = unit_rows(np.where(np.linalg.norm(pull, axis=1, keepdims=True) > 0.0, pull, directions))
        far = 1e6 * spread * directions
        return np.vstack([near, far, -far])

    def climb(self, point: Float) -> Float:
        """Cross the hyperplane whose far side is steepest, while that is steeper than here."""
        if len(self.W) == 0:
            return point
        if len(self.V) == 1:
            return climb(self.W, self.b, self.V[0], point, STEPS, _TRIED)
        norm = float(self.norms(point[None])[0])
        for _ in range(STEPS):
            z = self.W @ point + self.b
            units = self._promising(z)
            # a little beyond each unit's hyperplane
            step = z[units] + np.where(z[units] > 0.0, 1.0, -1.0) * (1e-3 * np.abs(z[units]) + 1e-6)
            across = point - step[:, None] * self.W[units]
            norms = self.norms(across)
            best = int(np.argmax(norms))
            if norms[best] <= norm * (1.0 + 1e-12):
                return point
            point, norm = across[best], float(norms[best])
        return point

    def _promising(self, z: Float) -> NDArray[np.intp]:
        """Units whose flip alone would raise ``‖V D W u‖`` most, u the direction of the steepest slope here."""
        V, W = self.V, self.W
        active = z > 0.0
        J = (V * active) @ W
        u = np.linalg.svd(J, full_matrices=False)[2][0]
        image, along = J @ u, np.where(active, -1.0, 1.0) * (W @ u)
        estimate = 2.0 * along * (image @ V) + along**2 * np.sum(V * V, axis=0)
        return np.argsort(-estimate, kind="stable")[:_TRIED_AT_ONCE]
