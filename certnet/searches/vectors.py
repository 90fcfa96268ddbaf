r"""LipSDP of any depth as a maximisation over vector-valued networks: multipliers at the cost of some forward passes.

LipSDP with one multiplier per neuron is the dual of a maximisation over Gram matrices, in which unit j obeys
``|z_j − c_j p_j| ≤ w_j |p_j|`` (:mod:`certnet.searches.increments`). With r columns in the place of one, a unit is a
*choice of a unit vector* u_j in R^r:

    Z_k = diag(c) P_k + diag(w |P_k|) U_k,   P_k = B_k Z_{k−1},   ρ* = max ‖V Z_K‖_F²   over ‖Z_0‖_F = 1, |u_j| = 1

(row norms |·|). Backwards, with ``O = V Z_K`` and cotangents ``g_K = Vᵀ O``,

    q_k = c g_k + w (g_k·u_k) p_k / |p_k|,   g_{k−1} = B_kᵀ q_k,

and the step ``u_j ← g_j / |g_j|``, ``Z_0 ← g_0 / ‖g_0‖`` never decreases ρ. It is the diagonal start of an L-BFGS on
``−½ log ρ``. At a stationary point ``T_kj = |g_kj| / (2 w_j |p_kj|)`` are the multipliers, and a Riccati recursion

    Q_K = VᵀV,   S_k = 2 T_k − Q_k ≻ 0,   Q_{k−1} = B_kᵀ [ c Q c + 2 T w² + c Q_:e S⁻¹ Q_e: c ] B_k,   ρ(T) = λ_max(Q_0)

(e: units with w > 0) gives the bound that they prove, in floating point, and so the gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.linalg import eigh, solve_triangular

from certnet.core.outcome import Status
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.proofs.selection import live_units
from certnet.searches.increments import Increments, increments_of
from certnet.searches.result import SearchResult

__all__ = ["bound_of", "multipliers_with_slack", "search_vectors", "tightest"]

_COLUMNS: Final = 24  # r; half as many more are added where a gap stays
_MOST_COLUMNS: Final = 64
_MEMORY: Final = 20  # pairs of the quasi-Newton method
_SWEEPS: Final = 5  # power steps before it
_TINY: Final = 1e-300
_SLACKS: Final = (1e-12, 1e-1)


def search_vectors(
    network: Network,
    *,
    tol: float = 1e-6,
    max_iterations: int = 1000,
    random_state: int = 0,
    deadline: float = float("inf"),
) -> SearchResult[tuple[Float, ...]]:
    """Multipliers T_1 … T_K, one per hidden unit, whose bound ρ is within a relative ``tol`` of the best.

    Units that cannot move, or move nothing, have multiplier 0: the proof leaves them out.

    Parameters
    ----------
    network : Network
        Without linear hidden layers.
    tol : float
        Relative gap between ρ(T) and the value of the maximisation.
    max_iterations : int
        Of the quasi-Newton method.
    random_state : int
        Seed of the start.
    deadline : float
        ``time.perf_counter()`` after which no new iteration is begun.
    """
    scaled = _Scaled.of(increments_of(network))
    zero = tuple(np.zeros(n) for n in network.widths[1:-1])
    if scaled is None:
        return SearchResult(zero, 0.0, 0.0, Status.OPTIMAL)
    run = _Run(scaled.net, tol, np.random.default_rng(random_state), deadline)
    status = run.search(max_iterations)
    return SearchResult(scaled.multipliers(run.best, zero), run.upper * scaled.size, run.lower * scaled.size, status)


def multipliers_with_slack(multipliers: Sequence[Float], s: float) -> tuple[Float, ...]:
    """``(1 + s)^{K−k+1} T_k``: room in every S_k, for at most ``(1 + s)^K`` of ρ where slopes begin at zero."""
    depth = len(multipliers)
    return tuple(t * (1.0 + s) ** (depth - k) for k, t in enumerate(multipliers))


def tightest(network: Network, multipliers: Sequence[Float]) -> float:
    """The least L with ``P(T, L²) ⪰ 0`` in floating point; infinite where there is none."""
    alive = live_units(network.weights)
    if not all(a.any() for a in alive):
        return 0.0
    whole = increments_of(network)
    maps = [B[np.ix_(b, a)] for B, a, b in zip(whole.maps, alive, alive[1:])]
    output = whole.output[np.ix_(alive[-1], alive[-2])]
    centre, width, T = ([v[a] for v, a in zip(part, alive[1:])] for part in (whole.centre, whole.width, multipliers))
    rho = bound_of(Increments(tuple(maps), output, tuple(centre), tuple(width)), T)
    return float(np.sqrt(rho)) if 0.0 < rho < np.inf else float("inf")


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Live units alone, rows of B_k of norm about one, inputs reduced to their rank; and the way back."""

    net: Increments
    alive: list[np.ndarray]
    units: list[Float]
    size: float

    @classmethod
    def of(cls, net: Increments) -> _Scaled | None:
        """None where no input moves an output."""
        alive = live_units((*net.maps, net.output))
        if not all(a.any() for a in alive):
            return None
        weights = [W[np.ix_(b, a)] for W, a, b in zip((*net.maps, net.output), alive, alive[1:])]
        # units are measured so that their rows of weights are of order one: powers of two, exact
        units = []
        for k in range(len(weights) - 1):
            exponent = np.frexp(_row_norms(weights[k]))[1]
            weights[k] = np.ldexp(weights[k], -exponent[:, None])
            weights[k + 1] = np.ldexp(weights[k + 1], exponent)
            units.append(exponent)
        top = float(np.abs(weights[-1]).max())
        size = float(np.ldexp(1.0, int(np.frexp(top)[1])))
        weights[-1] = weights[-1] / size
        if weights[0].shape[1] > weights[0].shape[0]:  # only the Gram matrix of B_1 matters
            weights[0] = np.ascontiguousarray(np.asarray(np.linalg.qr(weights[0].T, mode="r")).T)
        centre = tuple(c[a] for c, a in zip(net.centre, alive[1:]))
        width = tuple(w[a] for w, a in zip(net.width, alive[1:]))
        return cls(Increments(tuple(weights[:-1]), weights[-1], centre, width), alive, units, size)

    def multipliers(self, scaled: Sequence[Float], zero: Sequence[Float]) -> tuple[Float, ...]:
        """Of the network's own units: ``T_k size² / 4^exponent``."""
        own = [t.copy() for t in zero]
        for t, full, alive, exponent in zip(scaled, own, self.alive[1:], self.units):
            with np.errstate(over="ignore", under="ignore"):
                full[alive] = np.ldexp(t * self.size**2, -2 * exponent)
        return tuple(own)


