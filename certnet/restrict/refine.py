"""Refinement: solve a convex restriction around a network, recompute everything, never return something worse."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from certnet.backends import cvxpy_ as backend
from certnet.certify import Certificate, certify
from certnet.digits import above
from certnet.errors import CertificateError, InvalidInputError, NotConvergedWarning, UnsupportedModelError
from certnet.feedforward import FeedForward
from certnet.network import ShallowNetwork, require_shallow
from certnet.outcome import Residuals, Status
from certnet.restrict.objective import PENALTIES, l2_penalty, mean_squared_error
from certnet.restrict.program import Cell, Restriction, network_from, sampled_cell, whole_cell
from certnet.restrict.solvers import cvxpy_
from certnet.validation import Float, as_samples, positive_number, whole_number

__all__ = ["METHODS", "RefineResult", "TraceRow", "refine"]

METHODS: Final = ("joint", "alternating")
PATTERNS: Final = ("all", "sampled")

_log = logging.getLogger("certnet")
_STALL = 1e-6  # relative decrease at which the alternating method ends


@dataclass(frozen=True)
class TraceRow:
    """One candidate network: what was tried, what it is worth, whether it was kept.

    ``objective``, ``mse`` and ``upper`` (certified Lipschitz bound) are recomputed from the network and the data; NaN
    where the solver gave no point.
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


@dataclass(frozen=True, eq=False)
class RefineResult:
    """A network that is never worse than the one given, with the figures that show it.

    Attributes
    ----------
    network : ShallowNetwork
        The best network found; the very input where ``improved`` is false.
    objective_before, objective_after : float
        ``mse + weight · penalty`` of input and result, recomputed with certified ρ.
    certificate_before, certificate : Certificate
        Of the input and of the result.
    improved : bool
    candidate : ShallowNetwork or None
        The last network that a program gave, returned or not.
    status : Status
    trace : tuple of TraceRow
    """

    network: ShallowNetwork
    objective_before: float
    objective_after: float
    certificate_before: Certificate
    certificate: Certificate
    improved: bool
    candidate: ShallowNetwork | None
    status: Status
    trace: tuple[TraceRow, ...]

    def __repr__(self) -> str:
        change = f"{self.objective_before:.6g} -> {self.objective_after:.6g}" if self.improved else "not improved"
        return f"RefineResult(objective {change}, L <= {above(self.certificate.upper)}, {self.status.name})"


