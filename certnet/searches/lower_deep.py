"""Points where a network is steep, of several layers or with other activations than ReLU: search in floating point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.regions import in_ball

__all__ = ["steep_points", "steep_points_in_ball", "unit_rows"]

_BATCH = 64
_CLIMBS = (3, 20)  # starts of the local search, from wide networks to small ones
_WORK = 300_000  # weights, over the starts that they allow
_TRIED = 64  # crossings tried in a step of the local search

Slope = Callable[[Float], Float]
"""Sizes of Jacobians (N, m, d) in the norm at hand, shape (N,)."""


def steep_points(
    network: Network, data: Float | None, slope: Slope, n_steps: int, rng: np.random.Generator
) -> list[Float]:
    """Points of steep gradients, steepest first: random ones of several scales and the data, then local search.

    Random steps, ever shorter; in piecewise linear networks then one unit's kink is crossed at a time, along the
    gradient of its pre-activation, while that makes the slope steeper.
    """
    points = np.vstack([scale * rng.standard_normal((_BATCH, network.n_inputs)) for scale in (0.1, 1.0, 10.0, 1e3)])
    if data is not None:
        points = np.vstack([points, data])
    sizes = _sizes(network, points, slope)
    n_weights = sum(W.size for W in network.weights)
    order = np.argsort(-sizes, kind="stable")[: int(np.clip(_WORK // n_weights, *_CLIMBS))]
    found = [_wander(network, points[i], sizes[i], slope, n_steps, rng) for i in order]
    if not any(phi.smooth for phi in network.activations):
        found = [_climb(network, point, size, slope, 5 * n_steps, rng) for point, size in found]
    found.sort(key=lambda pair: -pair[1])
    return [point for point, _ in found] + list(points[order])


def _sizes(network: Network, points: Float, slope: Slope) -> Float:
    with np.errstate(all="ignore"):
        try:
            return np.nan_to_num(slope(network.gradients(points)), nan=-1.0, posinf=-1.0)
        except np.linalg.LinAlgError:  # an infinite Jacobian among them
            return np.full(len(points), -1.0)


def _wander(
    network: Network, best: Float, size: float, slope: Slope, n_steps: int, rng: np.random.Generator
) -> tuple[Float, float]:
    d = network.n_inputs
    for step in range(n_steps):
        radius = 0.5 * (float(np.linalg.norm(best)) + 0.1) * 0.7**step
        points = best + radius / np.sqrt(d) * rng.standard_normal((_BATCH, d))
        sizes = _sizes(network, points, slope)
        i = int(np.argmax(sizes))
        if sizes[i] > size:
            best, size = points[i], float(sizes[i])
    return best, size


def _climb(
    network: Network, point: Float, size: float, slope: Slope, n_steps: int, rng: np.random.Generator
) -> tuple[Float, float]:
    """Cross the nearest kinks and some others on trial, and keep the steepest far side while it is steeper."""
    for _ in range(n_steps):
        across = _crossings(network, point, rng)
        if len(across) == 0:
            break
        sizes = _sizes(network, across, slope)
        best = int(np.argmax(sizes))
        if sizes[best] <= size * (1.0 + 1e-12):
            break
        point, size = across[best], float(sizes[best])
    return point, size


def _crossings(network: Network, point: Float, rng: np.random.Generator) -> Float:
    """Points just beyond kinks of single units, if everything stays linear on the way there."""
    J, x = np.eye(len(point)), point
    steps, normals = [], []
    with np.errstate(all="ignore"):
        for W, b, phi in zip(network.weights, network.biases, network.activations):
            # the pre-activations of this layer and their gradients; the way to each of its kinks
            z, G = W @ x + b, W @ J
            squares = np.sum(G * G, axis=1)
            for kink in phi.kinks():
                distance = z - kink
                steps.append((distance + np.sign(distance) * (1e-3 * np.abs(distance) + 1e-6)) / squares)
                normals.append(G)
            x, J = phi(z), phi.derivative(z)[:, None] * G
        if not steps:
            return np.zeros((0, len(point)))
        # half of the trials are the nearest kinks, half are drawn from the others
        step, normal = np.concatenate(steps), np.vstack(normals)
        lengths = np.abs(step) * np.linalg.norm(normal, axis=1)
        usable = np.flatnonzero(np.isfinite(lengths) & (lengths > 0.0))
        near = usable[np.argsort(lengths[usable], kind="stable")]
        others = near[_TRIED // 2 :]
        chosen = np.concatenate([near[: _TRIED // 2], rng.permutation(others)[: _TRIED // 2]])
        points = point - step[chosen, None] * normal[chosen]
        return points[np.isfinite(points).all(axis=1)]


def steep_points_in_ball(
    network: Network, centre: Float, radius: float, slope: Slope, rng: np.random.Generator, *, norm: str = "l2"
) -> list[Float]:
    """Points of the ball, steepest first: the centre and points drawn a little inside of its boundary."""
    d = network.n_inputs
    drawn = rng.standard_normal((4 * _BATCH, d))
    length = np.linalg.norm(drawn, axis=1) if norm == "l2" else np.abs(drawn).max(axis=1)
    drawn /= np.maximum(length, 1e-300)[:, None]
    drawn *= rng.uniform(size=(4 * _BATCH, 1)) ** (1.0 / d)
    points = np.vstack([centre, centre + 0.999999 * radius * drawn])
    order = np.argsort(-_sizes(network, points, slope), kind="stable")
    return [points[i] for i in order if in_ball(points[i], centre, radius, norm=norm)]


def unit_rows(directions: Float) -> Float:
    """Rows of Euclidean norm one; zero rows stay."""
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-300)
