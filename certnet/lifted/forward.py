r"""One pass in place of a minimisation, with what it costs in accuracy.

    x_0 = x,   x_{k+1} = argmin_{z ∈ C_{k+1}}  ½ ‖z − W_k x_k − b_k‖² + (β_k / 2) ‖W_kᵀ z − x_k − c_k‖²

is what the activations tend to as γ → 0 (Zach and Estellers 2019, section 4). For β_k = 0 a layer is
``Π(W_k x_k + b_k)``. It is measured like any other inference: the layers above have not been heard.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import CertnetWarning
from certnet.core.validation import Float, positive_number
from certnet.lifted.inference import Inference, measured
from certnet.lifted.posing import Posed, pose
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits, solver_named

__all__ = ["forward_pass"]

_TOL = 1e-7
"""Natural residual of the layers that reconstruct."""


def forward_pass(net: LiftedEnergy, X: ArrayLike, *, reconstruct: bool = True, tol: float = 1e-6) -> Inference:
    """Activations of every row of X by one pass through the layers, each alone, with residual and error bound.

    Parameters
    ----------
    net : LiftedEnergy
    X : array_like, shape (N, d)
    reconstruct : bool
        False leaves β out, and the pass is that of an ordinary network: one product to a layer. With β > 0 that is
        another network than the one that was trained.
    tol : float
        Natural residual below which a sample counts as solved; others are MAX_ITERATIONS.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, numbers beyond 1e100.

    Warns
    -----
    CertnetWarning
        ``reconstruct`` is False and a layer has β > 0.
    """
    rebuilt = [beta for beta in net.beta if beta > 0.0]
    if rebuilt and not reconstruct:
        warnings.warn(
            f"the pass leaves reconstruction out, and beta is up to {max(rebuilt):g}: outputs may be far from those of "
            "the network; look at error_bound, or take reconstruct=True",
            CertnetWarning,
            stacklevel=3,
        )
    given = pose(net, X)
    z = _layer_by_layer(given, reconstruct=reconstruct)
    return measured(given, z, Limits(positive_number(tol, "tol"), passes=1), "forward")


def _layer_by_layer(given: Posed, *, reconstruct: bool) -> Float:
    """``x_1, …, x_L``, stacked (N, n), from ``W_0 x``."""
    net, product = given.net, given.seen
    found = np.empty((len(product), net.n_units))
    for k, here in enumerate(net.layers):
        if net.beta[k] and reconstruct:
            problem, constant = _layers(net)[k]
            q = (1.0 + net.beta[k]) * product + constant
            found[:, here] = solver_named("coordinate_descent")(problem, q, None, Limits(_TOL))
        else:
            np.clip(product + net.biases[k], net.lower[k], net.upper[k], out=found[:, here])
        if k + 1 < net.depth:
            product = found[:, here] @ net.weights[k + 1].T
    return found


@lru_cache(maxsize=8)
def _layers(net: LiftedEnergy) -> tuple[tuple[BoxQP, Float], ...]:
    """Of every layer alone: ``I + β_k W_k W_kᵀ`` over its box, and ``b_k + β_k W_k c_k``."""
    parts = zip(net.weights, net.biases, net.reconstruction_biases, net.beta, net.lower, net.upper)
    return tuple(
        (BoxQP(np.eye(len(W)) + beta * (W @ W.T), low, high, (slice(0, len(W)),)), b + beta * (W @ c))
        for W, b, c, beta, low, high in parts
    )
