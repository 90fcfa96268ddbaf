r"""Derivatives of the activations by the inputs and the parameters.

z*(x) is piecewise affine. With F the units off their limits, ``H_FF dz_F = (dq)_F`` and ``dz = 0`` elsewhere; for the
parameters the stationarity ``∂E/∂z_F = 0`` is differentiated (implicit function theorem). Backwards, from a
cotangent v:

    H_FF u_F = v_F, u = 0 elsewhere;   vᵀ dz = −d( uᵀ ∂E/∂z ) at fixed z, u

so that the products with the parameters are minus the derivative of ``∂E/∂W_k, ∂E/∂b_k, ∂E/∂c_k`` along u.

A unit at a limit without a multiplier is at a kink: it is held, as ReLU's derivative at 0 is taken as 0. What comes out
is the derivative of a region next to this point in the space of q, an element of the generalised one. Whether a unit is
at a limit is asked of ``z − (Hz − q)``, within the residual of the sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.lifted.inference import Inference
from certnet.networks.energy import Gradients, LiftedEnergy
from certnet.networks.quadratic import linear_term
from certnet.programs.box_qp import BoxQP, natural_residual, posed

__all__ = ["Pullback", "free_units", "jacobian", "parameter_vjp", "pull_back", "vjp"]


@dataclass(frozen=True, eq=False)
class Pullback:
    """Products of a cotangent with the derivatives of the activations.

    Attributes
    ----------
    inputs : ndarray, shape (N, d)
        One product per sample.
    parameters : Gradients
        Summed over the samples.
    """

    inputs: Float
    parameters: Gradients


def free_units(net: LiftedEnergy, X: ArrayLike, inference: Inference) -> NDArray[np.bool_]:
    """F: the units strictly inside of their boxes, shape (N, n)."""
    inputs, problem = _checked(net, X, inference)
    return _free(problem, linear_term(net, inputs), inference.stacked)


def jacobian(net: LiftedEnergy, X: ArrayLike, inference: Inference) -> Float:
    """``dz_L*/dx``, shape (N, n_L, d): the output's rows of ``H_FF⁻¹ (dq/dx)_F``.

    Parameters
    ----------
    X : array_like, shape (N, d)
    inference : Inference
        Free (not clamped), of X.

    Raises
    ------
    InvalidInputError
        X and the inference do not belong together; H is singular to working precision.

    Warns
    -----
    NotConvergedWarning
        Some samples are not converged: their derivatives may be those of another region.
    """
    inputs, problem = _checked(net, X, inference)
    last = np.zeros((problem.n, net.n_outputs))
    last[net.layers[-1]] = np.eye(net.n_outputs)
    first = net.layers[0]
    J = np.zeros((len(inputs), net.n_outputs, net.n_inputs))
    for rows, free in _groups(_free(problem, linear_term(net, inputs), inference.stacked)):
        U = np.zeros_like(last)
        U[free] = _solve(problem.H[np.ix_(free, free)], last[free])
        J[rows] = (1.0 + net.beta[0]) * (U[first].T @ net.weights[0])
    return J


def vjp(net: LiftedEnergy, X: ArrayLike, inference: Inference, cotangent: ArrayLike) -> Float:
    """``(dz*/dx)ᵀ v = (1 + β_0) W_0ᵀ u_1`` for every sample, shape (N, d), without forming ``dz*/dx``.

    Parameters, errors and warnings are those of :func:`pull_back`.
    """
    return _input_products(net, _adjoint(net, X, inference, cotangent)[1])


def parameter_vjp(net: LiftedEnergy, X: ArrayLike, inference: Inference, cotangent: ArrayLike) -> Gradients:
    """``Σ_i (dz*(x_i)/dθ)ᵀ v_i`` for W, b and c. Parameters, errors and warnings are those of :func:`pull_back`."""
    inputs, u = _adjoint(net, X, inference, cotangent)
    return _parameter_products(net, inputs, inference.stacked, u)


def pull_back(net: LiftedEnergy, X: ArrayLike, inference: Inference, cotangent: ArrayLike) -> Pullback:
    """Both products at once: what the backward pass of a layer needs.

    Parameters
    ----------
    X : array_like, shape (N, d)
    inference : Inference
        Free (not clamped), of X.
    cotangent : array_like, shape (N, n_L) or (N, n)
        Derivative of a scalar by the outputs, or by the stacked activations.

    Raises
    ------
    InvalidInputError
        Shapes that do not fit; H is singular to working precision.

    Warns
    -----
    NotConvergedWarning
        Some samples are not converged: their derivatives may be those of another region.
    """
    inputs, u = _adjoint(net, X, inference, cotangent)
    return Pullback(_input_products(net, u), _parameter_products(net, inputs, inference.stacked, u))


def _adjoint(net: LiftedEnergy, X: ArrayLike, inference: Inference, cotangent: ArrayLike) -> tuple[Float, Float]:
    """The inputs, and u with ``H_FF u_F = v_F`` and zero elsewhere, shape (N, n)."""
    inputs, problem = _checked(net, X, inference)
    v = _stacked_cotangent(net, cotangent, len(inputs))
    u = np.zeros_like(v)
    for rows, free in _groups(_free(problem, linear_term(net, inputs), inference.stacked)):
        u[np.ix_(rows, free)] = _solve(problem.H[np.ix_(free, free)], v[np.ix_(rows, free)].T).T
    return inputs, u


def _input_products(net: LiftedEnergy, u: Float) -> Float:
    product: Float = (1.0 + net.beta[0]) * (u[:, net.layers[0]] @ net.weights[0])
    return product


def _parameter_products(net: LiftedEnergy, X: Float, z: Float, u: Float) -> Gradients:
    """Minus the derivative along u of the parameter gradients of the summed energy; x does not move."""
    moved = (np.zeros_like(X), *net.split(u))
    activations = (X, *net.split(z))
    Ws, bs, cs = [], [], []
    for k, (W, forward, backward) in enumerate(zip(net.weights, *net.residuals(X, z))):
        scale, beta = net.gamma**k, net.beta[k]
        forward_moved = moved[k + 1] - moved[k] @ W.T
        backward_moved = moved[k + 1] @ W - moved[k]
        regression = forward_moved.T @ activations[k] + forward.T @ moved[k]
        reconstruction = moved[k + 1].T @ backward + activations[k + 1].T @ backward_moved
        Ws.append(scale * (regression - beta * reconstruction))
        bs.append(scale * forward_moved.sum(axis=0))
        cs.append(scale * beta * backward_moved.sum(axis=0))
    return Gradients(tuple(Ws), tuple(bs), tuple(cs))


def _checked(net: LiftedEnergy, X: ArrayLike, inference: Inference) -> tuple[Float, BoxQP]:
    inputs = as_inputs(X, net.n_inputs)
    wanted = (len(inputs), net.n_units)
    if inference.stacked.shape != wanted:
        raise InvalidInputError(f"the inference has activations {inference.stacked.shape}; X and the network: {wanted}")
    problem, q = posed(net, inputs)
    off = ~(natural_residual(problem, q, inference.stacked) <= inference.tol) | ~inference.converged
    if off.any():
        warnings.warn(
            f"{int(off.sum())} of {len(inputs)} samples are not at the free minimum (not converged, clamped, or of "
            "other inputs): their derivatives may be those of another region; infer them free, to a tolerance",
            NotConvergedWarning,
            stacklevel=4,
        )
    return inputs, problem


def _free(problem: BoxQP, q: Float, z: Float) -> NDArray[np.bool_]:
    aimed = z - (z @ problem.H - q)
    step = z - np.clip(aimed, problem.lower, problem.upper)
    near = np.abs(step).max(axis=1, initial=0.0)[:, None]
    return (aimed > problem.lower + near) & (aimed < problem.upper - near)


def _groups(free: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Samples that share their free units, and these units."""
    sets, member = np.unique(free, axis=0, return_inverse=True)
    for i, units in enumerate(sets):
        yield np.flatnonzero(member.ravel() == i), np.flatnonzero(units)


def _solve(H: Float, right: Float) -> Float:
    if H.size == 0:
        return right
    try:
        solution: Float = scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, lower=True), right)
    except np.linalg.LinAlgError as error:
        raise InvalidInputError(
            "H is not positive definite to working precision: the activations have no usable derivative; rescale the "
            "weights"
        ) from error
    return solution


def _stacked_cotangent(net: LiftedEnergy, cotangent: ArrayLike, N: int) -> Float:
    v = finite_array(cotangent, "cotangent", ndim=(2,))
    if v.shape == (N, net.n_units):
        return v
    if v.shape != (N, net.n_outputs):
        raise InvalidInputError(
            f"cotangent has shape {v.shape}: {(N, net.n_outputs)} of the outputs, or {(N, net.n_units)} of all units, "
            "is needed"
        )
    whole = np.zeros((N, net.n_units))
    whole[:, net.layers[-1]] = v
    return whole
