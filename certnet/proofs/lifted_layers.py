r"""Proofs by products of layers' bounds of a lifted network. NumPy only; no code of any search.

Layer k maps z_k to the minimiser z_{k+1} of ``½ ‖z_{k+1} − W z_k‖² + ½ β ‖Wᵀ z_{k+1} − z_k‖² + G(z_{k+1})`` with a
convex G, in which the boxes and all layers above are. Differences u of z_k and v of z_{k+1} satisfy (Høier and Zach
2020, (8)) ``(1 + β) vᵀ W u ≥ ‖v‖² + β ‖Wᵀ v‖²``; with ``r = ‖Wᵀ v‖ / ‖v‖``, which lies between the extreme singular
values of Wᵀ,

    ‖v‖ ≤ f_β(r) ‖u‖,   f_β(r) = (1 + β) r / (1 + β r²) ≤ (β^½ + β^−½) / 2      (largest at r = β^−½)

so ``L ≤ Π_k max { f_βk(r) : σ_min ≤ r ≤ σ_max }`` ("layerwise"), and "theorem" is the product of the right-hand sides,
or ``‖W_k‖₂`` where β_k = 0 (Theorem 1). Where W has more rows than columns σ_min of Wᵀ is 0.

Where no unit of some layer can move, the layers above see one and the same input, and L is 0.

For one output, or a difference of two, the last factor is multiplied by ‖a‖, a = e_i or e_i − e_j. Where β_{L−1} = 0
the outputs are ``Π(W z + b)``, each on its own, and the factor is the largest ``‖aᵀ D W‖`` over diagonal D with entries
in [0, 1]: attained at entries 0 or 1, and at 1 where the outputs have no limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.claim import Output, output_refusal
from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.lifted_energy import moving, unlimited
from certnet.proofs.proof import Checker, LiftedProof, ProductChecker
from certnet.proofs.rounding import norm_above, product_above
from certnet.proofs.semidefinite import norm_at_least, norm_at_most

__all__ = ["LayerChecker", "LayerwiseProof", "TheoremProof", "rows_alone", "steepest"]

_UP = 1.0 + 2.0**-48  # covers the roundings of one factor


@register("lifted", "layerwise")
class LayerwiseProof(LiftedProof):
    """``(lowest, highest)`` singular values of every W_kᵀ."""

    def checker(self, net: LiftedEnergy, output: Output) -> Checker:
        return LayerChecker(net, self.multipliers, output)


@register("lifted", "theorem")
class TheoremProof(LiftedProof):
    """The same where β_k = 0, nothing elsewhere: H, Theorem 1."""

    def checker(self, net: LiftedEnergy, output: Output) -> Checker:
        return LayerChecker(net, self.multipliers, output, theorem=True)


class LayerChecker(ProductChecker):
    """Proved limits of the singular values of every layer, prepared to test many bounds.

    Parameters
    ----------
    net : LiftedEnergy
    multipliers : sequence of L array_like
        ``(lowest, highest)``, limits of the singular values of W_kᵀ; for "theorem" an empty vector where β_k > 0. An
        empty vector for the last layer where :func:`rows_alone`.
    output : tuple of one or two int, or None
    theorem : bool
        The product of H, Theorem 1, instead of the tighter one.

    Attributes
    ----------
    product : float
        The bound that they prove, rounded up.
    """

    def __init__(
        self, net: LiftedEnergy, multipliers: Sequence[ArrayLike], output: Output = None, *, theorem: bool = False
    ) -> None:
        given = _vectors(multipliers, net.depth)
        self.refusal = output_refusal(output, net.n_outputs) or (given if isinstance(given, str) else None)
        if self.refusal is not None or isinstance(given, str):
            return
        product = 1.0
        for k, limits in enumerate(given):
            factor = _factor(net, k, limits, output, theorem=theorem)
            if isinstance(factor, str):
                self.refusal = f"layer {k}: {factor}"
                return
            product = product_above(product, factor)
        self.product: float = product if _can_depend(net, output) else 0.0


def steepest(beta: float, lowest: float, highest: float) -> float:
    """At least ``max { f_β(r) : lowest ≤ r ≤ highest }``; infinite where it overflows."""
    if highest == 0.0:
        return 0.0
    if beta == 0.0:
        return highest
    top = 1.0 if beta == 1.0 else (1.0 + beta) / (2.0 * math.sqrt(beta)) * _UP
    for r, outside in ((highest, _below_one(beta, highest)), (lowest, _above_one(beta, lowest))):
        if outside:
            # r / (1 + β r²) without its overflow: where 1/r or β r is infinite nothing better than the top is known
            below = 1.0 / r + beta * r if r > 2.0**-1000 else math.inf
            if math.isfinite(below):
                top = min(top, math.nextafter((1.0 + beta) / below * _UP, math.inf))
    return top


def _below_one(beta: float, r: float) -> bool:
    """Is ``β r² < 1`` beyond rounding?"""
    return math.sqrt(beta) * r < 1.0 - 2.0**-48


def _above_one(beta: float, r: float) -> bool:
    return math.sqrt(beta) * r > 1.0 + 2.0**-48


def rows_alone(net: LiftedEnergy, output: Output) -> bool:
    """Is the last layer's factor found from its rows alone?"""
    return output is not None and net.beta[-1] == 0.0


