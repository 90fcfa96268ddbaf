r"""The maximum norm of the inputs: floating-point search for multipliers and input weights, and lower bounds.

For one output, with the rows ``f_0 = Σ_j (α_j + β_j) v_j w_j`` and ``f_j = (β_j − α_j) v_j w_j`` of F, the smallest u
that :mod:`certnet.proofs.sup_norm` can prove is Grothendieck's semidefinite program,

    L* = max { ½ Σ_ik F_ik y_iᵀ r_k : unit vectors y_i, r_k }
       = min { ½ √(λ Σ_i a_i Σ_k s_k) : a, s > 0 },     λ = ‖diag(a)^−½ F diag(s)^−½‖₂²,

with the minimisers ``a_i = ‖Σ_k F_ik r_k‖``, ``s_k = ‖Σ_i F_ik y_i‖``. Multipliers are ``t_j = (β_j − α_j) v_j² Σ_i a_i
/ (2 u a_j)``, input weights are s. Nothing found here is trusted: the claim is the verifier's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from certnet.claims.region import ALL, All, Region
from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.hidden import HiddenLayer
from certnet.networks.network import Network
from certnet.proofs.gradients import gradient_sum_below
from certnet.searches.lower import STEPS, LowerBound, Slopes, drawn_rows, first_proved, somewhere
from certnet.searches.lower_deep import steep_points, steep_points_in
from certnet.searches.result import SearchResult
from certnet.searches.shallow import Balanced, balance, largest_eigenvalue

__all__ = ["lower_bound_sup", "search_sup"]

_FLOORS = (1e-11, 1e-8, 1e-6)  # smallest a_i and s_k relative to their means: what is slack is drawn towards the rest
_SWEEPS = 10  # each maximises over all y_i, then over all r_k: fast far from the solution
_ROUND = 40  # quasi-Newton iterations before the gap is measured first
_CANCELLED = 1e-12  # of the sum of all units' norms
_CLIMBS = 4
_TRIED = 16  # crossings tried in a step of the local search


def search_sup(
    layer: HiddenLayer,
    *,
    low: Float | float = 0.0,
    high: Float | float = 1.0,
    tol: float = 1e-6,
    max_iterations: int = 2000,
    random_state: int = 0,
    until: Until = FOREVER,
) -> SearchResult[Float]:
    """Multipliers and input weights whose squared bound is within a relative ``tol`` of the best.

    Parameters
    ----------
    layer : HiddenLayer
        One output; its W and V are used.
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

    Raises
    ------
    InvalidInputError
        The network has several outputs.
    """
    if layer.n_outputs != 1:
        raise InvalidInputError(
            f"the bound in the maximum norm is for one output, the network has {layer.n_outputs}: choose one"
        )
    t, s = np.zeros(layer.n_hidden), np.ones(layer.n_inputs)
    low, high = (np.broadcast_to(np.asarray(slope, np.float64), t.shape) for slope in (low, high))
    steepest = np.maximum(np.abs(low), np.abs(high))
    balanced = balance(layer.W, layer.V, steepest)
    if balanced is None:
        return SearchResult(t, 0.0, 0.0, Status.OPTIMAL, s)
    kept = balanced.kept
    unit = int(np.frexp(steepest[kept].max())[1])  # slopes of order one, whatever they are measured in
    centre, width = np.ldexp((low + high)[kept], -unit), np.ldexp((high - low)[kept], -unit)
    F = _factor(balanced, centre, width)
    a, s, upper, below, status = _search(F, tol, max_iterations, np.random.default_rng(random_state), until)
    # what cancels leaves rounding errors, below which nothing can be proved
    upper = max(upper, _CANCELLED * float(np.abs(balanced.V[0]) @ np.abs(balanced.W).sum(axis=1)))
    found = np.ones(len(width))
    free = width > 0.0
    found[free] = (width * balanced.V[0] ** 2)[free] * a.sum() / (2.0 * upper * a[1:])
    t[kept] = balanced.multipliers(found)
    upper, below = (float(np.ldexp(balanced.size(bound), unit)) for bound in (upper, below))
    return SearchResult(t, upper, below, status, s)


def _factor(balanced: Balanced, centre: Float, width: Float) -> Float:
    """F with a row for the known part and one for each unit whose slope is not known."""
    B = balanced.V[0][:, None] * balanced.W
    free = width > 0.0
    return np.ascontiguousarray(np.vstack([centre @ B, width[free, None] * B[free]]))


def _search(
    F: Float, tol: float, max_iterations: int, rng: np.random.Generator, until: Until
) -> tuple[Float, Float, float, float, Status]:
    """a, s, the bound, the dual value: alternating sweeps, and a quasi-Newton finish where their tail is slow."""
    A = F if F.shape[0] >= F.shape[1] else np.ascontiguousarray(F.T)  # the program does not change: few unit vectors
    n, d = A.shape
    if not A.any():  # known slopes that cancel: what is left is rounding
        return np.ones(len(F)), np.ones(F.shape[1]), 0.0, 0.0, Status.OPTIMAL
    k = min(int(np.ceil(np.sqrt(2.0 * (n + d)))) + 1, d)
    R = np.eye(d) if k == d else _unit(rng.standard_normal((d, k)))

    def sides(R: Float) -> tuple[Float, Float]:
        P = A @ R
        a = np.linalg.norm(P, axis=1)
        return a, A.T @ (P / np.maximum(a, 1e-300)[:, None])

    def measure(x: Float) -> tuple[Float, float, float]:
        a, S = sides(_unit(x.reshape(d, k)))
        s = np.linalg.norm(S, axis=1)
        below = 0.5 * float(s.sum())
        best, best_pair = np.inf, np.concatenate([a, s])
        for floor in _FLOORS:
            pair = np.concatenate([np.maximum(a, floor * a.mean()), np.maximum(s, floor * s.mean())])
            upper = _bound(A, pair[:n], pair[n:])
            if upper < best:
                best, best_pair = upper, pair
            if (best / below) ** 2 - 1.0 <= tol:
                break
        return best_pair, best, below

    def negative(x: Float) -> tuple[float, Float]:
        """``−log Σ_i ‖Σ_k A_ik x_k / ‖x_k‖‖`` and its gradient."""
        X = x.reshape(d, k)
        norms = np.maximum(np.linalg.norm(X, axis=1), 1e-300)[:, None]
        R = X / norms
        a, S = sides(R)
        total = float(a.sum())
        S -= np.sum(S * R, axis=1)[:, None] * R
        return -np.log(total), (S / (-total * norms)).ravel()

    for _ in range(_SWEEPS):
        R = _unit(sides(R)[1], R)
    pair, upper, below, status = _climb_dual(negative, R.ravel(), measure, tol, max_iterations, until)
    a, s = (pair[:n], pair[n:]) if A is F else (pair[n:], pair[:n])
    return a, s, upper, below, status


def _climb_dual(
    negative: Callable[[Float], tuple[float, Float]],
    x: Float,
    measure: Callable[[Float], tuple[Float, float, float]],
    tol: float,
    max_iterations: int,
    until: Until,
) -> tuple[Float, float, float, Status]:
    """L-BFGS in rounds, ever longer as each begins without memory; between them the gap is measured."""
    best_pair, best_upper, best_below = measure(x)
    spent, steps = 0, _ROUND
    while spent < max_iterations:
        if (ended := until.reached) is not None:
            return best_pair, best_upper, best_below, ended
        steps = min(steps, max_iterations - spent)
        done = minimize(
            negative,
            x,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": steps, "maxcor": 30, "ftol": 1e-15, "gtol": 0.0},
        )
        x = done.x
        pair, upper, below = measure(x)
        best_below = max(best_below, below)
        if upper < best_upper:
            best_pair, best_upper = pair, upper
        if (best_upper / best_below) ** 2 - 1.0 <= tol:
            return best_pair, best_upper, best_below, Status.OPTIMAL
        spent += steps  # a round that cannot move any more still counts
        steps += steps // 2
    return best_pair, best_upper, best_below, Status.MAX_ITERATIONS


def _unit(X: Float, otherwise: Float | None = None) -> Float:
    """Rows of norm one; zero rows from ``otherwise``, by default the same one."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    if otherwise is None:
        otherwise = np.full_like(X, 1.0 / np.sqrt(X.shape[1]))
    return np.where(norms > 1e-150, X / np.maximum(norms, 1e-150), otherwise)


