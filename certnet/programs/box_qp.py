r"""Inference as a quadratic program over a box.

    min_z ½ zᵀ H z − q(x)ᵀ z + E(0; x)   over  lower ≤ z ≤ upper

H does not depend on x: one matrix serves every sample. Its diagonal block k (1 ≤ k ≤ L) is
``γ^{k−1}(I + β_{k−1} W_{k−1} W_{k−1}ᵀ) + [k < L] γᵏ (W_kᵀ W_k + β_k I)``, block (k, k+1) is ``−γᵏ (1 + β_k) W_kᵀ``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import ArrayLike

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float, as_inputs, finite_array
from certnet.networks.energy import LiftedEnergy
from certnet.networks.quadratic import hessian, linear_term

__all__ = [
    "EPS",
    "BoxQP",
    "SampleQP",
    "as_clamp",
    "assemble",
    "natural_residual",
    "posed",
    "rounding",
    "sample_qp",
]

EPS: Final = 2.0**-52


@dataclass(frozen=True, eq=False)
class BoxQP:
    """``min ½ zᵀ H z − qᵀ z`` over a box, for one symmetric positive definite H and many q.

    Attributes
    ----------
    H : ndarray, shape (n, n)
    lower, upper : ndarray, shape (n,)
    layers : tuple of slices
        Blocks of z; H is block tridiagonal in them.
    """

    H: Float
    lower: Float
    upper: Float
    layers: tuple[slice, ...]

    @property
    def n(self) -> int:
        return len(self.H)

    @cached_property
    def factor(self) -> tuple[Float, bool]:
        """The Cholesky factor of H, as scipy's ``cho_solve`` takes it.

        Raises
        ------
        numpy.linalg.LinAlgError
            H is not positive definite to working precision.
        """
        lower: tuple[Float, bool] = scipy.linalg.cho_factor(self.H, lower=True)
        return lower

    @cached_property
    def spectrum(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of H; the smallest is not below zero."""
        eigenvalues = np.linalg.eigvalsh(self.H)
        return max(0.0, float(eigenvalues[0])), float(eigenvalues[-1])

    def objective(self, q: Float, z: Float) -> Float:
        """``½ zᵀ H z − qᵀ z`` for every row of q and z, shape (N,)."""
        return np.einsum("ij,ij->i", 0.5 * (z @ self.H) - q, z)


@dataclass(frozen=True, eq=False)
class SampleQP:
    """The program of one sample, explicit and sparse: ``min ½ zᵀ H z − qᵀ z + constant`` over a box.

    Attributes
    ----------
    H : scipy.sparse.csc_matrix, shape (n, n)
    q, lower, upper : ndarray, shape (n,)
    constant : float
        So that the value is the energy.
    """

    H: Any
    q: Float
    lower: Float
    upper: Float
    constant: float


@lru_cache(maxsize=8)  # a network is asked many times, and its condition number costs more than a small batch
def assemble(net: LiftedEnergy, *, clamped: bool = False) -> BoxQP:
    """The program in (z_1, …, z_L), or in (z_1, …, z_{L−1}) where the output is clamped.

    Raises
    ------
    InvalidInputError
        Clamping a network of one layer leaves nothing to solve for.
    """
    if clamped and net.depth == 1:
        raise InvalidInputError("the network has one layer: with its output clamped nothing is left to infer")
    H = hessian(net)
    count = net.depth - clamped
    layers = net.layers[:count]
    n = layers[-1].stop
    return BoxQP(H[:n, :n].copy(), np.concatenate(net.lower[:count]), np.concatenate(net.upper[:count]), layers)


def rounding(net: LiftedEnergy, X: Float, z: Float, clamp: Float | None = None) -> Float:
    """A bound on the 2-norm of what rounding does to ``H z − q`` in double precision, shape (N,).

    A sum of t products is wrong by at most ``t eps`` times the sum of their sizes; the sizes are bounded by row sums of
    the absolute terms times the largest entries of z, x and the clamp.
    """
    of_z, of_x, constant, terms = _sizes(net)
    largest = np.abs(z).max(axis=1, initial=0.0)
    if clamp is not None:
        largest = np.maximum(largest, np.abs(clamp).max(axis=1))
    size = of_z * largest + of_x * np.maximum(X.max(axis=1), -X.min(axis=1)) + constant
    return np.sqrt(net.n_units) * terms * EPS * size


