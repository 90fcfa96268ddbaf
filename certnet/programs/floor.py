r"""A floor under all networks: no function, of any width or depth, has a smaller objective than this.

Values f_i of an ℓ-Lipschitz function at the samples satisfy ``‖f_i − f_k‖ ≤ ℓ d_ik``, ``d_ik = ‖x_i − x_k‖``. So,
with distinct samples of shares p_i and mean targets t_i,

    J* = min_{f, ℓ ≥ 0}  Σ_i p_i ‖f_i − t_i‖² + spread + λ ℓ²   subject to   ‖f_i − f_k‖ ≤ ℓ d_ik for all pairs

is at most ``(1/N) Σ_i ‖f(x_i) − y_i‖² + λ L(f)²`` for every f. A vector g_e in R^m for every pair e = (i, k), with
``a = Σ_e (g_e at i, −g_e at k)``, proves by weak duality (f and ℓ eliminated: ``f_i = t_i − a_i / 2 p_i``,
``ℓ = Σ_e d_e ‖g_e‖ / 2 λ``), scaled by the best factor,

    J* ≥ spread + B² / 4 Q,    B = Σ_e g_eᵀ (t_i − t_k) > 0,    Q = Σ_i ‖a_i‖² / 4 p_i + (Σ_e d_e ‖g_e‖)² / 4 λ.

Few pairs bind, so g lives on a working set that grows by the pairs that its optimum violates. On it, B − Q is maximised
by accelerated proximal steps (Beck & Teboulle 2009, restarted as in O'Donoghue & Candès 2015) with one step size per
pair; every g that comes up, the last one included when time runs out, is a proof.

Some function reaches J* (McShane 1934 for one output, Kirszbraun 1934 for several: the f_i extend to all inputs with
the same constant); networks of a given shape need not.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from certnet.core.digits import above, below
from certnet.core.errors import InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_samples, finite_array, positive_number
from certnet.proofs.rounding import gamma

__all__ = ["Floor", "objective_floor"]

Index = NDArray[np.intp]

_TINY: Final = 2.0**-500  # above every error that underflow can make in a distance, a target or a sum
_LEAST: Final = 2.0**-900  # smaller proofs are not worth the care that underflow would ask for
_WEIGHTS: Final = (2.0**-800, 2.0**900)  # of scaled problems: outside, the floor is that of a smaller weight
_BLOCK: Final = 1 << 21  # pairs looked at together: a few arrays of 16 MB
_PER_POINT: Final = 4  # pairs that one sweep adds for one sample, at most
_MAX_ROUNDS: Final = 60
_MAX_STEPS: Final = 3000  # between two sweeps
_LEAST_GAIN: Final = 1e-15  # relative; steps that gain less do nothing


@dataclass(frozen=True)
class Floor:
    """A proved lower bound on ``mse + weight · L²`` of every function, and how much higher it could be at most.

    Attributes
    ----------
    value : float
        The bound. Rounding errors of its evaluation are bounded and subtracted (IEEE 754 doubles, to nearest).
    primal : float
        Objective of a feasible point of the relaxation, in floating point: no proof by this method exceeds it.
    lipschitz : float
        ℓ of that point, in units of y per unit of X; 0 where it is the constant function, infinite where the time did
        not suffice to know it (weight 0).
    n_pairs : int
        Pairs of samples with a multiplier in the proof.
    seconds : float
    status : Status
    """

    value: float
    primal: float
    lipschitz: float
    n_pairs: int
    seconds: float
    status: Status

    @property
    def gap(self) -> float:
        """``(primal − value) / primal``; 0 where both are 0."""
        if self.primal == math.inf:
            return 0.0 if self.value == math.inf else 1.0
        return (self.primal - self.value) / self.primal if self.primal > 0.0 else 0.0

    def __repr__(self) -> str:
        return f"Floor(objective >= {below(self.value)}, gap {above(self.gap, 2)}, {self.status.name})"


def objective_floor(
    X: ArrayLike,
    y: ArrayLike,
    weight: float,
    *,
    time_limit: float = 60.0,
    tol: float = 1e-4,
    callback: Callable[[Floor], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Floor:
    """A lower bound on ``(1/N) Σ_i ‖f(x_i) − y_i‖² + weight · L²`` over all functions f with Lipschitz constant L.

    Norms are Euclidean, of inputs and of outputs.

    Parameters
    ----------
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    weight : float
        λ ≥ 0, in units of mean squared error per squared Lipschitz constant. With 0 the floor is the spread of the
        targets of equal samples.
    time_limit : float
        Seconds; the best bound so far is returned. One sweep over all pairs of 20 000 samples takes a few seconds, over
        ten times as many a hundred times as long; one that finds no end leaves half of the time to the bound.
    tol : float
        Relative gap at which the search ends. For several outputs at nearly equal samples the gap may stay above it
        although the bound is good.
    callback : callable, optional
        Called with the best :class:`Floor` so far after every sweep.
    should_stop : callable, optional
        Asked after every sweep; true ends the search with the best so far, and without a warning.

    Returns
    -------
    Floor
        Valid whatever its status.

    Raises
    ------
    InvalidInputError
        Shapes, no samples or columns, NaN, weight < 0, time_limit or tol not positive.

    Warns
    -----
    NotConvergedWarning
        The gap is above ``tol``.

    Examples
    --------
    >>> floor = objective_floor([[0.0], [1.0]], [0.0, 1.0], weight=0.5)  # ½ (¼ + ¼) is what ℓ = 0 costs
    >>> round(floor.value, 6), round(floor.lipschitz, 6)
    (0.166667, 0.333333)
    """
    begin = time.perf_counter()
    weight = positive_number(weight, "weight", zero=True)
    time_limit, tol = positive_number(time_limit, "time_limit"), positive_number(tol, "tol")
    X, y = _samples(X, y)
    x_unit, y_unit = _exponent(X), _exponent(y)
    problem = _Problem.of(X, y, weight, x_unit, y_unit)
    best = Floor(0.0, math.inf, 0.0, 0, 0.0, Status.INACCURATE)
    for proof, point in _rounds(problem, begin + time_limit, tol):
        best = _floor(problem, proof, point, x_unit, y_unit, begin)
        if best.gap <= tol:
            best = replace(best, status=Status.OPTIMAL)
        elif best.seconds >= time_limit:
            best = replace(best, status=Status.TIME_LIMIT)
        if callback is not None:
            callback(best)
        if should_stop is not None and should_stop() and not best.status.ok:
            best = replace(best, status=Status.INTERRUPTED)
        if best.status is not Status.INACCURATE:
            break
    if not best.status.ok and best.status is not Status.INTERRUPTED:
        warnings.warn(
            f"the floor {below(best.value)} holds but could be up to {above(best.primal)} (gap {above(best.gap, 2)}): "
            f"{best.status.advice}",
            NotConvergedWarning,
            stacklevel=2,
        )
    return best


# -------------------------------------------------------------------------------------------------------- problem


@dataclass(frozen=True, eq=False)
class _Problem:
    """Distinct samples in random order, X and y divided by powers of two so that no entry exceeds 1.

    ``points`` (n, d), ``shares`` (n,), ``targets`` (n, m) with their largest error per entry ``error`` (n, m), the
    ``spread`` with a value that it is certainly not below, and the weight of the scaled problem.
    """

    points: Float
    shares: Float
    targets: Float
    error: Float
    spread: float
    spread_below: float
    weight: float

    @classmethod
    def of(cls, X: Float, y: Float, weight: float, x_unit: int, y_unit: int) -> _Problem:
        # rows are merged before they are scaled: two that differ stay two, though underflow may make them look equal
        rows, where, counts = np.unique(X + 0.0, axis=0, return_inverse=True, return_counts=True)
        where, y = where.ravel(), np.ldexp(y, -y_unit)
        sums, sizes = np.zeros((2, len(rows), y.shape[1]))
        np.add.at(sums, where, y)
        np.add.at(sizes, where, np.abs(y))
        targets = sums / counts[:, None]
        growth = np.array([gamma(int(n) + 2) if n > 1 else 0.0 for n in counts])[:, None]
        error = growth * sizes / counts[:, None] + _TINY
        off = np.abs(y - targets[where])
        certain = np.maximum(off * (1.0 - gamma(8)) - error[where], 0.0)
        spread, spread_below = (float(np.sum(a**2)) / len(y) for a in (off, certain))
        order = np.random.default_rng(0).permutation(len(rows))  # a sweep that is cut short is a fair sample
        return cls(
            np.ldexp(rows[order], -x_unit),
            counts[order] / len(y),
            targets[order],
            error[order],
            spread,
            _not_tiny(spread_below * (1.0 - gamma(y.size + 8))),
            _scaled_weight(weight, x_unit),
        )

    @property
    def centred(self) -> Float:
        return self.targets - self.shares @ self.targets


def _samples(X: ArrayLike, y: ArrayLike) -> tuple[Float, Float]:
    X, y = finite_array(X, "X", ndim=(1, 2)), finite_array(y, "y", ndim=(1, 2))
    X, y = as_samples(X, y, X.shape[-1], 1 if y.ndim == 1 else y.shape[1])
    if X.shape[1] == 0 or y.shape[1] == 0:
        raise InvalidInputError(f"X has shape {X.shape} and y {y.shape}: at least one column of each is needed")
    return X, y


def _exponent(array: Float) -> int:
    """e with ``2^(e−1) ≤ max|array| < 2^e``; 0 for zeros."""
    return math.frexp(float(np.abs(array).max()))[1]


def _scaled_weight(weight: float, x_unit: int) -> float:
    """``weight / 4^x_unit``, exact or smaller: a smaller weight has a smaller floor."""
    mantissa, exponent = math.frexp(weight)
    exponent -= 2 * x_unit
    if weight == 0.0 or exponent <= math.frexp(_WEIGHTS[0])[1]:
        return 0.0
    return _WEIGHTS[1] if exponent >= math.frexp(_WEIGHTS[1])[1] else math.ldexp(mantissa, exponent)


def _floor(problem: _Problem, proof: _Proof, point: _Point, x_unit: int, y_unit: int, begin: float) -> Floor:
    """The proof and the point in the units of the data."""
    value = _times_power((problem.spread_below + proof.value) * (1.0 - gamma(8)), 2 * y_unit)
    value = min(math.nextafter(value, 0.0), float(np.finfo(np.float64).max))
    primal = _times_power(problem.spread + point.value, 2 * y_unit)
    slope = _times_power(point.slope, y_unit - x_unit)
    seconds = time.perf_counter() - begin
    return Floor(value, max(primal, value), slope, proof.n_pairs, seconds, Status.INACCURATE)


def _not_tiny(number: float) -> float:
    """0 for a sum of so small terms that underflow may have rounded them up by more than the charge for rounding."""
    return number if number > _LEAST else 0.0


def _times_power(number: float, exponent: int) -> float:
    try:
        return math.ldexp(number, exponent)
    except OverflowError:
        return math.inf


# ---------------------------------------------------------------------------------------------------------- proof


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs ``i < k`` with distances that are rounded up and positive."""

    i: Index
    k: Index
    d: Float

    @classmethod
    def of(cls, points: Float, codes: Index) -> _Pairs:
        i, k = np.divmod(codes, len(points))
        square = np.sum((points[i] - points[k]) ** 2, axis=1)
        return cls(i, k, np.sqrt(square) * (1.0 + gamma(points.shape[1] + 6)) + _TINY)

    def difference(self, values: Float) -> Float:
        """``values_i − values_k`` for every pair."""
        return values[self.i] - values[self.k]

    def gather(self, g: Float, n: int, *, sign: float = -1.0) -> Float:
        """``Σ_e (g_e at i, sign · g_e at k)``, shape (n, m)."""
        sums = [
            np.bincount(self.i, column, minlength=n) + sign * np.bincount(self.k, column, minlength=n) for column in g.T
        ]
        return np.stack(sums, axis=1)

    def degrees(self, n: int) -> Index:
        return np.bincount(self.i, minlength=n) + np.bincount(self.k, minlength=n)


