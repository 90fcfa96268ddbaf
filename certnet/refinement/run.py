"""One refinement in progress: solve, rebuild, certify, recompute, and keep the best."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from certnet.certification import Certificate, certify
from certnet.core.errors import CertificateError, CertnetError, InvalidInputError, NotConvergedWarning
from certnet.core.outcome import Residuals, Status
from certnet.core.validation import Float
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import Goal
from certnet.programs.objectives import mean_squared_error
from certnet.programs.restriction import Cell, Restriction, Solution, network_from, whole_cell
from certnet.refinement.descent import MAX_ORDER, descend
from certnet.solvers import cvxpy_, interior
from certnet.solvers.budget import solve_budget
from certnet.solvers.interior import InteriorStep

__all__ = ["FALLBACK", "OWN", "Measured", "Run", "Settings", "TraceRow"]

OWN: Final = "CERTNET"
FALLBACK: Final = "CLARABEL"

_log = logging.getLogger("certnet")
_STALL = 1e-6  # relative decrease at which rounds end
_UNDER = 1.0 - 1e-7  # of a limit on ρ: what the certificate's search may lose
_UNDER_ERROR = 1.0 - 1e-6  # of a limit on the error: what a generic solver may miss it by
_UNDER_BUDGET = 1.0 - 1e-12  # the same for the own solver: rounding alone
_NO_LIMIT = 2.0**300  # limits on L above it have squares that no solver can work with, and bind nowhere
_DESCENT = 4000  # quasi-Newton iterations of a round beyond the cell


@dataclass(frozen=True)
class TraceRow:
    """One candidate network: what was tried, what it is worth, whether it was kept.

    ``objective``, ``mse`` and ``upper`` (certified Lipschitz bound) are recomputed from the network and the data; NaN
    where the solver gave no point. ``gap`` is the relative duality gap of the program that gave it, NaN where unknown.
    """

    stage: str
    objective: float
    mse: float
    upper: float
    accepted: bool
    status: Status
    solver_status: str
    residuals: Residuals | None
    seconds: float
    gap: float = float("nan")


@dataclass(frozen=True)
class Settings:
    """How to solve; see :func:`certnet.refinement.refinement.refine`."""

    solver: str
    tol: float | None
    time_limit: float | None
    random_state: int
    callback: Callable[[TraceRow], None] | None
    on_step: Callable[[InteriorStep], None] | None
    should_stop: Callable[[], bool] | None
    verbose: bool
    fall_back: bool


@dataclass(frozen=True, eq=False)
class Measured:
    """A network with its value, error and certificate, all recomputed."""

    network: ShallowNetwork
    value: float
    mse: float
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class _Solved:
    """What a solver gave, whichever it was."""

    solution: Solution | None
    status: Status
    word: str
    residuals: Residuals | None
    gap: float = float("nan")


class Run:
    """The best network so far, and the rows that led to it."""

    def __init__(
        self,
        network: ShallowNetwork,
        X: Float,
        y: Float,
        goal: Goal,
        cell: Cell,
        settings: Settings,
        start: Float,
    ) -> None:
        self._begin = time.perf_counter()
        self._X, self._y, self._goal, self._cell, self._how = X, y, goal, cell, settings
        self._start = start
        self.input, self.solver = network, settings.solver
        self.stopped: Status | None = None
        self.trace: list[TraceRow] = []
        self.before = self._measure(network)
        self.best = self.before
        self.candidate: Measured | None = None
        self.solution: Solution | None = None

    def begin(self) -> None:
        """The trace's first row."""
        self._record("input", self.before, accepted=True)

    # ------------------------------------------------------------------------------------------------------- measuring

    def _measure(self, network: ShallowNetwork) -> Measured:
        certificate = self._certified(network)
        mse = mean_squared_error(network, self._X, self._y)
        return Measured(network, self._goal.value(network, mse, certificate), mse, certificate)

    def _certified(self, network: ShallowNetwork) -> Certificate:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)  # the bound is proved, its gap is in the certificate
            return certify(network, X=self._X, tol=1e-7, random_state=self._how.random_state)

    def _record(self, stage: str, measured: Measured | None, *, accepted: bool, solved: _Solved | None = None) -> None:
        row = TraceRow(
            stage=stage,
            objective=np.nan if measured is None else measured.value,
            mse=np.nan if measured is None else measured.mse,
            upper=np.nan if measured is None else measured.certificate.upper,
            accepted=accepted,
            status=Status.OPTIMAL if solved is None else solved.status,
            solver_status="" if solved is None else solved.word,
            residuals=None if solved is None else solved.residuals,
            seconds=time.perf_counter() - self._begin,
            gap=np.nan if solved is None else solved.gap,
        )
        self.trace.append(row)
        _log.info("%s: objective %.6g, L <= %.6g, %.1f s", stage, row.objective, row.upper, row.seconds)
        if self._how.callback is not None:
            self._how.callback(row)

    def _keep(self, stage: str, network: ShallowNetwork, solved: _Solved) -> bool:
        """Measure a candidate and keep it if it is the best so far; False where it cannot be certified."""
        try:
            measured = self._measure(network)
        except CertificateError as error:
            _log.warning("%s: the candidate is dropped: %s", stage, error)
            self._record(stage, None, accepted=False, solved=replace(solved, status=Status.SOLVER_FAILED))
            return False
        self.candidate = measured
        better = bool(measured.value < self.best.value)
        if better:
            self.best = measured
        self._record(stage, measured, accepted=better, solved=solved)
        return True

    def left(self) -> float | None:
        """Seconds until the time limit; None without one."""
        limit = self._how.time_limit
        return None if limit is None else limit - (time.perf_counter() - self._begin)

    def heed(self) -> None:
        """Raises KeyboardInterrupt where the caller asks to stop."""
        if self._how.should_stop is not None and self._how.should_stop():
            raise KeyboardInterrupt

    def over(self) -> bool:
        """Is there a reason to start nothing more?"""
        left = self.left()
        if self.stopped is None and left is not None and left <= 0.0:
            self.stopped = Status.TIME_LIMIT
        return self.stopped is not None

    # --------------------------------------------------------------------------------------------------------- solving

    def _program(self, weight: float, eta: Float | None = None) -> Restriction:
        return Restriction.of(self._cell, self._X, self._y, weight=weight, penalty=self._goal.penalty, eta=eta)

    def _solve(
        self, program: Restriction, *, rho_at_most: float | None = None, fit_at_most: float | None = None
    ) -> _Solved:
        left = self.left()
        limit = None if left is None else max(left, 0.1)
        word = ""
        if self._how.solver == OWN:
            solved = self._solve_own(program, rho_at_most, fit_at_most, limit)
            failed = solved.status in (Status.SOLVER_FAILED, Status.INACCURATE, Status.MAX_ITERATIONS)
            if not (failed and self._how.fall_back):
                return solved
            _log.warning("certnet's own solver did not succeed (%s): %s is used instead", solved.word, FALLBACK)
            word = f"certnet: {solved.word}; {FALLBACK}: "
        try:
            outcome = cvxpy_.solve(
                program,
                FALLBACK if word else self._how.solver,
                tol=self._how.tol or 1e-8,
                time_limit=limit,
                verbose=self._how.verbose,
                rho_at_most=rho_at_most,
                fit_at_most=None if fit_at_most is None else fit_at_most * _UNDER_ERROR,
            )
        except KeyboardInterrupt:
            self.stopped = Status.INTERRUPTED
            return _Solved(None, Status.INTERRUPTED, word + "interrupted", None)
        found = _Solved(outcome.solution, outcome.status, word + outcome.solver_status, outcome.residuals)
        if word and solved.solution is not None and not found.status.ok:
            return solved  # neither succeeded: the point of the closed cell is kept
        return found

    def _solve_own(
        self, program: Restriction, rho_at_most: float | None, fit_at_most: float | None, limit: float | None
    ) -> _Solved:
        steps: list[InteriorStep] = []

        def watch(step: InteriorStep) -> None:
            steps[:] = [step]
            if self._how.verbose:
                sys.stderr.write(
                    f"step {step.step:3d}  value {step.value:.9g}  bound below {step.lower:.9g}  {step.seconds:.2f} s\n"
                )
            if self._how.on_step is not None:
                self._how.on_step(step)
            self.heed()

        try:
            with np.errstate(all="ignore"):  # what overflows shows in the gap
                options: dict[str, Any] = {
                    "start": (self._start, self.input.c),
                    "tol": self._how.tol or 1e-6,
                    "time_limit": limit,
                    "callback": watch,
                }
                if fit_at_most is None:
                    outcome = interior.solve(program, rho_at_most=rho_at_most, **options)
                else:
                    outcome = solve_budget(program, fit_at_most * _UNDER_BUDGET, **options)
        except KeyboardInterrupt:
            self.stopped = Status.INTERRUPTED
            point = steps[0].point() if steps else None
            return _Solved(point, Status.INTERRUPTED, "interrupted", None)
        except (ArithmeticError, np.linalg.LinAlgError, CertnetError) as error:
            return _Solved(None, Status.SOLVER_FAILED, f"{type(error).__name__}: {error}", None)
        return _Solved(outcome.solution, outcome.status, outcome.solver_status, outcome.residuals, outcome.gap)

    def _finish(self, stage: str, solved: _Solved) -> bool:
        """The candidate of a solution, measured; False where there is none."""
        if solved.solution is None:
            self._record(stage, None, accepted=False, solved=solved)
            return False
        self.solution = solved.solution
        network = network_from(solved.solution, self._cell.directions, self.input.units)
        limit = self._goal.target_lipschitz
        if limit is not None:
            network = self._within(network, limit)
        return self._keep(stage, network, solved)

    def _within(self, network: ShallowNetwork, limit: float) -> ShallowNetwork:
        """The network, its slope scaled down about its mean output where its certified bound is above the limit."""
        for _ in range(3):
            upper = self._certified(network).upper
            if upper <= limit:
                return network
            factor = 0.0 if limit == 0.0 else limit / upper * (1.0 - 1e-9)
            centre = self._y.mean(axis=0) if limit == 0.0 else network.forward(self._X).mean(axis=0)
            c = centre + factor * (network.c - centre)
            network = ShallowNetwork(network.W, network.b, factor * network.V, c, units=network.units)
        return network

    def restrict(self, stage: str, eta: Float | None = None) -> bool:
        """Solve one restriction to the cell for the goal."""
        goal = self._goal
        if goal.target_lipschitz is not None:
            slope = goal.target_lipschitz * _UNDER
            limit = slope * slope if slope < _NO_LIMIT else None
            return self._finish(stage, self._solve(self._program(0.0), rho_at_most=limit))
        if goal.max_mse is not None:
            solved = self._solve(self._program(goal.weight), fit_at_most=goal.max_mse)
            if solved.solution is None and self.best.value == np.inf and solved.status is Status.SOLVER_FAILED:
                raise InvalidInputError(
                    f"max_mse={goal.max_mse:g} was not reached ({solved.word}): allow a larger error, or start from a "
                    "network that fits better"
                )
            return self._finish(stage, solved)
        return self._finish(stage, self._solve(self._program(goal.weight, eta)))

    # ---------------------------------------------------------------------------------------------------------- rounds

    def alternate(self, max_rounds: int) -> None:
        """Algorithm 1 of Y: the certificate's multipliers of the current network, then weights with them fixed."""
        reached, eta = np.inf, _eta(self.input, self.before.certificate)[self._cell.units]
        total = float(_eta(self.input, self.before.certificate).sum())
        if eta.sum() > total:
            eta *= total / eta.sum()  # sampled: Σ η stays below 2
        for number in range(1, max_rounds + 1):
            if not self.restrict(f"alternating round {number}", eta) or self.candidate is None:
                return
            found = self.candidate
            if not found.value < reached - _STALL * abs(found.value) or self.stopped is not None:
                return
            if number < max_rounds and self.over():
                return
            reached, eta = found.value, _eta(found.network, found.certificate)

    def beyond(self, rounds: int) -> None:
        """Descend on the true objective with patterns free, restrict again in the cell that is reached, and so on.

        The first descent is from the restriction's optimum and from the input, for neither leads to the better network
        in all cases; the rounds go on from the best.
        """
        for number in range(2, rounds + 1):
            before = self.best.value
            if self.over():
                return
            self._descend(f"descent {number - 1}", self.best.network)
            if number == 2 and not self.over():
                self._descend("descent from the input", self.input)
            if self.over():
                return
            self._cell = whole_cell(self.best.network)
            self._start = product_weights(self.best.network)
            self.restrict(f"restriction {number}")
            if self.stopped is not None or not self.best.value < before - _STALL * abs(before):
                return

    def _descend(self, stage: str, start: ShallowNetwork) -> None:
        if start.n_inputs + start.n_outputs > MAX_ORDER:
            return  # the restriction to the new cell is all that is left
        left = self.left()
        steps: list[ShallowNetwork] = []
        status, word = Status.OPTIMAL, "descent"
        try:
            done = descend(
                start,
                self._X,
                self._y,
                self._goal.weight,
                time_limit=1e9 if left is None else max(left, 0.1),
                max_iterations=_DESCENT,
                random_state=self._how.random_state,
                callback=lambda network, _: steps.append(network),
                should_stop=self._how.should_stop,
            )
            network = done.network
            self.heed()
        except KeyboardInterrupt:
            self.stopped = Status.INTERRUPTED
            status, word = Status.INTERRUPTED, "interrupted"
            network = steps[-1] if steps else start
        if network is not start:
            self._keep(stage, network, _Solved(None, status, word, None))


def product_weights(network: ShallowNetwork) -> Float:
    """``‖V_:j‖ (w_j, b_j)``, shape (h, d+1): the network as a point of its own cell."""
    return np.linalg.norm(network.V, axis=0)[:, None] * np.column_stack([network.W, network.b])


def _eta(network: ShallowNetwork, certificate: Certificate) -> Float:
    """η of the units in the program's normalisation: ``η_j = ‖V_:j‖² / T_j`` with ``T = upper · t``."""
    v = np.linalg.norm(network.V, axis=0)
    T = certificate.upper * np.asarray(certificate.multipliers)
    eta = np.divide(v**2, T, out=np.zeros_like(T), where=T > 0.0)
    # a unit that was charged by its norm has no multiplier: the least that keeps it in the program
    return np.maximum(eta * (1.0 - 1e-9), 1e-9 / len(eta))
