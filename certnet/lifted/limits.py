r"""The contrastive gradient against back-propagation as the feedback γ → 0 (Zach and Estellers 2019, section 4).

    γ^{−(L−1)} ∇( min {E(z; x) : z_L = y} − min_z E(z; x) )  →  ∇( e_{L−1}(x_{L−1}, y) − min_z e_{L−1}(x_{L−1}, z) )

with ``e_k(u, z) = ½‖z − W_k u − b_k‖² + (β_k/2)‖W_kᵀ z − u − c_k‖²``, ``x_0 = x``, ``x_{k+1} = argmin_z e_k(x_k, z)``
and all minima over the boxes. For β = 0 and linear outputs the right side is back-propagation of ½‖x_L − y‖² (Z (18),
(23), (29)); for β > 0 it is back-propagation through regression/reconstruction layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.lifted.stiff import activations_at, solve_on
from certnet.networks.energy import Gradients, LiftedEnergy
from certnet.programs.box_qp import as_clamp, posed

__all__ = ["GradientGap", "contrastive_gradient", "gradient_gap", "limit_gradient"]


@dataclass(frozen=True, eq=False)
class GradientGap:
    """How far contrastive learning is from back-propagation, for falling γ.

    Attributes
    ----------
    gammas : ndarray, shape (G,)
    errors : ndarray, shape (G, L)
        ``‖γ^{−(L−1)} g_k − g_k⁰‖ / ‖g_k⁰‖`` over the parameters (W_k, b_k, c_k) of layer k, with the mean contrastive
        gradient g and its limit g⁰; 0 where both are zero, infinite where the limit alone is.
    total : ndarray, shape (G,)
        The same over all parameters.
    shared : ndarray, shape (G,)
        Share of samples whose clamped and free activations have the same units at their limits, as Z (27) assumes.
    """

    gammas: Float
    errors: Float
    total: Float
    shared: Float

    @property
    def orders(self) -> Float:
        """Slopes of log(error) over log(γ) per layer, shape (L,), by least squares: 1 where the error is ∝ γ.

        NaN where an error is zero, or for fewer than two different γ.
        """
        x = np.log(self.gammas) - np.log(self.gammas).mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log(self.errors)
            return np.asarray(x @ (y - y.mean(axis=0)) / (x @ x))


def gradient_gap(net: LiftedEnergy, X: ArrayLike, y: ArrayLike, gammas: ArrayLike) -> GradientGap:
    """Compare the contrastive gradient at each γ with its limit; the γ of the network itself plays no part.

    Parameters
    ----------
    net : LiftedEnergy
        Two layers or more.
    X : array_like, shape (N, d)
    y : array_like, shape (N, m)
        Targets inside of the output's box.
    gammas : array_like, shape (G,)

    Raises
    ------
    InvalidInputError
        One layer, where γ plays no part; no γ, or one that is not positive; wrong shapes, NaN, targets outside of the
        box.
    """
    values = finite_array(gammas, "gammas", ndim=(1,))
    if len(values) == 0:
        raise InvalidInputError("gammas is empty: give at least one γ")
    limit = _per_layer(limit_gradient(net, X, y))
    errors, total, shared = [], [], []
    for gamma in values:
        found, same = contrastive_gradient(_with_gamma(net, float(gamma)), X, y)
        layers = [g * gamma ** (1 - net.depth) for g in _per_layer(found)]
        errors.append([_relative(g, g0) for g, g0 in zip(layers, limit)])
        total.append(_relative(np.concatenate(layers), np.concatenate(limit)))
        shared.append(same)
    return GradientGap(values, np.array(errors), np.array(total), np.array(shared))


def contrastive_gradient(net: LiftedEnergy, X: ArrayLike, y: ArrayLike) -> tuple[Gradients, float]:
    r"""The gradient of the mean of ``E(ẑ; x) − E(z*; x)`` to full relative accuracy for any γ, and the share of samples
    whose units at their limits are the same in both phases.

    It is γ^{L−1} times a number of ordinary size, and lost to rounding as a difference of two gradients. It is taken
    from ``δ = ẑ − z*`` instead, which solves ``H_FF δ_F = −H_FL (y − z_L*)`` where the units F between their limits
    are the same; the Cholesky factor is ordered from the first layer, the stiffest, and keeps every δ_k accurate.
    """
    inputs, targets = _samples(net, X, y)
    problem, q = posed(net, inputs)
    free = activations_at(net, problem, q, np.concatenate(_signals(net, inputs)[1:], axis=1))
    held, q = posed(net, inputs, targets)
    n = held.n
    clamped = activations_at(net, held, q, free[:, :n])
    delta = np.concatenate([clamped, targets], axis=1) - free
    between, between_clamped = ((held.lower < z) & (z < held.upper) for z in (free[:, :n], clamped))
    # held at the same limit in both, or between the limits in both
    shared = ((between & between_clamped) | (free[:, :n] == clamped)).all(axis=1)
    for i in np.flatnonzero(shared):
        delta[i, :n] = solve_on(held.H, between[i], -problem.H[:n, n:] @ delta[i, n:])
    return _difference(net, inputs, free, delta), float(shared.mean())


def limit_gradient(net: LiftedEnergy, X: ArrayLike, y: ArrayLike) -> Gradients:
    """The limit of ``γ^{−(L−1)}`` times the mean contrastive gradient: back-propagation through layer after layer.

    For β_k = 0 a layer is ``Π(W_k x_k + b_k)``; for β_k > 0 it is a regression/reconstruction layer, differentiated on
    its units between their limits. On a kink, the unit counts as at its limit.
    """
    inputs, targets = _samples(net, X, y)
    layers, signals = _layers(net), _signals(net, inputs)
    last, below = layers[-1], signals[-2]
    parts = [last.gradients(below, targets) - last.gradients(below, signals[-1])]
    # derivative of the excess energy by the signal that the last layer receives, per sample
    cotangent = _by_input(last, below, targets) - _by_input(last, below, signals[-1])
    for layer, x, z in zip(layers[-2::-1], signals[-3::-1], signals[-2:0:-1]):
        adjoint = _adjoint(layer, z, cotangent)
        parts.append(_pulled_back(layer, x, z, adjoint))
        cotangent = (1.0 + layer.beta[0]) * (adjoint @ layer.weights[0])
    return Gradients(*(tuple(part.groups[i][0] for part in parts[::-1]) for i in range(3)))


def _samples(net: LiftedEnergy, X: ArrayLike, y: ArrayLike) -> tuple[Float, Float]:
    if net.depth < 2:
        raise InvalidInputError(
            "the network has one layer: γ plays no part in it, and there is no limit to compare with"
        )
    inputs = as_inputs(X, net.n_inputs)
    if len(inputs) == 0:
        raise InvalidInputError("X has no samples: at least one is needed")
    return inputs, as_clamp(net, y, len(inputs))


def _with_gamma(net: LiftedEnergy, gamma: float) -> LiftedEnergy:
    parameters = net.weights, net.biases, net.reconstruction_biases
    return LiftedEnergy(*parameters, beta=net.beta, gamma=gamma, units=net.units)


def _layers(net: LiftedEnergy) -> list[LiftedEnergy]:
    """``e_k`` as networks of one layer."""
    parameters = zip(net.weights, net.biases, net.reconstruction_biases, net.beta, net.units)
    return [LiftedEnergy([W], [b], [c], beta=beta, units=[unit]) for W, b, c, beta, unit in parameters]


def _signals(net: LiftedEnergy, X: Float) -> list[Float]:
    """``x_0, x_1, …, x_L``: the activations as γ → 0."""
    signals = [X]
    for layer in _layers(net):
        problem, q = posed(layer, signals[-1])
        start = np.clip(q, problem.lower, problem.upper)  # the minimiser for β = 0
        signals.append(activations_at(layer, problem, q, start) if layer.beta[0] else start)
    return signals


def _difference(net: LiftedEnergy, X: Float, z: Float, delta: Float) -> Gradients:
    """Mean gradient at ``z + δ`` minus that at z, written in δ: nothing cancels."""
    before, moved = (X, *net.split(z)), (np.zeros_like(X), *net.split(delta))
    forward, backward = net.residuals(X, z)
    Ws, bs, cs = [], [], []
    for k, W in enumerate(net.weights):
        scale, beta = net.gamma**k / len(X), net.beta[k]
        r = moved[k + 1] - moved[k] @ W.T
        s = moved[k + 1] @ W - moved[k]
        change = -(r.T @ (before[k] + moved[k]) + forward[k].T @ moved[k])
        change += beta * (moved[k + 1].T @ (backward[k] + s) + before[k + 1].T @ s)
        Ws.append(scale * change)
        bs.append(-scale * r.sum(axis=0))
        cs.append(-scale * beta * s.sum(axis=0))
    return Gradients(tuple(Ws), tuple(bs), tuple(cs))


def _by_input(layer: LiftedEnergy, x: Float, z: Float) -> Float:
    """``∂e_k/∂x`` for every row: ``−W_kᵀ (z − W_k x − b_k) − β_k (W_kᵀ z − x − c_k)``."""
    (forward,), (backward,) = layer.residuals(x, z)
    return -(forward @ layer.weights[0]) - layer.beta[0] * backward


def _adjoint(layer: LiftedEnergy, z: Float, cotangent: Float) -> Float:
    """``H_FF^{-1} cotangent_F`` on the units between their limits, zero elsewhere, for a layer's activations z."""
    free = (layer.lower[0] < z) & (z < layer.upper[0])
    if layer.beta[0] == 0.0:
        return np.where(free, cotangent, 0.0)
    W = layer.weights[0]
    H = np.eye(len(W)) + layer.beta[0] * (W @ W.T)
    return np.array([solve_on(H, mask, right) for mask, right in zip(free, cotangent)])


def _pulled_back(layer: LiftedEnergy, x: Float, z: Float, adjoint: Float) -> Gradients:
    """Mean over the samples of ``−adjointᵀ ∂/∂θ ∇_z e_k(x, z)``: the implicit function theorem."""
    W, beta = layer.weights[0], layer.beta[0]
    (_,), (backward,) = layer.residuals(x, z)
    turned = adjoint @ W
    change = adjoint.T @ x - beta * (adjoint.T @ backward + z.T @ turned)
    scale = 1.0 / len(x)
    return Gradients((scale * change,), (scale * adjoint.sum(axis=0),), (scale * beta * turned.sum(axis=0),))


def _per_layer(gradients: Gradients) -> list[Float]:
    return [np.concatenate([group[k].ravel() for group in gradients.groups]) for k in range(len(gradients.weights))]


def _relative(found: Float, limit: Float) -> float:
    error, size = float(np.linalg.norm(found - limit)), float(np.linalg.norm(limit))
    if size > 0.0:
        return error / size
    return 0.0 if error == 0.0 else np.inf