@dataclass(frozen=True)
class _Proof:
    """A number that ``B² / 4 Q`` of some g certainly is not below."""

    value: float = 0.0
    n_pairs: int = 0


def _prove(problem: _Problem, pairs: _Pairs, g: Float) -> _Proof:
    """``B² / 4 Q`` with B rounded down and Q rounded up by bounds of their rounding errors.

    ``γ_k`` times the sum of absolute terms bounds the error of a sum of k terms in any order (see
    :mod:`certnet.proofs.rounding`). The largest ``|g|`` is made 1: underflow then costs less than ``_TINY``, which is
    charged too.
    """
    top = float(np.abs(g).max(initial=0.0))
    if not 0.0 < top < math.inf:
        return _Proof()
    used = np.any(g != 0.0, axis=1)
    pairs, g = _Pairs(pairs.i[used], pairs.k[used], pairs.d[used]), g[used] / top
    n, size = len(problem.points), np.abs(g)
    # B = Σ_e g_eᵀ (t_i − t_k), less what its roundings and those of the targets may be
    gain = g * pairs.difference(problem.targets)
    doubt = size * (problem.error[pairs.i] + problem.error[pairs.k])
    lost = gamma(g.size + 4) * float(np.sum(np.abs(gain))) + (1.0 + gamma(g.size + 4)) * float(np.sum(doubt))
    B = float(np.sum(gain)) - (1.0 + gamma(4)) * lost - _TINY
    # Q = Σ_i ‖a_i‖² / 4 p_i + (Σ_e d_e ‖g_e‖)² / 4 λ, rounded up
    a = np.abs(pairs.gather(g, n))
    a += gamma(int(pairs.degrees(n).max()) + 2) * pairs.gather(size, n, sign=1.0)
    load = float(pairs.d @ np.sqrt(np.sum(g**2, axis=1))) + len(g) * _TINY
    Q = float(np.sum(a**2 / (4.0 * problem.shares[:, None]))) + (load / (2.0 * math.sqrt(problem.weight))) ** 2
    Q = Q * (1.0 + gamma(g.size + a.size + 40)) + _TINY
    if not (B > 0.0 and math.isfinite(Q)):
        return _Proof()
    return _Proof(_not_tiny(B / (4.0 * Q) * B * (1.0 - gamma(8))), len(g))


