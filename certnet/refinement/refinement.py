"""Refinement: solve a convex restriction around a network, recompute everything, never return something worse."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from certnet.certification import Certificate
from certnet.core.digits import above
from certnet.core.errors import InvalidInputError, NotConvergedWarning, UnsupportedModelError
from certnet.core.outcome import Status
from certnet.core.validation import as_samples, positive_number, whole_number
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.floor import Floor, objective_floor
from certnet.programs.goal import FitAtMost, Weighted, chosen_goal
from certnet.programs.penalties import penalty_named
from certnet.programs.restriction import Cell, Solution, sampled_cell, whole_cell
from certnet.refinement.deep import descend_deep, require_homogeneous
from certnet.refinement.restricting import Restricting, Solving
from certnet.refinement.rounds import alternate, leave_cell
from certnet.refinement.run import Run, Settings
from certnet.refinement.task import Task
from certnet.refinement.trace import TraceRow
from certnet.solvers.choice import FALLBACK, OWN, SOLVERS, require_solver, solver_named
from certnet.solvers.watch import InteriorStep, Watch

__all__ = ["METHODS", "SOLVERS", "RefineResult", "TraceRow", "refine", "require_solver"]

METHODS: Final = ("joint", "alternating")
PATTERNS: Final = ("all", "sampled")


@dataclass(frozen=True, eq=False)
class RefineResult:
    """A network that is never worse than the one given, with the figures that show it.

    Attributes
    ----------
    network : ShallowNetwork or FeedForward
        The best network found; the very input where ``improved`` is false.
    objective_before, objective_after : float
        Of input and result, recomputed with certified ρ: ``mse + weight · penalty``, or with ``target_lipschitz`` the
        error and with ``max_mse`` ρ, infinite where the limit is not met.
    certificate_before, certificate : Certificate
        Of the input and of the result.
    mse_before, mse : float
        Training errors of input and result.
    improved : bool
    candidate : ShallowNetwork, FeedForward or None
        The last network that a program or a descent gave, returned or not.
    status : Status
    trace : tuple of TraceRow
    gap : float
        Relative duality gap of the last program that certnet's own solver solved; NaN for other solvers.
    solution : Solution or None
        The last point that a solver gave.
    floor : Floor or None
        With ``optimality_gap=True``: a lower bound on the objective of every function; None where an interrupt came
        before it.
    """

    network: Network
    objective_before: float
    objective_after: float
    certificate_before: Certificate
    certificate: Certificate
    mse_before: float
    mse: float
    improved: bool
    candidate: Network | None
    status: Status
    trace: tuple[TraceRow, ...]
    gap: float = math.nan
    solution: Solution | None = None
    floor: Floor | None = None

    @property
    def optimality_gap(self) -> float:
        """``objective_after − floor``: no function at all is better by more; NaN where it was not asked for."""
        return math.nan if self.floor is None else self.objective_after - self.floor.value

    def replaced_by(self, other: RefineResult, value: float) -> RefineResult:
        """This refinement with the network of another one, whose objective here is ``value``."""
        return replace(
            self,
            network=other.network,
            certificate=other.certificate,
            mse=other.mse,
            objective_after=value,
            improved=value < self.objective_before,
            status=Status.OPTIMAL if self.status is Status.NOT_IMPROVED else self.status,
        )

    def __repr__(self) -> str:
        change = f"{self.objective_before:.6g} -> {self.objective_after:.6g}" if self.improved else "not improved"
        return f"RefineResult(objective {change}, L <= {above(self.certificate.upper)}, {self.status.name})"


def refine(
    network: ShallowNetwork | FeedForward,
    X: ArrayLike,
    y: ArrayLike,
    weight: float = 0.01,
    *,
    target_lipschitz: float | None = None,
    max_mse: float | None = None,
    penalty: str = "lipschitz",
    method: str = "joint",
    patterns: str = "all",
    n_patterns: int | None = None,
    cells: int = 1,
    solver: str = "auto",
    tol: float | None = None,
    max_rounds: int = 10,
    time_limit: float | None = None,
    optimality_gap: bool = False,
    random_state: int = 0,
    callback: Callable[[TraceRow], None] | None = None,
    on_step: Callable[[InteriorStep], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    verbose: bool = False,
) -> RefineResult:
    r"""Minimise ``(1/N) Σ_i ‖f(x_i) − y_i‖² + weight · ρ`` over the activation cell of ``network``, and beyond it.

    One hidden layer of ReLU: the patterns of the hidden units on X and the output directions are kept; everything else
    is optimised. The input network is feasible, so the optimum is at most its objective (Y, Corollary 10).

    Any other depth: a descent on the objective itself, all weights, biases and multipliers at once
    (:mod:`certnet.refinement.deep`), whose stages are rows of the trace; patterns are free, and what it ends in is a
    local minimum.

    Whatever a solver says, every candidate is certified and its objective recomputed; where that is not below the
    input's, the input is returned.
    An interrupt (Ctrl-C) ends the work and returns the best network so far, with ``Status.INTERRUPTED``.

    Parameters
    ----------
    network : ShallowNetwork
        Or a ``FeedForward`` of ReLU and leaky ReLU layers, of any depth and with any number of outputs; with one hidden
        layer of ReLU it is the same as a ``ShallowNetwork``.
    X : array_like, shape (N, d)
        In the network's units, as y.
    y : array_like, shape (N,) or (N, m)
    weight : float
        λ ≥ 0, in units of mean squared error per squared Lipschitz constant.
    target_lipschitz : float, optional
        Instead of a weight: the least error among networks of the cell with a certified L of at most this; 0 gives the
        constant network.
    max_mse : float, optional
        Instead of a weight: the least certified L among networks of the cell with a training error of at most this.
        One hidden layer of ReLU, as are the options from ``penalty`` to ``max_rounds``.
    penalty : {"lipschitz", "l2"}
        ρ ≥ L² (certified), or ``‖W‖_F² + ‖b‖² + ‖V‖_F²``.
    method : {"joint", "alternating"}
        For the Lipschitz penalty: weights and multipliers in one program, or Algorithm 1 of Y, which alternates
        between the multipliers of the current network and weights with these multipliers and \|v\| fixed.
    patterns : {"all", "sampled"}
        All units' patterns, or ``n_patterns`` (default: half of the units) drawn at random, each with both signs
        (Y's "samp"), whose optimum may be worse than the input.
    cells : int
        Cells that may be visited, 1 for that of the input. Each further one is reached by a descent on the true
        objective with patterns free (:func:`certnet.refinement.descent.descend`), and solved again; rounds end where
        one gains less than 1e-6 of the objective. For the joint method with a weight and the Lipschitz penalty.
    solver : {"auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"}
        "CERTNET" is the own interior-point method; "auto" is that, and Clarabel where it does not reach its gap,
        which the trace says. A named solver is never replaced by another.
    tol : float, optional
        Relative duality gap for the own solver (1e-6), the solver's own tolerance for the others (1e-8).
    max_rounds : int
        Rounds of the alternating method; it ends earlier where a round gains less than 1e-6 of the objective.
    time_limit : float, optional
        Seconds after which no new program is started; the running one is stopped where its solver allows it.
    optimality_gap : bool
        Also bound the objective of every function from below (:func:`certnet.programs.floor.objective_floor`), within
        the time limit or a minute. For a weight and the Lipschitz penalty.
    random_state : int
        Seed of the drawn patterns, the descents and the certificates.
    callback : callable, optional
        Called with every :class:`TraceRow` as it is made.
    on_step : callable, optional
        Called with every step of the own solver (:class:`~certnet.solvers.interior.InteriorStep`).
    should_stop : callable, optional
        Asked between the steps of the own solver and of a descent; true ends the work as an interrupt does.
    verbose : bool
        Write the solver's log: the own one's to standard error.

    Returns
    -------
    RefineResult

    Raises
    ------
    InvalidInputError
        Shapes, NaN, weight < 0, unknown options, options that do not go together, an error that the cell cannot reach.
    UnsupportedModelError
        A ``FeedForward`` with skips, convolutions or another activation than ReLU and leaky ReLU.
    SolverUnavailableError
        The solver is not installed or has no licence; raised before any work.

    Warns
    -----
    NotConvergedWarning
        A solver stopped short of its tolerance or failed; the result is still never worse than the input.
    """
    deep = isinstance(network, FeedForward) and not network.relu_only
    network = require_homogeneous(network) if isinstance(network, FeedForward) and deep else _shallow(network)
    X, y = as_samples(X, y, network.n_inputs, network.n_outputs, network.about.inputs)
    goal = chosen_goal(weight, target_lipschitz, max_mse)
    task = Task(X, y, penalty_named(penalty), goal)
    constrained = not isinstance(goal, Weighted)
    if constrained and penalty != "lipschitz":
        raise InvalidInputError('target_lipschitz and max_mse need penalty="lipschitz"')
    for name, value, known in (("method", method, METHODS), ("patterns", patterns, PATTERNS)):
        if value not in known:
            raise InvalidInputError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    max_rounds = whole_number(max_rounds, "max_rounds", least=1)
    cells = whole_number(cells, "cells", least=1)
    plain = penalty == "lipschitz" and method == "joint" and patterns == "all"
    for name, used in (("target_lipschitz or max_mse", constrained), ("cells above 1", cells > 1)):
        if used and not plain:
            raise InvalidInputError(f'{name} needs penalty="lipschitz", method="joint" and patterns="all"')
    if constrained and (cells > 1 or optimality_gap):
        raise InvalidInputError("cells above 1 and optimality_gap are for a weight, not for a limit")
    if optimality_gap and penalty != "lipschitz":
        raise InvalidInputError('optimality_gap needs penalty="lipschitz"')
    name = require_solver(solver)
    tol = None if tol is None else positive_number(tol, "tol")
    time_limit = None if time_limit is None else positive_number(time_limit, "time_limit")
    random_state = whole_number(random_state, "random_state")
    if deep:
        for wrong, used in (
            ("max_mse", isinstance(goal, FitAtMost)),
            ('another penalty than "lipschitz"', penalty != "lipschitz"),
            ('another method than "joint"', method != "joint"),
            ('patterns other than "all"', patterns != "all" or n_patterns is not None),
            ("cells", cells > 1),
            ("another solver", name != OWN),
            ("tol", tol is not None),
        ):
            if used:
                raise InvalidInputError(
                    f"{wrong} is for one hidden layer of ReLU so far: at any other depth refine takes a weight or "
                    "target_lipschitz, and the time limit"
                )
    watch = Watch.within(time_limit, should_stop, on_step)
    settings = Settings("descent" if deep else name, watch, random_state, callback)
    # one thread: the same result for any number, and faster at these orders
    with threadpool_limits(limits=1, user_api="blas"):
        if isinstance(network, ShallowNetwork):
            cell = _chosen_cell(network, patterns, n_patterns, random_state)
            solving = Solving(
                solver=solver_named(name, tol=tol, verbose=verbose),
                fallback=solver_named(FALLBACK, tol=tol, verbose=verbose) if str(solver).lower() == "auto" else None,
                verbose=verbose,
            )
        run = Run(network, task, settings)
        try:
            run.begin()
            if not isinstance(network, ShallowNetwork):
                descend_deep(run)
            else:
                restricting = Restricting(run, cell, solving)
                if penalty == "lipschitz" and method == "alternating":
                    alternate(restricting, max_rounds)
                else:
                    restricting.restrict("l2 restriction" if penalty == "l2" else "joint restriction")
                    if isinstance(goal, Weighted):
                        leave_cell(restricting, cells, goal.weight)
        except KeyboardInterrupt:  # between the solvers, which keep their own best point
            run.stopped = Status.INTERRUPTED
    floor = _floor(run, goal.weight) if optimality_gap and isinstance(goal, Weighted) else None
    return _result(run, floor)


def _chosen_cell(network: ShallowNetwork, patterns: str, n_patterns: int | None, random_state: int) -> Cell:
    if patterns == "all":
        if n_patterns is not None:
            raise InvalidInputError('n_patterns is for patterns="sampled"')
        return whole_cell(network)
    half = max(1, network.n_hidden // 2) if n_patterns is None else n_patterns
    return sampled_cell(network, half, np.random.default_rng(random_state))


def _shallow(network: ShallowNetwork | FeedForward) -> ShallowNetwork:
    if isinstance(network, FeedForward):
        try:
            network = network.shallow()
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{error}: refinement needs it, certification does not") from error
    return require_shallow(network)


def _floor(run: Run, weight: float) -> Floor | None:
    """The floor, within the time that is left; where an interrupt comes, the best proof so far."""
    if run.stopped is Status.INTERRUPTED:
        return None
    task, watch = run.task, run.settings.watch
    seconds = max(watch.left, 1.0) if np.isfinite(watch.deadline) else 60.0
    proofs: list[Floor] = []
    try:
        floor: Floor | None = objective_floor(
            task.X, task.y, weight, time_limit=seconds, callback=proofs.append, should_stop=watch.should_stop
        )
    except KeyboardInterrupt:  # Ctrl-C
        floor = proofs[-1] if proofs else None
        run.stopped = Status.INTERRUPTED
    if watch.interrupted:
        run.stopped = Status.INTERRUPTED
    return floor


def _result(run: Run, floor: Floor | None) -> RefineResult:
    improved = run.best.network is not run.input
    last = run.trace[-1]
    status = last.status if run.stopped is None else run.stopped
    if not status.ok:
        kept = "the best network so far is returned" if improved else "the input network is returned unchanged"
        word = f" ({last.solver_status})" if last.solver_status else ""
        warnings.warn(f"{run.settings.name}: {status.advice}{word}; {kept}", NotConvergedWarning, stacklevel=3)
    elif not improved:
        status = Status.NOT_IMPROVED
    gaps = [row.gap for row in run.trace if row.gap == row.gap]
    return RefineResult(
        network=run.best.network,
        objective_before=run.before.value,
        objective_after=run.best.value,
        certificate_before=run.before.certificate,
        certificate=run.best.certificate,
        mse_before=run.before.mse,
        mse=run.best.mse,
        improved=improved,
        candidate=run.candidate.network if run.candidate else None,
        status=status,
        trace=tuple(run.trace),
        gap=gaps[-1] if gaps else math.nan,
        solution=run.solution,
        floor=floor,
    )
