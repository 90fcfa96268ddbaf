r"""Proofs of lower bounds of lifted networks: a slope of ``x ↦ z_L*(x)`` at a witness. NumPy only.

At x and a guess z in the box let ``g = H z − q(x)`` and r the part of g that no multiplier explains: g itself on the
units strictly inside (F), its wrong-signed part on those held at a limit. E is strongly convex, so
``‖z − z*(x)‖ ≤ ‖r‖ / λ`` with ``λ ≤ λ_min(H)``. Where that leaves every unit of F strictly inside, and every held
multiplier of its sign, the active set of z* is that of z at x and around it, and

    ∂z_F* / ∂x = H_FF⁻¹ Q_F,     L ≥ ‖S_Fᵀ y‖ / ‖c‖,   H_FF y = Q_F c     for any direction c.

y comes from a linear solve; its error is at most its residual over λ. Every rounding is charged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.claim import Claim, Output, output_refusal
from certnet.claims.kinds import Witness, register_witness
from certnet.claims.verdict import Verdict
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.lifted_energy import (
    FLOOR,
    hessian_charged,
    linear_term_charged,
    moving,
    out_of_range,
    selector,
)
from certnet.proofs.proof import lifted_refusal
from certnet.proofs.rounding import gamma, norm
from certnet.proofs.semidefinite import is_positive_semidefinite

__all__ = ["SlopeWitness", "slope_below"]

_UP = 1.0 + 1e-9
_LEAST = 2.0**-400  # slopes below it are within what roundings near the end of the number range can do


@register_witness("lifted")
@dataclass(frozen=True, eq=False)
class SlopeWitness:
    """An input x (d,) and activations z (n,) near ``z*(x)``."""

    x: Float
    z: Float

    @classmethod
    def of(cls, point: Float, activations: Float | None) -> Witness:
        return cls(point, np.zeros(0) if activations is None else activations)

    def check(self, claim: Claim, bound: object) -> Verdict:
        """Is ``L ≥ bound`` shown?"""
        refusal = lifted_refusal(claim)
        if refusal is not None or not isinstance(claim.network, LiftedEnergy):
            return Verdict(False, str(refusal))
        slope = slope_below(claim.network, self.x, self.z, claim.output)
        if not isinstance(bound, float) or not 0.0 < bound <= slope:
            return Verdict(False, f"the slope at the witness does not prove L >= {bound!r}")
        return Verdict(True, f"L >= {bound!r} is proved")


def slope_below(net: LiftedEnergy, x: ArrayLike, z: ArrayLike, output: Output = None) -> float:
    """A proven lower bound on L: the slope at x, rounded down; 0 where rounding leaves a doubt about the active set.

    Parameters
    ----------
    x : array_like, shape (d,)
    z : array_like, shape (n,)
        Activations near ``z*(x)``, at a limit exactly where z* is.
    """
    x, z = np.asarray(x, dtype=np.float64), np.asarray(z, dtype=np.float64)
    right = x.shape == (net.n_inputs,) and z.shape == (net.n_units,) and bool(np.isfinite(x).all())
    if not right or not np.isfinite(z).all() or output_refusal(output, net.n_outputs) or out_of_range(net):
        return 0.0
    with np.errstate(all="ignore"):  # what overflows proves nothing
        found = _slope(net, x, z, output)
    return found if math.isfinite(found) and found > _LEAST else 0.0


def _slope(net: LiftedEnergy, x: Float, z: Float, output: Output) -> float:
    H, doubt = hessian_charged(net)
    convexity = _convexity(H, doubt)
    free = _active_set(net, H, doubt, convexity, x, z) if convexity > 0.0 else None
    if free is None or not free.any():
        return 0.0
    H, doubt = H[np.ix_(free, free)], doubt[np.ix_(free, free)]
    S = selector(net, output)[free]
    first = net.layers[0]
    W = np.zeros((net.n_units, net.n_inputs))
    W[first] = (1.0 + net.beta[0]) * net.weights[0]
    W = W[free]
    J = np.linalg.solve(H, S).T @ W
    if not np.isfinite(J).all() or not J.any():
        return 0.0
    c = np.linalg.svd(J, full_matrices=False)[2][0]
    target = W @ c
    y = np.linalg.solve(H, target)
    residual = np.abs(H @ y - target) + doubt @ np.abs(y) + gamma(len(y) + 4) * (np.abs(H) @ np.abs(y))
    residual += gamma(len(x) + 8) * (np.abs(W) @ np.abs(c)) + gamma(4) * np.abs(target) + FLOOR
    # ‖S‖₂ ≤ √2; the outputs of y are exact or carry one rounding
    lost = 1.5 * _UP * norm(residual) / convexity + gamma(4) * float(np.sum(np.abs(S.T) @ np.abs(y)))
    k = gamma(len(x) + len(y) + 8)
    return max(0.0, (norm(S.T @ y) * (1.0 - k) - lost) / norm(c) * (1.0 - 4.0 * k))


def _convexity(H: Float, doubt: Float) -> float:
    """A proven lower bound on ``λ_min(H)``; 0 where there is none."""
    if not np.isfinite(H).all():
        return 0.0
    least, most = (float(np.linalg.eigvalsh(H)[i]) for i in (0, -1))
    if not least > 0.0:
        return 0.0
    shifted, claimed = H.copy(), 0.99 * least
    shifted[np.diag_indices(len(H))] -= claimed
    error = norm(doubt) * _UP + 2.0**-51 * most
    return claimed if is_positive_semidefinite(shifted, error) else 0.0


def _active_set(net: LiftedEnergy, H: Float, doubt: Float, convexity: float, x: Float, z: Float) -> np.ndarray | None:
    """The units strictly inside of their box at ``z*(x)`` and around x, shape (n,); None where z does not prove it."""
    lower, upper = np.concatenate(net.lower), np.concatenate(net.upper)
    if (z < lower).any() or (z > upper).any():
        return None
    # g = H z − q with the doubt of its entries
    q, q_doubt = linear_term_charged(net, x)
    g, size = H @ z - q, np.abs(H) @ np.abs(z)
    unsure = (doubt @ np.abs(z) + q_doubt + gamma(len(z) + 6) * (size + np.abs(q))) * _UP + FLOOR
    moves = moving(net)
    # r: what no multiplier explains, at its worst; ‖z − z*‖ ≤ ‖r‖ / λ
    low, high = moves & (z == lower), moves & (z == upper)
    free = moves & ~low & ~high
    wrong = np.where(free, np.abs(g) + unsure, 0.0)
    wrong = np.where(low, np.maximum(unsure - g, 0.0), wrong)
    wrong = np.where(high, np.maximum(unsure + g, 0.0), wrong)
    distance = _UP * norm(wrong) / convexity + FLOOR
    # does that leave the free units inside, and the held ones pushed against their limit?
    margin = distance + 2.0**-51 * np.abs(z)
    inside = (z - margin > lower) & (z + margin < upper)
    push = unsure + np.linalg.norm(np.abs(H) + doubt, axis=1) * _UP * distance
    held = (low & (g > push)) | (high & (-g > push))
    settled = np.where(free, inside, held | ~moves)
    return free if bool(settled.all()) and math.isfinite(distance) else None