@lru_cache(maxsize=8)
def _sizes(net: LiftedEnergy) -> tuple[float, float, float, int]:
    """Largest row sums of the absolute terms of H and Q, largest absolute terms of q at x = 0, and terms in a sum."""
    rows, constant = np.zeros(net.n_units), np.zeros(net.n_units)
    for k, (W, here) in enumerate(zip(map(np.abs, net.weights), net.layers)):
        weight, beta = net.gamma**k, net.beta[k]
        b, c = np.abs(net.biases[k]), np.abs(net.reconstruction_biases[k])
        rows[here] += weight * (1.0 + beta * (W @ W.sum(axis=0)))
        constant[here] += weight * (b + beta * (W @ c))
        if k:
            before = net.layers[k - 1]
            rows[before] += weight * (W.T @ W.sum(axis=1) + beta + (1.0 + beta) * W.sum(axis=0))
            rows[here] += weight * (1.0 + beta) * W.sum(axis=1)
            constant[before] += weight * (W.T @ b + beta * c)
    inputs = (1.0 + net.beta[0]) * float(np.abs(net.weights[0]).sum(axis=1).max())
    return float(rows.max()), inputs, float(constant.max()), net.n_units + 2 * max(net.widths) + 16


def as_clamp(net: LiftedEnergy, clamp: ArrayLike, n_samples: int) -> Float:
    """Targets for the output layer, (N, n_L), inside of its box.

    Raises
    ------
    InvalidInputError
        Another shape, NaN, or a value outside of the box.
    """
    y = finite_array(clamp, "clamp", ndim=(1, 2))
    if y.ndim == 1:
        y = y[:, None]
    if y.shape != (n_samples, net.n_outputs):
        raise InvalidInputError(f"clamp has shape {y.shape}: {(n_samples, net.n_outputs)} is needed")
    outside = (y < net.lower[-1]) | (y > net.upper[-1])
    if outside.any():
        i, j = np.argwhere(outside)[0]
        raise InvalidInputError(
            f"clamp[{i}, {j}] is {y[i, j]:g}, outside of the box [{net.lower[-1][j]:g}, {net.upper[-1][j]:g}] of that "
            "output: no activations have it"
        )
    return y


def posed(net: LiftedEnergy, X: Float, clamp: Float | None = None) -> tuple[BoxQP, Float]:
    """The program and its linear terms (N, n), free or with ``z_L = clamp``."""
    q = linear_term(net, X)
    if clamp is None:
        return assemble(net), q
    problem = assemble(net, clamped=True)
    q, last = q[:, : problem.n], problem.layers[-1]
    # block (L−1, L) of H, with the output at its value
    q[:, last] += net.gamma ** (net.depth - 1) * (1.0 + net.beta[-1]) * (clamp @ net.weights[-1])
    return problem, q


def sample_qp(net: LiftedEnergy, x: ArrayLike, clamp: ArrayLike | None = None) -> SampleQP:
    """The explicit sparse program of one sample x, shape (d,)."""
    X = as_inputs(np.atleast_2d(np.asarray(x)), net.n_inputs)
    y = None if clamp is None else as_clamp(net, np.atleast_2d(np.asarray(clamp)), len(X))
    if len(X) != 1:
        raise InvalidInputError(f"x holds {len(X)} samples: the explicit program is of one")
    problem, q = posed(net, X, y)
    rest = np.zeros((1, net.n_units))
    if y is not None:
        rest[:, net.layers[-1]] = y
    constant = float(net.energy(X, rest)[0])
    # copies: the assembled program is kept for other calls
    return SampleQP(scipy.sparse.csc_matrix(problem.H), q[0], problem.lower.copy(), problem.upper.copy(), constant)


def natural_residual(problem: BoxQP, q: Float, z: Float) -> Float:
    """``max_i |z − Π(z − (H z − q))|_i`` for every row, shape (N,): zero exactly at the minimiser."""
    step = np.clip(z - (z @ problem.H - q), problem.lower, problem.upper)
    return np.abs(z - step).max(axis=1, initial=0.0)
