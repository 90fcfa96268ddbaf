r"""Proofs by chains: products of bounds of a network's layers, or of pairs of layers. NumPy only.

The weights ``W_0, …, W_ℓ`` are cut into links of one or two matrices. With ``‖W_k‖₂ ≤ s_k`` for a link of one, and
``L(W_{k+1} φ_k(W_k ·)) ≤ u_k`` for a link of two (:mod:`certnet.proofs.shallow`),

    L ≤ Π_links (s_k or u_k) · Π_{φ between links} max|slope|.

Multipliers are one vector per matrix: ``(s_k)`` for a link of one; ``(t_1, …, t_n, u_k)`` and an empty vector for the
two matrices of a link of two, n being the width between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.hidden import HiddenWeights
from certnet.networks.network import Network
from certnet.proofs.proof import Checker, LayeredProof, ProductChecker
from certnet.proofs.rounding import product_above
from certnet.proofs.semidefinite import norm_at_most
from certnet.proofs.shallow import BoundChecker
from certnet.proofs.subject import Subject

__all__ = ["ChainChecker", "CompositionProof", "ProductProof", "pair"]

_RANGE = 2.0**300


@register("feed-forward", "composition")
class CompositionProof(LayeredProof):
    """Bounds of layers and of pairs of layers, whose product is the bound: one vector of numbers per matrix."""

    KIND: ClassVar[str] = "composition"

    def checker(self, subject: Subject) -> Checker | None:
        return _checker(subject, self.multipliers, pairs=True)


@register("feed-forward", "product")
class ProductProof(LayeredProof):
    """Spectral norms of the layers, whose product is the bound."""

    KIND: ClassVar[str] = "product"

    def checker(self, subject: Subject) -> Checker | None:
        return _checker(subject, self.multipliers, pairs=False)


def _checker(subject: Subject, multipliers: Sequence[Float], *, pairs: bool) -> Checker | None:
    if subject.claim.norm != "l2":
        return None
    return ChainChecker(subject.chosen, multipliers, pairs=pairs)


class ChainChecker(ProductChecker):
    """A network and the numbers of a chain, prepared to test many bounds.

    Parameters
    ----------
    network : Network
    multipliers : sequence of ℓ + 1 array_like
        See the module's text.
    pairs : bool
        Whether links of two matrices are allowed.

    """

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike], *, pairs: bool = True) -> None:
        try:
            given = [np.array(s, dtype=np.float64) for s in multipliers]
        except (TypeError, ValueError, OverflowError):
            given = []
        if len(given) != len(network.weights) or any(s.ndim != 1 for s in given):
            self.refusal: str | None = f"{len(network.weights)} vectors of numbers are needed, one per layer"
            return
        product, k = 1.0, 0
        while k < len(given) and self.refusal is None:
            matrices = 1 if given[k].size == 1 or not pairs else 2
            factor = self._one(network, k, given[k]) if matrices == 1 else self._two(network, k, given[k : k + 2])
            k += matrices
            product = product_above(product, factor)
            if k < len(given):
                product = product_above(product, network.layers[k - 1].steepest)
        if self.refusal is None:
            self.product = product

    def _one(self, network: Network, k: int, given: Float) -> float:
        s = float(given[0]) if given.size == 1 else math.nan
        if not 0.0 <= s < _RANGE:
            self.refusal = f"layer {k} needs one non-negative number of reasonable size"
            return math.inf
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = norm_at_most(network.weights[k], s)
        if not proved:
            self.refusal = f"the spectral norm of layer {k} is not proved to be at most {s!r}"
        return s

    def _two(self, network: Network, k: int, given: Sequence[Float]) -> float:
        if len(given) < 2 or given[0].size != len(network.weights[k]) + 1 or given[1].size != 0:
            self.refusal = f"layer {k} needs one number, or one per unit with their bound and none for the next layer"
            return math.inf
        u = float(given[0][-1])
        low, high = network.activations[k].slopes
        verdict = BoundChecker(pair(network, k), given[0][:-1], low=low, high=high).holds(u)
        if not verdict:
            self.refusal = f"layers {k} and {k + 1}: {verdict.reason}"
        return u


def pair(network: Network, k: int) -> HiddenWeights:
    """``W_{k+1} φ_k(W_k x + b_k)``; the activation is left to the slopes."""
    return HiddenWeights(network.weights[k], network.biases[k], network.weights[k + 1])