def _vectors(multipliers: Sequence[ArrayLike], depth: int) -> list[Float] | str:
    try:
        given = [np.array(values, dtype=np.float64) for values in multipliers]
    except (TypeError, ValueError, OverflowError):
        return "the limits of the singular values are not numbers"
    if len(given) != depth or any(values.ndim != 1 for values in given):
        return f"{depth} vectors of numbers are needed, one per layer"
    return given


def _factor(net: LiftedEnergy, k: int, limits: Float, output: Output, *, theorem: bool) -> float | str:
    """The bound of layer k, rounded up, or why there is none."""
    W, beta, last = net.weights[k], net.beta[k], k == net.depth - 1
    if last and output is not None and beta == 0.0:
        return _row_factor(net, output) if limits.size == 0 else "its rows alone count: no numbers are needed"
    chosen = 1.0 if not last or output is None or len(output) == 1 else math.sqrt(2.0) * _UP
    if theorem and beta > 0.0:
        if limits.size:
            return "no numbers are needed where beta is positive"
        return steepest(beta, 0.0, math.inf) * chosen
    if limits.size != 2 or not 0.0 <= limits[0] <= limits[1] < math.inf:
        return "two numbers are needed, the lowest singular value and the highest"
    lowest, highest = map(float, limits)
    with np.errstate(all="ignore"):  # what overflows is not proved
        if not norm_at_most(W, highest):
            return f"the spectral norm is not proved to be at most {highest!r}"
        if not norm_at_least(W, lowest):
            return f"the smallest singular value is not proved to be at least {lowest!r}"
    factor = steepest(beta, lowest, highest)
    return factor if chosen == 1.0 else factor * chosen


def _row_factor(net: LiftedEnergy, output: tuple[int, ...]) -> float:
    """``max ‖aᵀ D W‖₂`` of the last layer, rounded up."""
    rows = [net.weights[-1][i] for i in output]
    linear = bool(unlimited(net)[net.layers[-1]][list(output)].all())
    with np.errstate(over="ignore", under="ignore"):  # infinite is refused
        if len(rows) == 1:
            return norm_above(rows[0])
        difference = norm_above(rows[0] - rows[1])
        return difference if linear else max(difference, *map(norm_above, rows))


def _can_depend(net: LiftedEnergy, output: Output) -> bool:
    """Can any of the chosen outputs change, and does every layer below have a unit that can tell of the input?"""
    moves = moving(net)
    last = moves[net.layers[-1]]
    chosen = last.any() if output is None else last[list(output)].any()
    return bool(chosen) and all(moves[layer].any() for layer in net.layers)
