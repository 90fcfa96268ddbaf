r"""Multipliers for one hidden layer: floating-point search for the t that minimises ``½ λ_max(M(t))``.

With the rank-one terms ``z_j = (√t_j w_j, V_:j / √t_j)`` of :mod:`certnet.proofs.shallow`, Lagrangian duality and the
elimination of t give

    L* = min_t ½ λ_max(M(t)) = max { Σ_j ( p_jᵀ q_j + ‖p_j‖ ‖q_j‖ ) : ‖R‖_F² + ‖Q‖_F² = 1 }

with ``p_j = Rᵀ w_j`` and ``q_j = Qᵀ V_:j``: concave in ``(R; Q)(R; Q)ᵀ``, with the minimiser ``t_j = ‖q_j‖ / ‖p_j‖``.
For one output Q can be eliminated too: with ``F = (Σ_j v_j w_j ; v_1 w_1 ; … ; v_h w_h)`` it is a MaxCut-type program,

    ρ* = L*² = max { ¼ (Σ_i ‖Rᵀ f_i‖)² : ‖R‖_F = 1 },

a problem in d × k numbers however many units there are. Nothing found here is trusted: the claim is the verifier's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.outcome import Status
from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float
from certnet.networks.hidden import HiddenLayer
from certnet.searches.lbfgs import by_last_pair, quasi_newton
from certnet.searches.result import SearchResult

__all__ = [
    "FORMS",
    "Balanced",
    "balance",
    "closed_form",
    "largest_eigenvalue",
    "row_norms",
    "search_multipliers",
]

FORMS: Final = ("arrow", "dense")
"""Forms of the LMI for a generic solver, see :mod:`certnet.searches.reference_`."""

_FLOOR = 1e-11  # smallest ‖Rᵀ f_i‖ relative to the mean: keeps multipliers finite, costs 1e-11 of the bound
_PATIENCE = 3  # rounds that hardly close the gap, after which the search gives up
_ROUND, _LOOK = 50, 10  # steps of a round, and between measurements of the gap
_POLISHED = (400, 1500)  # order d + m and units h up to which a Newton step, 2 h² (d + m) + h³ / 3 flops, pays
_TINY = 1e-290  # multipliers below are left to the charge
_NEGLIGIBLE = 1e-17  # units this much smaller than the rest are charged by their norm instead


def closed_form(W: Float, V: Float, t: Float, centre: Float | float = 1.0, width: Float | float = 1.0) -> float:
    """``½ λ_max(M(t))`` in floating point for W (h, d), V (m, h), t (h,) > 0: a bound on L up to rounding.

    ``centre`` is ``α + β`` and ``width`` is ``β − α``, for slopes in [α, β].
    """
    return 0.5 * largest_eigenvalue(two_sided(W, V, t, centre, width))


def two_sided(W: Float, V: Float, t: Float, centre: Float | float, width: Float | float) -> Float:
    """``M(t)`` of :mod:`certnet.proofs.shallow`, of order d + m."""
    A = (W.T * (width * t)) @ W
    C = (V * (width / t)) @ V.T
    G = (V * centre) @ W
    return np.block([[A, G.T], [G, C]])


def search_multipliers(
    layer: HiddenLayer,
    *,
    low: Float | float = 0.0,
    high: Float | float = 1.0,
    tol: float = 1e-6,
    max_iterations: int = 2000,
    random_state: int = 0,
    until: Until = FOREVER,
) -> SearchResult[Float]:
    """Multipliers whose bound ρ is within a relative ``tol`` of the best that LipSDP can give.

    Parameters
    ----------
    layer : HiddenLayer
        Its W and V are used.
    low, high : float or ndarray, shape (h,)
        Slopes of the units' activations: ReLU's by default.
    tol : float
        Relative gap between the squared bound and its dual value.
    max_iterations : int
        Limit on quasi-Newton iterations; reaching it gives ``Status.MAX_ITERATIONS`` and the gap that was reached.
    random_state : int
        Seed of the start.
    until : Until
        Asked between rounds of iterations.
    """
    t = np.zeros(layer.n_hidden)
    low, high = (np.broadcast_to(np.asarray(slope, np.float64), t.shape) for slope in (low, high))
    balanced = balance(layer.W, layer.V, np.maximum(np.abs(low), np.abs(high)))
    if balanced is None:
        return SearchResult(t, 0.0, 0.0, Status.OPTIMAL)
    kept = balanced.kept
    # of the outputs, as of the inputs, only the Gram matrix matters
    V = np.ascontiguousarray(_narrowed(np.ascontiguousarray(balanced.V.T)).T)
    units = _Units(_narrowed(balanced.W), V, (low + high)[kept], (high - low)[kept])
    find = _search_one if layer.n_outputs == 1 else _search_several
    found, upper, below, status = find(units, tol, max_iterations, np.random.default_rng(random_state), until)
    order, n_units = _POLISHED
    if status is Status.MAX_ITERATIONS and units.V.shape[0] + units.W.shape[1] <= order and len(found) <= n_units:
        from certnet.searches.barrier import polish  # here, as SciPy's linear algebra: few searches come to need it

        found, upper, below = polish(
            units.W, units.V, found, below, tol, max_iterations, centre=units.centre, width=units.width
        )
        status = Status.OPTIMAL if (upper / below) ** 2 - 1.0 <= tol else status
    t[kept] = balanced.multipliers(found)
    return SearchResult(t, balanced.size(upper), balanced.size(below), status)


@dataclass(frozen=True, eq=False)
class _Units:
    """What is searched: W (h, d), V (m, h), and for slopes in [α, β] centre = α + β, width = β − α, shape (h,)."""

    W: Float
    V: Float
    centre: Float
    width: Float


@dataclass(frozen=True, eq=False)
class Balanced:
    """Units that matter, scaled so that ``‖w_j‖ = ‖V_:j‖ ≤ 1``: the bound of W, V is ``size(bound of these)``.

    The true weights are ``W[kept] = ratio · W · 2^exponent …``: norms and ratios are kept as mantissa and exponent, so
    that no scale of the weights overflows.
    """

    kept: NDArray[np.bool_]
    W: Float
    V: Float
    ratio: Float
    ratio_exponent: NDArray[np.int64]
    exponent: int

    def multipliers(self, t: Float) -> Float:
        """Multipliers of the network's own units; 0, which charges the unit by its norm, where no double holds them."""
        with np.errstate(over="ignore", under="ignore"):
            own = np.ldexp(t * self.ratio, self.ratio_exponent)
        return np.where(np.isfinite(own) & (own > _TINY), own, 0.0)

    def size(self, bound: float) -> float:
        with np.errstate(over="ignore", under="ignore"):
            return float(np.ldexp(bound, self.exponent))


