"""One refinement in progress: solve, rebuild, certify, recompute, and keep the best."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from certnet.certification import Certificate
from certnet.certification.bracket import certify_checked
from certnet.core.errors import CertificateError, InvalidInputError
from certnet.core.outcome import Status
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import FitAtMost, SlopeAtMost
from certnet.programs.objectives import mse_of, outputs_of
from certnet.programs.penalties import Penalty
from certnet.programs.restriction import Cell, Restriction, Solution, network_from
from certnet.refinement.task import Task
from certnet.refinement.trace import Measured, TraceRow
from certnet.solvers.choice import FALLBACK
from certnet.solvers.solved import Solved, Solver
from certnet.solvers.watch import InteriorStep, Watch

__all__ = ["Run", "Settings"]

_log = logging.getLogger("certnet")
_LEAST_SECONDS = 0.1  # that a program gets, however late it is


@dataclass(frozen=True)
class Settings:
    """How to solve; see :func:`certnet.refinement.refinement.refine`.

    Attributes
    ----------
    name : str
        The solver's, for messages.
    solver : Solver
    fallback : Solver or None
        Takes its place where it does not reach its gap.
    watch : Watch
        Of the whole work.
    random_state : int
    callback : callable or None
        Called with every row.
    verbose : bool
        Write the own solver's log to standard error.
    """

    name: str
    solver: Solver
    fallback: Solver | None
    watch: Watch
    random_state: int
    callback: Callable[[TraceRow], None] | None
    verbose: bool


class Run:
    """The best network so far, and the rows that led to it."""

    def __init__(self, network: ShallowNetwork, task: Task, cell: Cell, settings: Settings) -> None:
        self._begin = time.perf_counter()
        self.task, self.cell, self.settings = task, cell, settings
        self.input = network
        self.stopped: Status | None = None
        self.trace: list[TraceRow] = []
        self.before = self._measure(network)
        self.best = self.before
        self.candidate: Measured | None = None
        self.solution: Solution | None = None

    def begin(self) -> None:
        """The trace's first row."""
        self._record("input", self.before, Solved(None, Status.OPTIMAL, ""), accepted=True)

    def over(self) -> bool:
        """Is there a reason to start nothing more?"""
        if self.stopped is None and self.settings.watch.expired:
            self.stopped = Status.TIME_LIMIT
        return self.stopped is not None

    # ------------------------------------------------------------------------------------------------------- measuring

    def _measure(self, network: ShallowNetwork) -> Measured:
        certificate = self._certified(network)
        mse = mse_of(network, self.task.X, self.task.y)
        return Measured(network, self.task.value(network, mse, certificate), mse, certificate)

    def _certified(self, network: ShallowNetwork) -> Certificate:
        return certify_checked(network, X=self.task.X, tol=1e-7, random_state=self.settings.random_state)

    def _record(self, stage: str, measured: Measured | None, solved: Solved, *, accepted: bool) -> None:
        row = TraceRow.of(stage, measured, solved, time.perf_counter() - self._begin, accepted=accepted)
        self.trace.append(row)
        _log.info("%s: objective %.6g, L <= %.6g, %.1f s", stage, row.objective, row.upper, row.seconds)
        if self.settings.callback is not None:
            self.settings.callback(row)

    def keep(self, stage: str, network: ShallowNetwork, solved: Solved) -> bool:
        """Measure a candidate and keep it if it is the best so far; False where it cannot be certified."""
        try:
            measured = self._measure(network)
        except CertificateError as error:
            _log.warning("%s: the candidate is dropped: %s", stage, error)
            self._record(stage, None, replace(solved, status=Status.SOLVER_FAILED), accepted=False)
            return False
        self.candidate = measured
        better = bool(measured.value < self.best.value)
        if better:
            self.best = measured
        self._record(stage, measured, solved, accepted=better)
        return True

    # --------------------------------------------------------------------------------------------------------- solving

    def restrict(self, stage: str, penalty: Penalty | None = None) -> bool:
        """Solve the restriction to the cell, and measure its network; False where there is none."""
        solved = self._solve(self.task.program(self.cell, penalty))
        if solved.solution is None:
            self._refuse_unreached(solved)
            self._record(stage, None, solved, accepted=False)
            return False
        self.solution = solved.solution
        network = network_from(solved.solution, self.cell.directions, self.input.units)
        if isinstance(self.task.goal, SlopeAtMost):
            network = self._within(network, self.task.goal.limit)
        return self.keep(stage, network, solved)

    def _solve(self, program: Restriction) -> Solved:
        """By the chosen solver, or where that fails and it is allowed by its fallback."""
        fallback = self.settings.fallback
        solved = self._solve_with(self.settings.solver, program)
        failed = solved.status in (Status.SOLVER_FAILED, Status.INACCURATE, Status.MAX_ITERATIONS)
        if not failed or fallback is None:
            return solved
        _log.warning("certnet's own solver did not succeed (%s): %s is used instead", solved.solver_status, FALLBACK)
        other = self._solve_with(fallback, program)
        if solved.solution is not None and not other.status.ok:
            return solved  # neither succeeded: the point of the closed cell is kept
        return replace(other, solver_status=f"certnet: {solved.solver_status}; {FALLBACK}: {other.solver_status}")

    def _solve_with(self, solver: Solver, program: Restriction) -> Solved:
        """One solver's work; an interrupt ends it with the last point that was seen."""
        last: list[InteriorStep] = []

        def look(step: InteriorStep) -> None:
            last[:] = [step]
            if self.settings.verbose:
                sys.stderr.write(
                    f"step {step.step:3d}  value {step.value:.9g}  bound below {step.lower:.9g}  {step.seconds:.2f} s\n"
                )
            self.settings.watch.show(step)

        deadline = max(self.settings.watch.deadline, time.perf_counter() + _LEAST_SECONDS)
        watch = replace(self.settings.watch, deadline=deadline, on_step=look)
        try:
            solved = solver.solve(program, start=self.cell.point, watch=watch)
        except KeyboardInterrupt:  # Ctrl-C, or an onlooker's
            solved = Solved(last[0].point() if last else None, Status.INTERRUPTED, "interrupted")
        if solved.status is Status.INTERRUPTED:
            self.stopped = Status.INTERRUPTED
        return solved

    def _refuse_unreached(self, solved: Solved) -> None:
        """Raises InvalidInputError where no network is known to keep a limit on the error."""
        goal = self.task.goal
        if isinstance(goal, FitAtMost) and self.best.value == np.inf and solved.status is Status.SOLVER_FAILED:
            raise InvalidInputError(
                f"max_mse={goal.limit:g} was not reached ({solved.solver_status}): allow a larger error, or start from "
                "a network that fits better"
            )

    def _within(self, network: ShallowNetwork, limit: float) -> ShallowNetwork:
        """The network, its slope scaled down about its mean output where its certified bound is above the limit."""
        X, y = self.task.X, self.task.y
        for _ in range(3):
            upper = self._certified(network).upper
            if upper <= limit:
                return network
            factor = 0.0 if limit == 0.0 else limit / upper * (1.0 - 1e-9)
            centre = y.mean(axis=0) if limit == 0.0 else outputs_of(network, X).mean(axis=0)
            c = centre + factor * (network.c - centre)
            network = ShallowNetwork(network.W, network.b, factor * network.V, c, units=network.units)
        return network
