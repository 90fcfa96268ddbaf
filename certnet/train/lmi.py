r"""The network nearest to given weights under a penalty on the bound that fixed multipliers prove.

For T = diag(t) and ``K = I − ½ V T⁻¹ Vᵀ ≻ 0``, the smallest ρ of the LMI (Y (2b)) is, by Schur complements,

    ρ_T(W, V) = λ_max( ½ Wᵀ T W + ¼ Wᵀ Vᵀ K⁻¹ V W ),

a convex function of (W, V) together, as the LMI with its Schur complement ``[ρI, −WᵀT, 0; −TW, 2T, Vᵀ; 0, V, I] ⪰ 0``
is linear in (ρ, W, V). Minimised here is the strongly convex

    weight · ρ_T(W, V) + ½ stiffness · (‖W − A‖_F² + ‖V − C‖_F²),

with λ_max smoothed as ``τ log tr exp(·/τ)``, which is above it by at most ``τ log d``. Whatever the accuracy, ρ_T of
the point returned is a bound: nothing has to converge for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize

from certnet.core.validation import Float
from certnet.networks.shallow import ShallowNetwork
from certnet.searches.shallow import search_multipliers

__all__ = ["NearestBounded", "bound_at", "lmi_multipliers", "smooth_bound"]

_SMOOTHING: Final = 1e-3  # τ relative to ρ
_STAGES: Final = 4  # at most, of τ falling with ρ
_SLACK: Final = 1.0 + 1e-6  # on T, so that K is not singular at the network that T came from
_LEAST: Final = 1e-3  # of the mean multiplier, for units that do not matter yet: V_:j could never grow under t_j = 0
Pair = tuple[Float, Float]


@dataclass(frozen=True, eq=False)
class NearestBounded:
    """The program above; a call solves it for a target (A, C) from a start (W, V) with K ≻ 0.

    Attributes
    ----------
    multipliers : ndarray, shape (h,)
        t > 0.
    weight, stiffness : float
    max_iterations : int
        Of L-BFGS.
    """

    multipliers: Float
    weight: float
    stiffness: float
    max_iterations: int = 200

    def __call__(self, target: Pair, start: Pair) -> Pair:
        """W (h, d) and V (m, h) of the solution."""
        best, bound = start, bound_at(*start, self.multipliers)
        for _ in range(_STAGES):
            found = self._stage(target, best, _SMOOTHING * max(bound, 1e-12))
            before, bound = bound, bound_at(*found, self.multipliers)
            if not np.isfinite(bound):
                return best
            best = found
            if bound > 0.5 * before:  # τ was small enough
                break
        return best

    def _stage(self, target: Pair, start: Pair, tau: float) -> Pair:
        (A, C), goal, begin = target, _flat(target), _flat(start)
        # a value for points outside K ≻ 0 that the line search's interpolation steps back from
        outside = 10.0 * self._value(begin, goal, A.shape, C.shape, tau)[0] + 1.0

        def value(x: Float) -> tuple[float, Float]:
            found, gradient = self._value(x, goal, A.shape, C.shape, tau)
            return (found, gradient) if np.isfinite(found) else (outside, np.zeros_like(x))

        x = minimize(
            value,
            begin,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": self.max_iterations, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-8},
        ).x
        return x[: A.size].reshape(A.shape), x[A.size :].reshape(C.shape)

    def _value(
        self, x: Float, goal: Float, shape: tuple[int, ...], outer: tuple[int, ...], tau: float
    ) -> tuple[float, Float]:
        """The smoothed program's objective and gradient; infinite outside K ≻ 0."""
        size = shape[0] * shape[1]
        W, V, off = x[:size].reshape(shape), x[size:].reshape(outer), x - goal
        bound, to_W, to_V = smooth_bound(W, V, self.multipliers, tau)
        value = self.weight * bound + 0.5 * self.stiffness * float(off @ off)
        return value, self.weight * _flat((to_W, to_V)) + self.stiffness * off


def _flat(pair: Pair) -> Float:
    return np.concatenate([pair[0].ravel(), pair[1].ravel()])


def bound_at(W: Float, V: Float, t: Float) -> float:
    """``ρ_T(W, V)``, the smallest ρ of the LMI with T = diag(t); infinite unless ``K ≻ 0``."""
    inverse = _inverse(V, t)
    return float("inf") if inverse is None else float(np.linalg.eigvalsh(_matrix(W, V, t, inverse))[-1])


def lmi_multipliers(network: ShallowNetwork) -> Float:
    """T of the LMI (Y (2)) for a network, shape (h,): the best up to a relative 1e-5 of ρ.

    The search's multipliers t belong to ``[2L I − (…)]`` of :mod:`certnet.searches.shallow`; those of the LMI are L t.
    """
    found = search_multipliers(network, tol=1e-5)
    t = _SLACK * found.upper * found.multipliers
    return np.maximum(t, _LEAST * t.mean()) if t.any() else np.ones_like(t)


def _matrix(W: Float, V: Float, t: Float, inverse: Float) -> Float:
    P = V @ W
    return 0.5 * (W.T * t) @ W + 0.25 * P.T @ inverse @ P


def _inverse(V: Float, t: Float) -> Float | None:
    """``K⁻¹`` (m, m), or None unless K is positive definite."""
    values, vectors = np.linalg.eigh(np.eye(len(V)) - 0.5 * (V / t) @ V.T)
    return (vectors / values) @ vectors.T if values[0] > 1e-12 else None


def smooth_bound(W: Float, V: Float, t: Float, tau: float) -> tuple[float, Float, Float]:
    """``τ log tr exp(M/τ)`` of the matrix M whose λ_max is ρ_T, and its gradients in W and V."""
    inverse = _inverse(V, t)
    if inverse is None:
        return np.inf, np.zeros_like(W), np.zeros_like(V)
    values, vectors = np.linalg.eigh(_matrix(W, V, t, inverse))
    shares = np.exp((values - values[-1]) / tau)
    total = float(shares.sum())
    G = (vectors * (shares / total)) @ vectors.T
    back = inverse @ (V @ W) @ G  # (m, d)
    WG = W @ G
    to_W = t[:, None] * WG + 0.5 * V.T @ back
    to_V = 0.5 * back @ W.T + 0.25 * (back @ (V @ W).T @ inverse) @ V / t
    return float(values[-1]) + tau * float(np.log(total)), to_W, to_V
