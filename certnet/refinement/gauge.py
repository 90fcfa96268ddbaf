r"""Unit gauge: the scaling of the units in which multipliers 1 prove the bound, and the smoothed penalty there.

Units of a homogeneous activation (slopes [α, β] = those of ReLU or leaky ReLU) may be rescaled:

    W_k → S_k W_k S_{k−1}⁻¹,   b_k → S_k b_k,   S_k = diag(√T_k)

leaves f as it is and turns multipliers T of P(T, ρ) (:mod:`certnet.proofs.deep`) into T = 1. There, with c = α + β and
a = α β of every hidden layer, block Schur complements from the output give

    R_ℓ = I,   Q_k = W_kᵀ R_k W_k,   S_k = 2 I − Q_k ≻ 0 (k = ℓ … 1),   R_{k−1} = c² S_k⁻¹ − 2 a I,   ρ ≥ λ_max(Q_0).

For a = 0 the matrix P is, up to a Schur complement, linear in (W, ρ), and the set of certified networks convex. The
penalty is smoothed by the barrier of that set, with the eigenvalues m_i of Q_0:

    ψ_μ(W) = min_ρ  λ ρ − μ Σ_i log(ρ − m_i) − μ Σ_k log det S_k,        ρ: Σ_i μ / (ρ − m_i) = λ,

convex where a = 0. Its gradient, by the recursion backwards: ``K_0 = V diag(μ / (ρ − m)) Vᵀ``, and for k = 0 … ℓ

    ∂ψ/∂W_k = 2 R_k W_k K_k,   K_{k+1} = c² S_{k+1}⁻¹ W_k K_k W_kᵀ S_{k+1}⁻¹ + μ S_{k+1}⁻¹.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from certnet.core.validation import Float

__all__ = ["Penalty", "bound_at_one", "unit_gauge"]

_FAINT = 1e-3  # of the size of the others: rows of units that multipliers say nothing about
_STEPS = 60  # of the root search for ρ

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
    return float("inf") if layers is None else float(np.linalg.eigvalsh(layers.Q)[-1])


@dataclass(frozen=True, eq=False)
class _Layers:
    """One pass of the recursion: R_k of every layer, S_k⁻¹ of the hidden ones, Σ_k log det S_k, and Q_0."""

    R: list[Float]
    inverses: list[Float]
    log_det: float
    Q: Float

    @classmethod
    def of(cls, weights: Weights, slopes: Slopes) -> _Layers | None:
        """None where some S_k is not positive definite."""
        W = weights[-1]
        R, inverses, log_det = [np.eye(len(W))], list[Float](), 0.0
        Q = W.T @ W
        for W, (low, high) in zip(weights[-2::-1], slopes[::-1]):
            S = 2.0 * np.eye(len(Q)) - Q
            try:
                factor = np.linalg.cholesky(S)
            except np.linalg.LinAlgError:
                return None
            log_det += 2.0 * float(np.log(np.diagonal(factor)).sum())
            half = np.linalg.inv(factor)
            inverse = half.T @ half
            inverses.append(inverse)
            r = (low + high) ** 2 * inverse
            if low * high != 0.0:
                r[np.diag_indices(len(r))] -= 2.0 * low * high
            R.append(r)
            Q = W.T @ r @ W
            Q = 0.5 * (Q + Q.T)
        if not np.isfinite(Q).all():
            return None
        return cls(R[::-1], inverses[::-1], log_det, Q)


@dataclass(frozen=True)
class Penalty:
    """``ψ_μ`` with its gradient: the smoothed ``weight · ρ``, or for a given ρ the barrier alone.

    Attributes
    ----------
    slopes : tuple of (low, high)
        Of the hidden layers.
    weight : float
        λ > 0; not used where ρ is given.
    rho : float or None
        Where it is fixed: ``ψ_μ = −μ log det P(W, ρ)``.
    """

    slopes: tuple[tuple[float, float], ...]
    weight: float = 1.0
    rho: float | None = None

    def __call__(self, weights: Weights, mu: float) -> tuple[float, list[Float]]:
        """ψ_μ and its gradient in every W_k; infinite, with no gradient, where P is not positive definite."""
        layers = _Layers.of(weights, self.slopes)
        if layers is None:
            return float("inf"), []
        m, V = np.linalg.eigh(layers.Q)
        rho = self._root(m, mu) if self.rho is None else self.rho
        room = rho - m
        if not room[-1] > 0.0:
            return float("inf"), []
        value = -mu * (float(np.log(room).sum()) + layers.log_det)
        if self.rho is None:
            value += self.weight * rho
        K = (V * (mu / room)) @ V.T
        gradients = []
        for k, W in enumerate(weights):
            WK = W @ K
            gradients.append(2.0 * layers.R[k] @ WK)
            if k < len(layers.inverses):
                (low, high), inverse = self.slopes[k], layers.inverses[k]
                across = inverse @ WK
                K = (low + high) ** 2 * across @ (inverse @ W).T + mu * inverse
                K = 0.5 * (K + K.T)
        return value, gradients

    def _root(self, m: Float, mu: float) -> float:
        """ρ above all m_i with ``Σ μ / (ρ − m_i) = λ``: Newton's method on the reciprocal, kept within a bracket."""
        aim = self.weight / mu
        low, high = 1.0 / aim, len(m) / aim  # of t = ρ − m_n
        below = m[-1] - m
        t = low
        for _ in range(_STEPS):
            inverse = 1.0 / (t + below)
            total = float(inverse.sum())
            low, high = (t, high) if total > aim else (low, t)
            # 1 / Σ is concave and nearly linear in t
            step = t + (total / aim - 1.0) * total / float(inverse @ inverse)
            if not low <= step <= high:
                step = 0.5 * (low + high)
            if abs(step - t) <= 1e-15 * t:
                break
            t = step
        return float(m[-1] + t)