def _bound(A: Float, a: Float, s: Float) -> float:
    """``½ √(λ Σ a Σ s)``."""
    scaled = A / np.sqrt(s)
    return 0.5 * float(np.sqrt(largest_eigenvalue((scaled.T / a) @ scaled) * a.sum() * s.sum()))


def lower_bound_sup(
    network: Network,
    X: Float | None = None,
    *,
    region: Region = ALL,
    random_state: int = 0,
) -> LowerBound:
    """The largest ``‖∂f/∂x‖`` from l∞ to l2 found, rounded down: a lower bound of L in the maximum norm.

    Searched as in :func:`certnet.searches.lower.lower_bound`.

    Parameters
    ----------
    network : Network
    X : ndarray, shape (N, d), optional
        Points to start from.
    region : Region
        Where the point must lie (a ball is one of the maximum norm); rows of ``X`` outside are not used.
    random_state : int
    """
    rng = np.random.default_rng(random_state)
    data = None if X is None else drawn_rows(X, rng)
    points: list[Float] = []
    if not isinstance(region, All):
        if network.has_values:
            points = steep_points_in(network, region, data, rng, norm="linf")
        points = points or [somewhere(region)]
    elif network.relu_only and network.n_outputs == 1:
        points = _climbed(Slopes(FeedForward.of(network).shallow()), data, rng)
    elif network.has_values:
        points = steep_points(network, data, rng, norm="linf")
    return first_proved(lambda x: gradient_sum_below(network, x), points or [np.zeros(network.n_inputs)])


