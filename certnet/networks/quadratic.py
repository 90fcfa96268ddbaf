r"""The energy of a lifted network as a quadratic function of its activations: ``½ zᵀ H z − q(x)ᵀ z`` and a constant.

H does not depend on x. Its diagonal block k (1 ≤ k ≤ L) is
``γ^{k−1}(I + β_{k−1} W_{k−1} W_{k−1}ᵀ) + [k < L] γᵏ (W_kᵀ W_k + β_k I)``, block (k, k+1) is ``−γᵏ (1 + β_k) W_kᵀ``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy

__all__ = ["hessian", "linear_term"]

_LARGEST: Final = 1e100
"""What entries of H and q may be, so that energies, their squares, are numbers."""


def hessian(net: LiftedEnergy) -> Float:
    """H of all layers, dense (n, n).

    Raises
    ------
    InvalidInputError
        Weights, β or γ so large that an entry is beyond 1e100.
    """
    H = np.zeros((net.n_units, net.n_units))
    with np.errstate(over="ignore", invalid="ignore"):
        _fill(net, H)
    if not np.abs(H).max() <= _LARGEST:
        raise InvalidInputError(
            f"the largest entry of the energy's matrix is {np.abs(H).max():.0e}: weights (up to "
            f"{max(np.abs(W).max() for W in net.weights):.1g}), beta ({max(net.beta):.1g}) or gamma ({net.gamma:.1g}) "
            "leave energies without a usable scale; take them nearer to one"
        )
    return H


def _fill(net: LiftedEnergy, H: Float) -> None:
    for k, (W, here) in enumerate(zip(net.weights, net.layers)):
        weight, beta = net.gamma**k, net.beta[k]
        H[here, here] += weight * (np.eye(len(W)) + (beta * (W @ W.T) if beta else 0.0))
        if k:
            before = net.layers[k - 1]
            H[before, before] += weight * (W.T @ W + beta * np.eye(W.shape[1]))
            H[before, here] = -weight * (1.0 + beta) * W.T
            H[here, before] = H[before, here].T


def linear_term(net: LiftedEnergy, X: Float) -> Float:
    """``q(x)`` for every row of X, shape (N, n): ``(1 + β_0) W_0 x`` in the first block, biases in all.

    Raises
    ------
    InvalidInputError
        Numbers so large that an entry is beyond 1e100.
    """
    q = np.zeros((len(X), net.n_units))
    for k, (W, here) in enumerate(zip(net.weights, net.layers)):
        weight, beta, b, c = net.gamma**k, net.beta[k], net.biases[k], net.reconstruction_biases[k]
        q[:, here] += weight * (b + beta * (W @ c))
        if k:
            q[:, net.layers[k - 1]] -= weight * (W.T @ b + beta * c)
    with np.errstate(over="ignore", invalid="ignore"):
        q[:, net.layers[0]] += (1.0 + net.beta[0]) * (X @ net.weights[0].T)
    if not np.abs(q).max(initial=0.0) <= _LARGEST:
        raise InvalidInputError("X, biases or weights are so large that energies have no usable scale: rescale them")
    return q
