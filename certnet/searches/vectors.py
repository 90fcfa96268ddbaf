r"""LipSDP of any depth as a maximisation over vector-valued networks: multipliers at the cost of some forward passes.

LipSDP with one multiplier per neuron is the dual of a maximisation over Gram matrices, in which unit j obeys
``|z_j − c_j p_j| ≤ w_j |p_j|`` (:mod:`certnet.searches.increments`). With r columns in the place of one, a unit is a
*choice of a unit vector* u_j in R^r:

    Z_k = diag(c) P_k + diag(w |P_k|) U_k,   P_k = B_k Z_{k−1},   ρ* = max ‖V Z_K‖_F²   over ‖Z_0‖_F = 1, |u_j| = 1

(``|·|``: norms of rows); in the maximum norm the rows of Z_0 are unit vectors instead. Backwards, with ``O = V Z_K``
and cotangents ``g_K = Vᵀ O``,

    q_k = c g_k + w (g_k·u_k) p_k / |p_k|,   g_{k−1} = B_kᵀ q_k,

and the step ``u_j ← g_j / |g_j|``, ``Z_0 ← g_0 / ‖g_0‖`` (each row, in the maximum norm) never decreases ρ. It is the
diagonal start of an L-BFGS on ``−½ log ρ``. At a stationary point ``T_kj = |g_kj| / (2 w_j |p_kj|)`` are the
multipliers, ``μ_i = |g_0i|`` the weights of the inputs in the maximum norm, and a recursion
(:mod:`certnet.searches.riccati`) gives the bound that they prove, in floating point, and so the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from certnet.core.outcome import Status
from certnet.core.until import FOREVER, Until
from certnet.core.validation import Float
from certnet.networks.network import Network
from certnet.searches.arrays import NUMPY, Arrays, Placed
from certnet.searches.increments import Increments, Scaled, increments_of
from certnet.searches.lbfgs import quasi_newton
from certnet.searches.result import SearchResult
from certnet.searches.riccati import bound_of

__all__ = ["Leaning", "multipliers_with_slack", "search_to_goal", "search_vectors", "tightest"]

_COLUMNS: Final = 24  # r; half as many more are added where a gap stays
_MOST_COLUMNS: Final = 64
_SWEEPS: Final = 5  # power steps before it
_TINY: Final = 1e-300
_SLACKS: Final = (1e-12, 1e-1)
_WORTH: Final = 0.02  # the part of a gap that another slack has to close
_CHEAP: Final = 1e9  # n³ summed over the layers: a bound takes some hundredths of a second
_LEAST_WEIGHT: Final = 1e-9  # of the largest input weight in the maximum norm
_LEAST_EFFECT: Final = 1e-11  # of the largest of a unit in its layer


def search_vectors(
    network: Network,
    *,
    norm: str = "l2",
    tol: float = 1e-6,
    max_iterations: int = 1000,
    random_state: int = 0,
    until: Until = FOREVER,
    device: str | None = None,
) -> SearchResult[tuple[Float, ...]]:
    """Multipliers T_1 … T_K of the bending units whose bound ρ is within a relative ``tol`` of the best.

    Units that cannot move, or move nothing, have multiplier 0: the proof leaves them out. Parts of the network that no
    weight connects are searched one by one.

    Parameters
    ----------
    network : Network
    norm : {"l2", "linf"}
        Of the inputs. In the maximum norm the weights of the inputs are in ``input_weights``.
    tol : float
        Relative gap between ρ(T) and the value of the maximisation.
    max_iterations : int
        Of the quasi-Newton method.
    random_state : int
        Seed of the start.
    until : Until
        Asked before every iteration.
    device : str, optional
        Of PyTorch, for the same search in float64 there (:mod:`certnet.searches.vectors_torch_`); by default NumPy.

    Raises
    ------
    MissingDependencyError
        A device is named, and PyTorch is not installed.
    InvalidInputError
        PyTorch does not have the device, or it has too little memory.
    """
    sup = norm == "linf"
    arrays = NUMPY if device is None else _on_device(device)
    whole = increments_of(network)
    own = [np.zeros(n) for n in whole.n_bending]
    bending = [np.cumsum(w > 0.0) - 1 for w in whole.width]
    mu = np.zeros(network.n_inputs)
    runs = []
    for part in Scaled.parts(network, reduced=not sup):
        run = _Run(part.net, sup, tol, np.random.default_rng(random_state), until, arrays)
        run.search(max_iterations)
        runs.append((run, part))
        part.fill(own, run.best, bending)
    for run, part in runs if sup else ():
        # only their ratios count
        mu[part.alive[0]] = np.ldexp(run.weights, 2 * (part.unit - max(other.unit for _, other in runs)))
    if not runs:
        weights = np.ones(network.n_inputs) if sup else None
        return SearchResult(tuple(own), 0.0, 0.0, Status.OPTIMAL, weights)
    upper, below = (
        _together([float(np.ldexp(getattr(run, side), part.unit)) for run, part in runs], sup)
        for side in ("upper", "lower")
    )
    worst = max((run.status for run, _ in runs), key=_ORDER.index)
    return SearchResult(tuple(own), upper, below, worst, mu if sup else None)


@dataclass(frozen=True, eq=False)
class Leaning:
    """Multipliers of a network, and what its units do where it is steepest.

    Attributes
    ----------
    multipliers : tuple of ndarray
        Of the bending units of every hidden layer.
    upper, below : float
        The bound that they give, and one that no multipliers fall below.
    shares, leans : tuple of ndarray
        Of the same units: their part in ρ, and in [−1, 1] towards which end of their slopes they lean.
    input_weights : ndarray, shape (d,), or None
    """

    multipliers: tuple[Float, ...]
    upper: float
    below: float
    shares: tuple[Float, ...]
    leans: tuple[Float, ...]
    input_weights: Float | None = None


def search_to_goal(
    network: Network,
    goal: float,
    *,
    norm: str = "l2",
    tol: float = 1e-9,
    loose: float = 1e-2,
    columns: int = 8,
    max_iterations: int = 200,
    random_state: int = 0,
    until: Until = FOREVER,
) -> Leaning:
    """Multipliers that are good enough to tell whether the bound is at most ``goal``: a node of branch and bound.

    Where it is not the gap is at most ``loose``.
    """
    sup = norm == "linf"
    whole = increments_of(network)
    own, shares, leans = ([np.zeros(n) for n in whole.n_bending] for _ in range(3))
    bending = [np.cumsum(w > 0.0) - 1 for w in whole.width]
    mu = np.zeros(network.n_inputs)
    parts = Scaled.parts(network, reduced=not sup)
    uppers, belows = [0.0], [0.0]
    for part in parts:
        aim = float(np.ldexp(goal, -part.unit)) if len(parts) == 1 or not sup else 0.0
        rng = np.random.default_rng(random_state)
        run = _Run(part.net, sup, tol if aim else loose, rng, until, NUMPY, goal=aim, loose=loose, columns=columns)
        run.search(max_iterations)
        uppers.append(float(np.ldexp(run.upper, part.unit)))
        belows.append(float(np.ldexp(run.lower, part.unit)))
        part.fill(own, run.best, bending)
        top = max(other.unit for other in parts)
        for found, values in zip((shares, leans), run.leaning()):
            for full, v, alive, w, places in zip(found, values, part.alive[1:], part.net.width, bending):
                full[places[alive][w > 0.0]] = v
        if sup:
            mu[part.alive[0]] = np.ldexp(run.weights, 2 * (part.unit - top))
    together = (lambda sides: float(np.linalg.norm(sides))) if sup else max
    return Leaning(tuple(own), together(uppers), together(belows), tuple(shares), tuple(leans), mu if sup else None)


def _on_device(name: str) -> Arrays:
    from certnet.searches.vectors_torch_ import TorchArrays  # PyTorch is for those who name a device

    return TorchArrays(name)


_ORDER: Final = (Status.OPTIMAL, Status.MAX_ITERATIONS, Status.TIME_LIMIT, Status.INTERRUPTED)


def _together(sides: Sequence[float], sup: bool) -> float:
    """Of a network of parts: the steepest of them; in the maximum norm all move at once."""
    return float(np.linalg.norm(sides)) if sup else max(sides)


def multipliers_with_slack(multipliers: Sequence[Float], s: float) -> tuple[Float, ...]:
    """``(1 + s)^{K−k+1} T_k``: room in every S_k, for at most ``(1 + s)^K`` of ρ where slopes begin at zero."""
    depth = len(multipliers)
    return tuple(t * (1.0 + s) ** (depth - k) for k, t in enumerate(multipliers))


def tightest(network: Network, multipliers: Sequence[Float], weights: Float | None = None) -> float:
    """The least L that the multipliers prove, in floating point; infinite where there is none."""
    bending = [np.cumsum(w > 0.0) - 1 for w in increments_of(network).width]
    sides, sums = [], []
    for part in Scaled.parts(network, reduced=weights is None):
        own = None if weights is None else weights[part.alive[0]]
        rho = bound_of(part.net, part.taken(multipliers, bending), own)
        sides.append(float(np.ldexp(np.sqrt(rho), part.unit)) if 0.0 < rho < np.inf else float("inf"))
        sums.append(1.0 if own is None else float(np.sum(own)))
    if weights is None or not sides:
        return max(sides, default=0.0)
    # shares of Σ μ: every part proves ρ_i for its own, and the whole takes the largest ratio
    return float(np.sqrt(sum(sums) * max(side * side / total for side, total in zip(sides, sums))))


@dataclass(eq=False)
class _Pass:
    """One evaluation, layer by layer: Z_0, feasible; P_k of the bending units with their norms; u_k with theirs.

    ``out`` is V Z_K; ``along`` is what :meth:`_Vectors.backward` adds, g·u / |u|.
    """

    first: Float
    P: list[Float]
    sizes: list[Float]
    units: list[Float]
    lengths: list[Float]
    out: Float = field(default_factory=lambda: np.zeros(0))
    along: list[Float] = field(default_factory=list)


class _Vectors:
    """The raw variables (Z_0, u of the bending units) in one vector, and ``−½ log ρ`` with its gradient there."""

    def __init__(self, net: Placed, columns: int, sup: bool = False, arrays: Arrays = NUMPY) -> None:
        self.net, self.r, self.sup = net, columns, sup
        self._arrays = arrays
        self._rows = (net.widths[0], *net.n_bending)
        self._cuts = np.cumsum([0, *(n * columns for n in self._rows)])

    def split(self, x: Float) -> list[Float]:
        return [x[a:b].reshape(n, self.r) for a, b, n in zip(self._cuts, self._cuts[1:], self._rows)]

    def normalised(self, x: Float) -> Float:
        """‖Z_0‖_F = 1 (unit rows, in the maximum norm) and unit rows of every U_k."""
        x = self._arrays.copy(x)
        first, *units = self.split(x)
        first /= self._size(first)
        for u in units:
            u /= self._arrays.row_norms(u)[:, None]
        return x

    def _size(self, first: Float) -> Float | float:
        """What Z_0 is divided by to be feasible."""
        if self.sup:
            return self._arrays.row_norms(first)[:, None]
        return float(self._arrays.xp.linalg.norm(first))

    def drawn(self, rng: np.random.Generator) -> Float:
        return self.normalised(self._arrays.array(rng.standard_normal(self._cuts[-1])))

    def forward(self, x: Float) -> _Pass:
        row_norms = self._arrays.row_norms
        raw, *units = self.split(x)
        Z = first = raw / self._size(raw)
        found = _Pass(first, [], [], [], [])
        for B, c, w, bends, u in zip(self.net.maps, self.net.centre, self.net.width, self.net.bends, units):
            P = B @ Z
            Z = c[:, None] * P
            P = P[bends]
            sizes, lengths = row_norms(P), row_norms(u)
            Z[bends] += (w[bends] * sizes / lengths)[:, None] * u
            for kept, one in zip((found.P, found.sizes, found.units, found.lengths), (P, sizes, u, lengths)):
                kept.append(one)
        found.out = self.net.output @ Z
        return found

    def backward(self, seen: _Pass, *, stepped: bool = False) -> list[Float]:
        """Cotangents g_0, and g_1 … g_K of the bending units; for the unit vectors, or (stepped) ``u = g / |g|``."""
        found: list[Float] = []
        g = self.net.output.T @ seen.out
        for k in reversed(range(len(seen.P))):
            bends = self.net.bends[k]
            own = g[bends]
            found.insert(0, own)
            if stepped:
                along = self._arrays.row_norms(own)
            else:
                along = self._arrays.row_dots(own, seen.units[k]) / seen.lengths[k]
            seen.along.insert(0, along)
            q = self.net.centre[k][:, None] * g
            q[bends] += (self.net.width[k][bends] * along / seen.sizes[k])[:, None] * seen.P[k]
            g = self.net.maps[k].T @ q
        return [g, *found]

    def value(self, x: Float) -> tuple[float, Float, Float]:
        """``−½ log ρ``, its gradient, and the diagonal of the power step as an inverse Hessian."""
        arrays, raw = self._arrays, self.split(x)[0]
        seen = self.forward(x)
        g0, *gs = self.backward(seen)
        rho = float((seen.out * seen.out).sum())
        gradient, inverse = arrays.xp.empty_like(x), arrays.xp.empty_like(x)
        (d0, *ds), (h0, *hs) = self.split(gradient), self.split(inverse)
        for k, (g, w, bends, d, h) in enumerate(zip(gs, self.net.width, self.net.bends, ds, hs)):
            reach = w[bends] * seen.sizes[k]
            _across(arrays, seen.units[k], seen.lengths[k], g, seen.along[k], reach, rho, d, h)
        if self.sup:
            lengths = arrays.row_norms(raw)
            along = arrays.row_dots(g0, raw) / lengths
            _across(arrays, raw, lengths, g0, along, 1.0, rho, d0, h0)
        else:
            size = float(arrays.xp.linalg.norm(raw))
            d0[:] = -(g0 / rho - seen.first) / size
            h0[:] = size**2
        return -0.5 * float(np.log(rho)), gradient, inverse

    def stepped(self, x: Float) -> tuple[Float, float]:
        """The power step, and ‖V Z_K‖ before it."""
        seen = self.forward(x)
        g0, *gs = self.backward(seen, stepped=True)
        xp = self._arrays.xp
        parts = [(g0 / self._size(g0)).ravel(), *((g / self._arrays.row_norms(g)[:, None]).ravel() for g in gs)]
        return xp.concatenate(parts), float(xp.linalg.norm(seen.out))

    def multipliers(self, x: Float) -> tuple[list[Float], Float]:
        """``T_kj = |g_kj| / (2 w_j |p_kj|)``, and the weights ``μ_i = |g_0i|`` of the inputs."""
        arrays, seen = self._arrays, self.forward(x)
        g0, *gs = self.backward(seen, stepped=True)
        found = []
        for g, sizes, w, bends in zip(gs, seen.sizes, self.net.width, self.net.bends):
            size = arrays.row_norms(g)
            if len(size):  # of a unit whose effects cancel nothing is left, and a proof needs more than rounding
                size = arrays.at_least(size, _LEAST_EFFECT * float(size.max()))
            found.append(size / (2.0 * arrays.at_least(w[bends], 1e-9) * sizes))
        mu = arrays.row_norms(g0)
        return found, arrays.at_least(mu, _LEAST_WEIGHT * float(mu.max()))

    def widened(self, x: Float, extra: int, rng: np.random.Generator) -> tuple[_Vectors, Float]:
        """More columns, nearly zero: a way out of a stationary point of too low a rank."""
        parts = []
        for part in self.split(self._arrays.numpy(x)):
            noise = 1e-3 * float(np.sqrt(np.mean(part * part))) if part.size else 0.0
            parts.append(np.hstack([part, noise * rng.standard_normal((len(part), extra))]).ravel())
        wider = _Vectors(self.net, self.r + extra, self.sup, self._arrays)
        return wider, wider.normalised(self._arrays.array(np.concatenate(parts)))


def _across(
    arrays: Arrays,
    u: Float,
    lengths: Float,
    g: Float,
    along: Float,
    reach: Float | float,
    rho: float,
    d: Float,
    h: Float,
) -> None:
    """Gradient d and inverse Hessian h of unit vectors u, whose length has no effect: across u alone.

    ``along`` is g·u / |u|, ``reach`` the factor of the unit vectors in Z.
    """
    if not len(u):
        return
    arrays.xp.multiply(u, (-along / lengths)[:, None], out=d)
    d += g
    d *= (-reach / (rho * lengths))[:, None]
    weight = reach * arrays.row_norms(g)
    h[:] = (rho * lengths**2 / arrays.at_least(weight, max(1e-14 * float(weight.max()), _TINY)))[:, None]


class _Run:
    """One search: the best multipliers with their bound, and the largest value of the maximisation."""

    def __init__(
        self,
        net: Increments,
        sup: bool,
        tol: float,
        rng: np.random.Generator,
        until: Until,
        arrays: Arrays,
        *,
        goal: float = 0.0,
        loose: float = 0.0,
        columns: int = _COLUMNS,
    ) -> None:
        self._net, self._rng, self._until = arrays.placed(net), rng, until
        self._tight, self._loose, self._goal = tol, max(tol, loose), goal
        self._sup, self._arrays = sup, arrays
        self.lower, self.upper = 0.0, np.inf
        self.best: list[Float] = [np.ones(n) for n in net.n_bending]
        self.weights: Float = np.ones(net.widths[0])
        self.status = Status.MAX_ITERATIONS
        self._slack = max(1e-8, 0.01 * tol)
        self._cheap = sum(float(n) ** 3 for n in net.widths) < _CHEAP
        self._spent, self._limit, self._next = 0, 0, 3
        self._columns = columns
        self._vectors = _Vectors(self._net, columns, sup, arrays)
        self.end: Float | None = None  # where the search ended

    @property
    def _tol(self) -> float:
        """The gap that is good enough: one that brings the bound to the goal, or a loose one where none will."""
        if self._goal == 0.0:
            return self._tight
        return self._loose if self.lower > self._goal else max(self._tight, (self._goal / self.lower) ** 2 - 1.0)

    @property
    def _gap(self) -> float:
        return (self.upper / self.lower) ** 2 - 1.0 if self.lower > 0.0 else np.inf

    def leaning(self) -> tuple[list[Float], list[Float]]:
        """Of the bending units of every layer: shares w |p| |g| of ρ, and p·g / (|p| |g|), the side they prefer."""
        arrays, x = self._arrays, self.end
        if x is None:
            return [np.ones(n) for n in self._net.n_bending], [np.zeros(n) for n in self._net.n_bending]
        seen = self._vectors.forward(x)
        _, *gs = self._vectors.backward(seen, stepped=True)
        shares, leans = [], []
        for g, P, sizes, w, bends in zip(gs, seen.P, seen.sizes, self._net.width, self._net.bends):
            size = arrays.row_norms(g)
            shares.append(arrays.numpy(w[bends] * sizes * size))
            leans.append(arrays.numpy(arrays.row_dots(P, g) / (sizes * size)))
        return shares, leans

    def search(self, max_iterations: int) -> None:
        self._limit = max_iterations
        self._climb(self._vectors.drawn(self._rng))
        self.status = Status.OPTIMAL if self._gap <= self._tol else self._until.reached or Status.MAX_ITERATIONS

    def _climb(self, x: Float) -> None:
        for _ in range(_SWEEPS):
            x, size = self._vectors.stepped(x)
            self.lower = max(self.lower, size)
        while True:
            x = quasi_newton(self._vectors.value, x, self._limit - self._spent, self._look)
            if self._gap > self._tol:
                self._measure(x, last=True)
            if self._gap <= self._tol or self._vectors.r >= _MOST_COLUMNS or self._over():
                break
            self._vectors, x = self._vectors.widened(x, self._vectors.r // 2, self._rng)
            self._next = self._spent + 3
        self.end = x
        if self._gap > self._tol and not self._over():
            self._power_steps()

    def _over(self) -> bool:
        return self._spent >= self._limit or self._until.reached is not None

    def _power_steps(self) -> None:
        """From a fresh start: where one part of the network dominates another, power steps treat all units alike."""
        self._vectors, self._slack = _Vectors(self._net, self._columns, self._sup, self._arrays), 1e-4
        x = self._vectors.drawn(self._rng)
        for count in range(1, max(2, self._limit - self._spent)):
            x, size = self._vectors.stepped(x)
            self.lower = max(self.lower, size)
            if count in (5, 10) or count % 20 == 0:
                self._measure(x)
                self.end = x
                if self._gap <= self._tol or self._until.reached:
                    return

    def _look(self, x: Float, value: float, decrement: float) -> bool:
        """After every iteration: is it time to stop? The gap is about the root of the decrement."""
        self._spent += 1
        self.lower = max(self.lower, float(np.exp(-value)))
        promised = np.sqrt(decrement) < self._tol and self._spent >= self._next
        if promised or decrement < 1e-24 or self._spent >= (4 if self._cheap else 40) * self._next + 16:
            self._measure(x)
            self._next = int(1.3 * self._spent) + 3
        return self._gap <= self._tol or decrement < 1e-24 or self._until.reached is not None

    def _measure(self, x: Float, *, last: bool = False) -> None:
        """The bound of the multipliers at x, with the slack that serves them best."""
        T, mu = self._vectors.multipliers(x)
        tried: dict[float, float] = {}

        def bound(s: float) -> float:
            if s not in tried:
                tried[s] = self._arrays.bound_of(self._net, multipliers_with_slack(T, s), mu if self._sup else None)
            return tried[s]

        def pays(s: float, other: float) -> bool:
            """Does another slack close a part of the gap that is worth looking for?"""
            return bound(s) - bound(other) > _WORTH * (bound(s) - self.lower**2)

        s, goal = self._slack, (1.0 + self._tol) * self.lower**2
        while not np.isfinite(bound(s)) and s < 1.0:  # some S_k is not definite: more room
            s *= 10.0
        # where a bound takes long, what the slack costs matters near the end alone
        if self._cheap or last or bound(s) < (1.0 + 100.0 * self._tol) * self.lower**2:
            while s > _SLACKS[0] and bound(s) > goal and pays(s, 0.1 * s):
                s *= 0.1
            while s < _SLACKS[1] and bound(s) > goal and pays(s, 10.0 * s):
                s *= 10.0
        self._slack = s
        if bound(s) < self.upper**2:
            self.upper = float(np.sqrt(bound(s)))
            self.best = [self._arrays.numpy(t) for t in multipliers_with_slack(T, s)]
            self.weights = self._arrays.numpy(mu)
