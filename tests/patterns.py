"""The Lipschitz constant of a tiny network of pieces, in a region: of all activation patterns that occur there.

A pattern of the first layers is a polyhedron on which they are affine, so that the kinks of the next layer cut it by
planes. Which parts meet the region is a least-distance problem (Lawson and Hanson, Solving Least Squares Problems,
23.4), and the largest norm of their Jacobians is L.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import nnls

from certnet import Ball, Box, FeedForward
from certnet.claims.region import Region

Array = Any
SLIVER = 1e-7  # cells that are thinner are passed over
_ROUNDED = 1e-10


def nearest(A: Array, b: Array) -> Array | None:
    """The x with ``A x + b ≥ 0`` that is nearest to zero; None where there is none."""
    E = np.vstack([A.T, -b])
    f = np.zeros(len(E))
    f[-1] = 1.0
    u, size = nnls(E, f)
    r = E @ u - f
    return None if size < _ROUNDED or -r[-1] < _ROUNDED else -r[:-1] / r[-1]


def planes(region: Region, norm: str) -> tuple[Array, Array]:
    """A box, or a ball of the maximum norm, as ``A x + b ≥ 0``."""
    if isinstance(region, Box):
        low, high = region.lower, region.upper
    elif isinstance(region, Ball) and norm == "linf":
        low, high = region.centre - region.radius, region.centre + region.radius
    else:
        return np.zeros((0, 0)), np.zeros(0)
    eye = np.eye(len(low))
    A, b = np.vstack([eye, -eye]), np.concatenate([-low, high])
    return A[np.isfinite(b)], b[np.isfinite(b)]


def meets(A: Array, b: Array, region: Region, norm: str) -> bool:
    """Has ``A x + b > 0`` points within the region, more than a sliver of them?"""
    size = np.linalg.norm(A, axis=1, keepdims=True)
    some = size[:, 0] > 0.0
    if (b[~some] <= 0.0).any():
        return False
    A, b = A[some] / size[some], b[some] / size[some, 0] - SLIVER
    if isinstance(region, Ball) and norm == "l2":
        x = nearest(A, A @ region.centre + b) if len(A) else np.zeros(len(region.centre))
        return x is not None and bool(np.linalg.norm(x) < region.radius)
    more, c = planes(region, norm)
    A, b = (np.vstack([A, more]), np.concatenate([b, c - SLIVER])) if len(c) else (A, b)
    return not len(A) or nearest(A, b) is not None


def jacobians(net: FeedForward, region: Region, norm: str) -> Iterator[Array]:
    """``∂f/∂x`` on all cells that meet the region."""

    def below(k: int, A: Array, b: Array, J: Array, c: Array) -> Iterator[Array]:
        layer = net.layers[k]
        J, c = layer.operator.matrix @ J, layer.operator.matrix @ c + layer.bias
        if k == net.depth:
            yield J
            return
        left, right = (float(layer.activation.derivative(np.array(side))) for side in (-1.0, 1.0))

        def sides(j: int, A: Array, b: Array, slopes: list[float]) -> Iterator[Array]:
            if j == layer.n_bending:
                s = np.array(slopes + [1.0] * layer.carried)
                yield from below(k + 1, A, b, s[:, None] * J, s * c)
                return
            if not J[j].any():  # does not move
                yield from sides(j + 1, A, b, [*slopes, right if c[j] >= 0.0 else left])
                return
            for side, slope in ((1.0, right), (-1.0, left)):
                A_, b_ = np.vstack([A, side * J[j]]), np.append(b, side * c[j])
                if meets(A_, b_, region, norm):
                    yield from sides(j + 1, A_, b_, [*slopes, slope])

        yield from sides(0, A, b, [])

    d = net.n_inputs
    yield from below(0, np.zeros((0, d)), np.zeros(0), np.eye(d), np.zeros(d))


def size_of(J: Array, norm: str) -> float:
    """The largest ``‖J x‖₂`` of ``‖x‖ ≤ 1``."""
    if norm == "l2":
        return float(np.linalg.norm(J, 2))
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=J.shape[1])))
    return float(np.linalg.norm(corners @ J.T, axis=1).max())


def exact_constant(net: FeedForward, region: Region, norm: str = "l2", output: tuple[int, ...] | None = None) -> float:
    """L of the network (of an output, of the difference of two) in the region; zero where it has no inside."""
    rows = np.eye(net.n_outputs)
    if output is not None:
        rows = rows[output[0]][None] - (rows[output[1]] if len(output) == 2 else 0.0)
    return max((size_of(rows @ J, norm) for J in jacobians(net, region, norm)), default=0.0)