def balance(W: Float, V: Float, steepest: Float | float = 1.0) -> Balanced | None:
    """The units of ``V φ(W x + b)`` that are not negligible beside the largest, balanced; None if all are zero.

    Slopes are at most ``steepest`` in size, a number or one per unit; a unit whose slope is always zero is left out.
    """
    norm_w, unit_w = row_norms(W)
    norm_v, unit_v = row_norms(V.T)
    alive = (norm_w > 0.0) & (norm_v > 0.0) & (np.broadcast_to(steepest, norm_w.shape) > 0.0)
    if not alive.any():
        return None
    exponent = int((unit_w + unit_v)[alive].max())
    with np.errstate(over="ignore", under="ignore"):  # a unit whose slope is zero may be of any size
        size = np.ldexp(norm_w * norm_v, np.maximum(unit_w + unit_v - exponent, -1000))
    size[~alive] = 0.0
    kept = size > _NEGLIGIBLE * size.max()
    root = np.sqrt(size[kept])
    return Balanced(
        kept=kept,
        W=np.ldexp(W[kept], -unit_w[kept, None]) * (root / norm_w[kept])[:, None],
        V=np.ldexp(V[:, kept], -unit_v[kept]) * (root / norm_v[kept]),
        ratio=norm_v[kept] / norm_w[kept],
        ratio_exponent=(unit_v - unit_w)[kept],
        exponent=exponent,
    )


