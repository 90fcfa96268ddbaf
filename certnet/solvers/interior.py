r"""certnet's own solver of the restriction: a primal–dual interior-point method that knows the program's structure.

Every iterate is feasible, primal and dual (the start is made so), so that their difference bounds the distance to the
optimum from the first step. Inequalities of the cells and blocks of the penalty are scaled by Nesterov and Todd. A step
factors one matrix (:class:`~certnet.solvers.newton.NewtonSystem`), solves for a predictor, Mehrotra's
corrector and a few of Gondzio's, and takes primal and dual lengths of its own. The gap that is reported is recomputed
from the data by :mod:`certnet.solvers.dual_bound`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from certnet.core.errors import SolverError, SolverUnavailableError
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.kernels import cells
from certnet.programs.restriction import Restriction, Solution
from certnet.solvers.dual_bound import DualPoint, certified_rho, lower_bound, objective_at
from certnet.solvers.lipschitz_block import LipschitzBlock
from certnet.solvers.newton import NewtonSystem
from certnet.solvers.norm_block import NormBlock
from certnet.solvers.reduced import Reduced

__all__ = ["InteriorOutcome", "InteriorStep", "solve"]

_MAX_STEPS = 200
_SHARE = 0.3  # of the targets' variance: the penalty at the start
_SHORT = 1e-3  # steps that lead nowhere
_LARGEST_SCALE = 1e3  # of a start that is moved deeper inside
_BACK_OFF = 0.95  # of the way to the boundary
_GAIN = 1.02  # of the product of the lengths, that a corrector has to bring
_KEEP = 0.25  # power of the ratio between the complementarity of a part and the mean that its target keeps
_CLIP = (0.2, 5.0)  # of the aimed complementarity
_FLOOR = 1e-6  # of the constant network's objective: gaps are relative to no less
_LEAST_WEIGHT = 1e-3  # stands for the weight zero, times tol, in units of the targets' variance
_CACHE = 20_000_000  # numbers of products of inputs that are kept; more are formed again in each step


@dataclass(frozen=True, eq=False)
class InteriorOutcome:
    """What :func:`solve` returns.

    Attributes
    ----------
    solution : Solution or None
        A point of the closed cell; None where there is none.
    status : Status
    solver_status : str
    residuals : Residuals or None
        Recomputed.
    seconds : float
    value : float
        The objective at ``solution``, recomputed.
    lower : float
        A bound on the optimum from below, computed from ``dual`` and the data. For weight zero it is that of a tiny
        weight, and holds for the points of the cell whose penalty is at most the solution's.
    gap : float
        ``(value − lower) / value``, where value is at least 10⁻⁶ of the constant network's.
    steps : int
        Interior-point steps.
    dual : DualPoint or None
    """

    solution: Solution | None
    status: Status
    solver_status: str
    residuals: Residuals | None
    seconds: float
    value: float
    lower: float
    gap: float
    steps: int
    dual: DualPoint | None


@dataclass(frozen=True, eq=False)
class InteriorStep:
    """One iterate, for callbacks: its feasible value and the bound below, in the data's units; ``point()`` gives it."""

    step: int
    seconds: float
    value: float
    lower: float
    point: Callable[[], Solution]


def solve(
    program: Restriction,
    *,
    start: tuple[Float, Float] | None = None,
    tol: float = 1e-6,
    time_limit: float | None = None,
    callback: Callable[[InteriorStep], None] | None = None,
    rho_at_most: float | None = None,
) -> InteriorOutcome:
    """Solve a restriction to a relative duality gap.

    Parameters
    ----------
    program : Restriction
    start : (U, c), optional
        A point of the closed cell, such as the network's product weights (k, d+1); without one, a linear program per
        unit finds a point. It is used for the interior of the cells only: points near their edges start badly.
    tol : float
        Relative gap, recomputed from the data.
    time_limit : float, optional
        Seconds after which no new step is begun; the best point so far is returned.
    callback : callable, optional
        Called with every iterate; may raise to stop (:class:`KeyboardInterrupt` propagates).
    rho_at_most : float, optional
        Minimise the squared error subject to ``ρ <= rho_at_most`` instead; the program's weight is not used.

    Returns
    -------
    InteriorOutcome
    """
    begin = time.perf_counter()
    if rho_at_most is not None and program.penalty != "lipschitz":
        raise SolverUnavailableError("rho_at_most needs the Lipschitz penalty")
    try:
        reduced = Reduced.of(program, None if start is None else start[0])
    except SolverError as error:
        seconds = time.perf_counter() - begin
        return InteriorOutcome(None, Status.SOLVER_FAILED, str(error), None, seconds, np.inf, -np.inf, np.inf, 0, None)
    constant = program.spread + float(reduced.tau**2)
    if program.weight == 0.0 and rho_at_most is None:
        tiny = _LEAST_WEIGHT * tol
        scale = 1.0 / reduced.unit if program.penalty == "lipschitz" else reduced.tau
        program = replace(program, weight=tiny * scale)
        reduced = replace(reduced, weight=tiny, program=program)
        free = True
    else:
        free = False
    if not len(reduced.units) or rho_at_most == 0.0:
        return _constant(program, reduced, begin)
    outcome = _Iteration(program, reduced, rho_at_most, constant, begin).run(tol, time_limit, callback)
    return _without_weight(program, outcome, constant) if free else outcome