def _steepest_pair(problem: _Problem, pairs: _Pairs) -> Float:
    """The best g with one pair: ``‖t_i − t_k‖² / (1/p_i + 1/p_k + d²/λ)`` is its proof. Sharp as λ → 0."""
    difference = pairs.difference(problem.targets)
    p, root = problem.shares, math.sqrt(problem.weight)
    cost = 1.0 / p[pairs.i] + 1.0 / p[pairs.k] + (pairs.d / root) ** 2
    worth = np.sum(difference**2, axis=1) / cost
    g = np.zeros_like(difference)
    if len(worth):
        e = int(np.argmax(worth))
        g[e] = 2.0 * difference[e] / cost[e]
    return g


# --------------------------------------------------------------------------------------------------------- search


def _rounds(problem: _Problem, deadline: float, tol: float) -> Iterator[tuple[_Proof, _Point]]:
    """The best proof and the best feasible point after every sweep; ends where neither can move."""
    n, m = problem.targets.shape
    point = _Point(float(problem.shares @ np.sum(problem.centred**2, axis=1)), 0.0)  # the constant function
    proof = _Proof()
    codes, candidate = _sweep(problem, problem.targets, None, _halfway(deadline))
    point = min(point, candidate)
    if problem.weight == 0.0:
        yield proof, _Point(0.0, candidate.slope)  # any function may interpolate
        return
    if not len(codes):
        yield proof, point
        return
    pairs = _Pairs.of(problem.points, codes)
    g, slope = _steepest_pair(problem, pairs), 0.0
    proof = _prove(problem, pairs, g)
    yield proof, point
    for number in range(_MAX_ROUNDS):
        patience = 0.1 * tol * 0.3**number
        g, slope = _ascend(problem, pairs, g, slope, patience, deadline)
        proof = max(proof, _prove(problem, pairs, g), key=lambda proof: proof.value)
        values = problem.centred - pairs.gather(g, n) / (2.0 * problem.shares[:, None])
        found, candidate = _sweep(problem, values, slope, _halfway(deadline))
        point = min(point, candidate)
        yield proof, point
        if patience < _LEAST_GAIN and np.all(np.isin(found, codes)):
            return
        tight = np.linalg.norm(pairs.difference(values), axis=1) > 0.8 * slope * pairs.d
        kept = np.any(g != 0.0, axis=1) | tight
        old = codes[kept]
        codes = np.union1d(old, found)
        grown = np.zeros((len(codes), m))
        grown[np.searchsorted(codes, old)] = g[kept]
        pairs, g = _Pairs.of(problem.points, codes), grown


