r"""Quadratic forms that bound what a difference can still become, pulled back through layers. NumPy only.

Let y be the difference of two inputs of a layer (or of its units' values), ``p = B y`` that of its pre-activations. If
the difference of the network's outputs is at most ``zᵀ Q z`` in square, z that of the layer's values, then it is at
most ``yᵀ Q' y`` for every Q' with

    M = ( Q' − Bᵀ N₀ B    Xᵀ )
        ( X               S  )  ⪰ 0,        S = 2 T − Q_ee,

e being the units whose slopes lie in [c − w, c + w], w > 0, with multipliers T > 0; the others, d, have the slope c:
units that are carried past an activation, linear ones, and those that cannot leave one piece. With
``z = diag(c) p + r``, ``|r_j| ≤ w_j |p_j|``, the S-procedure gives ``zᵀ Q z ≤ zᵀ Q z + Σ_e 2 T_j (w_j² p_j² − r_j²)``,
and the largest value over r is that of

    N₀ = C Q C + 2 T w²,    X = Q_e: C B             in general,
    N₀ = (0, C Q_dd C),     X = (2 c T, Q_ed C) B    where c = w on e (slopes [0, b] or [−b, 0]).

Two layers in a row with slopes [0, b] or [−b, 0] of which the lower one, k, is the wider are pulled back through
together: ``X_k = 2 c T B`` of each, and ``2 T_k``, a diagonal matrix, is eliminated first,

    K = S_{k+1} − X_{k+1} (2 T_k)⁻¹ X_{k+1}ᵀ ≻ 0,   Y = X_{k+1} (2 T_k)⁻¹ X_k,   Q' = X_kᵀ (2 T_k)⁻¹ X_k + Yᵀ K⁻¹ Y,

so that no factor of the order n_k is needed.

**Rounding.** R and D are guesses at a factor: ``R Rᵀ ≈ S − s I``, ``R D ≈ X``. Whatever they are, with
``Q' = DᵀD + Bᵀ N₀ B + Δ I``

    M = (Dᵀ; R)(D, Rᵀ) + ( Δ I − E₁₁   E₂₁ᵀ   )
                         ( E₂₁         s I + E₂₂ ) ,

where ``E₂₁ = X − R D`` and ``E₂₂ = S − s I − R Rᵀ`` are computed and E₁₁ is what rounding did to Q'. If their norms are
at most ε₁₁, ε₂₁ and ε₂₂ < s, ``Δ ≥ ε₁₁ + ε₂₁² / (s − ε₂₂)`` makes the last matrix semidefinite, and so M. Products of
matrices are wrong by γ_n times those of the sizes (:mod:`certnet.proofs.rounding`), whose Frobenius norms are at most
the products of theirs; as Q is semidefinite, ``|Q_ij| ≤ √(Q_ii Q_jj)``, so products with Q are bounded by vectors.
Before every step units are scaled by powers of two, exactly, so that diagonals are of order one; what underflows is
below the floor that is charged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.networks.layers import Dense, Layer, LinearOperator
from certnet.proofs.rounding import SAFETY, U, gamma, sum_and_width

__all__ = ["FARTHEST", "FLOOR", "Form", "Seen", "Shape", "before", "before_two", "gram", "in_pairs", "lost", "sector"]

FLOOR: Final = 2.0**-300  # in units in which everything is of order one
FARTHEST: Final = 500  # exponents of the units' scales: nothing that matters underflows
_NEAR: Final = 150  # the same where scales cannot be taken apart
_SMALL: Final = 48  # rows that are solved for at once


@dataclass(frozen=True, eq=False)
class Form:
    """``yᵀ Q y`` for live units: ``Q_ij = 2^{e_i + e_j} scaled_ij``, scaled symmetric with a diagonal of order one."""

    scaled: Float
    e: NDArray[np.int64]

    @property
    def roots(self) -> Float:
        """At least ``√Q_ii``, scaled."""
        return np.sqrt(np.maximum(np.diagonal(self.scaled), 0.0)) * (1.0 + 4.0 * U)


@dataclass(frozen=True, eq=False)
class Seen:
    """A layer of live units alone: its matrix, centres c and half-widths w of slopes, multipliers of those bending.

    ``operator`` is there where products with it are cheaper than with the matrix: of all units, and no matrix.
    """

    matrix: Float
    c: Float
    w: Float
    T: Float
    operator: LinearOperator | None = None

    @classmethod
    def of(cls, layer: Layer, here: NDArray[np.bool_], below: NDArray[np.bool_], T: Float) -> Seen:
        low, high = (slope[here] for slope in layer.unit_slopes)
        bends = low < high
        total, spread = sum_and_width(low, high)
        c, w = np.where(bends, 0.5 * total, low), np.where(bends, 0.5 * spread, 0.0)
        sparse = here.all() and below.all() and not isinstance(layer.operator, Dense)
        matrix = layer.operator.matrix
        return cls(matrix if sparse else matrix[np.ix_(here, below)], c, w, T, layer.operator if sparse else None)

    @property
    def shape(self) -> Shape:
        n, inputs = self.matrix.shape
        return Shape(n, inputs, self.flat, self.operator is not None)

    @property
    def terms(self) -> int:
        """Products that are summed up for an entry."""
        return max(self.matrix.shape) if self.operator is None else self.operator.terms

    def times(self, x: Float) -> Float:
        """``B x`` for every row x."""
        return x @ self.matrix.T if self.operator is None else self.operator(x)

    def pulled(self, y: Float) -> Float:
        """``Bᵀ y`` for every row y."""
        return y @ self.matrix if self.operator is None else self.operator.adjoint(y)

    @property
    def bends(self) -> NDArray[np.bool_]:
        return self.w > 0.0

    @property
    def one_sided(self) -> bool:
        """Do the slopes of all units that bend begin or end at zero?"""
        bends = self.bends
        return bool((np.abs(self.c[bends]) == self.w[bends]).all())

    @property
    def flat(self) -> bool:
        """Is the matrix of the layer's own sector diagonal: do all units bend, and begin or end at slope zero?"""
        return bool(self.bends.all()) and self.one_sided

    @property
    def narrow(self) -> bool:
        """Is S alone what a bound is asked of, and smaller than a form of the inputs?"""
        return self.flat and self.matrix.shape[1] > self.matrix.shape[0]


