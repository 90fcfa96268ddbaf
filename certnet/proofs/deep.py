r"""Proofs for any depth: LipSDP with given multipliers. NumPy only.

For ``x_{k+1} = φ_k(W_k x_k + b_k)``, ``f = W_ℓ x_ℓ + b_ℓ``, slopes of φ_k in [α_k, β_k] and diagonal ``T_k > 0``, one
number per neuron (Fazlyab et al. 2019, LipSDP-neuron; one per layer is the special case ``T_k = τ_k I``),

    P(T, ρ) ⪰ 0   proves   L ≤ √ρ,

with P symmetric and block tridiagonal, block k belonging to x_k:

    P_kk     = [k = 0] ρ I + [k < ℓ] 2 W_kᵀ diag(α_k β_k) T_k W_k + [k ≥ 1] 2 T_{k−1} − [k = ℓ] W_ℓᵀ W_ℓ
    P_k,k+1  = −W_kᵀ diag(α_k + β_k) T_k

The claim is for the real-arithmetic network; every entry's rounding error is bounded, and positive semidefiniteness is
shown by :mod:`certnet.proofs.semidefinite`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.inflation import inflated
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.rounding import double_below, gamma, shown, sum_and_width
from certnet.proofs.semidefinite import is_semidefinite_entrywise
from certnet.proofs.subject import Subject

__all__ = ["DeepChecker", "DeepProof"]

# slopes in 2^±200, multipliers in 2^±500 and weights up to 2^350: no product of slopes and multipliers underflows, and
# what underflows against a weight is below the floor of the entries' errors
_RANGE_T = 500
_FLOOR = 2.0**-600


@register("feed-forward", "neuron")
@register("feed-forward", "layer")
class DeepProof(LayeredProof):
    """One vector T_k of multipliers per hidden layer that is not linear: free, or the same for all units of a layer."""

    KIND = "neuron"
    FOLDED = True

    def checker(self, subject: Subject) -> Checker | None:
        if subject.claim.norm != "l2" or subject.ball is not None:
            return None
        return DeepChecker(subject.folded, self.multipliers)


class DeepChecker(Checker):
    """A network and one vector of multipliers per hidden layer, prepared to test many bounds.

    Parameters
    ----------
    network : Network
    multipliers : sequence of ℓ array_like, shapes (n_{k+1},)
        Positive and finite.
    """

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike]) -> None:
        self.refusal = _refusal(network, multipliers)
        self._d = network.n_inputs
        self._rest = self._error = np.zeros((0, 0))
        if self.refusal is None:
            self._rest, self._error = _assemble(network, [np.asarray(t, dtype=np.float64) for t in multipliers])
            if not (np.isfinite(self._rest).all() and np.isfinite(self._error).all()):
                self.refusal = "the weights or multipliers are too large to be verified"

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved. One Cholesky factorisation of order ``n_0 + … + n_ℓ``."""
        claimed = double_below(upper)
        if claimed is None or not 0.0 < claimed < 2.0**500:
            return f"the bound {shown(upper)} is not a positive number of reasonable size"
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = self._dominated(math.nextafter(claimed * claimed, 0.0))
        return None if proved else f"the multipliers do not prove L <= {upper!r}"

    def _dominated(self, rho: float) -> bool:
        """Is ``P(T, ρ) ⪰ 0`` proved?"""
        P, error = self._rest.copy(), self._error.copy()
        inputs = np.arange(self._d)
        P[inputs, inputs] += rho
        error[inputs, inputs] += 2.0**-52 * (rho + np.abs(P[inputs, inputs]))
        return is_semidefinite_entrywise(P, error)

    def smallest(self, guess: float) -> float | None:
        return None if self.refusal is not None else inflated(self.holds, guess)


def _refusal(network: Network, multipliers: Sequence[ArrayLike]) -> str | None:
    if len(multipliers) != network.depth:
        return f"there are multipliers for {len(multipliers)} layers, the network has {network.depth} hidden layers"
    for k, (given, n) in enumerate(zip(multipliers, network.widths[1:-1])):
        try:
            t = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return f"the multipliers of layer {k} are not numbers"
        if t.shape != (n,):
            return f"layer {k} has {n} units and multipliers of shape {t.shape}"
        if not (np.isfinite(t).all() and np.all(t > 0.0)):
            return f"a multiplier of layer {k} is not positive and finite"
        if not (t.min() >= 2.0**-_RANGE_T and t.max() <= 2.0**_RANGE_T):
            return f"a multiplier of layer {k} is too small or too large to be verified"
    for k, phi in enumerate(network.activations):
        if any(s != 0.0 and not 2.0**-200 <= abs(s) <= 2.0**200 for s in phi.slopes):
            return f"a slope of layer {k} is too small or too large to be verified"
    if any(np.abs(W).max() > 2.0**350 for W in network.weights):
        return "the weights are too large to be verified"
    return None


def _assemble(network: Network, multipliers: Sequence[Float]) -> tuple[Float, Float]:
    """P without ρ, and a bound on the rounding error of every entry."""
    starts = np.cumsum([0, *network.widths[:-1]])
    P = np.zeros((starts[-1], starts[-1]))
    error = np.zeros_like(P)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for k, (W, T, phi) in enumerate(zip(network.weights, multipliers, network.activations)):
            here, after = slice(starts[k], starts[k + 1]), slice(starts[k + 1], starts[k + 2])
            centre, width = sum_and_width(*(np.full(len(T), s) for s in phi.slopes))
            product = 0.5 * (centre**2 - width**2)  # 2 α β, with the slopes that centre and width stand for
            P[here, here] += (W.T * (product * T)) @ W
            size = np.abs(W)
            # k roundings of a sum of products, and of centre² − width² itself
            error[here, here] += gamma(len(W) + 12) * ((size.T * ((centre**2 + width**2) * T)) @ size)
            P[here, after] = -(W.T * (centre * T))
            P[after, here] = P[here, after].T
            error[here, after] += gamma(4) * np.abs(P[here, after])
            error[after, here] = error[here, after].T
            units = np.arange(after.start, after.stop)
            P[units, units] += 2.0 * T
        V = network.weights[-1]
        last = slice(starts[-2], starts[-1])
        P[last, last] -= V.T @ V
        error[last, last] += gamma(len(V) + 4) * (np.abs(V).T @ np.abs(V))
        diagonal = np.arange(len(P))
        error[diagonal, diagonal] += gamma(4) * np.abs(P[diagonal, diagonal])
        if product.any():
            error += gamma(4) * np.abs(P)
    P = 0.5 * (P + P.T)
    # symmetrising, and the bound's own rounding
    return P, (error + 2.0**-52 * np.abs(P)) * (1.0 + 1e-9) + _FLOOR