class _Vectors:
    """The raw variables (Z_0, u_1 … u_K) in one vector, and ``−½ log ρ`` with its gradient there."""

    def __init__(self, net: Increments, columns: int) -> None:
        self.net, self.r = net, columns
        self._rows = net.widths
        self._cuts = np.cumsum([0, *(n * columns for n in self._rows)])

    def split(self, x: Float) -> list[Float]:
        return [x[a:b].reshape(n, self.r) for a, b, n in zip(self._cuts, self._cuts[1:], self._rows)]

    def normalised(self, x: Float) -> Float:
        """‖Z_0‖_F = 1 and unit rows of every U_k."""
        x = x.copy()
        first, *units = self.split(x)
        first /= np.linalg.norm(first)
        for u in units:
            u /= _row_norms(u)[:, None]
        return x

    def drawn(self, rng: np.random.Generator) -> Float:
        return self.normalised(rng.standard_normal(self._cuts[-1]))

    def forward(self, x: Float) -> tuple[Float, list[Float], Float]:
        """Z_0 of norm one, P_1 … P_K and ``O = V Z_K``."""
        raw, *units = self.split(x)
        Z = first = raw / np.linalg.norm(raw)
        Ps = []
        for B, c, w, u in zip(self.net.maps, self.net.centre, self.net.width, units):
            P = B @ Z
            Z = c[:, None] * P + (w * _row_norms(P) / _row_norms(u))[:, None] * u
            Ps.append(P)
        return first, Ps, self.net.output @ Z

    def backward(self, Ps: Sequence[Float], out: Float, units: Sequence[Float] | None = None) -> list[Float]:
        """Cotangents g_0 … g_K; for the given unit vectors, or for ``u = g / |g|``."""
        gs = [self.net.output.T @ out]
        for k in reversed(range(len(Ps))):
            P, g = Ps[k], gs[0]
            along = _row_norms(g) if units is None else np.einsum("ij,ij->i", g, units[k]) / _row_norms(units[k])
            q = self.net.centre[k][:, None] * g + (self.net.width[k] * along / _row_norms(P))[:, None] * P
            gs.insert(0, self.net.maps[k].T @ q)
        return gs

    def value(self, x: Float) -> tuple[float, Float, Float]:
        """``−½ log ρ``, its gradient, and the diagonal of the power step as an inverse Hessian."""
        raw, *units = self.split(x)
        first, Ps, out = self.forward(x)
        g0, *gs = self.backward(Ps, out, units)
        rho = float(np.sum(out * out))
        gradient, inverse = np.empty_like(x), np.empty_like(x)
        (d0, *ds), (h0, *hs) = self.split(gradient), self.split(inverse)
        for u, P, g, w, d, h in zip(units, Ps, gs, self.net.width, ds, hs):
            length, reach = _row_norms(u), w * _row_norms(P)
            # across u alone: the length of u has no effect
            along = np.einsum("ij,ij->i", g, u) / length**2
            d[:] = -(reach / (rho * length))[:, None] * (g - along[:, None] * u)
            weight = reach * _row_norms(g)
            h[:] = (rho * length**2 / np.maximum(weight, max(1e-14 * weight.max(), _TINY)))[:, None]
        size = float(np.linalg.norm(raw))
        d0[:] = -(g0 / rho - first) / size
        h0[:] = size**2
        return -0.5 * float(np.log(rho)), gradient, inverse

    def stepped(self, x: Float) -> tuple[Float, float]:
        """The power step, and ‖V Z_K‖ before it."""
        _, Ps, out = self.forward(x)
        g0, *gs = self.backward(Ps, out)
        parts = [(g0 / np.linalg.norm(g0)).ravel(), *((g / _row_norms(g)[:, None]).ravel() for g in gs)]
        return np.concatenate(parts), float(np.linalg.norm(out))

    def multipliers(self, x: Float) -> list[Float]:
        """``T_kj = |g_kj| / (2 w_j |p_kj|)``."""
        _, Ps, out = self.forward(x)
        _, *gs = self.backward(Ps, out)
        return [_row_norms(g) / (2.0 * np.maximum(w, 1e-6) * _row_norms(P)) for g, P, w in zip(gs, Ps, self.net.width)]

    def widened(self, x: Float, extra: int, rng: np.random.Generator) -> tuple[_Vectors, Float]:
        """More columns, nearly zero: a way out of a stationary point of too low a rank."""
        parts = []
        for part in self.split(x):
            noise = 1e-3 * float(np.sqrt(np.mean(part * part))) * rng.standard_normal((len(part), extra))
            parts.append(np.hstack([part, noise]).ravel())
        wider = _Vectors(self.net, self.r + extra)
        return wider, wider.normalised(np.concatenate(parts))