def _without_weight(program: Restriction, outcome: InteriorOutcome, constant: float) -> InteriorOutcome:
    """For weight zero: the bound of a tiny weight, less what that charges; of points whose penalty is no larger."""
    if outcome.solution is None:
        return outcome
    value = program.fit(outcome.solution.U, outcome.solution.c)
    lower = outcome.lower - (outcome.value - value)
    return replace(outcome, value=value, lower=lower, gap=(value - lower) / max(value, _FLOOR * constant))


def _constant(program: Restriction, reduced: Reduced, begin: float) -> InteriorOutcome:
    """The constant network, where nothing else is to be had."""
    k = program.directions.shape[1]
    eta = None
    if program.penalty == "lipschitz":
        eta = program.eta if program.eta is not None else np.full(k, 1.0 / max(1, k))
    U = np.zeros((k, program.rows.shape[1] + 1))
    solution = Solution(U, reduced.offset.copy(), eta, 0.0 if eta is not None else None)
    value = program.fit(U, solution.c)
    seconds = time.perf_counter() - begin
    return InteriorOutcome(
        solution, Status.OPTIMAL, "the constant network", Residuals(0.0, 0.0), seconds, value, value, 0.0, 0, None
    )


class _Iteration:
    """One solve in progress, in reduced coordinates."""

    def __init__(
        self, program: Restriction, reduced: Reduced, limit: float | None, constant: float, begin: float
    ) -> None:
        self._program, self._reduced, self._limit = program, reduced, limit
        self._constant, self._begin = constant, begin
        self._block: LipschitzBlock | NormBlock
        if program.penalty == "lipschitz":
            self._block = LipschitzBlock(reduced, None if limit is None else limit / reduced.rho(1.0))
        else:
            self._block = NormBlock(reduced)
        self._system = NewtonSystem(reduced, self._block.n_rows, self._block.n_columns)
        n, p = reduced.X.shape
        self._n_cone = reduced.pattern.shape[1]
        self._pairs = np.triu_indices(p)
        self._kept = self._pair_products(reduced.X) if n * len(self._pairs[0]) <= _CACHE else None
        self._buffers = [np.empty((n, self._n_cone)) for _ in range(3)]
        self._pool: list[tuple[Float, Float]] = []  # of directions that are no longer needed

    # ------------------------------------------------------------------------------------------------ the linear maps

    def _pair_products(self, X: Float) -> Float:
        return X[:, self._pairs[0]] * X[:, self._pairs[1]]

    def _curvature(self, weights: Float) -> Float:
        """``Σ_i weights_ij x̃_i x̃_iᵀ`` of each unit with inequalities, (n_cone, p, p)."""
        n, p = self._reduced.X.shape
        if self._kept is not None:
            packed = weights.T @ self._kept
        else:
            packed = np.zeros((self._n_cone, len(self._pairs[0])))
            size = max(1, _CACHE // (4 * len(self._pairs[0])))
            for first in range(0, n, size):
                here = slice(first, first + size)
                packed += weights[here].T @ self._pair_products(self._reduced.X[here])
        out = np.empty((self._n_cone, p, p))
        out[:, self._pairs[0], self._pairs[1]] = packed
        out[:, self._pairs[1], self._pairs[0]] = packed
        return out

    def _forward(self, U: Float, slacks: Float) -> Float:
        """The hidden part of the outputs (n, m); ``slacks`` (n, n_cone) is overwritten."""
        reduced, n_cone = self._reduced, self._n_cone
        np.matmul(reduced.X, U[:n_cone].T, out=slacks)
        outputs = np.zeros((len(reduced.X), len(reduced.outputs)))
        cells.split(slacks, reduced.pattern, reduced.outputs, outputs)
        if n_cone < len(U):
            outputs += reduced.X[:, :-1] @ (U[n_cone:, :-1].T @ reduced.outputs[:, n_cone:].T)
        return outputs

    def _backward(self, residual: Float, z: Float) -> Float:
        """``Σ_i (residual_iᵀ V_:j D_ij − z_ij S_ij) x̃_i``, (h, p); residuals carry their weights."""
        reduced, n_cone, pull = self._reduced, self._n_cone, self._buffers[0]
        out = np.zeros((reduced.outputs.shape[1], reduced.X.shape[1]))
        np.matmul(residual, reduced.outputs[:, :n_cone], out=pull)
        cells.pulled_residuals(pull, reduced.pattern, z)
        out[:n_cone] = pull.T @ reduced.X
        out[n_cone:, :-1] = (reduced.X[:, :-1].T @ residual @ reduced.outputs[:, n_cone:]).T
        return out

    # ------------------------------------------------------------------------------------------------ start

    def _centred(self) -> Float:
        """Points near the centres of the cones, ``min − Σ_i log s_ij + (n/2) ‖u‖²`` in the penalty's metric."""
        reduced, n_cone = self._reduced, self._n_cone
        n, p = reduced.X.shape
        U, s = reduced.start.copy(), self._buffers[1]
        if self._program.penalty == "lipschitz":
            metric = np.zeros((p, p))
            metric[:-1, :-1] = np.linalg.inv(reduced.metric)
        else:
            metric = reduced.norm.T @ reduced.norm
        metric *= n / np.sqrt(np.linalg.norm(metric, 2))
        nothing = np.zeros_like(reduced.targets)
        for _ in range(60):
            self._forward(U, s)
            inverse = 1.0 / s
            gradient = U[:n_cone] @ metric + self._backward(nothing, inverse)[:n_cone]
            hessian = self._curvature(inverse**2) + metric
            move = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
            decrement = np.sqrt(np.maximum(0.0, -np.sum(move * gradient, axis=1)))
            full = np.zeros_like(U)
            full[:n_cone] = move
            ds = np.empty_like(s)
            self._forward(full, ds)
            room = 0.9 / np.maximum(1e-12, np.max(-ds / s, axis=0))
            length = np.where(decrement > 0.3, 1.0 / (1.0 + decrement), 1.0)
            length = np.minimum(1.0, np.maximum(length, np.minimum(room, 1.0)))
            U[:n_cone] += length[:, None] * move
            if not decrement.max(initial=0.0) > 0.3:
                break
        return U

    def _begin_point(self, centre: Float, scale: float = 1.0) -> None:
        """Primal and dual feasible; a larger ``scale`` is farther from the optimum and deeper inside."""
        reduced = self._reduced
        U, s = centre.copy(), self._buffers[1]
        self._forward(U, s)
        weights = np.ones_like(s)
        if self._program.penalty == "lipschitz":  # the biases are free: their multipliers balance exactly
            on = reduced.pattern == 1
            above, below = np.sum(on / s, axis=0), np.sum(~on / s, axis=0)
            weights = np.where(on, np.sqrt(below / above), np.sqrt(above / below))
        pull = -self._backward(np.zeros_like(reduced.targets), weights / s)
        if self._program.penalty == "lipschitz":
            pull[:, -1] = 0.0
        self._U, level = self._block.begin(U, pull, _SHARE * scale, scale)
        self._s = np.empty_like(s)
        self._hidden = self._forward(self._U, self._s)
        self._z = level[: self._n_cone] * weights / self._s
        self._r = np.zeros_like(reduced.targets)
        self._n_complement = self._s.size + self._block.degree

    # ------------------------------------------------------------------------------------------------ the loop

    def run(
        self, tol: float, time_limit: float | None, callback: Callable[[InteriorStep], None] | None
    ) -> InteriorOutcome:
        centre, scale = self._centred(), 1.0
        self._begin_point(centre)
        aim, word, status, slow = tol, "", Status.MAX_ITERATIONS, 0
        best: InteriorOutcome | None = None
        step, previous = 0, -np.inf
        while step < _MAX_STEPS:
            value, lower = self._values()
            if callback is not None:
                seconds = time.perf_counter() - self._begin
                callback(InteriorStep(step, seconds, value, lower, self._point))
            close = abs(self._relative(value, lower)) < 1e-3
            if lower > value or (close and lower < previous - 0.1 * (value - lower)):
                self._system.careful = True  # dual feasibility is being lost to rounding
            previous = lower
            if abs(self._relative(value, lower)) <= aim:
                best = self._outcome(step, tol)
                if best.gap <= tol:
                    return best
                aim *= 0.3
            if time_limit is not None and time.perf_counter() - self._begin >= time_limit:
                status = Status.TIME_LIMIT
                break
            try:
                taken = self._step()
            except (SolverError, np.linalg.LinAlgError) as error:
                status, word = Status.INACCURATE, str(error)
                break
            step += 1
            slow = slow + 1 if taken < _SHORT else 0
            if slow == 4 and step <= 6 * (1 + np.log10(scale)) and scale < _LARGEST_SCALE:
                # many inequalities and few blocks: the cone's multipliers start too weak beside the penalty's
                scale, slow = 10.0 * scale, 0
                self._begin_point(centre, scale)
                previous = -np.inf
            if slow == 5:
                status, word = Status.INACCURATE, "the steps became too short"
                break
        last = self._outcome(step, tol, status, word)
        return last if best is None or last.gap <= best.gap else best

    def _relative(self, value: float, lower: float) -> float:
        return (value - lower) / max(value, _FLOOR * self._constant)

    def _residual(self) -> tuple[Float, Float]:
        """Residuals and the output bias that makes their mean zero."""
        reduced = self._reduced
        residual = self._hidden - reduced.targets
        c = -(reduced.shares @ residual)
        return residual + c, c

    def _values(self) -> tuple[float, float]:
        """Primal and dual objective in the data's units."""
        reduced = self._reduced
        residual, _ = self._residual()
        primal = float(reduced.shares @ np.sum(residual**2, axis=1)) + self._block.value
        dual = -float(reduced.shares @ np.sum(self._r * (2.0 * reduced.targets + self._r), axis=1))
        dual += self._block.dual_value
        scale = reduced.tau**2
        return primal * scale + self._program.spread, dual * scale + self._program.spread

    def _point(self) -> Solution:
        rho = self._block.rho
        solution = self._reduced.undo(self._U, self._residual()[1], self._block.eta, rho)
        if rho is None:
            return solution
        return Solution(solution.U, solution.c, solution.eta, certified_rho(self._program, solution))

    def _dual_point(self) -> DualPoint:
        reduced, block = self._reduced, self._block
        z = np.zeros((len(reduced.X), self._program.directions.shape[1]))
        z[:, reduced.units[: self._n_cone]] = reduced.tau * self._z
        if isinstance(block, NormBlock):
            return DualPoint(reduced.tau * self._r, z)
        P, Y0, Q, y = block.multipliers
        back = reduced.basis * reduced.singular
        P = back @ P @ back.T
        if len(reduced.singular) < len(P):  # positive across the data too, where nothing pulls
            P = P + 1e-12 * np.trace(P) / len(P) * (np.eye(len(P)) - reduced.basis @ reduced.basis.T)
        units = np.zeros((z.shape[1], len(back)))
        units[:] = -0.5 * (back @ Y0 @ self._program.directions).T  # of units that are left out: nothing pulls them
        units[reduced.units] = y @ back.T
        tau = reduced.tau
        return DualPoint(tau * self._r, z, P, tau * back @ Y0, tau**2 * Q, tau * units)

    def _outcome(
        self, step: int, tol: float, status: Status = Status.OPTIMAL, word: str = "converged"
    ) -> InteriorOutcome:
        program, solution, dual = self._program, self._point(), self._dual_point()
        value, lower = objective_at(program, solution), lower_bound(program, dual, self._limit)
        if self._limit is not None:
            value = program.fit(solution.U, solution.c)
        claimed = self._values()[0]
        gap = self._relative(value, lower)
        if gap <= tol:
            status = Status.OPTIMAL
        elif status.ok:
            status, word = Status.INACCURATE, "the bound recomputed from the data stays away"
        mismatch = abs(claimed - value) / max(abs(value), 1e-300)
        residuals = Residuals(program.cell_violation(solution.U), mismatch)
        seconds = time.perf_counter() - self._begin
        return InteriorOutcome(solution, status, word, residuals, seconds, value, lower, gap, step, dual)

    def _step(self) -> float:
        """One step; returns the longer of its lengths."""
        reduced, block, system = self._reduced, self._block, self._system
        s, z, h = self._s, self._z, reduced.directions.shape[1]
        if not s.min(initial=1.0) > 0.0:
            raise SolverError("a slack is zero in floating point")
        if not block.prepare(self._U):
            raise SolverError("a block of the penalty is not positive definite in floating point")
        residual, _ = self._residual()
        slack = float(np.vdot(s, z)) if s.size else 0.0
        complement = slack + block.complement
        mu = complement / self._n_complement
        gradient = self._backward(2.0 * reduced.shares[:, None] * residual, z) - block.dual_pull
        H = np.zeros((h, *[reduced.X.shape[1]] * 2))
        self._inverse = 1.0 / s
        H[: self._n_cone] = self._curvature(z * self._inverse)
        if self._program.penalty == "lipschitz":
            H[self._n_cone :, -1, -1] = 1.0  # biases that the output bias replaces
        D, columns = block.assemble(H, system.rows, system.first)
        system.factor(H, D, columns)
        search = _Search(self, gradient, slack)
        search.predict()
        ahead = search.ahead() / complement
        sigma = min(1.0, max(ahead, 1e-6) ** 3)
        own = slack / max(1, s.size), (complement - slack) / self._block.degree
        search.correct((sigma * mu * (own[0] / mu) ** _KEEP, sigma * mu * (own[1] / mu) ** _KEEP))
        return self._move(search)

    def _move(self, search: _Search) -> float:
        primal, dual = (min(1.0, _BACK_OFF * length) for length in search.best.lengths)
        move = search.best
        residual, _ = self._residual()
        self._r = self._r + dual * (residual + move.residual - self._r)
        self._U = self._U + primal * move.U
        self._z += dual * move.z
        self._block.move(move.block, primal, dual)  # type: ignore[arg-type]
        self._pool.append((move.s, move.z))
        self._hidden = self._forward(self._U, self._s)
        return max(primal, dual)


@dataclass(frozen=True, eq=False)
class _Direction:
    U: Float
    s: Float
    z: Float
    residual: Float
    block: object
    lengths: tuple[float, float]


class _Search:
    """Directions of one step: predictor, Mehrotra's corrector, Gondzio's correctors."""

    def __init__(self, iteration: _Iteration, gradient: Float, slack: float) -> None:
        self._it, self._gradient, self._slack = iteration, gradient, slack

    def _direction(self, target: tuple[float, float], product: Float, corrections: object) -> _Direction:
        it = self._it
        reduced, pull, n_cone = it._reduced, it._buffers[0], it._n_cone
        ds, dz = it._pool.pop() if it._pool else (np.empty_like(it._s), np.empty_like(it._s))
        cells.aimed(target[0], product, it._inverse, it._z, reduced.pattern, dz, pull)
        r = -self._gradient
        r[:n_cone] += pull.T @ reduced.X
        if it._program.penalty == "lipschitz":
            r[n_cone:, -1] = 0.0
        r, g, b, aimed = it._block.aim(target[1], corrections, r)  # type: ignore[arg-type]
        dU, v, t, change = it._system.solve(r, g, b)
        outputs = it._forward(dU, ds)
        primal, dual = cells.finished(it._s, it._inverse, it._z, ds, dz)
        block = it._block.direction(dU, v, t, aimed)  # type: ignore[arg-type]
        most = 1.0 / _BACK_OFF
        lengths = it._block.longest(block, min(primal, most), min(dual, most))  # type: ignore[arg-type]
        if change is None:
            change = outputs - reduced.shares @ outputs
        return _Direction(dU, ds, dz, change, block, lengths)

    def predict(self) -> None:
        self._product = self._it._buffers[1]
        self._product[:] = 0.0
        self.best = self._direction((0.0, 0.0), self._product, None)

    def ahead(self) -> float:
        """Complementarity at the end of the predictor."""
        it, move = self._it, self.best
        primal, dual = (min(1.0, length) for length in move.lengths)
        a, b, c = cells.affine_sum(it._s, it._z, move.s, move.z, self._product)
        value = self._slack + dual * a + primal * b + primal * dual * c
        return value + it._block.ahead(move.block, primal, dual)  # type: ignore[arg-type]

    def correct(self, target: tuple[float, float]) -> None:
        it, block, product = self._it, self._it._block, self._product
        corrections = block.second_order(self.best.block, 1.0)  # type: ignore[arg-type]
        it._pool.append((self.best.s, self.best.z))
        best = self._direction(target, product, corrections)
        bounds = [(_CLIP[0] * value, _CLIP[1] * value) for value in target]
        spare = it._buffers[2]
        for _ in range(it._system.correctors):
            reach = (min(1.0, 1.1 * best.lengths[0] + 0.1), min(1.0, 1.1 * best.lengths[1] + 0.1))
            cells.clipped_products(it._s, it._z, best.s, best.z, *reach, *bounds[0], product, spare)
            blocks = block.clipped(best.block, reach, bounds[1], corrections)  # type: ignore[arg-type]
            move = self._direction(target, spare, blocks)
            if not move.lengths[0] * move.lengths[1] > _GAIN * best.lengths[0] * best.lengths[1]:
                it._pool.append((move.s, move.z))
                break
            it._pool.append((best.s, best.z))
            best, corrections = move, blocks
            product, spare = spare, product
        self.best = best