def _halfway(deadline: float) -> float:
    """A sweep that finds no end may take half of the time that is left."""
    now = time.perf_counter()
    return now + 0.5 * (deadline - now)


def _ascend(
    problem: _Problem, pairs: _Pairs, g: Float, slope: float, patience: float, deadline: float
) -> tuple[Float, float]:
    r"""Accelerated proximal steps on ``B − Q`` from g (E, m), until 100 of them gain less than ``patience``; g and ℓ.

    The quadratic ``Σ ‖a_i‖² / 4 p_i`` has its matrix below ``diag(1 / 2 τ)``, ``1/τ_e = deg_i / 2 p_i + deg_k / 2 p_k``
    (row sums). The step ``v_e = g_e + τ_e (f_i − f_k)`` is followed by the proximal map of ``(Σ d_e ‖g_e‖)² / 4 λ``,
    which shrinks ``‖v_e‖`` by ``τ_e d_e ℓ``, where ℓ is its own result: ``2 λ ℓ = Σ_e d_e (‖v_e‖ − τ_e d_e ℓ)₊``.
    """
    n, t = len(problem.points), problem.centred
    half = 1.0 / (2.0 * problem.shares[:, None])
    share = pairs.degrees(n) * half[:, 0]
    step = 1.0 / (share[pairs.i] + share[pairs.k])
    shrink = step * pairs.d
    ahead, momentum, reached = g, 1.0, 0.0
    for number in range(1, _MAX_STEPS + 1):
        # the gradient step, and the proximal map that shrinks ‖v_e‖
        v = ahead + step[:, None] * pairs.difference(t - half * pairs.gather(ahead, n))
        size = np.abs(v[:, 0]) if v.shape[1] == 1 else np.linalg.norm(v, axis=1)
        slope = _slope_of(size, shrink, pairs.d, problem.weight, slope)
        new = v * (np.maximum(size - shrink * slope, 0.0) / np.where(size > 0.0, size, 1.0))[:, None]
        # restart where the step turns against the momentum
        if np.sum((ahead - new) * (new - g) / step[:, None]) > 0.0:
            momentum = 1.0
        following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
        ahead = new + (momentum - 1.0) / following * (new - g)
        g, momentum = new, following
        if time.perf_counter() > deadline:
            break
        if number % 100 == 0:
            before, reached = reached, _prove(problem, pairs, g).value
            if reached - before <= patience * (reached + problem.spread):
                break
    return g, slope


