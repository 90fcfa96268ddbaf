r"""The checker of chains: products of bounds of a network's layers, or of pairs of layers. NumPy only.

The weights ``W_0, …, W_ℓ`` are cut into links of one or two matrices. With ``‖W_k‖₂ ≤ s_k`` for a link of one, and
``L(W_{k+1} φ_k(W_k ·)) ≤ u_k`` for a link of two (:mod:`certnet.proofs.shallow`),

    L ≤ Π_links (s_k or u_k) · Π_{φ between links} max|slope|.

Multipliers are one vector per matrix: ``(s_k)`` for a link of one; ``(t_1, …, t_n, u_k)`` and an empty vector for the
two matrices of a link of two, n being the width between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.shallow import ShallowNetwork
from certnet.proofs.shallow import BoundChecker, Verdict, double_below, gamma, is_positive_semidefinite

__all__ = ["ChainChecker", "norm_at_most", "pair"]

_RANGE = 2.0**300


class ChainChecker:
    """A network and the numbers of a chain, prepared to test many bounds.

    Parameters
    ----------
    network : FeedForward
    multipliers : sequence of ℓ + 1 array_like
        See the module's text.
    pairs : bool
        Whether links of two matrices are allowed.

    Attributes
    ----------
    refusal : str or None
        Why no bound follows from these numbers, if so.
    product : float
        The bound that they prove, rounded up.
    """

    def __init__(self, network: FeedForward, multipliers: Sequence[ArrayLike], *, pairs: bool = True) -> None:
        self.product = math.inf
        self.refusal: str | None = None
        try:
            given = [np.array(s, dtype=np.float64) for s in multipliers]
        except (TypeError, ValueError, OverflowError):
            given = []
        if len(given) != len(network.weights) or any(s.ndim != 1 for s in given):
            self.refusal = f"{len(network.weights)} vectors of numbers are needed, one per layer"
            return
        factors: list[float] = []
        k = 0
        while k < len(given) and self.refusal is None:
            matrices = 1 if given[k].size == 1 or not pairs else 2
            factor = self._one(network, k, given[k]) if matrices == 1 else self._two(network, k, given[k : k + 2])
            k += matrices
            factors.append(factor)
            if k < len(given):
                factors.append(max(map(abs, network.activations[k - 1].slopes)))
        if self.refusal is None:
            self.product = _product(factors)

    def _one(self, network: FeedForward, k: int, given: Float) -> float:
        s = float(given[0]) if given.size == 1 else math.nan
        if not 0.0 <= s < _RANGE:
            self.refusal = f"layer {k} needs one non-negative number of reasonable size"
            return math.inf
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = norm_at_most(network.weights[k], s)
        if not proved:
            self.refusal = f"the spectral norm of layer {k} is not proved to be at most {s!r}"
        return s

    def _two(self, network: FeedForward, k: int, given: Sequence[Float]) -> float:
        if len(given) < 2 or given[0].size != len(network.weights[k]) + 1 or given[1].size != 0:
            self.refusal = f"layer {k} needs one number, or one per unit with their bound and none for the next layer"
            return math.inf
        u = float(given[0][-1])
        low, high = network.activations[k].slopes
        verdict = BoundChecker(pair(network, k), given[0][:-1], low=low, high=high).holds(u)
        if not verdict:
            self.refusal = f"layers {k} and {k + 1}: {verdict.reason}"
        return u

    def holds(self, upper: float) -> Verdict:
        """Is ``L ≤ upper`` proved?"""
        if self.refusal is not None:
            return Verdict(False, self.refusal)
        claimed = double_below(upper)
        if claimed is None or not self.product <= claimed < math.inf:
            return Verdict(False, f"the product of the layers' bounds does not prove L <= {str(upper)[:40]}")
        return Verdict(True, f"L <= {upper!r} is proved")


def pair(network: FeedForward, k: int) -> ShallowNetwork:
    """``W_{k+1} φ_k(W_k x + b_k) + b_{k+1}`` with its weights; the activation is left to the slopes."""
    W, V = network.weights[k : k + 2]
    return ShallowNetwork(W, network.biases[k], V, network.biases[k + 1])


def _product(factors: Sequence[float]) -> float:
    product = 1.0
    for factor in factors:
        product = 0.0 if 0.0 in (product, factor) else math.nextafter(product * factor, math.inf)
    return product


def norm_at_most(W: Float, s: float) -> bool:
    """Is ``‖W‖₂ ≤ s`` proved?"""
    top = float(np.abs(W).max())
    if top == 0.0:
        return True
    if s == 0.0:
        return False
    unit = -int(np.frexp(top)[1])
    W, s = np.ldexp(W, unit), float(np.ldexp(s, unit))
    G = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
    terms = max(W.shape)
    square = math.nextafter(s * s, 0.0)
    error = gamma(terms + 4) * float(np.sum(W * W)) + 2.0**-52 * square + 2.0**-900
    S = -0.5 * (G + G.T)
    S[np.diag_indices(len(S))] += square
    return is_positive_semidefinite(S, error)
