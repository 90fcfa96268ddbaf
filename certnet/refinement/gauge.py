r"""Unit gauge: the scaling of the units in which multipliers 1 prove the bound, and the smoothed penalty there.

Units of a homogeneous activation (slopes [α, β] = those of ReLU or leaky ReLU) may be rescaled:

    W_k → S_k W_k S_{k−1}⁻¹,   b_k → S_k b_k,   S_k = diag(√T_k)

leaves f as it is and turns multipliers T of P(T, ρ) (:mod:`certnet.proofs.deep`) into T = 1. There, with c = α + β and
a = α β of every hidden layer, block Schur complements from the output give

    R_ℓ = I,   Q_k = W_kᵀ R_k W_k,   S_k = 2 I − Q_k ≻ 0 (k = ℓ … 1),   R_{k−1} = c² S_k⁻¹ − 2 a I,   ρ ≥ λ_max(Q_0).

For a = 0 the matrix P is, up to a Schur complement, linear in (W, ρ), and the set of certified networks convex. The
penalty is smoothed by the barrier of that set, with the eigenvalues m_i of Q_0 and perhaps a limit ρ̄ on ρ:

    ψ_μ(W) = min_ρ  λ ρ − μ Σ_i log(ρ − m_i) − μ Σ_k log det S_k − μ log(ρ̄ − ρ),

convex where a = 0; at the least, ``Σ_i μ / (ρ − m_i) = λ + μ / (ρ̄ − ρ)``. Its gradient, by the recursion backwards:
``K_0 = V diag(μ / (ρ − m)) Vᵀ``, and for k = 0 … ℓ

    ∂ψ/∂W_k = 2 R_k W_k K_k,   K_{k+1} = c² S_{k+1}⁻¹ W_k K_k W_kᵀ S_{k+1}⁻¹ + μ S_{k+1}⁻¹.

With m < n_ℓ outputs, ``S_ℓ⁻¹ = ½ (I + W_ℓᵀ G W_ℓ)`` with ``G = (2 I − W_ℓ W_ℓᵀ)⁻¹``, so that one hidden layer costs no
more than its units times d²; with n_1 < d units in the first layer, the eigenvalues of Q_0 are those of a matrix of
order n_1, and zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from certnet.core.validation import Float

__all__ = ["Penalty", "bound_at_one", "inverted", "least_rho", "unit_gauge"]

_FAINT = 1e-3  # of the size of the others: rows of units that multipliers say nothing about
_LOG_2 = float(np.log(2.0))
_STEPS = 100  # of the root search for ρ

Weights = Sequence[Float]
Slopes = Sequence[tuple[float, float]]


def unit_gauge(
    weights: Weights, biases: Weights, multipliers: Weights, slopes: Slopes
) -> tuple[list[Float], list[Float]]:
    """Weights and biases of the same function for which multipliers 1 prove what ``multipliers`` did.

    A unit without a multiplier moves no output, or cannot move: what it adds to the units after it is put into their
    biases, and its weights onwards become zero. Its own weights stay, small, so that a descent may find a use for it.

    Parameters
    ----------
    weights, biases : sequences of ndarray, shapes (n_{k+1}, n_k) and (n_{k+1},)
    multipliers : sequence of ndarray, shape (n_k,)
        One vector per hidden layer, in the normalisation of P(T, ρ).
    slopes : sequence of (low, high)
        Of the hidden layers; the slope on the right of zero is 1.
    """
    Ws, bs = [W.copy() for W in weights], [b.copy() for b in biases]
    for k, T in enumerate(multipliers):
        idle = ~(T > 0.0)
        size = np.linalg.norm(Ws[k], axis=1)
        s = np.sqrt(np.where(idle, 1.0, T))
        if idle.any():
            still = bs[k] * np.where(bs[k] > 0.0, 1.0, _left(slopes[k]))
            # a unit that moves no output adds nothing: only those that cannot move have something to hand on
            bs[k + 1] += Ws[k + 1][:, idle & (size == 0.0)] @ still[idle & (size == 0.0)]
            Ws[k + 1][:, idle] = 0.0
            usual = float(np.median((s * size)[~idle])) if not idle.all() else 1.0
            s[idle] = _FAINT * usual / np.where(size > 0.0, size, 1.0)[idle]
        Ws[k], bs[k] = s[:, None] * Ws[k], s * bs[k]
        Ws[k + 1] /= s
    return Ws, bs


def _left(slopes: tuple[float, float]) -> float:
    """The slope left of zero, where that on the right is 1."""
    low, high = slopes
    return low if high == 1.0 else high


def bound_at_one(weights: Weights, slopes: Slopes) -> float:
    """The least ρ ≥ L² that multipliers 1 prove, in floating point; infinite where they prove nothing."""
    layers = _Layers.of(weights, slopes)
    return float("inf") if layers is None else layers.most


@dataclass(frozen=True, eq=False)
class _Inverse:
    """``S⁻¹`` of a hidden layer, a matrix."""

    matrix: Float

    def times(self, M: Float) -> Float:
        return self.matrix @ M


@dataclass(frozen=True, eq=False)
class _NearlyHalf:
    """``(2 I − VᵀV)⁻¹ = ½ (I + Vᵀ G V)`` with ``G = (2 I − V Vᵀ)⁻¹``, for fewer outputs than units."""

    V: Float
    G: Float

    def times(self, M: Float) -> Float:
        return 0.5 * (M + self.V.T @ (self.G @ (self.V @ M)))

    @property
    def matrix(self) -> Float:
        return self.times(np.eye(self.V.shape[1]))


def inverted(S: Float) -> tuple[Float, float] | None:
    """S⁻¹ and log det S; None where S is not positive definite."""
    if not np.isfinite(S).all():
        return None
    if len(S) == 1:
        pivot = float(S[0, 0])
        return (np.array([[1.0 / pivot]]), float(np.log(pivot))) if pivot > 0.0 else None
    factor, wrong = dpotrf(S, lower=1, clean=1)
    if wrong:
        return None
    log_det = 2.0 * float(np.log(np.diagonal(factor)).sum())
    inverse, wrong = dpotri(factor, lower=1, overwrite_c=1)
    if wrong:
        return None
    inverse = inverse + inverse.T  # the upper triangle was zero
    inverse[np.diag_indices(len(inverse))] *= 0.5
    return inverse, log_det


def _last(V: Float) -> tuple[_Inverse | _NearlyHalf, float] | None:
    """S_ℓ⁻¹ and log det S_ℓ, by the smaller of both orders."""
    m, n = V.shape
    if m < n:
        found = inverted(2.0 * np.eye(m) - V @ V.T)
        return None if found is None else (_NearlyHalf(V, found[0]), found[1] + (n - m) * _LOG_2)
    found = inverted(2.0 * np.eye(n) - V.T @ V)
    return None if found is None else (_Inverse(found[0]), found[1])


@dataclass(frozen=True, eq=False)
class _Layers:
    """One pass of the recursion: S_k⁻¹ of the hidden layers, Σ_k log det S_k, and Q_0 decomposed.

    ``Q_0 = Fᵀ diag(w) F`` where its eigenvalues m have multiplicities ``counts``: F holds eigenvectors and w = m, or,
    for fewer units than inputs, w = 1 and the rows of F have squared lengths m; then the last of m is a multiple zero.
    """

    inverses: list[_Inverse | _NearlyHalf]
    log_det: float
    m: Float
    counts: Float
    F: Float
    scaled: bool

    @classmethod
    def of(cls, weights: Weights, slopes: Slopes) -> _Layers | None:
        """None where some S_k is not positive definite."""
        found = _last(weights[-1]) if slopes else None
        inverses, log_det = list[_Inverse | _NearlyHalf](), 0.0
        form = weights[-1].T @ weights[-1]
        for k in reversed(range(len(slopes))):
            if found is None:
                return None
            inverse, log = found
            inverses.append(inverse)
            log_det += log
            (low, high), W = slopes[k], weights[k]
            if k == 0 and len(W) < W.shape[1]:
                break
            form = (low + high) ** 2 * (W.T @ inverse.times(W))
            if low * high != 0.0:
                form -= 2.0 * low * high * (W.T @ W)
            form = 0.5 * (form + form.T)
            if k > 0:
                made = inverted(2.0 * np.eye(len(form)) - form)
                found = None if made is None else (_Inverse(made[0]), made[1])
        n, d = weights[0].shape
        if not (slopes and n < d):
            if not np.isfinite(form).all():
                return None
            m, V = np.linalg.eigh(form)
            return cls(inverses[::-1], log_det, m, np.ones(d), V.T, scaled=False)
        (low, high), R = slopes[0], (slopes[0][0] + slopes[0][1]) ** 2 * inverses[-1].matrix
        R[np.diag_indices(n)] -= 2.0 * low * high
        factor, wrong = dpotrf(R, lower=1, clean=1)
        if wrong or not np.isfinite(factor).all():
            return None
        F = factor.T @ weights[0]
        m, U = np.linalg.eigh(F @ F.T)
        m, counts = np.append(np.maximum(m, 0.0), 0.0), np.append(np.ones(n), d - n)
        return cls(inverses[::-1], log_det, m, counts, U.T @ F, scaled=True)

    @property
    def most(self) -> float:
        return float(self.m.max())

    def pulled(self, W: Float, rho: float, mu: float) -> Float:
        """``W K_0`` with ``K_0 = μ (ρ I − Q_0)⁻¹``."""
        across = W @ self.F.T
        if self.scaled:
            across *= mu / rho / (rho - self.m[:-1])
            return (mu / rho) * W + across @ self.F
        across *= mu / (rho - self.m)
        return across @ self.F


@dataclass(frozen=True)
class Penalty:
    """``ψ_μ`` with its gradient: the smoothed ``weight · ρ``, with ρ below a limit where there is one.

    Attributes
    ----------
    slopes : tuple of (low, high)
        Of the hidden layers.
    weight : float
        λ > 0.
    limit : float
        ρ̄, perhaps infinite.
    """

    slopes: tuple[tuple[float, float], ...]
    weight: float
    limit: float = np.inf

    def __call__(self, weights: Weights, mu: float) -> tuple[float, list[Float]]:
        """ψ_μ and its gradient in every W_k; infinite, with no gradient, where P is not positive definite."""
        layers = _Layers.of(weights, self.slopes)
        if layers is None or not layers.most < self.limit:
            return float("inf"), []
        rho = least_rho(layers.m, layers.counts, self.weight, self.limit, mu)
        if not layers.most < rho < self.limit:
            return float("inf"), []
        value = self.weight * rho - mu * (float(layers.counts @ np.log(rho - layers.m)) + layers.log_det)
        if self.limit < np.inf:
            value -= mu * float(np.log1p(-rho / self.limit))
        WK = layers.pulled(weights[0], rho, mu)
        gradients = []
        for k, ((low, high), inverse) in enumerate(zip(self.slopes, layers.inverses)):
            c, W, onward = low + high, weights[k], weights[k + 1]
            across = inverse.times(WK)
            gradients.append(2.0 * c * c * across)
            if low * high != 0.0:
                gradients[-1] -= 4.0 * low * high * WK
            # W_{k+1} K_{k+1}, with K_{k+1} itself only where it is used again
            side = inverse.times(W).T
            if k + 1 < len(self.slopes):
                WK = onward @ (c * c * (across @ side) + mu * inverse.matrix)
            else:
                WK = c * c * ((onward @ across) @ side) + mu * inverse.times(onward.T).T
        return value, [*gradients, 2.0 * WK]


def least_rho(m: Float, counts: Float, weight: float, limit: float, mu: float) -> float:
    """The ρ of ψ_μ for eigenvalues m with multiplicities ``counts``.

    Newton's method on reciprocals, which are nearly linear, kept within a bracket.
    """
    most, aim = float(m.max()), weight / mu
    below, room = most - m, limit - most  # all of t = ρ − m_n
    low, high = 0.0, min(float(counts.sum()) / aim, room)
    t = min(1.0 / aim, 0.5 * room)
    for _ in range(_STEPS):
        inverse = 1.0 / (t + below)
        total, steep = float(counts @ inverse), float(counts @ (inverse * inverse))
        wanted = aim + 1.0 / (room - t)
        low, high = (t, high) if total > wanted else (low, t)
        rise = steep / total / total + 1.0 / (wanted * (room - t)) ** 2
        step = t + (1.0 / wanted - 1.0 / total) / rise
        if not low < step < high:
            step = 0.5 * (low + high)
        if abs(step - t) <= 4e-16 * t:
            break
        t = step
    return most + t
