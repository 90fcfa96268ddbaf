"""Chains of bounds for networks of any depth: products over layers, or over the best mix of layers and pairs."""

from __future__ import annotations

import math

import numpy as np

from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.chain import pair
from certnet.proofs.inflation import inflated
from certnet.proofs.semidefinite import norm_at_most
from certnet.proofs.shallow import BoundChecker
from certnet.searches.shallow import largest_eigenvalue, search_multipliers

__all__ = ["compose", "product_norms", "spectral_norm"]

_NOTHING = np.zeros(0)


def spectral_norm(W: Float) -> float:
    """``‖W‖₂`` in floating point, from the Gram matrix of the smaller side."""
    top = float(np.abs(W).max(initial=0.0))
    if top == 0.0:
        return 0.0
    scaled = W / top
    gram = scaled @ scaled.T if W.shape[0] <= W.shape[1] else scaled.T @ scaled
    return top * math.sqrt(max(largest_eigenvalue(gram), 0.0))


def proved_norm(W: Float) -> float:
    """A number just above ``‖W‖₂`` such that the checker proves it, or twice the guess where none is proved."""
    s = spectral_norm(W)
    with np.errstate(all="ignore"):  # what overflows is refused by the checker
        proved = inflated(lambda bound: norm_at_most(W, bound), s)
    return 2.0 * s if proved is None else proved


def product_norms(network: Network) -> tuple[Float, ...]:
    """Numbers s_k just above ‖W_k‖₂, such that the checker proves them."""
    return tuple(np.array([proved_norm(W)]) for W in network.weights)


def compose(
    network: Network, *, tol: float = 1e-6, max_iterations: int = 2000, until: Until = FOREVER
) -> tuple[Float, ...]:
    """The chain of least product over layers and pairs of layers, as the checker's multipliers.

    Every layer's spectral norm and every pair's LipSDP bound is found once; the best way to cut the network into links
    is a shortest path. Pairs that come after the end of the time are left out.
    """
    norms = product_norms(network)
    steepest = [layer.steepest for layer in network.layers]
    n = len(norms)
    pairs = [_pair(network, k, tol, max_iterations, until) for k in range(n - 1)]
    # best[k]: the least product of links that cover the matrices from k on, activations between them included
    best = [math.inf] * n + [1.0]
    two = [False] * n
    for k in reversed(range(n)):
        one_link = float(norms[k][0]) * (steepest[k] if k + 1 < n else 1.0) * best[k + 1]
        best[k] = one_link
        if k + 1 < n:
            u = float(pairs[k][-1])
            pair_link = u * (steepest[k + 1] if k + 2 < n else 1.0) * best[k + 2]
            if pair_link < one_link:
                best[k], two[k] = pair_link, True
    chain: list[Float] = []
    while len(chain) < n:
        k = len(chain)
        chain += [pairs[k], _NOTHING] if two[k] else [norms[k]]
    return tuple(chain)


def _pair(network: Network, k: int, tol: float, max_iterations: int, until: Until) -> Float:
    """``(t, u)`` of the layers k and k + 1, u proved; u is infinite where nothing is."""
    low, high = network.activations[k].slopes
    layer = pair(network, k)
    if until.reached is not None:
        return np.append(np.zeros(layer.n_hidden), math.inf)
    found = search_multipliers(layer, low=low, high=high, tol=tol, max_iterations=max_iterations, until=until)
    upper = BoundChecker(layer, found.multipliers, low=low, high=high).smallest(found.upper)
    return np.append(found.multipliers, math.inf if upper is None else upper)