def _climbed(slopes: Slopes, data: Float | None, rng: np.random.Generator) -> list[Float]:
    """Points of steep pieces, steepest first: the best starts climbed, and themselves."""
    starts = slopes.starts(rng)
    if data is not None:
        starts = np.vstack([starts, data])
    parts = slopes.V[0][:, None] * slopes.W
    sizes = _sizes(slopes, parts, starts)
    best = np.argsort(-sizes, kind="stable")[:_CLIMBS]
    climbed = np.array([_climb(slopes, parts, starts[i]) for i in best])
    order = np.argsort(-_sizes(slopes, parts, climbed), kind="stable")
    return [*climbed[order], *starts[best]]


def _sizes(slopes: Slopes, parts: Float, points: Float) -> Float:
    """``‖Σ_j active v_j w_j‖₁`` at every row of ``points``, up to a common factor."""
    active = (points @ slopes.W.T + slopes.b > 0.0).astype(np.float64)
    return np.asarray(np.abs(active @ parts).sum(axis=1))


def _climb(slopes: Slopes, parts: Float, point: Float) -> Float:
    """Cross one unit's hyperplane at a time, of those whose flip alone would raise the sum most, while it grows."""
    for _ in range(STEPS if len(parts) else 0):
        z = slopes.W @ point + slopes.b
        gradient = (z > 0.0).astype(np.float64) @ parts
        here = float(np.abs(gradient).sum())
        flipped = np.abs(gradient + np.where(z > 0.0, -1.0, 1.0)[:, None] * parts).sum(axis=1)
        units = np.argsort(-flipped, kind="stable")[:_TRIED]
        units = units[flipped[units] > here]
        step = z[units] + np.where(z[units] > 0.0, 1.0, -1.0) * (1e-3 * np.abs(z[units]) + 1e-6)
        across = point - step[:, None] * slopes.W[units]
        sizes = _sizes(slopes, parts, across)
        if not (sizes > here * (1.0 + 1e-12)).any():
            break
        point = across[int(np.argmax(sizes))]
    return point
