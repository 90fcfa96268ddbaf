r"""certnet's own solver of the restriction: a primal–dual interior-point method that knows the program's structure.

Every iterate is feasible, primal and dual (the start is made so), so that their difference bounds the distance to the
optimum from the first step. Inequalities of the cells and the penalty's block (:mod:`certnet.solvers.block`) are
scaled by Nesterov and Todd. A step factors one matrix (:class:`~certnet.solvers.newton.NewtonSystem`), solves for a
predictor, Mehrotra's corrector and a few of Gondzio's (:mod:`certnet.solvers.directions`), and takes primal and dual
lengths of its own. The gap that is reported is recomputed from the data by :mod:`certnet.solvers.dual_bound`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from certnet.core.errors import SolverError, SolverUnavailableError
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.programs.loss import Squared
from certnet.programs.restriction import Restriction, Solution
from certnet.solvers.block import Block
from certnet.solvers.blocks import BLOCKS
from certnet.solvers.directions import BACK_OFF, Buffers, DirectionSearch, Linearised
from certnet.solvers.dual_bound import lower_bound
from certnet.solvers.estimate import Size, own_estimate, unfit
from certnet.solvers.maps import DataMaps
from certnet.solvers.newton import NewtonSystem
from certnet.solvers.slope_block import SlopeBlock
from certnet.solvers.solved import Point, Solved
from certnet.solvers.start import balanced_weights, centred
from certnet.solvers.watch import UNWATCHED, InteriorStep, Watch
from certnet.solvers.whitened import Whitened

__all__ = ["InteriorPoint", "InteriorStep"]

_MAX_STEPS = 200
_SHARE = 0.3  # of the targets' variance: the penalty at the start
_SHORT = 1e-3  # steps that lead nowhere
_LARGEST_SCALE = 1e3  # of a start that is moved deeper inside
_KEEP = 0.25  # power of the ratio between the complementarity of a part and the mean that its target keeps
_FLOOR = 1e-6  # of the constant network's objective: gaps are relative to no less
_WORTH = 8  # steps that have to fit into the time: fewer lead to nothing
_UNNOTICED = 0.5  # seconds beyond the time that nobody minds
_LEAST_WEIGHT = 1e-3  # stands for the weight zero, times tol, in units of the targets' variance


@dataclass(frozen=True)
class InteriorPoint:
    """The method, for a weight or a limit on the slope.

    Attributes
    ----------
    tol : float
        Relative gap, recomputed from the data.
    """

    tol: float = 1e-6

    def solve(self, program: Restriction, *, start: Point | None = None, watch: Watch = UNWATCHED) -> Solved:
        """Solve a restriction to a relative duality gap.

        Parameters
        ----------
        program : Restriction
        start : (U, c), optional
            A point of the closed cell, such as the network's own; without one, a linear program per unit finds a point.
            It is used for the interior of the cells only: points near their edges start badly.
        watch : Watch, optional
            Sees every iterate; what it raises propagates. Where it has a verdict, the point so far is returned.

        Raises
        ------
        SolverUnavailableError
            The goal is a limit on the fit, or a limit without the Lipschitz penalty; the loss is not the squared one.
        """
        begin = time.perf_counter()
        if isinstance(program.goal, FitAtMost):
            raise SolverUnavailableError("an interior-point method alone does not keep a limit on the fit")
        if not isinstance(program.loss, Squared):
            raise SolverUnavailableError("an interior-point method alone is for the squared loss")
        cost = own_estimate(Size.of(program))
        if cost.setup + _WORTH * cost.step > watch.left + _UNNOTICED:
            word = unfit("the interior-point method", Size.of(program), own_estimate, watch.left) or "no time is left"
            return _nothing(Status.TIME_LIMIT, word, begin)
        try:
            data = Whitened.of(program, None if start is None else start[0], watch)
        except SolverError as error:
            return _nothing(watch.verdict or Status.SOLVER_FAILED, str(error), begin)
        constant = program.spread + float(data.tau**2)
        weightless = program.goal == Weighted(0.0)
        if weightless:  # a tiny weight in its place
            tiny = _LEAST_WEIGHT * self.tol * BLOCKS[type(program.penalty)].unit_weight(data)
            program = replace(program, goal=Weighted(tiny))
            data = replace(data, program=program)
        flat = isinstance(program.goal, SlopeAtMost) and program.goal.rho == 0.0
        if not len(data.units) or flat:
            return _constant(program, begin)
        block: Block = BLOCKS[type(program.penalty)](data)
        if program.slopes is not None:
            block = SlopeBlock(block, data)
        solved = _Iteration(data, block, constant, begin).run(self.tol, watch)
        return _without_weight(program, solved, constant) if weightless else solved


def _nothing(status: Status, word: str, begin: float) -> Solved:
    """No point, and why."""
    return Solved(None, status, word, seconds=time.perf_counter() - begin, value=np.inf, gap=np.inf)


def _without_weight(program: Restriction, solved: Solved, constant: float) -> Solved:
    """For weight zero: the bound of a tiny weight, less what that charges; of points whose penalty is no larger."""
    if solved.solution is None:
        return solved
    value = program.fit(solved.solution.U, solved.solution.c)
    lower = solved.lower - (solved.value - value)
    return replace(solved, value=value, lower=lower, gap=(value - lower) / max(value, _FLOOR * constant))


def _constant(program: Restriction, begin: float) -> Solved:
    """The constant network, where nothing else is to be had."""
    flat = program.constant()
    value = program.fit(flat.U, flat.c)
    seconds = time.perf_counter() - begin
    return Solved(
        flat, Status.OPTIMAL, "the constant network", Residuals(0.0, 0.0), seconds, value, lower=value, gap=0.0
    )


class _Iteration:
    """One solve in progress, in whitened coordinates."""

    def __init__(self, data: Whitened, block: Block, constant: float, begin: float) -> None:
        self._data, self._block = data, block
        self._constant, self._begin = constant, begin
        self._newton = NewtonSystem(data, block.n_rows, block.n_columns)
        self._maps = DataMaps(data)
        n, m = data.targets.shape
        self._buffers = Buffers(n, data.n_cone)
        self._n_complement = n * data.n_cone + block.degree
        # weights, slacks and multipliers of the cells, hidden part of the outputs, residuals of the dual point
        self._U = np.zeros_like(data.start)
        self._s, self._z = np.zeros((n, data.n_cone)), np.zeros((n, data.n_cone))
        self._hidden, self._r = np.zeros((n, m)), np.zeros((n, m))

    def _begin_at(self, centre: Float, scale: float = 1.0) -> None:
        """Primal and dual feasible; a larger ``scale`` is farther from the optimum and deeper inside."""
        data, s = self._data, np.empty_like(self._s)
        # multipliers in proportion to 1 / s, and how they pull the weights: all of it is the block's to balance
        self._maps.forward(centre, s)
        weights = balanced_weights(data, s)
        pull = -self._maps.adjoint(np.zeros_like(data.targets), weights / s)
        self._U, level = self._block.start(centre.copy(), pull, _SHARE * scale, scale)
        self._hidden = self._maps.forward(self._U, self._s)
        self._z = level[: data.n_cone] * weights / self._s
        self._r = np.zeros_like(data.targets)

    # ------------------------------------------------------------------------------------------------ the loop

    def run(self, tol: float, watch: Watch) -> Solved:
        centre, scale = centred(self._data, self._maps, self._block.metric(), watch), 1.0
        self._begin_at(centre)
        longest = 0.0  # step so far
        aim, word, status, slow = tol, "", Status.MAX_ITERATIONS, 0
        best: Solved | None = None
        step, previous = 0, -np.inf
        while step < _MAX_STEPS:
            value, lower = self._values()
            watch.show(InteriorStep(step, time.perf_counter() - self._begin, value, lower, self._point))
            if watch.interrupted:
                status, word = Status.INTERRUPTED, "interrupted"
                break
            close = abs(self._relative(value, lower)) < 1e-3
            if lower > value or (close and lower < previous - 0.1 * (value - lower)):
                self._newton.careful = True  # dual feasibility is being lost to rounding
            previous = lower
            if abs(self._relative(value, lower)) <= aim:
                best = self._solved(step, tol)
                if best.gap <= tol:
                    return best
                aim *= 0.3
            if watch.left <= (0.5 * longest if longest > _UNNOTICED else 0.0):
                status = Status.TIME_LIMIT
                break
            began = time.perf_counter()
            try:
                taken = self._step()
            except (SolverError, np.linalg.LinAlgError) as error:
                status, word = Status.INACCURATE, str(error)
                break
            step, longest = step + 1, max(longest, time.perf_counter() - began)
            slow = slow + 1 if taken < _SHORT else 0
            if slow == 4 and step <= 6 * (1 + np.log10(scale)) and scale < _LARGEST_SCALE:
                # many inequalities and few blocks: the cone's multipliers start too weak beside the penalty's
                scale, slow = 10.0 * scale, 0
                self._begin_at(centre, scale)
                previous = -np.inf
            if slow == 5:
                status, word = Status.INACCURATE, "the steps became too short"
                break
        last = self._solved(step, tol, status, word)
        chosen = last if best is None or last.gap <= best.gap else best
        return replace(chosen, status=status, solver_status=word) if status is Status.INTERRUPTED else chosen

    def _step(self) -> float:
        """One step; returns the longer of its lengths."""
        block, s, z = self._block, self._s, self._z
        if not s.min(initial=1.0) > 0.0:
            raise SolverError("a slack is zero in floating point")
        if not block.scale(self._U):
            raise SolverError("a block of the penalty is not positive definite in floating point")
        at = self._linearised()
        # predictor, and how much of the complementarity it leaves: the centring parameter σ
        search = DirectionSearch(at)
        complement = at.slack + block.complement
        mu = complement / self._n_complement
        sigma = min(1.0, max(search.ahead() / complement, 1e-6) ** 3)
        # correctors, with targets for cone and block that keep a little of the ratio of their complementarities
        own = at.slack / max(1, s.size), (complement - at.slack) / block.degree
        search.correct((sigma * mu * (own[0] / mu) ** _KEEP, sigma * mu * (own[1] / mu) ** _KEEP))
        # the step
        move = search.best
        primal, dual = (min(1.0, BACK_OFF * length) for length in move.lengths)
        residual, _ = self._residual()
        self._r = self._r + dual * (residual + move.residual - self._r)
        self._U = self._U + primal * move.U
        z += dual * move.z
        block.move(move.block, primal, dual)
        self._buffers.give(move)
        self._hidden = self._maps.forward(self._U, s)
        return max(primal, dual)

    def _linearised(self) -> Linearised:
        """The factored system at this iterate."""
        data, block, newton, maps = self._data, self._block, self._newton, self._maps
        s, z = self._s, self._z
        residual, _ = self._residual()
        gradient = maps.adjoint(2.0 * data.shares[:, None] * residual, z) - block.dual_pull
        # blocks: Σ_i (z_ij / s_ij) x̃_i x̃_iᵀ, one for biases that the output bias replaces, and the penalty's part
        p, inverse = data.X.shape[1], 1.0 / s
        H = np.zeros((len(self._U), p, p))
        H[: data.n_cone] = maps.curvature(z * inverse)
        H[data.n_cone :, -1, -1] = 1.0
        system = block.linearise(H, newton.rows, newton.first)
        newton.factor(H, system.D, system.columns)
        slack = float(np.vdot(s, z)) if s.size else 0.0
        return Linearised(data, maps, block, self._buffers, newton, system, s, z, inverse, gradient, slack)

    # ------------------------------------------------------------------------------------------------ what is known

    def _relative(self, value: float, lower: float) -> float:
        return (value - lower) / max(value, _FLOOR * self._constant)

    def _residual(self) -> tuple[Float, Float]:
        """Residuals and the output bias that makes their mean zero."""
        residual = self._hidden - self._data.targets
        c = -(self._data.shares @ residual)
        return residual + c, c

    def _values(self) -> tuple[float, float]:
        """Primal and dual objective in the data's units."""
        data, block = self._data, self._block
        residual, _ = self._residual()
        primal = float(data.shares @ np.sum(residual**2, axis=1)) + block.value
        # −Σ share (2 rᵀy + ‖r‖²) and the block's part
        dual = -float(data.shares @ np.sum(self._r * (2.0 * data.targets + self._r), axis=1)) + block.dual_value
        scale, spread = data.tau**2, data.program.spread
        return primal * scale + spread, dual * scale + spread

    def _point(self) -> Solution:
        return self._block.solution(self._U, self._residual()[1])

    def _solved(self, step: int, tol: float, status: Status = Status.OPTIMAL, word: str = "converged") -> Solved:
        """The point, with value and bound recomputed from the data."""
        data, program = self._data, self._data.program
        z = np.zeros(program.patterns.shape)
        z[:, data.units[: data.n_cone]] = data.tau * self._z
        solution, dual = self._point(), self._block.dual_point(data.tau * self._r, z)
        value, lower = program.objective(solution), lower_bound(program, dual)
        claimed = self._values()[0]
        gap = self._relative(value, lower)
        if gap <= tol:
            status = Status.OPTIMAL
        elif status.ok:
            status, word = Status.INACCURATE, "the bound recomputed from the data stays away"
        if status is Status.INACCURATE and data.n_edges:
            word = f"signs leave the cells of {data.n_edges} units no interior: start from a network that keeps them"
        mismatch = abs(claimed - value) / max(abs(value), 1e-300)
        residuals = Residuals(program.cell_violation(solution.U), mismatch)
        seconds = time.perf_counter() - self._begin
        return Solved(solution, status, word, residuals, seconds, value, lower, gap, step, dual)
