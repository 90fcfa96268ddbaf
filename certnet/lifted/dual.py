r"""Duals of an inference, and how far from the minimum it can be.

With ``½‖r‖² = max_λ (λᵀr − ½‖λ‖²)`` for every residual, ``min_z E(z; x)`` over the boxes ``[l_k, u_k]`` has the dual

    E*(λ, μ) = − Σ_{k=0}^{L−1} γᵏ ( ½‖λ_{k+1}‖² + λ_{k+1}ᵀ b_k + β_k (½‖μ_{k+1}‖² + μ_{k+1}ᵀ c_k) )
               − λ_1ᵀ W_0 x − β_0 μ_1ᵀ x + Σ_{k=1}^{L} ( l_kᵀ g_k⁺ − u_kᵀ g_k⁻ ),

    g_k = γ^{k−1} (λ_k + β_{k−1} W_{k−1} μ_k) − [k < L] γᵏ (W_kᵀ λ_{k+1} + β_k μ_{k+1}),   g = g⁺ − g⁻

with λ of the regression and μ of the reconstruction. Without biases and with β = 0 it is (12) of Zach and Estellers
(2019), and (13) where ``l_L = u_L = y`` clamps the output; the conjugate of the hard sigmoid's box is the sum of
positive parts there, ``Σ (γ W_kᵀ λ_{k+1} − λ_k)⁺`` (printed as a 1-norm, which leaves a gap at the optimum).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, positive_number
from certnet.lifted.inference import Inference
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import BoxQP, as_clamp, posed

__all__ = ["Duals", "box_gap", "dual_energy", "duality_gap", "duals", "feasible_duals"]


@dataclass(frozen=True, eq=False)
class Duals:
    """A dual point for each of N samples.

    Attributes
    ----------
    regression : tuple of L ndarrays, shapes (N, n_k), k = 1 … L
        λ_k.
    reconstruction : tuple of L ndarrays, shapes (N, n_{k−1}), k = 1 … L
        μ_k; zero where ``β_{k−1} = 0``, where the energy has no such residual.
    """

    regression: tuple[Float, ...]
    reconstruction: tuple[Float, ...]


def duals(net: LiftedEnergy, X: ArrayLike, inference: Inference) -> Duals:
    """``λ_k = z_k − W_{k−1} z_{k−1} − b_{k−1}``, ``μ_k = W_{k−1}ᵀ z_k − z_{k−1} − c_{k−1}``: Z (14) with biases.

    They maximise the dual where z minimises the energy, free or clamped. At activations only near the minimiser they
    may be infeasible (the dual is −inf there); :func:`feasible_duals` are not.

    Raises
    ------
    InvalidInputError
        X and the inference do not belong together.
    """
    inputs = _inputs(net, X, inference)
    return Duals(*net.residuals(inputs, inference.stacked))


def feasible_duals(net: LiftedEnergy, X: ArrayLike, inference: Inference, clamp: ArrayLike | None = None) -> Duals:
    """The dual point that proves :func:`duality_gap`: residuals at ``w = z − H⁻¹e``, feasible up to rounding.

    ``E(z; x) − E*`` there is the gap, also where the activations are not the minimiser.

    Raises
    ------
    InvalidInputError
        X, the clamp and the inference do not belong together; H is not positive definite to working precision.
    """
    inputs, targets = _posed_inputs(net, X, inference, clamp)
    problem, q = posed(net, inputs, targets)
    z = inference.stacked[:, : problem.n]
    left, _ = _split_slope(problem, z, z @ problem.H - q)
    try:
        w = z - scipy.linalg.cho_solve(problem.factor, left.T).T
    except np.linalg.LinAlgError as error:
        raise InvalidInputError(
            "H is not positive definite to working precision: no dual point can be computed; rescale the weights"
        ) from error
    whole = w if targets is None else np.concatenate([w, targets], axis=1)
    return Duals(*net.residuals(inputs, whole))


def dual_energy(
    net: LiftedEnergy, X: ArrayLike, point: Duals, clamp: ArrayLike | None = None, *, tol: float = 1e-9
) -> Float:
    """``E*(λ, μ)``: at most ``min_z E(z; x)``, with equality at the optimal duals; shape (N,).

    Parameters
    ----------
    X : array_like, shape (N, d)
    point : Duals
    clamp : array_like, shape (N, n_L), optional
        y of the clamped energy.
    tol : float
        Where ``g`` points to a side without a limit the dual is −inf; an entry of up to ``tol`` is taken
        for the rounding of a zero.

    Raises
    ------
    InvalidInputError
        Shapes that do not fit, NaN, a clamp outside of its box.
    """
    inputs = as_inputs(X, net.n_inputs)
    targets = None if clamp is None else as_clamp(net, clamp, len(inputs))
    allowed = positive_number(tol, "tol", zero=True)
    _check_shapes(net, point, len(inputs))
    total = _without_boxes(net, inputs, point)
    for k, g in enumerate(_box_terms(net, point)):
        if targets is not None and k == net.depth - 1:
            total += np.einsum("ij,ij->i", g, targets)
        else:
            total += _least_over_box(g, net.lower[k], net.upper[k], allowed)
    return total


def duality_gap(net: LiftedEnergy, X: ArrayLike, inference: Inference, clamp: ArrayLike | None = None) -> Float:
    r"""A bound on ``E(z; x) − min E(·; x)`` at the activations of an inference, shape (N,), finite for every box.

        gap = Σ_i δ_i ν_i + ½ eᵀ H⁻¹ e,   s = Hz − q,  δ = z − Π(z − s / diag H),  ν + e = s

    with ``e_i = H_ii δ_i`` where that step leaves the box and ``s_i`` elsewhere; then the signs of ν are those of
    multipliers, and no box without limits has one. It is what the Lagrangian dual ``−½ (q + ν)ᵀ H⁻¹ (q + ν) + …``
    leaves, written without cancellation: zero exactly at the minimiser, never negative. One factorisation of H for the
    batch. ``½ λ_min(H) ‖z − z*‖²`` is at most the gap. In floating point.

    Parameters
    ----------
    X : array_like, shape (N, d)
    inference : Inference
        Of X, with any status.
    clamp : array_like, shape (N, n_L), optional
        What the inference was clamped to.

    Returns
    -------
    ndarray, shape (N,)
        inf where H is not positive definite to working precision: nothing is known then.

    Raises
    ------
    InvalidInputError
        X, the clamp and the inference do not belong together.
    """
    inputs, targets = _posed_inputs(net, X, inference, clamp)
    problem, q = posed(net, inputs, targets)
    z = inference.stacked[:, : problem.n]
    return box_gap(problem, z, z @ problem.H - q)


def box_gap(problem: BoxQP, z: Float, slope: Float) -> Float:
    """The gap of :func:`duality_gap` for a convex function with gradient ``slope`` at z and second derivative ⪰ H."""
    left, complementarity = _split_slope(problem, z, slope)
    try:
        solved = scipy.linalg.cho_solve(problem.factor, left.T).T
    except np.linalg.LinAlgError:
        return np.full(len(z), np.inf)
    return complementarity + np.maximum(0.5 * np.einsum("ij,ij->i", left, solved), 0.0)


def _split_slope(problem: BoxQP, z: Float, slope: Float) -> tuple[Float, Float]:
    """e, the part of the slope that no multiplier takes, shape (N, n), and ``Σ_i δ_i ν_i``, shape (N,)."""
    h = np.diag(problem.H)
    target = z - slope / h
    distance = z - np.clip(target, problem.lower, problem.upper)
    outside = (target < problem.lower) | (target > problem.upper)
    left = np.where(outside, h * distance, slope)
    return left, np.maximum(distance * (slope - left), 0.0).sum(axis=1)


def _without_boxes(net: LiftedEnergy, X: Float, point: Duals) -> Float:
    total = -np.einsum("ij,ij->i", point.regression[0] @ net.weights[0] + net.beta[0] * point.reconstruction[0], X)
    pairs = zip(point.regression, point.reconstruction, net.biases, net.reconstruction_biases, net.beta)
    for k, (lam, mu, b, c, beta) in enumerate(pairs):
        here = np.einsum("ij,ij->i", lam, 0.5 * lam + b) + beta * np.einsum("ij,ij->i", mu, 0.5 * mu + c)
        total -= net.gamma**k * here
    return total


def _box_terms(net: LiftedEnergy, point: Duals) -> list[Float]:
    """g_1 … g_L."""
    lam, mu, found = point.regression, point.reconstruction, []
    for k, (W, beta) in enumerate(zip(net.weights, net.beta)):
        g = net.gamma**k * (lam[k] + beta * (mu[k] @ W.T))
        if k + 1 < net.depth:
            g -= net.gamma ** (k + 1) * (lam[k + 1] @ net.weights[k + 1] + net.beta[k + 1] * mu[k + 1])
        found.append(g)
    return found


def _least_over_box(g: Float, lower: Float, upper: Float, allowed: float) -> Float:
    """``min lᵀ g⁺ − uᵀ g⁻``, −inf where a side without a limit is pulled at."""
    low, high = np.isfinite(lower), np.isfinite(upper)
    up, down = np.maximum(g, 0.0), np.maximum(-g, 0.0)
    value = up[:, low] @ lower[low] - down[:, high] @ upper[high]
    value[(up[:, ~low] > allowed).any(axis=1) | (down[:, ~high] > allowed).any(axis=1)] = -np.inf
    return value


def _inputs(net: LiftedEnergy, X: ArrayLike, inference: Inference) -> Float:
    inputs = as_inputs(X, net.n_inputs)
    if not isinstance(inference, Inference):
        raise InvalidInputError(f"inference is of type {type(inference).__name__}: what infer(X) returned is needed")
    shapes = [z.shape for z in inference.activations]
    wanted = [(len(inputs), n) for n in net.widths[1:]]
    if shapes != wanted:
        raise InvalidInputError(f"the inference has activations of shapes {shapes}; these X and this network: {wanted}")
    return inputs


def _posed_inputs(
    net: LiftedEnergy, X: ArrayLike, inference: Inference, clamp: ArrayLike | None
) -> tuple[Float, Float | None]:
    inputs = _inputs(net, X, inference)
    if clamp is None:
        return inputs, None
    targets = as_clamp(net, clamp, len(inputs))
    if not np.array_equal(inference.output, targets):
        raise InvalidInputError("the output of the inference is not the clamp: pass what it was clamped to")
    return inputs, targets


def _check_shapes(net: LiftedEnergy, point: Duals, N: int) -> None:
    for name, arrays, sizes in (
        ("regression", point.regression, net.widths[1:]),
        ("reconstruction", point.reconstruction, net.widths[:-1]),
    ):
        shapes, wanted = [np.shape(a) for a in arrays], [(N, n) for n in sizes]
        if shapes != wanted:
            raise InvalidInputError(f"{name} duals have shapes {shapes}: {wanted} are needed")
        if not all(np.isfinite(a).all() for a in arrays):
            raise InvalidInputError(f"{name} duals hold NaN or infinite numbers")
