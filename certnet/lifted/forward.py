r"""One pass in place of a minimisation, with what it costs in accuracy.

    x_0 = x,   x_{k+1} = argmin_{z ∈ C_{k+1}}  ½ ‖z − W_k x_k − b_k‖² + (β_k / 2) ‖W_kᵀ z − x_k − c_k‖²

is what the activations tend to as γ → 0 (Zach and Estellers 2019, section 4). For β_k = 0 a layer is
``Π(W_k x_k + b_k)``. It is measured like any other inference: the layers above have not been heard.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import CertnetWarning
from certnet.core.validation import Float, as_inputs, positive_number
from certnet.lifted.inference import Inference, measured
from certnet.lifted.posing import pose
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import posed
from certnet.solvers.box import Limits, solver_named

__all__ = ["forward_pass"]

_TOL = 1e-9
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
    inputs = as_inputs(X, net.n_inputs)
    rebuilt = [beta for beta in net.beta if beta > 0.0]
    if rebuilt and not reconstruct:
        warnings.warn(
            f"the pass leaves reconstruction out, and beta is up to {max(rebuilt):g}: outputs may be far from those of "
            "the network; look at error_bound, or take reconstruct=True",
            CertnetWarning,
            stacklevel=3,
        )
    z = _layer_by_layer(net, inputs) if rebuilt and reconstruct else net.feed_forward(inputs)
    return measured(pose(net, inputs), z, Limits(positive_number(tol, "tol"), passes=1), "forward")


def _layer_by_layer(net: LiftedEnergy, X: Float) -> Float:
    """``x_1, …, x_L``, stacked (N, n)."""
    solve, below, found = solver_named("coordinate_descent"), X, []
    for W, b, c, beta, unit in zip(net.weights, net.biases, net.reconstruction_biases, net.beta, net.units):
        layer = LiftedEnergy([W], [b], [c], beta=beta, units=[unit])
        problem, q = posed(layer, below)
        below = solve(problem, q, None, Limits(_TOL)) if beta else np.clip(q, problem.lower, problem.upper)
        found.append(below)
    return np.concatenate(found, axis=1)
