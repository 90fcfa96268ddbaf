r"""Proofs for one hidden layer: does a set of multipliers prove a Lipschitz bound? NumPy only; no code of any search.

For one hidden layer with slopes in [α_j, β_j] every positive vector t proves (see ``docs/certificates.md``)

    L ≤ ½ λ_max( M(t) ),   M(t) = Σ_j [ (β_j − α_j) t_j w_j w_jᵀ     (α_j + β_j) w_j V_:jᵀ            ]
                                      [ (α_j + β_j) V_:j w_jᵀ        (β_j − α_j) V_:j V_:jᵀ / t_j     ]

because ``D = ½ (α + β + (β − α) E)`` with a diagonal ``|E| ≤ 1``. For ReLU, slopes [0, 1], M is the sum of the
``z_j z_jᵀ`` with ``z_j = (√t_j w_j, V_:j / √t_j)``. With ``T = L t`` and ``ρ = L²`` this is the LMI of
LipSDP-neuron (Fazlyab et al. 2019; Y (2b)) after two Schur complements. A unit with multiplier 0 is left out of M and
charged by its norm, ``‖V_:j‖ ‖w_j‖``.

Every entry of M is a sum of products, whose rounding error is bounded (:mod:`certnet.proofs.rounding`); that
``u I − ½ M(t) ⪰ 0`` whatever these errors are is shown by :mod:`certnet.proofs.semidefinite`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.kinds import register
from certnet.claims.verdict import Verdict
from certnet.core.validation import Float
from certnet.networks.hidden import HiddenLayer
from certnet.proofs.inflation import inflated
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.rounding import U, double_below, exponent_of, gamma, read_numbers, shown, sum_and_width
from certnet.proofs.semidefinite import is_positive_semidefinite
from certnet.proofs.subject import Subject

__all__ = ["BoundChecker", "Question", "QuestionChecker", "ShallowProof", "ask", "verify_bound"]

_T_RANGE = (2.0**-300, 2.0**300)


@register("feed-forward", "shallow")
class ShallowProof(LayeredProof):
    """Multipliers t (h,) of one hidden layer, non-negative; 0 charges a unit by its norm."""

    KIND: ClassVar[str] = "shallow"
    LAYOUT: ClassVar[str] = "vector"

    def checker(self, subject: Subject) -> Checker | None:
        if subject.network.depth != 1 or subject.claim.norm != "l2":
            return None
        low, high = subject.slopes
        return BoundChecker(subject.hidden, self.multipliers, low=low, high=high)


class QuestionChecker(Checker):
    """A question of many bounds, or why there is none."""

    def __init__(self, question: Question | str) -> None:
        self._question = question
        self.refusal: str | None = question if isinstance(question, str) else None

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved. One Cholesky factorisation of order d + m, or h where that is less."""
        return self._question if isinstance(self._question, str) else self._question.objection(upper)

    def smallest(self, guess: float) -> float | None:
        return None if isinstance(self._question, str) else self._question.smallest(guess)


class BoundChecker(QuestionChecker):
    """One hidden layer and one set of multipliers, prepared to test many bounds.

    Parameters
    ----------
    layer : HiddenLayer
        Its W and V are used; its activation is that of the slopes.
    multipliers : array_like, shape (h,)
        Non-negative and finite; 0 charges the unit by its norm.
    low, high : float or ndarray, shape (h,)
        Slopes of the units' activations: ReLU's by default.
    """

    def __init__(
        self,
        layer: HiddenLayer,
        multipliers: ArrayLike,
        *,
        low: Float | float = 0.0,
        high: Float | float = 1.0,
    ) -> None:
        super().__init__(ask(layer.W, layer.V, multipliers, low, high))


