r"""Energies from what an inference has at hand already: no second product with the weights of the first layer.

    E(z; x) = E(0; x) + ½ zᵀ(g − q),   g = H z − q

``W_0 x`` is read off q. Where the terms cancel, the energy is summed up from its residuals instead.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.networks.quadratic import linear_term

__all__ = ["energies"]

_CANCELLED = 1e-6
"""Below this share of the largest term an energy is computed anew: ten digits are right."""


def energies(net: LiftedEnergy, X: Float, q: Float, z: Float, g: Float, clamp: Float | None) -> Float:
    """``E(z; x)`` of every sample, shape (N,).

    Parameters
    ----------
    X : ndarray, shape (N, d)
    q, z, g : ndarray, shapes (N, n)
        Of the program that :func:`~certnet.programs.box_qp.posed` gives: linear terms, a point, and ``H z − q``.
    clamp : ndarray, shape (N, n_L), or None
        Of the same program.
    """
    rest = _at_rest(net, X, _seen(net, q, clamp), clamp)
    with np.errstate(over="ignore", invalid="ignore"):
        linear = np.einsum("ij,ij->i", z, q)
        found = rest + 0.5 * (np.einsum("ij,ij->i", z, g) - linear)
    again = np.flatnonzero(~(found >= _CANCELLED * np.maximum(rest, np.abs(linear))))
    if again.size:
        whole = z[again] if clamp is None else np.concatenate([z[again], clamp[again]], axis=1)
        found[again] = net.energy(X[again], whole)
    return found


def _seen(net: LiftedEnergy, q: Float, clamp: Float | None) -> Float:
    """``W_0 x``, shape (N, n_1), from the first block of q."""
    first = net.layers[0]
    product = q[:, first] - linear_term(net, np.zeros((1, net.n_inputs)))[:, first]
    if clamp is not None and net.depth == 2:  # the clamp enters through the last layer that is left: the first one
        product -= net.gamma * (1.0 + net.beta[1]) * (clamp @ net.weights[1])
    product /= 1.0 + net.beta[0]
    return product


def _at_rest(net: LiftedEnergy, X: Float, seen: Float, clamp: Float | None) -> Float:
    """``E`` with z_1 … z_{L−1} zero, and z_L zero or at the clamp, shape (N,)."""
    total = _squares(seen + net.biases[0])
    if net.beta[0]:
        total += net.beta[0] * _squares(X + net.reconstruction_biases[0])
    for k in range(1, net.depth):
        b, c = net.biases[k][None], net.reconstruction_biases[k][None]
        if clamp is not None and k == net.depth - 1:
            b, c = b - clamp, c - clamp @ net.weights[k]
        total += net.gamma**k * (_squares(b) + net.beta[k] * _squares(c))
    return 0.5 * total


def _squares(rows: Float) -> Float:
    return np.einsum("ij,ij->i", rows, rows)
