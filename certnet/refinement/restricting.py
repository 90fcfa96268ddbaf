"""Restrictions to a cell in a refinement of one hidden layer: solve, rebuild the network, hand it on."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from certnet.core.errors import NotReachedError, SolverUnavailableError
from certnet.core.outcome import Status
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import FitAtMost, SlopeAtMost
from certnet.programs.objectives import outputs_of
from certnet.programs.penalties import Penalty
from certnet.programs.restriction import Cell, Restriction, network_from
from certnet.refinement.run import Run
from certnet.solvers.choice import FALLBACK
from certnet.solvers.solved import Solved, Solver
from certnet.solvers.watch import InteriorStep

__all__ = ["Restricting", "Solving"]

_log = logging.getLogger("certnet")
_LEAST_SECONDS = 0.1  # that a program gets, however late it is
_GOOD_GAP = 1e-4  # with which the own solver's point is kept, and no other solver asked
_FALLBACK_SECONDS = 300.0  # that the fallback may be expected to take


@dataclass(frozen=True)
class Solving:
    """How to solve.

    Attributes
    ----------
    solver : Solver
    fallback : Solver or None
        Takes its place where it gives no point within a gap of 1e-4, if the program fits it.
    verbose : bool
        Write the own solver's log to standard error.
    """

    solver: Solver
    fallback: Solver | None
    verbose: bool


class Restricting:
    """The cell that a refinement is in, and how programs there are solved."""

    run: Run
    cell: Cell

    def __init__(self, run: Run, cell: Cell, solving: Solving) -> None:
        self.run, self.cell, self._solving = run, cell, solving

    def restrict(self, stage: str, penalty: Penalty | None = None) -> bool:
        """Solve the restriction to the cell, and measure its network; False where there is none."""
        solved = self._solve(self.run.task.program(self.cell, penalty))
        if solved.solution is None:
            self._refuse_unreached(solved)
            self.run.record(stage, None, solved, accepted=False)
            return False
        self.run.solution = solved.solution
        network = network_from(solved.solution, self.cell.directions, self.run.input.units)
        if isinstance(self.run.task.goal, SlopeAtMost):
            network = self._within(network, self.run.task.goal.limit)
        return self.run.keep(stage, network, solved)

    def _solve(self, program: Restriction) -> Solved:
        """By the chosen solver, or where that gives no point of use and it is allowed by its fallback, if that fits."""
        fallback = self._solving.fallback
        solved = self._solve_with(self._solving.solver, program)
        failed = solved.status in (Status.SOLVER_FAILED, Status.INACCURATE, Status.MAX_ITERATIONS)
        if not failed or fallback is None or (solved.solution is not None and solved.gap <= _GOOD_GAP):
            return solved
        objection = fallback.objection(program, min(self.run.settings.watch.left, _FALLBACK_SECONDS))
        if objection is not None:
            return replace(solved, solver_status=f"certnet: {solved.solver_status}; not {FALLBACK}: {objection}")
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
            if self._solving.verbose:
                sys.stderr.write(
                    f"step {step.step:3d}  value {step.value:.9g}  bound below {step.lower:.9g}  {step.seconds:.2f} s\n"
                )
            self.run.settings.watch.show(step)

        deadline = max(self.run.settings.watch.deadline, time.perf_counter() + _LEAST_SECONDS)
        watch = replace(self.run.settings.watch, deadline=deadline, on_step=look)
        try:
            solved = solver.solve(program, start=self.cell.point, watch=watch)
        except SolverUnavailableError as error:
            if self.run.candidate is None:  # nothing is lost
                raise
            solved = Solved(None, Status.SOLVER_FAILED, str(error))
        except KeyboardInterrupt:  # Ctrl-C, or an onlooker's
            solved = Solved(last[0].point() if last else None, Status.INTERRUPTED, "interrupted")
        if solved.status is Status.INTERRUPTED:
            self.run.stopped = Status.INTERRUPTED
        return solved

    def _refuse_unreached(self, solved: Solved) -> None:
        """Raises NotReachedError where no network is known to keep a limit on the error."""
        goal = self.run.task.goal
        if isinstance(goal, FitAtMost) and self.run.best.value == np.inf and solved.status is Status.SOLVER_FAILED:
            raise NotReachedError(
                f"max_mse={goal.limit:g} was not reached ({solved.solver_status}): allow a larger error, or start from "
                "a network that fits better"
            )

    def _within(self, network: ShallowNetwork, limit: float) -> ShallowNetwork:
        """The network, its slope scaled down about its mean output where its certified bound is above the limit."""
        X, y = self.run.task.X, self.run.task.y
        for _ in range(3):
            upper = self.run.certified(network).upper
            if upper <= limit:
                return network
            factor = 0.0 if limit == 0.0 else limit / upper * (1.0 - 1e-9)
            centre = y.mean(axis=0) if limit == 0.0 else outputs_of(network, X).mean(axis=0)
            c = centre + factor * (network.c - centre)
            network = ShallowNetwork(network.W, network.b, factor * network.V, c, units=network.units)
        return network
