r"""Proofs layer by layer, backwards: quadratic forms that bound what a difference can still become. NumPy only.

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

From ``Q = VᵀV`` of the output layer this leads to Q_0 of the inputs, and ``ρ I − Q_0 ⪰ 0`` proves ``L² ≤ ρ``; in the
maximum norm ``ρ diag(μ) / Σ μ − Q_0 ⪰ 0`` does, for ``Σ μ_i y_i² ≤ Σ μ ‖y‖_∞²``. No matrix is larger than a layer, the
work is Σ n_k³.

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
from numpy.typing import ArrayLike, NDArray

from certnet.core.validation import Float
from certnet.networks.layers import Layer
from certnet.networks.network import Network
from certnet.proofs.inflation import inflated
from certnet.proofs.proof import Checker
from certnet.proofs.rounding import SAFETY, U, double_below, gamma, read_numbers, shown, sum_and_width
from certnet.proofs.selection import live_units
from certnet.proofs.semidefinite import is_semidefinite_entrywise

__all__ = ["StorageChecker"]

_FLOOR: Final = 2.0**-300  # in units in which everything is of order one
_FARTHEST: Final = 500  # exponents of the units' scales: nothing that matters underflows
_SMALL: Final = 48  # rows that are solved for at once
_LEAST_SHARE: Final = 2.0**-64  # of the largest input weight: what any is raised by, so that none is zero


@dataclass(frozen=True, eq=False)
class _Form:
    """``yᵀ Q y`` for live units: ``Q_ij = 2^{e_i + e_j} scaled_ij``, scaled symmetric with a diagonal of order one."""

    scaled: Float
    e: NDArray[np.int64]

    @property
    def roots(self) -> Float:
        """At least ``√Q_ii``, scaled."""
        return np.sqrt(np.maximum(np.diagonal(self.scaled), 0.0)) * (1.0 + 4.0 * U)


class StorageChecker(Checker):
    """A network of any operators and multipliers of its bending units, prepared to test many bounds.

    Parameters
    ----------
    network : Network
    multipliers : sequence of ℓ array_like
        Of every hidden layer, one positive number per unit that bends, none where its activation is linear. Those of
        units that cannot move, or move nothing, do not matter.
    weights : array_like, shape (d,), optional
        For the maximum norm: μ of the inputs, non-negative and not all zero. Only their ratios count.
    """

    def __init__(self, network: Network, multipliers: Sequence[ArrayLike], weights: ArrayLike | None = None) -> None:
        alive = live_units([layer.operator for layer in network.layers])
        self._last: _Whole | _Narrow | None = None
        given = _numbers(network, multipliers, alive)
        shares = None if weights is None else _shares(weights, network.n_inputs, alive[0])
        if isinstance(given, str) or isinstance(shares, str):
            self.refusal = given if isinstance(given, str) else str(shares)
        elif all(units.any() for units in alive):  # else no input moves an output
            with np.errstate(all="ignore"):  # what overflows is refused
                found = _last(network, given, alive, shares)
            if isinstance(found, str):
                self.refusal = found
            else:
                self._last = found

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved. A factorisation of the order of the inputs."""
        claimed = double_below(upper)
        if claimed is None or not 0.0 < claimed < 2.0**500:
            return f"the bound {shown(upper)} is not a positive number of reasonable size"
        if self._last is None:
            return None
        with np.errstate(all="ignore"):
            proved = self._last.at_most(claimed)
        return None if proved else f"the multipliers do not prove L <= {upper!r}"

    def smallest(self, guess: float) -> float | None:
        return None if self.refusal is not None else inflated(self.holds, guess)


