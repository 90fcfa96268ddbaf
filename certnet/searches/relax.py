r"""Bounds of the nodes of a branch-and-bound tree: LipSDP with some units fixed, a few warm steps at a time.

A node fixes the sides σ_j of some units, ``slope_j = ½ (c_j + σ_j δ_j)`` with ``c = low + high``, ``δ = high − low``
(signed); the others are relaxed. The programs are those of :mod:`certnet.searches.shallow`; any multipliers that come
out are a proof, so the search stops as soon as they suffice, or as it is seen that they never will.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import minimize

from certnet.core.validation import Float
from certnet.kernels.elliptope import ascend
from certnet.proofs.tree import Sides
from certnet.searches.shallow import closed_form

__all__ = ["NodeBound", "Relaxation", "relaxation"]

_FLOOR = 1e-11
_SETTLED = 1e-4  # relative gap between a node's bound and its dual value at which splitting pays more than refining


@dataclass(frozen=True, eq=False)
class NodeBound:
    """What the relaxation of a node gives.

    Attributes
    ----------
    upper : float
        ``½ λ_max(M(t))``, in floating point.
    t : ndarray, shape (h,)
        Multipliers; 0 for fixed units.
    lean : ndarray, shape (h,)
        In [−1, 1]: the side that the relaxation prefers for a unit, and how clearly.
    weight : ndarray, shape (h,)
        The unit's share of the bound.
    state : ndarray
        Where a child may start from.
    """

    upper: float
    t: Float
    lean: Float
    weight: Float
    state: Float


class Relaxation(Protocol):
    """Bounds of the nodes of one network."""

    def start(self, rng: np.random.Generator) -> Float:
        """A state from which the root can start."""
        ...

    def bound(self, sides: Sides, state: Float, target: float, rounds: int) -> NodeBound:
        """The bound of a node; no better than needed to be at most ``target``, or to see that it never will."""
        ...


def relaxation(W: Float, V: Float, low: Float, high: Float) -> Relaxation:
    """The relaxation for W (h, d), V (m, h) and the slopes low, high (h,) on the two sides."""
    if W.shape[1] > W.shape[0]:  # only the Gram matrix of W matters
        W = np.ascontiguousarray(np.linalg.qr(W.T)[1].T)
    return _OneOutput(W, V[0], low, high) if len(V) == 1 else _SeveralOutputs(W, V, low, high)


class _OneOutput:
    """``ρ = max { ¼ (Σ_i ‖Rᵀ f_i‖)² : ‖R‖_F = 1 }`` by sweeps of coordinate ascent."""

    def __init__(self, W: Float, v: Float, low: Float, high: Float) -> None:
        self._B = ((high - low) * v)[:, None] * W
        self._first = ((high + low) * v) @ W
        self._scale = np.abs(high - low) * v**2

    def start(self, rng: np.random.Generator) -> Float:
        F = np.vstack([self._first, self._B])
        n, d = F.shape
        k = min(int(np.ceil(np.sqrt(2.0 * n))) + 1, d)
        Y = F if k == d else F @ rng.standard_normal((d, k))
        norms = np.linalg.norm(Y, axis=1)
        return np.where(norms[:, None] > 0.0, Y / np.where(norms > 0.0, norms, 1.0)[:, None], 1.0 / np.sqrt(k))

    def bound(self, sides: Sides, state: Float, target: float, rounds: int) -> NodeBound:
        # F of this node: the known slopes add to its first row, the units that are free have one each
        free = np.flatnonzero((sides == 0) & (self._scale > 0.0))
        rows = np.append(0, free + 1)
        F = np.ascontiguousarray(np.vstack([self._first + sides @ self._B, self._B[free]]))
        Y = np.ascontiguousarray(state[rows])
        R = F.T @ Y
        for _ in range(rounds):
            ascend(F, Y, R, 6)
            # r_i = ‖Rᵀ f_i‖: the dual value below, and with η_i ∝ r_i the bound above, both of √ρ
            r = np.linalg.norm(F @ R, axis=1)
            total = float(r.sum())
            below = 0.5 * total / max(float(np.linalg.norm(R)), 1e-300)
            r = np.maximum(r, _FLOOR * total / len(r) + 1e-300)
            root = float(np.sqrt(0.25 * r.sum() * max(np.linalg.eigvalsh((F.T / r) @ F)[-1], 0.0)))
            if root <= target or below > target or root <= below * (1.0 + _SETTLED):
                break
        # multipliers of the free units, the side that y_0 · y_j prefers, and each one's share of Σ r
        t, lean, weight = np.zeros((3, len(sides)))
        t[free] = self._scale[free] * r.sum() / (2.0 * r[1:] * max(root, 1e-300))
        lean[free] = Y[1:] @ Y[0]
        weight[free] = r[1:] / r.sum()
        state = state.copy()
        state[rows] = Y
        return NodeBound(root, t, lean, weight, state)


class _SeveralOutputs:
    """``max Σ_j ( c_j p_jᵀ q_j + |δ_j| ‖p_j‖ ‖q_j‖ )``, p = W R, q = Vᵀ Q, ``‖R‖² + ‖Q‖² = 1``, by L-BFGS."""

    def __init__(self, W: Float, V: Float, low: Float, high: Float) -> None:
        self._W, self._Vt = W, np.ascontiguousarray(V.T)
        self._centre, self._width = low + high, high - low
        self._k = min(int(np.ceil(np.sqrt(2.0 * (len(W) + 1)))) + 1, W.shape[1] + len(V))

    def start(self, rng: np.random.Generator) -> Float:
        d, m, k = self._W.shape[1], self._Vt.shape[1], self._k
        left, values, right = np.linalg.svd(self._Vt.T * self._centre @ self._W, full_matrices=False)
        leading = min(k, len(values))
        start = 0.3 * rng.standard_normal((d + m, k)) / np.sqrt((d + m) * k)
        start[:d, :leading] += right[:leading].T / np.sqrt(2.0 * leading)
        start[d:, :leading] += left[:, :leading] / np.sqrt(2.0 * leading)
        return start

    def bound(self, sides: Sides, state: Float, target: float, rounds: int) -> NodeBound:
        centre = self._centre + sides * self._width
        width = np.where(sides == 0, np.abs(self._width), 0.0)
        Z = state
        best, best_t = np.inf, np.ones(len(width))
        for _ in range(rounds):
            done = minimize(
                self._negative,
                Z.ravel(),
                args=(centre, width),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 15, "maxcor": 10, "ftol": 0.0, "gtol": 0.0},
            )
            Z = done.x.reshape(state.shape) / max(float(np.linalg.norm(done.x)), 1e-300)
            # the dual value below, and the best bound of multipliers t_j = ‖q_j‖ / ‖p_j‖, slack units drawn towards 1
            P, S, p, q = self._pairs(Z)
            below = float(centre @ np.sum(P * S, axis=1) + width @ (p * q))
            for floor in (1e-10, 1e-7, 1e-5):
                t = np.sqrt((q**2 + (floor * q.max()) ** 2) / (p**2 + (floor * p.max()) ** 2))
                upper = closed_form(self._W, self._Vt.T, t, centre, width)
                if upper < best:
                    best, best_t = upper, t
            if best <= target or below > target or best <= below * (1.0 + _SETTLED):
                break
        free = width > 0.0
        # the side that p_jᵀ q_j prefers, and each unit's share of the objective
        lean = np.where(free, np.sign(self._width) * np.sum(P * S, axis=1) / (p * q), 0.0)
        weight = width * p * q
        return NodeBound(best, np.where(free, best_t, 0.0), lean, weight / max(float(weight.sum()), 1e-300), Z)

    def _pairs(self, Z: Float) -> tuple[Float, Float, Float, Float]:
        d = self._W.shape[1]
        P, S = self._W @ Z[:d], self._Vt @ Z[d:]
        return P, S, np.linalg.norm(P, axis=1) + 1e-150, np.linalg.norm(S, axis=1) + 1e-150

    def _negative(self, x: Float, centre: Float, width: Float) -> tuple[float, Float]:
        """The objective over ``−‖Z‖²``, which may be of either sign where a child starts, and its gradient."""
        Z = x.reshape(-1, self._k)
        P, S, p, q = self._pairs(Z)
        square = max(float(x @ x), 1e-100)
        value = float(centre @ np.sum(P * S, axis=1) + width @ (p * q)) / square
        rise = self._W.T @ (centre[:, None] * S + (width * q / p)[:, None] * P)
        fall = self._Vt.T @ (centre[:, None] * P + (width * p / q)[:, None] * S)
        return -value, (2.0 * value * x - np.concatenate([rise, fall]).ravel()) / square
