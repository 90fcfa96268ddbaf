r"""Which activation cells of one hidden layer can be reached: points in them, or units that show that none is there.

In homogeneous coordinates ``z = (x, τ)``, τ > 0, a cell is the cone ``σ_j g_jᵀ z > 0`` with ``g_j ∝ (w_j, b_j)``. By
Gordan's theorem either it has a point or 0 is a convex combination of the ``σ_j g_j`` and of ``(0, 1)``. The point of
that convex hull nearest to 0 answers both: it is a z in the cell, or its weights are the proof that there is none.
All in floating point: a proof is checked exactly by :mod:`certnet.proofs.tree`, a point by its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog, nnls

from certnet.core.validation import Float
from certnet.networks.hidden import HiddenLayer
from certnet.proofs.tree import MAX_WORK, EmptyCells, Sides
from certnet.searches.shallow import row_norms

__all__ = ["Cells"]

_THIN = 1e-9  # distance of the hull from 0, rows of norm one, below which a proof of emptiness is tried
_FAR = 1e100  # a hyperplane farther out than this is at infinity


class Cells:
    """The hyperplanes of one hidden layer, scaled to ``‖g_j‖ = 1``.

    Attributes
    ----------
    G : ndarray, shape (h, d + 1)
        Rows g_j; zero for units without weights.
    """

    def __init__(self, layer: HiddenLayer) -> None:
        norm, exponent = row_norms(layer.W)
        alive = norm > 0.0
        norm = np.where(alive, norm, 1.0)
        with np.errstate(over="ignore", under="ignore"):
            W = np.ldexp(layer.W, -exponent[:, None]) / norm[:, None]
            b = np.clip(np.ldexp(layer.b / norm, -exponent), -_FAR, _FAR)
        distance = np.abs(b[alive & (b != 0.0)])
        self._unit = float(np.median(distance)) if distance.size else 1.0  # of length: most kinks are about there
        with np.errstate(over="ignore", under="ignore"):
            G = np.column_stack([W, np.clip(b / self._unit, -_FAR, _FAR)])
        self.G = np.where(alive[:, None], G / np.maximum(np.linalg.norm(G, axis=1), 1e-300)[:, None], 0.0)
        self._proofs = EmptyCells(layer)

    def point(self, units: Sequence[int], sides: Sides) -> Float | None:
        """A z on the given ``sides`` (h,) of the ``units``; None where none is found."""
        return self._nearest(units, sides)[0]

    def decide(self, units: Sequence[int], sides: Sides) -> tuple[Float | None, list[int] | None]:
        """A z on the given sides, or units that prove that there is none; two Nones where neither is found."""
        point, support = self._nearest(units, sides)
        if point is not None:
            return point, None
        if support is not None and self._proofs.refusal(support, sides) is None:
            return None, support
        if self._proofs.work > MAX_WORK:  # the checker has the same limit
            return None, None
        support = self._basic_support(units, sides)
        return None, support if support and self._proofs.refusal(support, sides) is None else None

    def location(self, z: Float) -> Float | None:
        """The input x (d,) that z stands for; None where it overflows."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            x = z[:-1] * (self._unit / z[-1])
        return x if np.isfinite(x).all() else None

    def centre(self, units: Sequence[int], sides: Sides) -> Float | None:
        """The z with the largest smallest margin ``σ_j g_jᵀ z`` in ``|z| ≤ 1``, for cells that are thin."""
        A = np.vstack([self.G[units] * sides[units, None], np.eye(self.G.shape[1])[-1]])
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

    def _nearest(self, units: Sequence[int], sides: Sides) -> tuple[Float | None, list[int] | None]:
        """min ‖E y − e‖ over y ≥ 0: its residual points into the cell, or its support shows that there is none."""
        d = self.G.shape[1] - 1
        n = len(units)
        E = np.zeros((d + 2, n + 1))
        E[:-1, :n] = (self.G[units] * sides[units, None]).T
        E[d, n] = 1.0
        E[d + 1] = 1.0
        e = np.zeros(d + 2)
        e[-1] = 1.0
        try:
            y = nnls(E, e)[0]
        except RuntimeError:  # its limit of iterations
            return None, None
        z = (E @ y)[:-1]
        if float(np.linalg.norm(z)) > _THIN and (z @ E[:-1] > 0.0).all():
            return z / np.linalg.norm(z), None
        return None, [j for j, a in zip(units, y) if a > 1e-13]

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