@dataclass(frozen=True, eq=False)
class _Whole:
    """``L² ≤ ρ`` where ``ρ diag(shares) − Q_0 ⪰ 0``; shares are 1 for the Euclidean norm, else sum up to 1 at most."""

    form: _Form
    shares: Float

    def at_most(self, claimed: float) -> bool:
        e, top = self.form.e, int(np.max(self.form.e))
        # in units of the steepest input: a bound of any size becomes one of order one
        e, rho = e - top, _square_below(claimed, top)
        if not 2.0**-_FARTHEST < rho < 2.0**_FARTHEST or np.min(e) < -_FARTHEST:
            return False
        Q = np.ldexp(np.ldexp(self.form.scaled, e[:, None]), e)
        own = rho * self.shares
        # inputs with small shares are measured in units in which these are of order one
        unit = -(np.frexp(self.shares)[1].astype(np.int64) // 2)
        P, error = -np.ldexp(np.ldexp(Q, unit[:, None]), unit), np.full_like(Q, _FLOOR)
        own = np.ldexp(own, 2 * unit)
        P[np.diag_indices(len(P))] += own
        error[np.diag_indices(len(P))] += gamma(8) * (own + np.abs(np.diagonal(P)))
        return is_semidefinite_entrywise(P, error)


@dataclass(frozen=True, eq=False)
class _Narrow:
    """``L² ≤ ρ`` where ``S − G / ρ ⪰ 0``, ``G = X Xᵀ``, in units 2^unit of the inputs: more inputs than units.

    S is wrong by ``wrong_S`` at most, in norm, ``G_ij`` by ``wrong_G_i wrong_G_j``.
    """

    S: Float
    G: Float
    wrong_S: float
    wrong_G: Float
    unit: int

    def at_most(self, claimed: float) -> bool:
        rho = _square_below(claimed, -self.unit)
        if not 2.0**-_FARTHEST < rho < 2.0**_FARTHEST:
            return False
        share = self.G / rho
        P = self.S - share
        wrong = self.wrong_G / math.sqrt(rho)
        error = np.outer(wrong, wrong) * (1.0 + gamma(16)) + 4.0 * U * (np.abs(share) + np.abs(P)) + _FLOOR
        error[np.diag_indices(len(P))] += self.wrong_S
        return is_semidefinite_entrywise(P, error)


def _square_below(claimed: float, unit: int) -> float:
    """At most ``(claimed / 2^unit)²``."""
    size = float(np.ldexp(claimed, -unit))
    return size * size * (1.0 - 4.0 * U)


def _shares(weights: ArrayLike, n: int, live: NDArray[np.bool_]) -> Float | str:
    """Positive numbers of the live inputs whose sum is at most 1; a sentence where the weights are not to be used."""
    mu = read_numbers(weights, "input weight", n, "inputs")
    if isinstance(mu, str):
        return mu
    top = float(mu.max())
    if top == 0.0:
        return "the input weights are all zero"
    # any positive weights may be used: what is rounded here makes others of them, and no false claim
    with np.errstate(under="ignore"):
        mu = np.ldexp(mu, -int(np.frexp(top)[1]))[live] + _LEAST_SHARE
    return np.nextafter(mu / math.nextafter(math.fsum(mu), math.inf), 0.0)


def _numbers(
    network: Network, multipliers: Sequence[ArrayLike], alive: Sequence[NDArray[np.bool_]]
) -> list[Float] | str:
    """One vector of multipliers per hidden layer; a sentence where they are no such numbers."""
    if len(multipliers) != network.depth:
        return f"there are multipliers for {len(multipliers)} layers, the network has {network.depth} hidden layers"
    found = []
    for k, (given, layer, live) in enumerate(zip(multipliers, network.layers, alive[1:])):
        try:
            t = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return f"the multipliers of layer {k} are not numbers"
        n = n_multipliers(layer)
        if t.shape != (n,):
            return f"layer {k} has {n} units that bend and multipliers of shape {t.shape}"
        used = t[live[:n]]
        if not (np.isfinite(used).all() and bool((used > 0.0).all())):
            return f"a multiplier of layer {k} is not positive and finite"
        found.append(t)
    return found


def n_multipliers(layer: Layer) -> int:
    """How many units of a layer have a multiplier: those that bend, none where the activation is linear."""
    low, high = layer.activation.slopes
    return 0 if low == high else layer.n_bending


def _last(
    network: Network, multipliers: Sequence[Float], alive: Sequence[NDArray[np.bool_]], shares: Float | None
) -> _Whole | _Narrow | str:
    """What remains to be asked of a bound; a sentence where multipliers are too small, or numbers too large."""
    layers = [
        _Seen.of(layer, here, below, T[here[: len(T)]])
        for layer, here, below, T in zip(network.layers, alive[1:], alive, multipliers)
    ]
    form = _gram(network.layers[-1].operator.matrix[np.ix_(alive[-1], alive[-2])])
    for k in reversed(range(network.depth)):
        if form is None:
            break
        narrow = k == 0 and shares is None and layers[k].narrow
        if narrow:
            last = _narrow(form, layers[k])
            return f"its numbers are too large, or those of layer {k} too small" if last is None else last
        form = _before(form, layers[k])
        if form is None:
            return f"the multipliers of layer {k} do not bound what follows it, or its numbers are too large"
    if form is None:
        return "the weights of the last layer are too large"
    return _Whole(form, np.ones(len(form.e)) if shares is None else shares)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layer of live units alone: its matrix, centres c and half-widths w of slopes, multipliers of those bending."""

    matrix: Float
    c: Float
    w: Float
    T: Float

    @classmethod
    def of(cls, layer: Layer, here: NDArray[np.bool_], below: NDArray[np.bool_], T: Float) -> _Seen:
        low, high = (slope[here] for slope in layer.unit_slopes)
        bends = low < high
        total, spread = sum_and_width(low, high)
        c, w = np.where(bends, 0.5 * total, low), np.where(bends, 0.5 * spread, 0.0)
        return cls(layer.operator.matrix[np.ix_(here, below)], c, w, T)

    @property
    def bends(self) -> NDArray[np.bool_]:
        return self.w > 0.0

    @property
    def one_sided(self) -> bool:
        """Do the slopes of all units that bend begin or end at zero?"""
        bends = self.bends
        return bool((np.abs(self.c[bends]) == self.w[bends]).all())

    @property
    def narrow(self) -> bool:
        """Is S alone what a bound is asked of, and smaller than a form of the inputs?"""
        return bool(self.bends.all()) and self.one_sided and self.matrix.shape[1] > self.matrix.shape[0]


def _gram(V: Float) -> _Form | None:
    """``VᵀV`` from above."""
    f = -np.frexp(np.abs(V).max(axis=0))[1].astype(np.int64)
    scaled = np.ldexp(V, f)
    error = gamma(len(V) + 8) * float(np.sum(scaled * scaled))
    return _rescaled(scaled.T @ scaled, f, error)


def _rescaled(Q: Float, f: NDArray[np.int64], charge: float) -> _Form | None:
    """The form ``2^{−f_i − f_j} (Q + charge I)``, in units that make its diagonal one or so; None if out of range."""
    Q = 0.5 * (Q + Q.T)
    Q[np.diag_indices(len(Q))] += SAFETY * (charge + _FLOOR)
    t = -(np.frexp(np.diagonal(Q))[1].astype(np.int64) // 2)
    e = -(f + t)
    if not np.isfinite(Q).all() or np.abs(e).max() > _FARTHEST:
        return None
    return _Form(np.ldexp(np.ldexp(Q, t[:, None]), t), e)


def _before(form: _Form, seen: _Seen) -> _Form | None:
    """Q' of the layer's inputs from Q of its values; None where S is not definite, or numbers are out of range."""
    bends, c, w = seen.bends, seen.c, seen.w
    # rows of B in the units of the form, columns of size one: exact
    sizes = np.where(seen.matrix != 0.0, np.frexp(seen.matrix)[1] + form.e[:, None], -(1 << 20))
    f = -sizes.max(axis=0)
    if np.abs(f).max() > 2 * _FARTHEST:
        return None
    B = np.ldexp(seen.matrix, form.e[:, None] + f)
    if not bends.any():
        return _through_linear(form, B, c, f)
    sector = _sector(form, seen)
    if sector is None:
        return None
    S, T, g = sector
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
    return _eliminated(S, X, old, f, _Sizes(steep, reach, own, int(rest.sum()), _lost(S, T, g)))


def _sector(form: _Form, seen: _Seen) -> tuple[Float, Float, NDArray[np.int64]] | None:
    """``2^g (2 T − Q_ee) 2^g`` with a diagonal of order one, T in the units of the form, and g."""
    bends = seen.bends
    T = np.ldexp(seen.T, -2 * form.e[bends])
    S = -form.scaled[np.ix_(bends, bends)]
    S[np.diag_indices(len(S))] += 2.0 * T
    diagonal = np.diagonal(S)
    if not (np.isfinite(diagonal).all() and diagonal.min() > 0.0):
        return None
    g = -(np.frexp(diagonal)[1].astype(np.int64) // 2)
    return None if np.abs(g).max() > _FARTHEST else (np.ldexp(np.ldexp(S, g[:, None]), g), T, g)


def _lost(S: Float, T: Float, g: NDArray[np.int64]) -> float:
    """What the diagonal of :func:`_sector` is wrong by, and will be once a shift is taken off it."""
    return 4.0 * U * float(np.max(np.ldexp(2.0 * T, 2 * g)) + np.abs(np.diagonal(S)).max())


def _narrow(form: _Form, seen: _Seen) -> _Narrow | None:
    """S and ``X Xᵀ`` of the first layer, ``X = 2 c T B``, in one unit of all inputs."""
    sector = _sector(form, seen)
    if sector is None:
        return None
    S, T, g = sector
    factor = 2.0 * seen.c * T
    exponents = (
        np.where(seen.matrix != 0.0, np.frexp(seen.matrix)[1], -(1 << 20)) + (form.e + g + np.frexp(factor)[1])[:, None]
    )
    unit = -int(exponents.max())
    if abs(unit) > 4 * _FARTHEST:
        return None
    mantissa, power = np.frexp(factor)
    X = mantissa[:, None] * np.ldexp(seen.matrix, (form.e + g + power)[:, None] + unit)
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X))
    wrong = lengths * math.sqrt(gamma(X.shape[1] + 16)) * (1.0 + gamma(X.shape[1] + 16)) + 2.0**-250
    return _Narrow(S, X @ X.T, _lost(S, T, g), wrong, unit)


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


def _through_linear(form: _Form, B: Float, c: Float, f: NDArray[np.int64]) -> _Form | None:
    """``Q' = Bᵀ C Q C B`` of a layer in which nothing bends."""
    reach = np.abs(B).T @ (np.abs(c) * form.roots)
    Q = B.T @ ((c[:, None] * form.scaled * c) @ B)
    unit = _units(Q)
    charge = gamma(2 * len(B) + 16) * float(np.sum(np.ldexp(reach, unit) ** 2))
    return _rescaled(np.ldexp(np.ldexp(Q, unit[:, None]), unit), f + unit, charge)


def _units(Q: Float) -> NDArray[np.int64]:
    """Exponents that bring the diagonal to order one."""
    return -(np.frexp(np.abs(np.diagonal(Q)))[1].astype(np.int64) // 2)


def _eliminated(S: Float, X: Float, old: Float, f: NDArray[np.int64], sizes: _Sizes) -> _Form | None:
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
    room = s - SAFETY * (e22 + _FLOOR)
    if not room > 0.0:
        return None
    charge = e11 + (e21 + _FLOOR) ** 2 / room
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
