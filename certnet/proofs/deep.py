r"""Proofs for any depth: LipSDP with given multipliers. NumPy only.

For ``x_{k+1} = φ_k(W_k x_k + b_k)``, ``f = W_ℓ x_ℓ + b_ℓ``, slopes of φ_k in [α_k, β_k] and diagonal ``T_k > 0``, one
number per neuron (Fazlyab et al. 2019, LipSDP-neuron; one per layer is the special case ``T_k = τ_k I``),

    P(T, ρ) ⪰ 0   proves   L ≤ √ρ,

with P symmetric and block tridiagonal, block k belonging to x_k:

    P_kk     = [k = 0] ρ I + [k < ℓ] 2 W_kᵀ diag(α_k β_k) T_k W_k + [k ≥ 1] 2 T_{k−1} − [k = ℓ] W_ℓᵀ W_ℓ
    P_k,k+1  = −W_kᵀ diag(α_k + β_k) T_k

Units that cannot move, or move nothing, are left out first: no difference of outputs depends on them. The claim is for
the real-arithmetic network; every entry's rounding error is bounded, and positive semidefiniteness is shown for P as a
whole where it is small (:mod:`certnet.proofs.semidefinite`), else block by block, in Σ n_k³ operations
(:mod:`certnet.proofs.block_semidefinite`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.block_semidefinite import is_block_semidefinite
from certnet.proofs.inflation import inflated
from certnet.proofs.proof import Checker, LayeredProof
from certnet.proofs.rounding import double_below, gamma, shown, sum_and_width
from certnet.proofs.selection import live_units
from certnet.proofs.semidefinite import is_semidefinite_entrywise
from certnet.proofs.subject import Subject

__all__ = ["DeepChecker", "DeepProof"]

# slopes in 2^±200, multipliers in 2^±500 and weights up to 2^350: no product of slopes and multipliers underflows, and
# what underflows against a weight is below the floor of the entries' errors
_RANGE_T = 500
_FLOOR = 2.0**-600
_DENSE_ORDER = 1000  # of P, up to which one factorisation of the whole costs about a tenth of a second


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


@dataclass(frozen=True, eq=False)
class _Blocks:
    """P without ρ, block by block, and bounds on the rounding errors of the entries.

    Attributes
    ----------
    diagonal : list of ndarrays, shapes (n_k, n_k), or (n_k,) for diagonal blocks
    below : list of ndarrays, shapes (n_{k+1}, n_k)
        ``P_{k+1,k}``, whose entries carry two roundings.
    errors : list of ndarrays
        Of the entries of the diagonal blocks.
    """

    diagonal: list[Float]
    below: list[Float]
    errors: list[Float]

    @property
    def order(self) -> int:
        return sum(map(len, self.diagonal))

    @property
    def finite(self) -> bool:
        return all(bool(np.isfinite(part).all()) for part in (*self.diagonal, *self.below, *self.errors))

    def with_rho(self, rho: float) -> _Blocks:
        """P: ρ added to the first block."""
        first, error = self.diagonal[0], self.errors[0]
        if first.ndim == 1:
            first = first + rho
            error = error + 2.0**-52 * (rho + np.abs(first))
        else:
            first, error, inputs = first.copy(), error.copy(), np.arange(len(first))
            first[inputs, inputs] += rho
            error[inputs, inputs] += 2.0**-52 * (rho + np.abs(first[inputs, inputs]))
        return _Blocks([first, *self.diagonal[1:]], self.below, [error, *self.errors[1:]])

    def scaled(self) -> _Blocks:
        """A congruence with powers of two that brings the diagonal to order one, and changes no digit."""
        tops = [np.diagonal(block) if block.ndim == 2 else block for block in self.diagonal]
        units = [-(np.frexp(np.abs(d))[1] // 2) for d in tops]

        def around(block: Float, unit: NDArray[np.int32]) -> Float:
            return np.ldexp(block, 2 * unit) if block.ndim == 1 else np.ldexp(np.ldexp(block, unit[:, None]), unit)

        return _Blocks(
            list(map(around, self.diagonal, units)),
            [np.ldexp(np.ldexp(B, after[:, None]), here) for B, here, after in zip(self.below, units, units[1:])],
            list(map(around, self.errors, units)),
        )

    def dense(self) -> tuple[Float, Float]:
        """P as one matrix, and the errors of its entries."""
        cuts = np.cumsum([0, *map(len, self.diagonal)])
        P, error = np.zeros((cuts[-1], cuts[-1])), np.zeros((cuts[-1], cuts[-1]))
        for k, (block, wrong) in enumerate(zip(self.diagonal, self.errors)):
            here = slice(cuts[k], cuts[k + 1])
            P[here, here] = block if block.ndim == 2 else np.diag(block)
            error[here, here] = wrong if wrong.ndim == 2 else np.diag(wrong)
        for k, B in enumerate(self.below):
            here, after = slice(cuts[k], cuts[k + 1]), slice(cuts[k + 1], cuts[k + 2])
            P[after, here], P[here, after] = B, B.T
            error[after, here] = gamma(4) * np.abs(B)
            error[here, after] = error[after, here].T
        return P, error

    def semidefinite(self) -> bool:
        """Is P proved to be positive semidefinite?"""
        if self.order <= _DENSE_ORDER:
            return is_semidefinite_entrywise(*self.dense())
        blocks = self.scaled()
        norms = [float(np.linalg.norm(error)) * (1.0 + 1e-9) for error in blocks.errors]
        off = [gamma(6) * float(np.linalg.norm(B)) for B in blocks.below]
        return blocks.finite and is_block_semidefinite(blocks.diagonal, blocks.below, norms, off)


class DeepChecker(Checker):
    """A network and one vector of multipliers per hidden layer, prepared to test many bounds.

    Parameters
    ----------
    network : Network
    multipliers : sequence of ℓ array_like, shapes (n_{k+1},)
        Positive and finite; those of units that cannot move, or move nothing, do not matter.
    """

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike]) -> None:
        alive = live_units(network.weights)
        self.refusal = _refusal(network, multipliers, alive)
        self._still = not all(units.any() for units in alive)
        self._blocks: _Blocks | None = None
        if self.refusal is None and not self._still:
            self._blocks = _assembled(network, [np.asarray(t, dtype=np.float64) for t in multipliers], alive)
            if not self._blocks.finite:
                self.refusal = "the weights or multipliers are too large to be verified"

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved. A Cholesky factorisation of order n_k of every layer, at most."""
        claimed = double_below(upper)
        if claimed is None or not 0.0 < claimed < 2.0**500:
            return f"the bound {shown(upper)} is not a positive number of reasonable size"
        if self._blocks is None:  # no input moves an output
            return None
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = self._blocks.with_rho(math.nextafter(claimed * claimed, 0.0)).semidefinite()
        return None if proved else f"the multipliers do not prove L <= {upper!r}"

    def smallest(self, guess: float) -> float | None:
        if self.refusal is not None:
            return None
        first = 1e-13
        if self._blocks is not None and self._blocks.order > _DENSE_ORDER:
            # what rounding charges grows with the order: smaller steps than that need not be tried
            first = 4.0 * gamma(max(map(len, self._blocks.diagonal))) * self._blocks.order
        return inflated(self.holds, guess, first=first)