def row_norms(rows: Float) -> tuple[Float, NDArray[np.int64]]:
    """Row norms as mantissa and exponent: ``‖row‖ = mantissa · 2^exponent``."""
    exponent = np.frexp(np.abs(rows).max(axis=1, initial=0.0))[1].astype(np.int64)
    return np.linalg.norm(np.ldexp(rows, -exponent[:, None]), axis=1), exponent


def _narrowed(W: Float) -> Float:
    """W with the same Gram matrix and at most h columns."""
    h, d = W.shape
    if d <= h:
        return W
    return np.ascontiguousarray(np.asarray(np.linalg.qr(W.T, mode="r")).T)


def largest_eigenvalue(M: Float) -> float:
    """``λ_max(M)`` of a symmetric matrix, in floating point."""
    last = len(M) - 1
    if last < 64:  # a call of NumPy's costs less
        return float(np.linalg.eigvalsh(M)[-1])
    from scipy.linalg import eigh

    return float(eigh(M, eigvals_only=True, subset_by_index=(last, last), check_finite=False)[0])


def _search_one(
    units: _Units, tol: float, max_iterations: int, rng: np.random.Generator, until: Until
) -> tuple[Float, float, float, Status]:
    """One output: quasi-Newton ascent in R."""
    v = units.V[0]
    free = units.width > 0.0  # the others' slope is known: they only add to the first row of F
    B = (units.width * v)[free, None] * units.W[free]
    F = np.ascontiguousarray(np.vstack([(units.centre * v) @ units.W, B]))
    n, d = F.shape
    k = min(int(np.ceil(np.sqrt(2.0 * n))) + 1, d)
    Y = F if k == d else F @ rng.standard_normal((d, k))
    norms = np.linalg.norm(Y, axis=1)
    Y = np.where(norms[:, None] > 0.0, Y / np.where(norms > 0.0, norms, 1.0)[:, None], 1.0 / np.sqrt(k))
    R = F.T @ Y

    def measure(R: Float) -> tuple[Float, float, float]:
        """Multipliers from R, and the two sides of ρ*."""
        r = np.linalg.norm(F @ R, axis=1)
        total = r.sum()
        below = 0.25 * total**2 / np.sum(R * R)
        r = np.maximum(r, _FLOOR * total / n)
        rho = 0.25 * r.sum() * largest_eigenvalue((F.T / r) @ F)
        t = np.ones(len(v))
        t[free] = (units.width * v**2)[free] * r.sum() / (2.0 * r[1:] * np.sqrt(rho))
        return t, float(np.sqrt(rho)), float(np.sqrt(below))

    def negative(x: Float) -> tuple[float, Float, float]:
        """``½ ‖R‖² − Σ_i ‖Rᵀ f_i‖``, its gradient, and 1, as the Hessian is at most I; its minimisers maximise ρ."""
        R = x.reshape(d, k)
        P = F @ R
        r = np.sqrt(np.einsum("ij,ij->i", P, P))
        P /= np.maximum(r, 1e-300)[:, None]
        return 0.5 * float(x @ x) - float(r.sum()), (R - F.T @ P).ravel(), 1.0

    # ‖R‖² = Σ ‖Rᵀ f_i‖ at a minimiser
    R *= np.linalg.norm(F @ R, axis=1).sum() / np.sum(R * R)
    return _quasi_newton(negative, R.ravel(), lambda x: measure(x.reshape(d, k)), tol, max_iterations, until)