def refine(
    network: ShallowNetwork | FeedForward,
    X: ArrayLike,
    y: ArrayLike,
    weight: float = 0.01,
    *,
    penalty: str = "lipschitz",
    method: str = "joint",
    patterns: str = "all",
    n_patterns: int | None = None,
    solver: str = "CLARABEL",
    tol: float = 1e-8,
    max_rounds: int = 10,
    time_limit: float | None = None,
    random_state: int = 0,
    callback: Callable[[TraceRow], None] | None = None,
    verbose: bool = False,
) -> RefineResult:
    r"""Minimise ``(1/N) Σ_i ‖f(x_i) − y_i‖² + weight · ρ`` over the activation cell of ``network``.

    The patterns of the hidden units on X and the output directions are kept; everything else is optimised. The input
    network is feasible, so the optimum is at most its objective (Y, Corollary 10). Whatever the solver says, the
    candidate is certified and its objective recomputed; where that is not below the input's, the input is returned.

    Parameters
    ----------
    network : ShallowNetwork
        Or a ``FeedForward`` with one hidden layer and ReLU, which is the same.
    X : array_like, shape (N, d)
        In the network's units, as y.
    y : array_like, shape (N,) or (N, m)
    weight : float
        λ ≥ 0, in units of mean squared error per squared Lipschitz constant.
    penalty : {"lipschitz", "l2"}
        ρ ≥ L² (certified), or ``‖W‖_F² + ‖b‖² + ‖V‖_F²``.
    method : {"joint", "alternating"}
        For the Lipschitz penalty: weights and multipliers in one program, or Algorithm 1 of Y, which alternates
        between the multipliers of the current network and weights with these multipliers and \|v\| fixed.
    patterns : {"all", "sampled"}
        All units' patterns, or ``n_patterns`` (default: half of the units) drawn at random, each with both signs
        (Y's "samp"), whose optimum may be worse than the input.
    solver : {"CLARABEL", "SCS", "MOSEK"}
        Named explicitly; never replaced by another.
    tol : float
        The solver's tolerance.
    max_rounds : int
        Rounds of the alternating method; it ends earlier where a round gains less than 1e-6 of the objective.
    time_limit : float, optional
        Seconds after which no new program is started; the running one is stopped where its solver allows it.
    random_state : int
        Seed of the drawn patterns and of the certificates.
    callback : callable, optional
        Called with every :class:`TraceRow` as it is made.
    verbose : bool
        Print the solver's own log.

    Returns
    -------
    RefineResult

    Raises
    ------
    InvalidInputError
        Shapes, NaN, weight < 0, unknown options.
    UnsupportedModelError
        A ``FeedForward`` with several hidden layers or another activation.
    SolverUnavailableError
        The solver is not installed or has no licence; raised before any work.

    Warns
    -----
    NotConvergedWarning
        A solver stopped short of its tolerance or failed; the result is still never worse than the input.
    """
    if isinstance(network, FeedForward):
        try:
            network = network.shallow()
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{error}: refinement needs it, certification does not") from error
    network = require_shallow(network)
    X, y = as_samples(X, y, network.n_inputs, network.n_outputs)
    weight = positive_number(weight, "weight", zero=True)
    tol = positive_number(tol, "tol")
    for name, value, known in (
        ("penalty", penalty, PENALTIES),
        ("method", method, METHODS),
        ("patterns", patterns, PATTERNS),
    ):
        if value not in known:
            raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    max_rounds = whole_number(max_rounds, "max_rounds", least=1)
    random_state = whole_number(random_state, "random_state")
    if time_limit is not None:
        time_limit = positive_number(time_limit, "time_limit")
    solver = backend.require(solver)
    cell = whole_cell(network)
    if patterns == "all" and n_patterns is not None:
        raise InvalidInputError('n_patterns is for patterns="sampled"')
    if patterns == "sampled":
        half = max(1, network.n_hidden // 2) if n_patterns is None else n_patterns
        cell = sampled_cell(network, half, np.random.default_rng(random_state))
    run = _Run(network, X, y, weight, penalty, cell, solver, tol, time_limit, random_state, callback, verbose)
    if penalty == "lipschitz" and method == "alternating":
        run.alternate(max_rounds)
    else:
        run.attempt("l2 restriction" if penalty == "l2" else "joint restriction", eta=None)
    return run.result()


class _Run:
    """One refinement in progress: the best network so far, and the rows that led to it."""

    def __init__(
        self,
        network: ShallowNetwork,
        X: Float,
        y: Float,
        weight: float,
        penalty: str,
        cell: Cell,
        solver: str,
        tol: float,
        time_limit: float | None,
        random_state: int,
        callback: Callable[[TraceRow], None] | None,
        verbose: bool,
    ) -> None:
        self._start = time.perf_counter()
        self._X, self._y, self._weight, self._penalty = X, y, weight, penalty
        self._cell, self._solver, self._tol, self._verbose = cell, solver, tol, verbose
        self._time_limit, self._seed, self._callback = time_limit, random_state, callback
        self._input = network
        self._stopped: Status | None = None
        self.trace: list[TraceRow] = []
        self._before = self._measure(network)
        self._best = (network, *self._before)
        self._candidate: tuple[ShallowNetwork, float, float, Certificate] | None = None
        self._record("input", self._before, accepted=True)

    def _measure(self, network: ShallowNetwork) -> tuple[float, float, Certificate]:
        """Objective, mean squared error and certificate, from the network and the data."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotConvergedWarning)  # the bound is proved, its gap is in the certificate
            certificate = certify(network, X=self._X, tol=1e-7, random_state=self._seed)
        mse = mean_squared_error(network, self._X, self._y)
        penalty = l2_penalty(network) if self._penalty == "l2" else certificate.rho
        return mse + self._weight * penalty, mse, certificate

    def _record(
        self,
        stage: str,
        measured: tuple[float, float, Certificate] | None,
        *,
        accepted: bool,
        outcome: cvxpy_.SolverOutcome | None = None,
    ) -> None:
        objective, mse, upper = (np.nan, np.nan, np.nan)
        if measured is not None:
            objective, mse, upper = measured[0], measured[1], measured[2].upper
        row = TraceRow(
            stage=stage,
            objective=objective,
            mse=mse,
            upper=upper,
            accepted=accepted,
            status=Status.OPTIMAL if outcome is None else outcome.status,
            solver_status="" if outcome is None else outcome.solver_status,
            residuals=None if outcome is None else outcome.residuals,
            seconds=time.perf_counter() - self._start,
        )
        self.trace.append(row)
        _log.info("%s: objective %.6g, L <= %.6g, %.1f s", stage, objective, upper, row.seconds)
        if self._callback is not None:
            self._callback(row)

    def _left(self) -> float | None:
        return None if self._time_limit is None else self._time_limit - (time.perf_counter() - self._start)

    def attempt(self, stage: str, eta: Float | None) -> bool:
        """Solve one restriction to the cell; keep its network if it is the best so far. False if there is none."""
        program = Restriction.of(self._cell, self._X, self._y, weight=self._weight, penalty=self._penalty, eta=eta)
        left = self._left()
        outcome = cvxpy_.solve(
            program,
            self._solver,
            tol=self._tol,
            time_limit=None if left is None else max(left, 0.1),
            verbose=self._verbose,
        )
        if outcome.solution is None:
            self._record(stage, None, accepted=False, outcome=outcome)
            return False
        network = network_from(outcome.solution, self._cell.directions, self._input.units)
        try:
            measured = self._measure(network)
        except CertificateError as error:
            _log.warning("%s: the candidate is dropped: %s", stage, error)
            self._record(stage, None, accepted=False, outcome=replace(outcome, status=Status.SOLVER_FAILED))
            return False
        self._candidate = (network, *measured)
        better = bool(measured[0] < self._best[1])
        if better:
            self._best = self._candidate
        self._record(stage, measured, accepted=better, outcome=outcome)
        return True

    def alternate(self, max_rounds: int) -> None:
        """Algorithm 1 of Y: the certificate's multipliers of the current network, then weights with them fixed."""
        reached, eta = np.inf, self._multipliers(self._input, self._before[2])[self._cell.units]
        total = float(self._multipliers(self._input, self._before[2]).sum())
        if eta.sum() > total:
            eta *= total / eta.sum()  # sampled: Σ η stays below 2
        for number in range(1, max_rounds + 1):
            if not self.attempt(f"alternating round {number}", eta) or self._candidate is None:
                return
            network, objective, _, certificate = self._candidate
            if not objective < reached - _STALL * abs(objective):
                return
            left = self._left()
            if left is not None and left <= 0.0 and number < max_rounds:
                self._stopped = Status.TIME_LIMIT
                return
            reached, eta = objective, self._multipliers(network, certificate)

    @staticmethod
    def _multipliers(network: ShallowNetwork, certificate: Certificate) -> Float:
        """η of the units in the program's normalisation: ``η_j = ‖V_:j‖² / T_j`` with ``T = upper · t``."""
        v = np.linalg.norm(network.V, axis=0)
        T = certificate.upper * np.asarray(certificate.multipliers)
        eta = np.divide(v**2, T, out=np.zeros_like(T), where=T > 0.0)
        # a unit that was charged by its norm has no multiplier: the least that keeps it in the program
        return np.maximum(eta * (1.0 - 1e-9), 1e-9 / len(eta))

    def result(self) -> RefineResult:
        network, objective, _, certificate = self._best
        improved = network is not self._input
        last = self.trace[-1]
        status = last.status if self._stopped is None or not last.status.ok else self._stopped
        if not status.ok:
            kept = "the best network so far is returned" if improved else "the input network is returned unchanged"
            warnings.warn(
                f"{self._solver}: {status.advice} ({last.solver_status}); {kept}", NotConvergedWarning, stacklevel=3
            )
        elif not improved:
            status = Status.NOT_IMPROVED
        return RefineResult(
            network=network,
            objective_before=self._before[0],
            objective_after=objective,
            certificate_before=self._before[2],
            certificate=certificate,
            improved=improved,
            candidate=self._candidate[0] if self._candidate else None,
            status=status,
            trace=tuple(self.trace),
        )
