r"""H and q(x) of a lifted network with a bound on the rounding error of every entry. NumPy only, for the checkers.

    H_kk    = γ^{k−1} (I + β_{k−1} W_{k−1} W_{k−1}ᵀ) + [k < L] γᵏ (W_kᵀ W_k + β_k I),   H_k,k+1 = −γᵏ (1 + β_k) W_kᵀ
    q_1(x)  = (1 + β_0) W_0 x + …

Errors are those of sums of products, ``γ_k`` times the sum of the absolute terms, as in :mod:`certnet.proofs.rounding`.
"""

from __future__ import annotations

import numpy as np

from certnet.claims.claim import Output
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.rounding import gamma

__all__ = [
    "FLOOR",
    "hessian_charged",
    "layer_weights",
    "linear_term_charged",
    "moving",
    "out_of_range",
    "selector",
    "unlimited",
]

_RANGE = 2.0**150
FLOOR = 2.0**-550
"""More than what may underflow in a few products of numbers in the range that is verified."""


def layer_weights(net: LiftedEnergy) -> list[float]:
    """``γ⁰, …, γ^{L−1}`` by repeated products: γᵏ is wrong by k roundings at most."""
    weights = [1.0]
    for _ in range(net.depth - 1):
        weights.append(weights[-1] * net.gamma)
    return weights


def out_of_range(net: LiftedEnergy) -> str | None:
    """Why nothing that rests on H can be verified, if so: numbers beyond 2^±150 are."""
    sizes = [*net.weights, np.array(net.beta), np.array(layer_weights(net))]
    if any(np.abs(values).max() > _RANGE for values in sizes):
        return "the weights, beta or powers of gamma are too large to be verified"
    if min(layer_weights(net)) < 1.0 / _RANGE:
        return "a power of gamma is too small to be verified"
    return None


def moving(net: LiftedEnergy) -> np.ndarray:
    """Which units can move at all, shape (n,): lower < upper."""
    return np.asarray(np.concatenate(net.lower) < np.concatenate(net.upper))


def unlimited(net: LiftedEnergy) -> np.ndarray:
    """Which units have no limit on either side, shape (n,): their stationarity is an equation."""
    return np.isneginf(np.concatenate(net.lower)) & np.isposinf(np.concatenate(net.upper))


def selector(net: LiftedEnergy, output: Output) -> Float:
    """S, shape (n, m): ``Sᵀ z`` are the outputs, the output i, or ``z_i − z_j``."""
    last = net.layers[-1].start
    if output is None:
        return np.eye(net.n_units)[:, last:]
    S = np.zeros((net.n_units, 1))
    for i, sign in zip(output, (1.0, -1.0)):
        S[last + i] = sign
    return S


def hessian_charged(net: LiftedEnergy) -> tuple[Float, Float]:
    """H (n, n), symmetric, and a bound on the rounding error of every entry."""
    H = np.zeros((net.n_units, net.n_units))
    size = np.zeros_like(H)  # sums of the absolute terms
    most = 0
    for k, (W, here, weight, beta) in enumerate(zip(net.weights, net.layers, layer_weights(net), net.beta)):
        most = max(most, *W.shape)
        own = weight * np.eye(len(W)) + (weight * beta) * (W @ W.T)
        H[here, here] += own
        size[here, here] += weight * np.eye(len(W)) + (weight * beta) * (np.abs(W) @ np.abs(W).T)
        if k:
            before = net.layers[k - 1]
            H[before, before] += weight * (W.T @ W) + (weight * beta) * np.eye(W.shape[1])
            size[before, before] += weight * (np.abs(W).T @ np.abs(W)) + (weight * beta) * np.eye(W.shape[1])
            H[before, here] = (-weight * (1.0 + beta)) * W.T
            H[here, before] = H[before, here].T
            size[before, here] = np.abs(H[before, here])
            size[here, before] = size[before, here].T
    H = 0.5 * (H + H.T)
    return H, gamma(most + net.depth + 16) * size + FLOOR


def linear_term_charged(net: LiftedEnergy, x: Float) -> tuple[Float, Float]:
    """``q(x)`` (n,) and a bound on the rounding error of every entry."""
    q = np.zeros(net.n_units)
    size = np.zeros_like(q)
    most = 0
    for k, (W, here, weight, beta) in enumerate(zip(net.weights, net.layers, layer_weights(net), net.beta)):
        b, c = net.biases[k], net.reconstruction_biases[k]
        most = max(most, *W.shape)
        q[here] += weight * (b + beta * (W @ c))
        size[here] += weight * (np.abs(b) + beta * (np.abs(W) @ np.abs(c)))
        if k:
            before = net.layers[k - 1]
            q[before] -= weight * (W.T @ b + beta * c)
            size[before] += weight * (np.abs(W).T @ np.abs(b) + beta * np.abs(c))
    first = net.layers[0]
    q[first] += (1.0 + net.beta[0]) * (net.weights[0] @ x)
    size[first] += (1.0 + net.beta[0]) * (np.abs(net.weights[0]) @ np.abs(x))
    return q, gamma(most + net.depth + 16) * size + FLOOR