class _Run:
    """One search: the best multipliers with their bound, and the largest value of the maximisation."""

    def __init__(self, net: Increments, tol: float, rng: np.random.Generator, deadline: float) -> None:
        self._net, self._tol, self._rng, self._deadline = net, tol, rng, deadline
        self.lower, self.upper = 0.0, np.inf
        self.best: list[Float] = [np.ones(n) for n in net.widths[1:]]
        self._slack = max(1e-8, 0.01 * tol)
        self._spent, self._limit, self._next = 0, 0, 3
        self._vectors = _Vectors(net, _COLUMNS)

    @property
    def _gap(self) -> float:
        return (self.upper / self.lower) ** 2 - 1.0 if self.lower > 0.0 else np.inf

    @property
    def _late(self) -> bool:
        return time.perf_counter() > self._deadline

    def search(self, max_iterations: int) -> Status:
        self._limit = max_iterations
        x = self._vectors.drawn(self._rng)
        for _ in range(_SWEEPS):
            x, size = self._vectors.stepped(x)
            self.lower = max(self.lower, size)
        while True:
            x = _quasi_newton(self._vectors.value, x, self._limit - self._spent, self._look)
            if self._gap > self._tol:
                self._measure(x)
            if self._gap <= self._tol or self._vectors.r >= _MOST_COLUMNS or self._over():
                break
            self._vectors, x = self._vectors.widened(x, self._vectors.r // 2, self._rng)
            self._next = self._spent + 3
        if self._gap > self._tol and not self._over():
            self._power_steps()
        if self._gap <= self._tol:
            return Status.OPTIMAL
        return Status.TIME_LIMIT if self._late else Status.MAX_ITERATIONS

    def _over(self) -> bool:
        return self._spent >= self._limit or self._late

    def _power_steps(self) -> None:
        """From a fresh start: where one part of the network dominates another, power steps treat all units alike."""
        self._vectors, self._slack = _Vectors(self._net, _COLUMNS), 1e-4
        x = self._vectors.drawn(self._rng)
        for count in range(1, max(2, self._limit - self._spent)):
            x, size = self._vectors.stepped(x)
            self.lower = max(self.lower, size)
            if count in (5, 10) or count % 20 == 0:
                self._measure(x)
                if self._gap <= self._tol or self._late:
                    return

    def _look(self, x: Float, value: float, decrement: float) -> bool:
        """After every iteration: is it time to stop? The gap is about the root of the decrement."""
        self._spent += 1
        self.lower = max(self.lower, float(np.exp(-value)))
        promised = np.sqrt(decrement) < self._tol and self._spent >= self._next
        if promised or decrement < 1e-24 or self._spent >= 4 * self._next + 16:
            self._measure(x)
            self._next = int(1.3 * self._spent) + 3
        return self._gap <= self._tol or decrement < 1e-24 or self._late

    def _measure(self, x: Float) -> None:
        """The bound of the multipliers at x, with the slack that serves them best."""
        T = self._vectors.multipliers(x)
        tried: dict[float, float] = {}

        def bound(s: float) -> float:
            if s not in tried:
                tried[s] = bound_of(self._net, multipliers_with_slack(T, s))
            return tried[s]

        s, goal = self._slack, (1.0 + self._tol) * self.lower**2
        while not np.isfinite(bound(s)) and s < 1.0:  # some S_k is not definite: more room
            s *= 10.0
        while s > _SLACKS[0] and bound(s) > goal and bound(0.1 * s) < bound(s):  # less where that pays
            s *= 0.1
        while s < _SLACKS[1] and bound(s) > goal and bound(10.0 * s) < bound(s):
            s *= 10.0
        self._slack = s
        if bound(s) < self.upper**2:
            self.upper, self.best = float(np.sqrt(bound(s))), list(multipliers_with_slack(T, s))


def bound_of(net: Increments, multipliers: Sequence[Float]) -> float:
    """ρ(T) by the Riccati recursion, in floating point; infinite where some S_k is not positive definite."""
    Q = net.output.T @ net.output
    layers = list(zip(net.maps, net.centre, net.width, multipliers))
    for B, c, w, t in reversed(layers):
        bends = w > 0.0
        S = -Q[np.ix_(bends, bends)]
        S[np.diag_indices(len(S))] += 2.0 * t[bends]
        try:
            R = np.linalg.cholesky(S)
        except np.linalg.LinAlgError:
            return float("inf")
        if (c == w).all():  # slopes [0, b]: Q_{k−1} = (2 c T B)ᵀ S⁻¹ (2 c T B)
            D = solve_triangular(R, (2.0 * c * t)[:, None] * B, lower=True, check_finite=False)
            Q = D.T @ D
            continue
        X = c[:, None] * B
        D = solve_triangular(R, Q[bends] @ X, lower=True, check_finite=False)
        Q = X.T @ Q @ X + (B.T * (2.0 * t * w * w)) @ B + D.T @ D
        Q = 0.5 * (Q + Q.T)
    last = len(Q) - 1
    try:
        return float(eigh(Q, eigvals_only=True, subset_by_index=(last, last), check_finite=True)[0])
    except (np.linalg.LinAlgError, ValueError):
        return float("inf")


def _row_norms(rows: Float) -> Float:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows)) + _TINY