def _slope_of(size: Float, shrink: Float, d: Float, weight: float, slope: float) -> float:
    """ℓ with ``2 λ ℓ = Σ_e d_e (size_e − shrink_e ℓ)₊``: Newton's method, monotone from the second step on."""
    for _ in range(50):
        active = size > shrink * slope
        following = float(d[active] @ size[active]) / (2.0 * weight + float(d[active] @ shrink[active]))
        if abs(following - slope) <= 1e-13 * following:
            return following
        slope = following
    return slope


# ---------------------------------------------------------------------------------------------------------- sweep


@dataclass(frozen=True, order=True)
class _Point:
    """A feasible point of the relaxation: its objective without the spread, and its ℓ."""

    value: float = math.inf
    slope: float = math.inf


def _sweep(problem: _Problem, values: Float, slope: float | None, deadline: float) -> tuple[Index, _Point]:
    """Pairs that violate ``slope`` most (largest ratio without one), a few per sample, and a feasible point.

    Every pair is looked at once. With one output the values are made feasible by McShane's ``min_k (f_k + ℓ d_ik)``,
    else by the largest ratio, which few close pairs may spoil; without a complete sweep no point is known feasible.
    """
    n, m = values.shape
    found, ratio, envelope = [np.empty(0, np.intp)], 0.0, values.copy()
    complete = True
    rows = max(1, _BLOCK // n)
    for start in range(0, n - 1, rows):
        if start > 0 and time.perf_counter() > deadline:
            complete = False
            break
        stop = min(start + rows, n)
        # violations ‖f_i − f_k‖ − ℓ d_ik of a block of pairs, i < k, and McShane's envelope beside them
        d = np.maximum(cdist(problem.points[start:stop], problem.points[start:]), _TINY)
        here, there = values[start:stop], values[start:]
        v = np.abs(here - there.T) if m == 1 else cdist(here, there)
        if slope is None or m > 1:
            ratio = max(ratio, float(np.max(v / d)))
        if slope is None:
            v /= d
        else:
            d *= slope
            v -= d
            if m == 1:
                envelope[start:stop, 0] = np.minimum(envelope[start:stop, 0], np.min(d + there.T, axis=1))
                envelope[start:, 0] = np.minimum(envelope[start:, 0], np.min(d + here, axis=0))
        v[:, : stop - start][np.tril_indices(stop - start)] = -math.inf
        found.append(_largest(v, start, n, 0.0 if slope is None else 1e-9 * float(np.abs(values).max())))
    # a feasible point of the relaxation, where every pair was seen
    point = _Point()
    if complete and (slope is None or m > 1):
        point = _pulled_in(problem, values, ratio)
    elif complete and slope is not None:
        point = _pulled_in(problem, envelope, slope)
    return np.unique(np.concatenate(found)), point


def _largest(score: Float, start: int, n: int, above: float) -> Index:
    """Codes ``i n + k`` of the few largest entries per row that are above a value; overwrites them."""
    rows, codes = np.arange(len(score)), [np.empty(0, np.intp)]
    for _ in range(_PER_POINT):
        columns = np.argmax(score, axis=1)
        good = score[rows, columns] > above
        if not good.any():
            break
        codes.append((start + rows[good]) * n + start + columns[good])
        score[rows, columns] = -math.inf
    return np.concatenate(codes)


def _pulled_in(problem: _Problem, values: Float, slope: float) -> _Point:
    """The best of the points ``mean + s (values − their mean)``, whose Lipschitz constant is ``s · slope``."""
    p, t, weight = problem.shares, problem.centred, problem.weight
    f = values - p @ values
    with np.errstate(over="ignore"):
        cost = float(p @ np.sum(f**2, axis=1)) + weight * np.float64(slope) ** 2
        s = float(p @ np.sum(f * t, axis=1)) / float(cost) if cost > 0.0 else 0.0
        s = max(s, 0.0) if weight > 0.0 else 1.0
        value = float(p @ np.sum((s * f - t) ** 2, axis=1)) + weight * np.float64(s * slope) ** 2
    return _Point(float(value), s * slope)
