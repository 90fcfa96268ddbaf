r"""Proofs for any depth: LipSDP with given multipliers. NumPy only.

For ``x_{k+1} = φ_k(W_k x_k + b_k)``, ``f = W_ℓ x_ℓ + b_ℓ``, slopes of φ_k in [α_k, β_k] and diagonal ``T_k > 0``, one
number per neuron (Fazlyab et al. 2019, LipSDP-neuron; one per layer is the special case ``T_k = τ_k I``),

    P(T, ρ) ⪰ 0   proves   L ≤ √ρ,

with P symmetric and block tridiagonal, block k belonging to x_k:

    P_kk     = [k = 0] ρ I + [k < ℓ] 2 W_kᵀ diag(α_k β_k) T_k W_k + [k ≥ 1] 2 T_{k−1} − [k = ℓ] W_ℓᵀ W_ℓ
    P_k,k+1  = −W_kᵀ diag(α_k + β_k) T_k

Units that cannot move, or move nothing, are left out first: no difference of outputs depends on them. The claim is for
the real-arithmetic network; every entry's rounding error is bounded, and positive semidefiniteness is shown for P as a
whole (:mod:`certnet.proofs.semidefinite`). Where it is large, or P cannot be formed (units that are carried past an
activation), the same multipliers are checked layer by layer in Σ n_k³ operations (:mod:`certnet.proofs.storage`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.proof import Checker, LayeredProof, MultiplierChecker
from certnet.proofs.rounding import gamma, sum_and_width
from certnet.proofs.selection import live_units
from certnet.proofs.semidefinite import is_semidefinite_entrywise
from certnet.proofs.storage import StorageChecker
from certnet.proofs.subject import Subject

__all__ = ["DeepChecker", "DeepProof", "DeepSupProof", "deep_checker"]

# slopes in 2^±200, multipliers in 2^±500 and weights up to 2^350: no product of slopes and multipliers underflows, and
# what underflows against a weight is below the floor of the entries' errors
_RANGE_T = 500
_FLOOR = 2.0**-600
_SMALL_ORDER = 300  # of P, up to which one factorisation of the whole takes about as long as layer by layer
_LARGEST_ORDER = 1000  # beyond which it takes too long to be tried


@register("feed-forward", "neuron")
@register("feed-forward", "layer")
class DeepProof(LayeredProof):
    """One vector T_k of multipliers per hidden layer: free, or the same for all units of a layer.

    Networks of matrices are without their linear layers here; where there are structured operators, or units that are
    carried past an activation, T_k is of the units that bend, and empty for linear layers.
    """

    KIND: ClassVar[str] = "neuron"
    FOLDED: ClassVar[bool] = True
    STRUCTURED: ClassVar[bool] = True

    def checker(self, subject: Subject) -> Checker | None:
        if subject.claim.norm != "l2":
            return None
        return deep_checker(subject.folded, self.multipliers)


@register("feed-forward", "neuron", "linf")
class DeepSupProof(LayeredProof):
    """The same in the maximum norm, with the weights μ (d,) of the inputs as the last vector."""

    KIND: ClassVar[str] = "neuron"
    FOLDED: ClassVar[bool] = True
    STRUCTURED: ClassVar[bool] = True

    def checker(self, subject: Subject) -> Checker | None:
        if subject.claim.norm != "linf" or not len(self.multipliers):
            return None
        return StorageChecker(subject.folded, self.multipliers[:-1], self.multipliers[-1])


def deep_checker(network: Network, multipliers: Sequence[ArrayLike]) -> Checker:
    """P as a whole where it is small, layer by layer (:mod:`certnet.proofs.storage`) where it is large."""
    order, bends = sum(network.widths[:-1]), all(low < high for low, high in network.slopes)
    if network.structured or not bends or order > _LARGEST_ORDER:
        return StorageChecker(network, multipliers)
    return DeepChecker(network, multipliers) if order <= _SMALL_ORDER else _Either(network, multipliers)


class _Either(Checker):
    """Layer by layer first; as a whole, which charges less to rounding, where that does not do."""

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike]) -> None:
        self._whole = partial(DeepChecker, network, multipliers)
        self._layers = StorageChecker(network, multipliers)

    def objection(self, upper: object) -> str | None:
        if self._layers.holds(upper):
            return None
        verdict = self._whole().holds(upper)
        return None if verdict else verdict.reason

    def smallest(self, guess: float) -> float | None:
        found = self._layers.smallest(guess)
        return self._whole().smallest(guess) if found is None else found


@dataclass(frozen=True, eq=False)
class _Matrix:
    """P without ρ, and bounds on the rounding errors of its entries."""

    P: Float
    error: Float
    n_inputs: int

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.P).all() and np.isfinite(self.error).all())

    def proves(self, claimed: float) -> bool:
        """Is P, with ρ = claimed² added to the first block, proved to be positive semidefinite?"""
        rho = math.nextafter(claimed * claimed, 0.0)
        P, error, inputs = self.P.copy(), self.error.copy(), np.arange(self.n_inputs)
        P[inputs, inputs] += rho
        error[inputs, inputs] += 2.0**-52 * (rho + np.abs(P[inputs, inputs]))
        return is_semidefinite_entrywise(P, error)


class DeepChecker(MultiplierChecker):
    """A network and one vector of multipliers per hidden layer, prepared to test many bounds.

    Parameters
    ----------
    network : Network
    multipliers : sequence of ℓ array_like, shapes (n_{k+1},)
        Positive and finite; those of units that cannot move, or move nothing, do not matter.
    """

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike]) -> None:
        alive = live_units(network.layers)
        self.refusal: str | None = _refusal(network, multipliers, alive)
        if self.refusal is None and all(units.any() for units in alive):  # else no input moves an output
            matrix = _assembled(network, [np.asarray(t, dtype=np.float64) for t in multipliers], alive)
            self.proves: Callable[[float], bool] | None = matrix.proves
            if not matrix.finite:
                self.refusal = "the weights or multipliers are too large to be verified"


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


def _assembled(network: Network, multipliers: Sequence[Float], alive: Sequence[NDArray[np.bool_]]) -> _Matrix:
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
    return _Matrix(*_dense(diagonal, below, errors), len(diagonal[0]))


def _dense(diagonal: Sequence[Float], below: Sequence[Float], errors: Sequence[Float]) -> tuple[Float, Float]:
    """P as one matrix from its blocks, vectors being diagonal ones, and the errors of its entries."""
    cuts = np.cumsum([0, *map(len, diagonal)])
    P, error = np.zeros((cuts[-1], cuts[-1])), np.zeros((cuts[-1], cuts[-1]))
    for k, (block, wrong) in enumerate(zip(diagonal, errors)):
        here = slice(cuts[k], cuts[k + 1])
        P[here, here] = block if block.ndim == 2 else np.diag(block)
        error[here, here] = wrong if wrong.ndim == 2 else np.diag(wrong)
    for k, B in enumerate(below):
        here, after = slice(cuts[k], cuts[k + 1]), slice(cuts[k + 1], cuts[k + 2])
        P[after, here], P[here, after] = B, B.T
        # the entries below the diagonal carry two roundings
        error[after, here] = gamma(4) * np.abs(B)
        error[here, after] = error[after, here].T
    return P, error


def _added(block: Float, error: Float, term: Float, doubt: Float) -> tuple[Float, Float]:
    """A full matrix added to a block that is diagonal so far, and the same of their errors."""
    total = term + np.diag(block)
    return total, doubt + np.diag(error) + gamma(4) * np.diag(np.abs(np.diagonal(total)))