def _quasi_newton(
    value: Callable[[Float], tuple[float, Float, Float]],
    x: Float,
    limit: int,
    look: Callable[[Float, float, float], bool],
) -> Float:
    """L-BFGS whose initial inverse Hessian is the diagonal that ``value`` gives; ``look(x, f, decrement)`` stops it."""
    pairs: list[tuple[Float, Float, float]] = []
    f, g, H = value(x)
    for _ in range(limit):
        direction = _two_loops(g, H, pairs)
        slope, step = -float(g @ direction), 1.0
        if not slope < -1e-28:
            return x
        while True:
            moved = x - step * direction
            f_new, g_new, H_new = value(moved)
            # the second: values agree to rounding, so slopes judge (approximate Wolfe, Hager and Zhang 2005)
            flat = f_new <= f + 1e-14 and abs(float(g_new @ direction)) <= -0.9 * slope
            if f_new <= f + 1e-4 * step * slope or flat:
                break
            step *= 0.5
            if step < 1e-6:
                return x
        change, turn = moved - x, g_new - g
        curvature = float(change @ turn)
        if curvature > 0.0:
            pairs = [*pairs[-(_MEMORY - 1) :], (change, turn, 1.0 / curvature)]
        x, f, g, H = moved, f_new, g_new, H_new
        if look(x, f, -slope):
            return x
    return x


def _two_loops(g: Float, H: Float, pairs: Sequence[tuple[Float, Float, float]]) -> Float:
    """The inverse Hessian times the gradient (Nocedal 1980), from the diagonal H, scaled by the last pair."""
    q, factors = g.copy(), []
    for change, turn, inverse in reversed(pairs):
        factors.append(inverse * float(change @ q))
        q -= factors[-1] * turn
    q *= H
    if pairs:
        _, turn, inverse = pairs[-1]
        q *= min(1.0, max(1e-2, 1.0 / (inverse * float(turn @ (H * turn)))))
    for (change, turn, inverse), factor in zip(pairs, reversed(factors)):
        q += (factor - inverse * float(turn @ q)) * change
    return q
