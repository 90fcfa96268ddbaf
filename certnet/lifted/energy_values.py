r"""Energies from what an inference has at hand already: no second product with the weights of the first layer.

    E(z; x) = E(0; x) + ½ zᵀ(g − q),   g = H z − q
    E(0; x) = ½ ( ‖W_0 x + b_0‖² + β_0 (‖x‖² + 2 c_0ᵀ x + ‖c_0‖²) ) + terms of the biases, and of the clamp

Where the terms cancel, the energy is summed up from its residuals instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from certnet.core.validation import Float
from certnet.lifted.posing import Posed

__all__ = ["energies"]

_CANCELLED = 1e-6
"""Below this share of the largest term an energy is computed anew: ten digits are right."""


def energies(given: Posed, z: Float, curved: Float, linear: Float) -> Float:
    """``E(z; x)`` of every sample, shape (N,).

    Parameters
    ----------
    given : Posed
    z : ndarray, shape (N, n)
    curved, linear : ndarray, shape (N,)
        ``zᵀ (H z − q)`` and ``zᵀ q``.
    """
    net, clamp = given.net, given.clamp
    with np.errstate(over="ignore", invalid="ignore"):
        rest, largest = _at_rest(given)
        found = rest + 0.5 * (curved - linear)
        again = np.flatnonzero(~(found >= _CANCELLED * np.maximum(largest, np.abs(linear))))
    if again.size:
        whole = z[again] if clamp is None else np.concatenate([z[again], clamp[again]], axis=1)
        found[again] = net.energy(given.X[again], whole)
    return found


def _at_rest(given: Posed) -> tuple[Float, Float]:
    """``E`` with z_1 … z_{L−1} zero, and z_L zero or at the clamp, and the size of its terms, both (N,)."""
    net, clamp = given.net, given.clamp
    total = _squares(given.seen + net.biases[0])
    size = total
    if net.beta[0]:
        c = net.reconstruction_biases[0]
        own = given.squares + c @ c
        total = total + net.beta[0] * (own + 2.0 * given.along)
        size = size + net.beta[0] * own
    rest: Any = 0.0
    for k, (b, c) in enumerate(zip(net.biases[1:], net.reconstruction_biases[1:]), start=1):
        if clamp is not None and k == net.depth - 1:
            parts = _squares(b - clamp) + net.beta[k] * _squares(c - clamp @ net.weights[k])
        else:
            parts = b @ b + net.beta[k] * (c @ c)
        rest = rest + net.gamma**k * parts
    return 0.5 * (total + rest), 0.5 * (size + rest)


def _squares(rows: Float) -> Float:
    return np.einsum("ij,ij->i", rows, rows)