@dataclass(frozen=True, eq=False)
class Question:
    """``(u − charge) diag(weights) − half ⪰ 0``, asked of many bounds u.

    Attributes
    ----------
    half : ndarray, shape (d + m, d + m) or (h, h)
        ``½ M(t) / 2^exponent``, of order one, or what :func:`_assemble_units` makes of it.
    error : float
        The spectral norm of what rounding may have done to ``half``.
    exponent : int
    charge : float
        Bound of the units that are left out of M.
    idle : bool
        Whether the units of M do nothing: a row or column of weights is zero, or the slope always is.
    weights : float or ndarray, one per row
        Between ¼ and 1.
    """

    half: Float
    error: float
    exponent: int
    charge: float
    idle: bool
    weights: Float | float

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved, if so."""
        claimed = double_below(upper)
        if claimed is None or not 0.0 <= claimed < math.inf:
            return f"the bound {shown(upper)} is not a finite non-negative number"
        if not (math.isfinite(self.error) and np.isfinite(self.half).all()):
            return "the multipliers are out of all proportion to the weights"
        with np.errstate(all="ignore"):  # NaN and infinity prove nothing
            proved = self._proved(claimed - self.charge)
        return None if proved else f"the multipliers do not prove L <= {upper!r}"

    def _proved(self, left: float) -> bool:
        if self.idle and not self.half.any():  # otherwise zeros are what underflowed
            return left >= 0.0
        # a rounding in the difference, one here and one of the weights; none of the scaling unless it underflows, where
        # nothing is proved; infinite is refused
        bound = float(np.ldexp(left, -self.exponent)) * (1.0 - 4.0 * U)
        # whatever exceeds a bound that is proved is proved; the cap keeps huge ones from overflowing
        cap = 4.0 * (float(np.linalg.norm(self.half)) + self.error) / float(np.min(self.weights))
        return bound > 0.0 and _dominates(min(bound, cap) * self.weights, self.half, self.error)

    def smallest(self, guess: float) -> float | None:
        """A bound near ``guess`` that holds; None when even twice the guess does not."""
        if self.objection(self.charge) is None:  # nothing but charged units
            return self.charge
        with np.errstate(over="ignore", under="ignore"):
            scale = max(float(np.ldexp(guess, -self.exponent)), 1e-300)
        least = max(4.0 * U, 2.0 * self.error / scale + 8.0 * gamma(len(self.half) + 8) * len(self.half))
        found = inflated(lambda part: self.objection(part + self.charge) is None, guess, first=least)
        return None if found is None else found + self.charge


def ask(
    W: Float,
    V: Float,
    multipliers: ArrayLike,
    low: Float | float,
    high: Float | float,
    *,
    columns: NDArray[np.int32] | int = 0,
    weights: Float | float = 1.0,
    order: int | None = None,
) -> Question | str:
    """What has to be shown for W (h, d), V (m, h) and multipliers (h,); a sentence where nothing can be.

    Parameters
    ----------
    columns : int or ndarray of int, shape (d,)
        Inputs are measured in units of ``2^columns``: W is multiplied by it.
    weights : float or ndarray, shape (d + m,)
        Of the question.
    order : int, optional
        The norm of w_j (2 by default) that, times ``‖V_:j‖₂`` and its steepest slope, a unit left out is charged.
    """
    t = read_numbers(multipliers, "multiplier", len(W), "hidden units")
    if isinstance(t, str):
        return t
    low, high = (np.broadcast_to(np.asarray(slope, np.float64), t.shape) for slope in (low, high))
    centre, width = sum_and_width(low, high)
    kept = (t > 0.0) | ((width == 0.0) & (centre != 0.0))
    steepest = np.maximum(np.abs(low), np.abs(high))
    charge = _charge(W[~kept], V[:, ~kept], steepest[~kept], order)
    with np.errstate(over="ignore"):
        W = np.ldexp(W[kept], columns)
    V, t, centre, width = V[:, kept], t[kept], centre[kept], width[kept]
    idle = not (W.any(axis=1) & V.any(axis=0) & (steepest[kept] > 0.0)).any()
    if not np.isfinite(W).all():
        return "the weights are too large to be verified"
    # units are balanced, and the whole brought to order one, by powers of two: exact but for what underflows
    # against entries of order one
    unit = exponent_of(np.abs(V).max(axis=0, initial=0.0))
    row = np.abs(W).max(axis=1, initial=0.0)
    exponent = int((exponent_of(row) + unit)[row > 0.0].max(initial=-4000))
    with np.errstate(over="ignore", under="ignore"):
        V, W = np.ldexp(V, -unit), np.ldexp(W, (unit - exponent)[:, None])
        t = np.where(width > 0.0, np.ldexp(t, exponent - 2 * unit), 1.0)
    if t.size and not (t.min() >= _T_RANGE[0] and t.max() <= _T_RANGE[1]):
        j = int(np.flatnonzero(kept)[np.argmax((t < _T_RANGE[0]) | (t > _T_RANGE[1]))])
        return f"multiplier {j} is out of all proportion to the weights of its unit"
    plain = np.all(centre == 1.0) and np.all(width == 1.0) and np.ndim(weights) == 0 and weights == 1.0
    if plain and len(t) < sum(V.shape[:1] + W.shape[1:]):
        half, error, weights = _assemble_units(W, V, t)
    else:
        half, error = _assemble(W, V, t, centre, width)
    return Question(half, error, exponent, charge, idle, weights)


def verify_bound(network: HiddenLayer, multipliers: ArrayLike, upper: float) -> Verdict:
    """Check that ``multipliers`` prove ``‖f(x) − f(y)‖₂ ≤ upper ‖x − y‖₂`` for all x, y (see the module's formula).

    The claim is about the real-arithmetic network with the stored float64 weights. Never raises on bad numbers: they
    are refused in the verdict.
    """
    return BoundChecker(network, multipliers).holds(upper)


def _charge(W: Float, V: Float, steepest: Float, order: int | None) -> float:
    """At least ``Σ_j steepest_j ‖V_:j‖₂ ‖w_j‖``, w_j in the norm ``order``, and exactly zero when every term is."""
    alive = W.any(axis=1) & V.any(axis=0) & (steepest > 0.0)
    if not alive.any():
        return 0.0
    W, V, steepest = W[alive], V[:, alive].T, steepest[alive]
    unit_w, unit_v = exponent_of(np.abs(W).max(axis=1)), exponent_of(np.abs(V).max(axis=1))
    with np.errstate(over="ignore", under="ignore"):  # infinite means refused, underflow is paid for by the last term
        norm_w = np.linalg.norm(np.ldexp(W, -unit_w[:, None]), order, axis=1)
        norm_v = np.linalg.norm(np.ldexp(V, -unit_v[:, None]), axis=1)
        fraction, unit = np.frexp(steepest)  # apart: a subnormal slope would round the product off
        total = float(np.sum(np.ldexp(norm_w * norm_v * fraction, unit_w + unit_v + unit)))
        terms = sum(W.shape) + V.shape[1]
        return total * (1.0 + 4.0 * gamma(terms + 10)) + terms * 2.0**-1000


def _assemble(W: Float, V: Float, t: Float, centre: Float, width: Float) -> tuple[Float, float]:
    """½ M(t) and a bound on the spectral norm of its rounding error."""
    h, d = W.shape
    m = V.shape[0]
    half = np.zeros((d + m, d + m))
    cross_terms = np.zeros((m, d))
    chunk = max(256, math.isqrt(max(h, 1)))  # short sums have small error bounds
    with np.errstate(all="ignore"):  # what overflows is refused
        for first in range(0, h, chunk):
            part = slice(first, first + chunk)
            w, v, s = W[part], V[:, part], t[part]
            half[:d, :d] += w.T @ ((width[part] * s)[:, None] * w)
            half[d:, d:] += (v * (width[part] / s)) @ v.T
            half[d:, :d] += (v * centre[part]) @ w
            cross_terms += np.abs(v * centre[part]) @ np.abs(w)
        half[:d, d:] = half[d:, :d].T
        half = 0.25 * (half + half.T)  # symmetric, halved
        size = float(np.trace(half)) + 0.5 * float(np.linalg.norm(cross_terms))
    # a diagonal block sums x xᵀ: its absolute terms are at most √(a_kk a_ll), a matrix of norm tr; the cross block
    # has the norm of its absolute terms; underflow adds less than the last term
    k = chunk + h // chunk + 12
    error = gamma(k) * size
    return half, error * (1.0 + 8.0 * gamma(k)) + (h + d + m) ** 2 * 2.0**-700


def _assemble_units(W: Float, V: Float, t: Float) -> tuple[Float, float, Float]:
    """The same question with one row per unit: half (h, h), its error and the weights.

    For slopes in [0, 1], ``M = Zᵀ Z`` with rows z_j, and ``u I − ½ Z Zᵀ ⪰ 0`` is the same. With ``t_j = τ_j 4^e_j`` and
    τ_j in [¼, 1), the congruence with ``diag(√τ)`` makes it ``u diag(τ) − ½ (a aᵀ + b bᵀ) ⪰ 0`` without a root:
    ``a_j = t_j 2^−e_j w_j``, ``b_j = 2^−e_j V_:j``.
    """
    h, d = W.shape
    exponent = (np.frexp(t)[1] + 1) // 2
    with np.errstate(under="ignore"):
        a = np.ldexp(t, -exponent)[:, None] * W
        b = np.ldexp(V.T, -exponent[:, None])
        half = a @ a.T + b @ b.T
    half = 0.25 * (half + half.T)
    k = max(d, V.shape[0]) + 16
    error = gamma(k) * float(np.trace(half)) * (1.0 + 8.0 * gamma(k)) + (h + d + len(V)) ** 2 * 2.0**-700
    return half, error, np.ldexp(t, -2 * exponent)


def _dominates(bound: Float | float, half: Float, error: float) -> bool:
    """Is ``diag(bound) − H ⪰ 0`` proved for every symmetric H with ``‖H − half‖₂ ≤ error``? bound: (d + m,) or one."""
    shifted = -half
    shifted[np.diag_indices(len(half))] += bound
    largest = float(np.max(bound)) + float(np.abs(np.diagonal(half)).max())
    return is_positive_semidefinite(shifted, error + 2.0 * U * largest)  # the sum on the diagonal is rounded
