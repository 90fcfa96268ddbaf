r"""The programs of many inputs, from one reading of them.

Everything that an inference needs of an input x, beside its product with the first layer, are two numbers, ``‖x‖²`` and
``c_0ᵀ x``: the reconstruction of the inputs enters the energy by ``‖x + c_0‖² = ‖x‖² + 2 c_0ᵀ x + ‖c_0‖²``, and what
rounding does to ``W_0 x`` by ``‖W_0 x‖_∞ ≤ max_i ‖w_i‖ ‖x‖``. Inputs are large, and are neither copied nor read twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.validation import Float, as_inputs
from certnet.kernels.box_descent import squared_norms
from certnet.networks.energy import LiftedEnergy
from certnet.networks.quadratic import linear_term
from certnet.programs.box_qp import BoxQP, assemble, rounding

__all__ = ["Posed", "inputs_of", "pose"]

_ROWS: Final = 128
"""Inputs that are read at a time: they stay in the cache between their square and their product."""
_ORDINARY: Final = 1e90
"""Sizes of inputs and parameters whose products are far from 1e100, which :func:`linear_term` refuses."""


@dataclass(frozen=True, eq=False)
class Posed:
    """``min_z ½ zᵀ H z − qᵀ z`` over a box for N inputs, and what else is known of these.

    Attributes
    ----------
    net : LiftedEnergy
    X : ndarray, shape (N, d)
        As they were given: not to be kept.
    clamp : ndarray, shape (N, n_L), or None
    problem : BoxQP
    q : ndarray, shape (N, n)
    seen : ndarray, shape (N, n_1)
        ``W_0 x``.
    along, squares : ndarray, shape (N,)
        ``c_0ᵀ x`` and ``‖x‖²``.
    """

    net: LiftedEnergy
    X: Float
    clamp: Float | None
    problem: BoxQP
    q: Float
    seen: Float
    along: Float
    squares: Float

    def doubt(self, largest: Float) -> Float:
        """A bound on the 2-norm of what rounding does to ``H z − q``, shape (N,), from the largest |z_i| of each."""
        share = _terms(self.net).share
        return rounding(self.net, (share * np.sqrt(self.squares))[:, None], largest[:, None], self.clamp)


@dataclass(frozen=True, eq=False)
class _Terms:
    """Of a network: c_0 where it plays a part, q at x = 0, the largest parameter, ``max_i ‖w_i‖₂ / max_i ‖w_i‖₁``."""

    shift: Float | None
    constant: Float
    largest: float
    share: float


@lru_cache(maxsize=8)
def _terms(net: LiftedEnergy) -> _Terms:
    W = net.weights[0]
    constant = linear_term(net, np.zeros((1, net.n_inputs)))[0]
    with np.errstate(over="ignore"):
        longest = float(np.abs(W).sum(axis=1).max())
        share = min(1.0, (1.0 + 1e-12) * float(np.linalg.norm(W, axis=1).max()) / longest) if longest else 0.0
    largest = max(float(np.abs(constant).max()), longest * (1.0 + net.beta[0]))
    c = net.reconstruction_biases[0]
    return _Terms(c if net.beta[0] and c.any() else None, constant, largest, share)


def pose(net: LiftedEnergy, X: ArrayLike, clamp: Float | None = None) -> Posed:
    """The programs of all rows of X, free or with ``z_L = clamp``; arrays of floats are not copied.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, numbers beyond 1e100, a clamp that leaves nothing to infer.
    """
    terms = _terms(net)
    inputs = inputs_of(net, X)
    W = net.weights[0]
    seen, squares, along = np.empty((len(inputs), len(W))), np.empty(len(inputs)), np.zeros(len(inputs))
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(inputs), _ROWS):
            here = slice(first, first + _ROWS)
            block = np.asarray(inputs[here], dtype=np.float64)
            squared_norms(block, squares[here])
            np.dot(block, W.T, out=seen[here])
            if terms.shift is not None:
                np.dot(block, terms.shift, out=along[here])
        most = float(squares.max(initial=0.0))
    if not np.sqrt(most) * terms.largest < _ORDINARY or terms.largest > _ORDINARY:
        inputs = as_inputs(X, net.n_inputs)  # NaN, or so large that energies may have no scale
        linear_term(net, inputs)
    problem = assemble(net) if clamp is None else assemble(net, clamped=True)
    q, first_layer = np.empty((len(inputs), problem.n)), slice(0, len(W))
    q[:] = terms.constant[: problem.n]
    np.multiply(seen, 1.0 + net.beta[0], out=q[:, first_layer])
    q[:, first_layer] += terms.constant[first_layer]
    if clamp is not None:  # block (L−1, L) of H, with the output at its value
        q[:, problem.layers[-1]] += net.gamma ** (net.depth - 1) * (1.0 + net.beta[-1]) * (clamp @ net.weights[-1])
    return Posed(net, inputs, clamp, problem, q, seen, along, squares)


def inputs_of(net: LiftedEnergy, X: ArrayLike) -> Float:
    """X itself where it is an array of floats of the right shape, which :func:`pose` checks, else a checked copy."""
    if type(X) is np.ndarray and X.ndim == 2 and X.shape[1] == net.n_inputs and X.dtype in (np.float64, np.float32):
        return X
    return as_inputs(X, net.n_inputs)