def _refusal(network: Network, multipliers: Sequence[ArrayLike], alive: Sequence[NDArray[np.bool_]]) -> str | None:
    if len(multipliers) != network.depth:
        return f"there are multipliers for {len(multipliers)} layers, the network has {network.depth} hidden layers"
    for k, (given, n, live) in enumerate(zip(multipliers, network.widths[1:-1], alive[1:])):
        try:
            t = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return f"the multipliers of layer {k} are not numbers"
        if t.shape != (n,):
            return f"layer {k} has {n} units and multipliers of shape {t.shape}"
        t = t[live]
        if not (np.isfinite(t).all() and np.all(t > 0.0)):
            return f"a multiplier of layer {k} is not positive and finite"
        if t.size and not (t.min() >= 2.0**-_RANGE_T and t.max() <= 2.0**_RANGE_T):
            return f"a multiplier of layer {k} is too small or too large to be verified"
    for k, phi in enumerate(network.activations):
        if any(s != 0.0 and not 2.0**-200 <= abs(s) <= 2.0**200 for s in phi.slopes):
            return f"a slope of layer {k} is too small or too large to be verified"
    if any(np.abs(W).max() > 2.0**350 for W in network.weights):
        return "the weights are too large to be verified"
    return None


def _assembled(network: Network, multipliers: Sequence[Float], alive: Sequence[NDArray[np.bool_]]) -> _Blocks:
    """P without ρ, of the live units, and a bound on the rounding error of every entry."""
    weights = [W[np.ix_(after, here)] for W, here, after in zip(network.weights, alive, alive[1:])]
    diagonal: list[Float] = [np.zeros(W.shape[1]) for W in weights]
    errors: list[Float] = [np.zeros(W.shape[1]) for W in weights]
    below: list[Float] = []
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for k, (W, t, units, phi) in enumerate(zip(weights, multipliers, alive[1:], network.activations)):
            T = t[units]
            centre, width = sum_and_width(*(np.full(len(T), s) for s in phi.slopes))
            # P_{k+1,k} = −(α + β) T W, and 2 T on the diagonal of the block of x_{k+1}
            below.append(-((centre * T)[:, None] * W))
            diagonal[k + 1] = 2.0 * T
            errors[k + 1] = gamma(4) * diagonal[k + 1]
            product = 0.5 * (centre**2 - width**2)  # 2 α β, with the slopes that centre and width stand for
            if (centre != width).any():
                size = np.abs(W)
                bend = (W.T * (product * T)) @ W
                # k roundings of a sum of products, and of centre² − width² itself
                doubt = gamma(len(W) + 16) * ((size.T * ((centre**2 + width**2) * T)) @ size)
                diagonal[k], errors[k] = _added(diagonal[k], errors[k], bend, doubt)
        V = weights[-1]
        # the last block loses VᵀV
        doubt = gamma(len(V) + 8) * (np.abs(V).T @ np.abs(V))
        diagonal[-1], errors[-1] = _added(diagonal[-1], errors[-1], -(V.T @ V), doubt)
        # symmetrising, and the bounds' own rounding
        diagonal = [block if block.ndim == 1 else 0.5 * (block + block.T) for block in diagonal]
        errors = [(error + gamma(4) * np.abs(block)) * (1.0 + 1e-9) + _FLOOR for error, block in zip(errors, diagonal)]
    return _Blocks(diagonal, below, errors)


def _added(block: Float, error: Float, term: Float, doubt: Float) -> tuple[Float, Float]:
    """A full matrix added to a block that is diagonal so far, and the same of their errors."""
    total = term + np.diag(block)
    return total, doubt + np.diag(error) + gamma(4) * np.diag(np.abs(np.diagonal(total)))
