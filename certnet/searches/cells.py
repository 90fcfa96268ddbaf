r"""Which activation cells of one hidden layer can be reached: points in them, or units that show that none is there.

In homogeneous coordinates ``z = (x, τ)``, τ > 0, a cell is the cone ``σ_j g_jᵀ z > 0`` with ``g_j ∝ (w_j, b_j)``. By
Gordan's theorem either it has a point or 0 is a convex combination of the ``σ_j g_j`` and of ``(0, 1)``. The point of
that convex hull nearest to 0 answers both: it is a z in the cell, or its weights are the proof that there is none
(:mod:`certnet.searches.hulls`). In a box its limits are further rows; in a ball the point of the cell nearest to the
centre answers. All in floating point: a proof is checked by :mod:`certnet.proofs.tree`, a point by its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linprog

from certnet.claims.region import ALL, Ball, Box, Region
from certnet.core.validation import Float
from certnet.networks.hidden import HiddenLayer
from certnet.proofs.tree import MAX_WORK, EmptyCells, Highest, Sides
from certnet.searches.hulls import common_point, nearest_point
from certnet.searches.shallow import row_norms

__all__ = ["Cells"]

_ROOM = 1e-10  # by which a combination of rows of norm one must miss zero, for a proof to hold on any machine
_FAR = 1e100  # a hyperplane farther out than this is at infinity


class Cells:
    """The hyperplanes of one hidden layer, scaled to ``‖g_j‖ = 1``, in a region if one is given.

    Parameters
    ----------
    layer : HiddenLayer
    region : Region
        Cells that do not meet it are empty; balls are of the l2 norm.
    highest : callable, optional
        Of the region (:func:`certnet.proofs.tree.highest_in`), where it is not everywhere.

    Attributes
    ----------
    G : ndarray, shape (h, d + 1)
        Rows g_j; zero for units without weights.
    """

    def __init__(self, layer: HiddenLayer, region: Region = ALL, highest: Highest | None = None) -> None:
        self._region, self._highest = region, highest
        self._proofs = EmptyCells(layer, highest)
        self._limits = np.zeros((0, layer.n_inputs + 1))
        ends = (region.lower, region.upper) if isinstance(region, Box) else ()
        self._bounded = isinstance(region, Ball) or (len(ends) > 0 and bool(np.isfinite(ends).all()))
        self._origin = np.zeros(layer.n_inputs)
        if isinstance(region, Ball):
            self._origin, self._unit = region.centre, np.full(layer.n_inputs, region.radius)
        elif isinstance(region, Box):
            self._place(layer, region)
        if isinstance(region, Ball | Box):
            rows = np.column_stack([layer.W * self._unit, layer.b + layer.W @ self._origin])
            self._size = np.linalg.norm(rows, axis=1)
            usable = np.isfinite(self._size) & (self._size > 0.0)
            self.G = np.where(usable[:, None], rows / np.where(usable, self._size, 1.0)[:, None], 0.0)
            return
        norm, exponent = row_norms(layer.W)
        alive = norm > 0.0
        norm = np.where(alive, norm, 1.0)
        with np.errstate(over="ignore", under="ignore"):
            W = np.ldexp(layer.W, -exponent[:, None]) / norm[:, None]
            b = np.clip(np.ldexp(layer.b / norm, -exponent), -_FAR, _FAR)
        distance = np.abs(b[alive & (b != 0.0)])
        self._unit = np.full(layer.n_inputs, _usual(distance))
        with np.errstate(over="ignore", under="ignore"):
            G = np.column_stack([W, np.clip(b / self._unit[0], -_FAR, _FAR)])
        self.G = np.where(alive[:, None], G / np.maximum(np.linalg.norm(G, axis=1), 1e-300)[:, None], 0.0)

    def _place(self, layer: HiddenLayer, box: Box) -> None:
        """Coordinates about the middle of a box, its sides at ±1, and its limits as rows."""
        closed = np.isfinite(box.lower) & np.isfinite(box.upper)
        rows = np.linalg.norm(layer.W, axis=1)
        usual = _usual(np.abs(layer.b[rows > 0.0]) / rows[rows > 0.0])
        with np.errstate(invalid="ignore"):
            self._origin = np.where(closed, 0.5 * box.lower + 0.5 * box.upper, np.clip(0.0, box.lower, box.upper))
            self._unit = np.where(closed, 0.5 * box.upper - 0.5 * box.lower, usual)
        limits = []
        for end, sign in ((box.lower, 1.0), (box.upper, -1.0)):
            for i in np.flatnonzero(np.isfinite(end) & (self._unit > 0.0)):
                row = np.zeros(layer.n_inputs + 1)
                row[i], row[-1] = sign * self._unit[i], sign * (self._origin[i] - end[i])
                limits.append(row / np.linalg.norm(row))
        self._limits = np.array(limits).reshape(-1, layer.n_inputs + 1)

    def point(self, units: Sequence[int], sides: Sides) -> Float | None:
        """A z on the given ``sides`` (h,) of the ``units``; None where none is found."""
        return self._nearest(units, sides)[0]

    def decide(self, units: Sequence[int], sides: Sides) -> tuple[Float | None, list[Any] | None]:
        """A z on the given sides, or the node that proves that there is none; two Nones where neither is found."""
        point, weights = self._nearest(units, sides)
        if point is not None:
            return point, None
        if weights is not None:
            node = self._not_here(units, sides, weights)
            if node is not None:
                return None, node
            support = [j for j, a in zip(units, weights) if a > 1e-13]
            if self._proofs.refusal(support, sides) is None:
                return None, ["empty", support]
        if self._bounded or self._proofs.work > MAX_WORK:  # the checker has the same limit
            return None, None
        basic = self._basic_support(units, sides)
        return None, ["empty", basic] if basic and self._proofs.refusal(basic, sides) is None else None

    def _not_here(self, units: Sequence[int], sides: Sides, weights: Float) -> list[Any] | None:
        """The node of units and weights that show that no point of the region is in a cell, if they do."""
        top = float(weights[: len(units)].max(initial=0.0))
        if self._highest is None or not top > 0.0:
            return None
        chosen = [(j, a / top) for j, a in zip(units, weights) if a > 1e-12 * top]
        y = np.zeros(len(sides))
        for j, a in chosen:
            y[j] = sides[j] * float(f"{a / self._size[j]:.12g}")
        if not self._highest(y) < -_ROOM * sum(a for _, a in chosen):
            return None
        return ["empty", [j for j, _ in chosen], [float(abs(y[j])) for j, _ in chosen]]

    def location(self, z: Float) -> Float | None:
        """The input x (d,) that z stands for; None where it overflows."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            x = self._origin + z[:-1] * (self._unit / z[-1])
        if isinstance(self._region, Box):
            x = np.clip(x, self._region.lower, self._region.upper)
        return x if np.isfinite(x).all() else None

    def centre(self, units: Sequence[int], sides: Sides) -> Float | None:
        """The z with the largest smallest margin ``σ_j g_jᵀ z`` in ``|z| ≤ 1``, for cells that are thin."""
        A = np.vstack([self.G[units] * sides[units, None], self._limits, np.eye(self.G.shape[1])[-1]])
        n, k = A.shape
        done = linprog(
            np.append(np.zeros(k), -1.0),
            A_ub=np.column_stack([-A, np.ones(n)]),
            b_ub=np.zeros(n),
            bounds=[(-1.0, 1.0)] * k + [(None, None)],
            method="highs-ds",
        )
        if done.status != 0 or done.x is None:
            return None
        z: Float = done.x[:k]
        return z if (A @ z > 0.0).all() else None

    def _nearest(self, units: Sequence[int], sides: Sides) -> tuple[Float | None, Float | None]:
        """A z on the sides, or weights of the units, and of further rows after them, whose combination is near 0."""
        A = np.vstack([self.G[units] * sides[units, None], self._limits])
        if not isinstance(self._region, Ball):
            z, weights = common_point(np.vstack([A, np.eye(A.shape[1])[-1]]))
            if z is not None or not self._bounded:
                return z, weights
        xi, weights = nearest_point(A[:, :-1], A[:, -1], 1.0 if isinstance(self._region, Ball) else np.inf)
        z = None if xi is None else np.append(xi, 1.0)
        return (None if z is None else z / np.linalg.norm(z)), weights

    def _basic_support(self, units: Sequence[int], sides: Sides) -> list[int] | None:
        """A linear program's vertex has linearly independent columns, as the exact proof needs."""
        A = (self.G[units] * sides[units, None]).T
        d = len(A) - 1
        done = linprog(
            A[d],
            A_eq=np.vstack([A[:d], np.ones(len(units))]),
            b_eq=np.append(np.zeros(d), 1.0),
            method="highs-ds",
        )
        if done.status != 0 or done.x is None:
            return None
        return [j for j, y in zip(units, done.x) if y > 1e-11]


def _usual(distances: Float) -> float:
    """A unit of length: most kinks are about there."""
    some = distances[(distances > 0.0) & np.isfinite(distances)]
    return float(np.median(some)) if some.size else 1.0