def _search_several(
    units: _Units, tol: float, max_iterations: int, rng: np.random.Generator, until: Until
) -> tuple[Float, float, float, Status]:
    """Several outputs: quasi-Newton ascent in (R; Q)."""
    W, V, centre, width = units.W, units.V, units.centre, units.width
    h, d = W.shape
    m = V.shape[0]
    Vt = np.ascontiguousarray(V.T)
    k = min(int(np.ceil(np.sqrt(2.0 * (h + 1)))) + 1, d + m)

    def measure(x: Float) -> tuple[Float, float, float]:
        # p_j = Rᵀ w_j and q_j = Qᵀ V_:j; the dual value at (R; Q) / ‖(R; Q)‖
        R, Q = x[: d * k].reshape(d, k), x[d * k :].reshape(m, k)
        P, S = W @ R, Vt @ Q
        p, q = np.linalg.norm(P, axis=1), np.linalg.norm(S, axis=1)
        below = float((centre @ np.sum(P * S, axis=1) + width @ (p * q)) / (x @ x))
        # the dual point says little of a unit that is slack (p and q both small): it is drawn towards t = 1
        best_t, best = np.ones(h), np.inf
        for floor in (1e-10, 1e-7, 1e-5):
            t = np.sqrt((q**2 + (floor * q.max()) ** 2) / (p**2 + (floor * p.max()) ** 2))
            upper = closed_form(W, V, t, centre, width)
            if upper < best:
                best_t, best = t, upper
            if (best / below) ** 2 - 1.0 <= tol:
                break
        return best_t, best, below

    def negative(x: Float) -> tuple[float, Float, float]:
        """``−log Σ_j (p_jᵀ q_j + ‖p_j‖ ‖q_j‖) + log(‖R‖² + ‖Q‖²)``, its gradient, and what makes it a first step."""
        R, Q = x[: d * k].reshape(d, k), x[d * k :].reshape(m, k)
        P, S = W @ R, Vt @ Q
        p, q = np.linalg.norm(P, axis=1) + 1e-300, np.linalg.norm(S, axis=1) + 1e-300
        value = float(centre @ np.sum(P * S, axis=1) + width @ (p * q))
        square = float(x @ x)
        # the gradient of the sum in R and in Q
        gradient = np.concatenate(
            [
                (W.T @ (centre[:, None] * S + (width * q / p)[:, None] * P)).ravel(),
                (Vt.T @ (centre[:, None] * P + (width * p / q)[:, None] * S)).ravel(),
            ]
        )
        slope = 2.0 / square * x - gradient / value
        return np.log(square) - np.log(value), slope, min(1.0, 1.0 / max(float(np.linalg.norm(slope)), 1e-300))

    # start: the leading singular vectors of the steepest product V D W, and some noise
    left, values, right = np.linalg.svd((V * (centre + width)) @ W, full_matrices=False)
    leading = min(k, len(values))
    start = 0.3 * rng.standard_normal((d + m, k)) / np.sqrt((d + m) * k)
    start[:d, :leading] += right[:leading].T / np.sqrt(2.0 * leading)
    start[d:, :leading] += left[:, :leading] / np.sqrt(2.0 * leading)
    return _quasi_newton(negative, start.ravel(), measure, tol, max_iterations, until)


def _quasi_newton(
    negative: Callable[[Float], tuple[float, Float, float]],
    x: Float,
    measure: Callable[[Float], tuple[Float, float, float]],
    tol: float,
    max_iterations: int,
    until: Until,
) -> tuple[Float, float, float, Status]:
    """L-BFGS in rounds; every few steps the gap is measured, and the best multipliers are kept."""
    best_t, best_upper, best_below = measure(x)
    spent, stalled = 0, 0

    def closed(x: Float) -> bool:
        nonlocal best_t, best_upper, best_below
        t, upper, below = measure(x)
        best_below = max(best_below, below)
        if upper < best_upper:
            best_t, best_upper = t, upper
        return (best_upper / best_below) ** 2 - 1.0 <= tol

    def look(x: Float, _value: float, _decrement: float) -> bool:
        nonlocal spent
        spent += 1
        return spent % _LOOK == 0 and (closed(x) or until.reached is not None)

    if (best_upper / best_below) ** 2 - 1.0 <= tol:
        return best_t, best_upper, best_below, Status.OPTIMAL
    while spent < max_iterations and stalled < _PATIENCE:
        if (ended := until.reached) is not None:
            return best_t, best_upper, best_below, ended
        before, begun = best_upper / best_below - 1.0, spent
        x = quasi_newton(negative, x, min(_ROUND, max_iterations - spent), look, by_last_pair)
        if closed(x):
            return best_t, best_upper, best_below, Status.OPTIMAL
        spent = max(spent, begun + _LOOK)  # a round that cannot move any more still counts
        stalled = stalled + 1 if best_upper / best_below - 1.0 > 0.7 * before else 0
    return best_t, best_upper, best_below, Status.MAX_ITERATIONS
