"""Lifted networks of every kind, and their energy written out in loops: what the tests of lifted networks share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from certnet.lifted import LiftedNetwork

__all__ = ["BANK", "backward_of", "box_kinds", "by_loops", "forward_of", "instance", "random_network"]

GAMMAS = (1 / 8, 1.0, 3.0)


def box_kinds(n: int, kind: str, rng: np.random.Generator) -> object:
    """Units of a layer by the name of the kind; "box" mixes finite, half-infinite, unlimited and degenerate ones."""
    if kind != "box":
        return kind
    low = rng.normal(size=n) - 0.5
    high = low + rng.uniform(0.1, 2.0, size=n)
    which = (np.arange(n) + rng.integers(5)) % 5
    low[(which == 1) | (which == 3)] = -np.inf
    high[(which == 2) | (which == 3)] = np.inf
    high[which == 4] = low[which == 4]
    return low, high


def random_network(
    sizes: tuple[int, ...],
    units: list[str],
    *,
    beta: object = 1.0,
    gamma: float = 1.0,
    seed: int = 0,
    biases: bool = True,
) -> LiftedNetwork:
    rng = np.random.default_rng(seed)
    Ws = [rng.normal(size=(h, d)) * 1.3 / np.sqrt(d) for d, h in pairwise(sizes)]
    b = [0.5 * rng.normal(size=len(W)) for W in Ws] if biases else None
    c = [0.5 * rng.normal(size=W.shape[1]) for W in Ws] if biases else None
    boxes = [box_kinds(n, kind, rng) for n, kind in zip(sizes[1:], units)]
    return LiftedNetwork(Ws, b, c, beta=beta, gamma=gamma, units=boxes)  # type: ignore[arg-type]


def instance(number: int, *, n: int = 4) -> tuple[LiftedNetwork, np.ndarray, np.ndarray]:
    """Network ``number`` of the bank, n inputs, and clamps for them: all kinds of units, β, γ, depths and widths."""
    rng = np.random.default_rng(1000 + number)
    depth = 1 + number % 4
    sizes = tuple(int(s) for s in rng.integers(1, 13, size=depth + 1))
    kinds = ("linear", "relu", "hard_sigmoid", "box")
    units = [kinds[(number // 4 + k) % 4] for k in range(depth)]
    beta = ([0.0] * depth, [1.0] * depth, [(0.0, 0.7)[k % 2] for k in range(depth)], list(rng.uniform(0, 2, depth)))
    net = random_network(
        sizes,
        units,
        beta=beta[(number + number // 4) % 4],
        gamma=GAMMAS[number % 3],
        seed=number,
        biases=number % 5 != 0,
    )
    X = rng.normal(size=(n, sizes[0]))
    clamp = np.clip(rng.normal(size=(n, sizes[-1])), net.lower[-1], net.upper[-1])
    return net, X, clamp


BANK = range(32)


def forward_of(net: LiftedNetwork, k: int, below: np.ndarray, above: np.ndarray) -> Iterator[float]:
    """The entries of ``z_{k+1} − W_k z_k − b_k``."""
    W = net.weights[k]
    for i in range(W.shape[0]):
        yield above[i] - sum(W[i, j] * below[j] for j in range(W.shape[1])) - net.biases[k][i]


def backward_of(net: LiftedNetwork, k: int, below: np.ndarray, above: np.ndarray) -> Iterator[float]:
    """The entries of ``W_kᵀ z_{k+1} − z_k − c_k``."""
    W = net.weights[k]
    for j in range(W.shape[1]):
        yield sum(W[i, j] * above[i] for i in range(W.shape[0])) - below[j] - net.reconstruction_biases[k][j]


def by_loops(net: LiftedNetwork, x: np.ndarray, layers: list[np.ndarray]) -> float:
    """``E(z; x)`` of one sample, term by term."""
    z, total = [x, *layers], 0.0
    for k in range(len(net.weights)):
        forward = sum(r * r for r in forward_of(net, k, z[k], z[k + 1]))
        backward = sum(r * r for r in backward_of(net, k, z[k], z[k + 1]))
        total += 0.5 * net.gamma**k * (forward + net.beta[k] * backward)
    return float(total)