def gram(V: Float) -> Form | None:
    """``VᵀV`` from above."""
    f = -np.frexp(np.abs(V).max(axis=0))[1].astype(np.int64)
    scaled = np.ldexp(V, f)
    error = gamma(len(V) + 8) * float(np.sum(scaled * scaled))
    return _rescaled(scaled.T @ scaled, f, error)


def _rescaled(Q: Float, f: NDArray[np.int64], charge: float) -> Form | None:
    """The form ``2^{−f_i − f_j} (Q + charge I)``, in units that make its diagonal one or so; None if out of range."""
    Q = 0.5 * (Q + Q.T)
    Q[np.diag_indices(len(Q))] += SAFETY * (charge + FLOOR)
    t = -(np.frexp(np.diagonal(Q))[1].astype(np.int64) // 2)
    e = -(f + t)
    if not np.isfinite(Q).all() or np.abs(e).max() > FARTHEST:
        return None
    return Form(np.ldexp(np.ldexp(Q, t[:, None]), t), e)


def before(form: Form, seen: Seen) -> Form | None:
    """Q' of the layer's inputs from Q of its values; None where S is not definite, or numbers are out of range."""
    bends, c, w = seen.bends, seen.c, seen.w
    # rows of B in the units of the form, columns of size one: exact
    sizes = np.where(seen.matrix != 0.0, np.frexp(seen.matrix)[1] + form.e[:, None], -(1 << 20))
    f = -sizes.max(axis=0)
    if np.abs(f).max() > 2 * FARTHEST:
        return None
    B = np.ldexp(seen.matrix, form.e[:, None] + f)
    if not bends.any():
        return _through_linear(form, B, c, f)
    found = sector(form, seen)
    if found is None:
        return None
    S, T, g = found
    # the two parts of M beside S, and bounds on the sizes of what their entries are summed from
    rest = ~bends if seen.one_sided else np.ones_like(bends)
    Q = form.scaled
    steep = np.ldexp(form.roots[bends], g)
    reach = np.abs(B[rest]).T @ (np.abs(c[rest]) * form.roots[rest])
    X = (np.ldexp(Q[np.ix_(bends, rest)], g[:, None]) * c[rest]) @ B[rest]
    old = B[rest].T @ ((c[rest, None] * Q[np.ix_(rest, rest)] * c[rest]) @ B[rest])
    own = np.zeros(B.shape[1])
    if seen.one_sided:
        X += np.ldexp(2.0 * c[bends] * T, g)[:, None] * B[bends]
    else:
        bent = (2.0 * T * w[bends] ** 2)[:, None] * B[bends]
        old += B[bends].T @ bent
        own = np.sqrt(np.einsum("ji,ji->i", B[bends], bent))
    return _eliminated(S, X, old, f, _Sizes(steep, reach, own, int(rest.sum()), lost(S, T, g)))


def in_pairs(layers: Sequence[Shape]) -> list[tuple[int, bool]]:
    """From the last layer to the first: through k alone, or (True) through k + 1 and k together; the least work."""
    work, two = [0.0], [False]
    for m, upper in enumerate(layers):
        best, pair = work[m] + _work(upper.n, upper.inputs), False
        if m and upper.flat and layers[m - 1].flat:
            lower = layers[m - 1]
            products = float(lower.n) * (upper.n * (upper.n + lower.inputs) + float(lower.inputs) ** 2)
            together = work[m - 1] + _work(upper.n, lower.inputs) + (0.0 if upper.sparse else products)
            best, pair = (together, True) if together < best else (best, False)
        work.append(best)
        two.append(pair)
    steps, m = [], len(layers)
    while m:
        pair = two[m]
        m -= 2 if pair else 1
        steps.append((m, pair))
    return steps


def _work(n: int, inputs: int) -> float:
    """Multiplications of a factor of order n and of what is solved for with it."""
    return n * (1.3 * n * n + 3.0 * n * inputs + float(inputs) ** 2)


def before_two(form: Form, upper: Seen, lower: Seen) -> Form | None:
    """Q' of the lower layer's inputs from Q of the upper one's values, with no factor of the lower one's order."""
    found = sector(form, upper)
    if found is None:
        return None
    S, T, g = found
    # units of the lower layer are measured so that its multipliers are of order one
    a = np.frexp(lower.T)[1].astype(np.int64) // 2
    scales = (a, form.e + g, np.frexp(upper.matrix)[1], np.frexp(lower.matrix)[1])
    if any(np.abs(exponents).max() > _NEAR for exponents in scales):  # products might underflow
        middle = before(form, upper)
        return None if middle is None else before(middle, lower)
    T_low = np.ldexp(lower.T, -2 * a)
    above, below = np.ldexp(2.0 * upper.c * T, form.e + g), np.ldexp(2.0 * lower.c * T_low, a)
    # X_{k+1} (2 T_k)⁻¹, and its products with X_{k+1} and X_k
    HX = (above[:, None] * np.ldexp(upper.matrix, -a)) / (2.0 * T_low)
    G = upper.times(np.ldexp(HX, -a)) * above
    Y = lower.pulled(HX * below)
    old = lower.pulled((lower.matrix * (below**2 / (2.0 * T_low))[:, None]).T)
    K = S - 0.5 * (G + G.T)
    diagonal = np.diagonal(K)
    if not (np.isfinite(diagonal).all() and diagonal.min() > 0.0):
        return None
    unit = -(np.frexp(diagonal)[1].astype(np.int64) // 2)
    if np.abs(unit).max() > _NEAR:
        return None
    K, Y = np.ldexp(np.ldexp(K, unit[:, None]), unit), np.ldexp(Y, unit[:, None])
    # what the entries of G, Y and old are summed from is at most the products of these
    own = np.abs(np.diagonal(G)) * (1.0 + 1e-9)
    steep, reach = np.ldexp(np.sqrt(own), unit), np.sqrt(np.abs(np.diagonal(old))) * (1.0 + 1e-9)
    terms = max(upper.terms, lower.terms)
    summed = float(np.sum(np.ldexp(own + np.abs(np.diagonal(S)), 2 * unit)))
    wrong = gamma(terms + 24) * summed + lost(S, T, g) * float(np.max(np.ldexp(1.0, 2 * unit)))
    f = np.zeros(len(old), dtype=np.int64)
    return _eliminated(K, Y, old, f, _Sizes(steep, reach, np.zeros(len(old)), terms, wrong))


@dataclass(frozen=True)
class Shape:
    """Of a layer: units, inputs, whether its sector is a diagonal matrix, and whether it is mostly zeros."""

    n: int
    inputs: int
    flat: bool
    sparse: bool


def sector(form: Form, seen: Seen) -> tuple[Float, Float, NDArray[np.int64]] | None:
    """``2^g (2 T − Q_ee) 2^g`` with a diagonal of order one, T in the units of the form, and g."""
    bends = seen.bends
    T = np.ldexp(seen.T, -2 * form.e[bends])
    S = -form.scaled[np.ix_(bends, bends)]
    S[np.diag_indices(len(S))] += 2.0 * T
    diagonal = np.diagonal(S)
    if not (np.isfinite(diagonal).all() and diagonal.min() > 0.0):
        return None
    g = -(np.frexp(diagonal)[1].astype(np.int64) // 2)
    return None if np.abs(g).max() > FARTHEST else (np.ldexp(np.ldexp(S, g[:, None]), g), T, g)


def lost(S: Float, T: Float, g: NDArray[np.int64]) -> float:
    """What the diagonal of :func:`_sector` is wrong by, and will be once a shift is taken off it."""
    return 4.0 * U * float(np.max(np.ldexp(2.0 * T, 2 * g)) + np.abs(np.diagonal(S)).max())


@dataclass(frozen=True, eq=False)
class _Sizes:
    """Bounds on what the parts of M are summed from, beside what S itself is wrong by.

    The products with Q in X are at most ``steep_j reach_i``, summed from ``terms`` terms; those in ``Bᵀ N₀ B`` are at
    most ``reach_i reach_k + own_i own_k``.
    """

    steep: Float
    reach: Float
    own: Float
    terms: int
    wrong: float


def _through_linear(form: Form, B: Float, c: Float, f: NDArray[np.int64]) -> Form | None:
    """``Q' = Bᵀ C Q C B`` of a layer in which nothing bends."""
    reach = np.abs(B).T @ (np.abs(c) * form.roots)
    Q = B.T @ ((c[:, None] * form.scaled * c) @ B)
    # wrong by γ (Σ reach_i |y_i|)² ≤ γ d Σ reach_i² y_i²: inputs whose effects cancel are charged for themselves alone
    Q[np.diag_indices(len(Q))] += SAFETY * gamma(2 * len(B) + 16) * len(Q) * reach**2
    return _rescaled(Q, f, 0.0)


def _units(Q: Float) -> NDArray[np.int64]:
    """Exponents that bring the diagonal to order one."""
    return -(np.frexp(np.abs(np.diagonal(Q)))[1].astype(np.int64) // 2)


def _eliminated(S: Float, X: Float, old: Float, f: NDArray[np.int64], sizes: _Sizes) -> Form | None:
    """``old + Xᵀ S⁻¹ X`` from above, S with a diagonal of order one."""
    n = len(S)
    s = 2.25 * sizes.wrong + 6.0 * gamma(n + 8) * n
    S[np.diag_indices(n)] -= s
    try:
        R = np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        return None
    D = _solved(R, X)
    Q = D.T @ D
    Q += old
    unit = _units(Q)
    scaled = np.ldexp(D, unit)
    size_R, size_D = float(np.sum(R * R)), float(np.sum(scaled * scaled))
    # E₂₂ = S − s I − R Rᵀ
    e22 = _norm(S - R @ R.T) + gamma(n + 8) * (size_R + _norm(S)) + sizes.wrong
    # E₂₁ = X − R D, and what X itself was wrong by
    lost = np.ldexp(X - R @ D, unit)
    X = np.ldexp(X, unit)
    reach = np.ldexp(sizes.reach, unit)
    known = _norm(sizes.steep) * _norm(reach)
    e21 = _norm(lost) + gamma(n + 8) * (math.sqrt(size_R * size_D) + _norm(X))
    e21 += gamma(8) * _norm(X) + gamma(sizes.terms + 16) * known
    # E₁₁: the rounding of Q'
    e11 = gamma(n + 16) * size_D
    e11 += gamma(2 * (sizes.terms + n) + 32) * (_norm(reach) ** 2 + _norm(np.ldexp(sizes.own, unit)) ** 2)
    e11 += gamma(8) * float(np.sum(np.ldexp(np.abs(np.diagonal(Q)), 2 * unit)))
    room = s - SAFETY * (e22 + FLOOR)
    if not room > 0.0:
        return None
    charge = e11 + (e21 + FLOOR) ** 2 / room
    if not math.isfinite(charge):
        return None
    return _rescaled(np.ldexp(np.ldexp(Q, unit[:, None]), unit), f + unit, SAFETY * charge)


def _norm(values: Float) -> float:
    return float(np.linalg.norm(values))


def _solved(R: NDArray[Any], X: Float) -> Float:
    """``R⁻¹ X`` for a lower triangular R, by halves; a guess, whose residual is looked at."""
    D = np.array(X)

    def solve(a: int, b: int) -> None:
        if b - a <= _SMALL:
            D[a:b] = np.linalg.solve(R[a:b, a:b], D[a:b])
            return
        half = (a + b) // 2
        solve(a, half)
        D[half:b] -= R[half:b, a:half] @ D[a:half]
        solve(half, b)

    solve(0, len(R))
    return D
