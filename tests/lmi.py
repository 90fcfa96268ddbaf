"""LipSDP from its definition (Fazlyab et al. 2019, Theorem 2), for any depth: the second implementation of the tests.

With A the map from ``x = (x_0, …, x_ℓ)`` to all pre-activations ``W_k x_k``, and B the one to all ``x_{k+1}``, ρ is
feasible with diagonal T ≥ 0 where

    [A; B]ᵀ [ −2 α β T   (α + β) T ] [A; B]  +  diag(−ρ I, 0, …, 0, W_ℓᵀ W_ℓ)  ⪯  0.
            [ (α + β) T      −2 T  ]

In numbers of any kind: floats for Clarabel, fractions for the question whether a given (ρ, T) is feasible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import clarabel
import numpy as np
from exact import definite
from scipy import sparse

Array = np.ndarray[Any, Any]
Slopes = Sequence[tuple[Array, Array]]
"""(low, high) of every hidden layer's units."""
Form = Callable[[Sequence[Array], Slopes], tuple[Array, list[Array], Array]]


@dataclass(frozen=True)
class Optimum:
    """ρ* and its uncertainty: the solver's own gap and residuals, relative to ρ*."""

    rho: float
    error: float


def coefficients(weights: Sequence[Array], slopes: Slopes) -> tuple[Array, list[Array], Array]:
    """Matrices E, (A_i), C of the order of x with the left-hand side ``−(ρ E + Σ_i T_i A_i + C)``."""
    starts = np.cumsum([0, *(W.shape[1] for W in weights)]).tolist()
    zero = weights[0].flat[0] * 0

    def row(layer: int, values: Array) -> Array:
        whole = np.full(starts[-1], zero)
        whole[starts[layer] : starts[layer + 1]] = values
        return whole

    def square(rows: Sequence[Array]) -> Array:
        return sum((np.outer(r, r) for r in rows), start=np.full((starts[-1], starts[-1]), zero))

    units = []
    for k, (W, (low, high)) in enumerate(zip(weights, slopes)):
        for w, one, a, b in zip(W, np.eye(len(W), dtype=int) + zero, low, high):
            before, after = row(k, w), row(k + 1, one)
            cross = np.outer(before, after)
            form = 2 * a * b * np.outer(before, before) - (a + b) * (cross + cross.T) + 2 * np.outer(after, after)
            units.append(form)
    inputs = [row(0, one) for one in np.eye(weights[0].shape[1], dtype=int) + zero]
    return square(inputs), units, -square([row(len(weights) - 1, v) for v in weights[-1]])


def centred(weights: Sequence[Array], slopes: Slopes) -> tuple[Array, list[Array], Array]:
    """The same after the congruence ``x_{k+1} = ½ (α + β) W_k x_k + ½ (β − α) e_{k+1}``, with T times ``½ (β − α)²``.

    The condition on the slopes is then ``|e_i| ≤ |z_i|``. Nothing cancels and no multiplier is large where slopes are
    narrow, and a linear unit needs none.
    """
    starts = np.cumsum([0, *(W.shape[1] for W in weights)]).tolist()
    basis = np.split(np.eye(starts[-1]), starts[1:-1])
    inputs = x = basis[0]
    units: list[Array] = []
    for W, (low, high), e in zip(weights, slopes, basis[1:]):
        z = W @ x
        units += [np.outer(a, a) - np.outer(b, b) for a, b in zip(e, z)]
        x = 0.5 * (low + high)[:, None] * z + 0.5 * (high - low)[:, None] * e
    outputs = weights[-1] @ x
    return inputs.T @ inputs, units, -outputs.T @ outputs


def optimum(weights: Sequence[Array], slopes: Slopes, *, per: str = "neuron", form: Form = coefficients) -> Optimum:
    """The smallest feasible ρ by Clarabel; weights of norm about one, for its tolerances are absolute."""
    E, forms, C = form(weights, slopes)
    if per == "layer":
        ends = np.cumsum([0, *(len(W) for W in weights[:-1])])
        forms = [sum(forms[i:j], start=0.0 * C) for i, j in pairwise(ends)]
    n, unknowns = len(C), 1 + len(forms)
    columns = np.stack([_triangle(M) for M in (E, *forms)], axis=1)
    # T ≥ 0, then the matrix in its cone
    sign = sparse.hstack([sparse.csc_matrix((len(forms), 1)), -sparse.eye(len(forms))])
    A = sparse.csc_matrix(sparse.vstack([sign, sparse.csc_matrix(-columns)]))
    b = np.concatenate([np.zeros(len(forms)), _triangle(C)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    cones = [clarabel.NonnegativeConeT(len(forms)), clarabel.PSDTriangleConeT(n)]
    cost = np.eye(1, unknowns)[0]
    found = clarabel.DefaultSolver(sparse.csc_matrix((unknowns, unknowns)), cost, A, b, cones, settings).solve()
    rho = 0.5 * (found.obj_val + found.obj_val_dual)
    return Optimum(rho, abs(found.obj_val - found.obj_val_dual) / rho + found.r_prim + found.r_dual)


def _triangle(M: Array) -> Array:
    """The upper triangle by columns, off-diagonal entries times √2: Clarabel's vector of a symmetric matrix."""
    i, j = np.tril_indices(len(M))
    return np.asarray(M[i, j] * np.where(i == j, 1.0, math.sqrt(2.0)))


def exactly_feasible(weights: Sequence[Array], slopes: Slopes, T: Sequence[float], upper: float) -> bool:
    """Is ``ρ = upper²`` feasible with T, in rational arithmetic?"""
    E, forms, C = coefficients([_rational(W) for W in weights], [(_rational(a), _rational(b)) for a, b in slopes])
    P = Fraction(upper) ** 2 * E + C
    for t, form in zip(T, forms):
        P = P + Fraction(t) * form
    return definite(P.tolist())


def _rational(values: Array) -> Array:
    return np.array([Fraction(v) for v in values.ravel().tolist()], dtype=object).reshape(values.shape)


def live(weights: Sequence[Array]) -> list[Array]:
    """Weights without the hidden units that are constant or that nothing listens to: LipSDP has no use for them.

    The multiplier of a constant unit would have to be infinite, which no solver can say.
    """
    kept = list(weights)
    for _ in weights:
        for k in range(len(kept) - 1):
            alive = kept[k].any(axis=1) & kept[k + 1].any(axis=0)
            kept[k], kept[k + 1] = kept[k][alive], kept[k + 1][:, alive]
    return kept


def normalised(weights: Sequence[Array], *, units: bool = True) -> tuple[list[Array], int]:
    """Weights of order one and e such that ρ of the given ones is ``4^e`` times theirs; every factor a power of two.

    ``w_j / κ_j`` and ``κ_j V_:j`` give the same ρ (a congruence; not with one multiplier per layer, so ``units`` says
    whether to do it), and ρ is homogeneous of degree two in every layer.
    """
    scaled = [np.array(W) for W in weights]
    for k in range(len(scaled) - 1 if units else 0):
        before, after = np.abs(scaled[k]).max(axis=1), np.abs(scaled[k + 1]).max(axis=0)
        half = (np.frexp(after)[1] - np.frexp(before)[1]) // 2
        scaled[k], scaled[k + 1] = np.ldexp(scaled[k], half[:, None]), np.ldexp(scaled[k + 1], -half)
    exponents = [int(np.frexp(np.linalg.norm(W, 2))[1]) for W in scaled]
    return [np.ldexp(W, -e) for W, e in zip(scaled, exponents)], sum(exponents)
