"""Refinement: descend and solve programs around a network, recompute everything, never return something worse."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from certnet.claims.region import ALL, All, Region, require_region
from certnet.core.errors import InvalidInputError, NotConvergedWarning, RoseWarning, ScaleWarning, UnsupportedModelError
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_samples, one_of, positive_number, whole_number
from certnet.networks.feedforward import FeedForward, require_network
from certnet.networks.network import Network
from certnet.networks.pruning import pruned
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.floor import Floor, objective_floor
from certnet.programs.goal import Weighted, chosen_goal
from certnet.programs.loss import loss_named
from certnet.programs.objectives import mse_of
from certnet.programs.penalties import penalty_named
from certnet.programs.restriction import Cell, sampled_cell, whole_cell
from certnet.refinement.checkpoint import Checkpoint
from certnet.refinement.cost import require_room
from certnet.refinement.deep import require_descent
from certnet.refinement.efforts import chosen_effort, work
from certnet.refinement.journal import Journal
from certnet.refinement.restricting import Restricting, Solving
from certnet.refinement.result import RefineResult, Validation
from certnet.refinement.rounds import alternate, leave_cell
from certnet.refinement.run import Run, Settings
from certnet.refinement.shape import ShapeLimits
from certnet.refinement.task import Task
from certnet.refinement.trace import TraceRow
from certnet.rows.base import Rows
from certnet.rows.memory import MemoryRows
from certnet.rows.opening import rows_of
from certnet.solvers.choice import FALLBACK, SOLVERS, require_solver, solver_named
from certnet.solvers.solved import Solved
from certnet.solvers.watch import InteriorStep, Watch

__all__ = ["KEPT", "METHODS", "SOLVERS", "refine", "require_solver"]

METHODS: Final = ("joint", "alternating")
PATTERNS: Final = ("all", "sampled")
KEPT: Final = ("biases", "first layer")
_UNEVEN: Final = 1e3  # between standard deviations of two inputs: above it there is a warning
"""What a refinement can be told to leave as it is."""


def refine(
    network: ShallowNetwork | FeedForward,
    X: Any,
    y: Any = None,
    weight: float = 0.01,
    *,
    target_lipschitz: float | None = None,
    max_mse: float | None = None,
    effort: str | float | None = None,
    region: Region = ALL,
    X_val: ArrayLike | None = None,
    y_val: ArrayLike | None = None,
    sample_weight: Any = None,
    monotonic_cst: ArrayLike | Mapping[str, int] | None = None,
    slope_limits: Mapping[str | int, tuple[float, float]] | None = None,
    loss: str = "squared",
    huber_threshold: float = 1.0,
    keep: str | Collection[str] = (),
    prune: bool = False,
    penalty: str = "lipschitz",
    method: str | None = None,
    patterns: str | None = None,
    n_patterns: int | None = None,
    cells: int | None = None,
    solver: str | None = None,
    tol: float | None = None,
    max_rounds: int = 10,
    time_limit: float | None = None,
    optimality_gap: bool = False,
    random_state: int = 0,
    n_jobs: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    callback: Callable[[TraceRow], None] | None = None,
    on_step: Callable[[InteriorStep], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    verbose: bool = False,
) -> RefineResult:
    r"""Minimise ``Σ_i s_i φ(f(x_i) − y_i) + weight · ρ`` from ``network``: error and certified ρ ≥ L², never worse.

    By default a few descents on the objective itself, all weights, biases and multipliers at once
    (:mod:`certnet.refinement.deep`), and then a convex restriction to the cell that they reach: of the network with one
    hidden layer of ReLU, of its last two layers with more. How much of that is told by ``effort``. Where a restriction
    was solved its duality gap says how far from optimal the cell is (``gap``).

    With ``method``, ``patterns``, ``cells``, ``solver``, ``tol`` or the l2 penalty: the programs of the papers alone,
    for one hidden layer of ReLU. The patterns of the hidden units on X and the output directions are kept; everything
    else is optimised. The input network is feasible, so the optimum is at most its objective (Y, Corollary 10).

    Whatever a solver says, every candidate is certified and its objective recomputed; where that is not below the
    input's, the input is returned. The objective is one of training: give held-out samples to be told of the rest.
    An interrupt (Ctrl-C) ends the work and returns the best network so far, with ``Status.INTERRUPTED``.

    Parameters
    ----------
    network : ShallowNetwork or FeedForward
        Dense layers, any depth, number of outputs and activations with values.
    X : array_like, frame, path, memory map or Dask collection; inputs (N, d)
        In the network's units, as y. What is not in memory is read a chunk at a time, see
        :func:`certnet.rows.rows_of`; an ``.npy`` or Parquet file is named by its path.
    y : array_like, shape (N,) or (N, m); or the name of its column, or several
    weight : float
        λ ≥ 0, in units of mean squared error per squared Lipschitz constant.
    target_lipschitz : float, optional
        Instead of a weight: the least error among networks with a certified L of at most this; of equal ones the
        flattest that is found. 0 gives the constant network.
    max_mse : float, optional
        Instead of a weight: the least certified L among networks with a training error of at most this.
    effort : {"quick", "default", "thorough"} or float
        One descent; up to three, the best one finished, moved at random and restricted to its cell, fewer where they
        would take long by estimate (:mod:`certnet.refinement.cost`); three, with random moves until three in a row
        bring nothing. A number: the last, within so many seconds.
    region : Box or Ball, optional
        ρ bounds the slope in a :class:`certnet.Box` or a :class:`certnet.Ball` only, in the network's units: units that
        cannot bend there enter with their known slope, and descents go on with them. The result is certified there
        (``certificate``) and for all inputs (``certificate_everywhere``). For ``effort``.
    X_val, y_val : array_like, optional
        Held-out samples: the result says their error before and after, and warns where it or L rose.
    sample_weight : array_like, shape (N,), or the name of its column, optional
        Not negative; s_i is its share of the sum, 1/N without.
    monotonic_cst : array_like of -1, 0, 1, shape (d,), or mapping of names, optional
        1: f never falls along the input, -1: never rises (scikit-learn's convention). For one output; proved for all
        inputs by :class:`certnet.SlopeIntervals`. An input network that breaks it has an infinite objective.
    slope_limits : mapping from name or index to (low, high), optional
        Limits on ∂f/∂x_i for all inputs, proved in the same way.
    loss : {"squared", "huber"}
        φ(r) = r², or r² up to ``huber_threshold`` and its tangent beyond.
    huber_threshold : float
    keep : "biases", "first layer", or both
        What stays as it is, bit by bit. By descents alone.
    prune : bool
        Drop units of the result that move nothing, and certify the smaller network.
    penalty : {"lipschitz", "l2"}
        ρ ≥ L² (certified), or ``‖W‖_F² + ‖b‖² + ‖V‖_F²``.
    method : {"joint", "alternating"}, optional
        Weights and multipliers in one program, or Algorithm 1 of Y, which alternates
        between the multipliers of the current network and weights with these multipliers and \|v\| fixed.
    patterns : {"all", "sampled"}, optional
        All units' patterns, or ``n_patterns`` (default: half of the units) drawn at random, each with both signs
        (Y's "samp"), whose optimum may be worse than the input.
    cells : int, optional
        Cells that may be visited, 1 for that of the input. Each further one is reached by a descent on the true
        objective with patterns free (:func:`certnet.refinement.descent.descend`), and solved again; rounds end where
        one gains less than 1e-6 of the objective. For the joint method with a weight and the Lipschitz penalty.
    solver : {"auto", "CERTNET", "CLARABEL", "SCS", "MOSEK"}, optional
        "CERTNET" is the own interior-point method; "auto" is that, and Clarabel where it fails and fits,
        which the trace says. A named solver is never replaced by another.
    tol : float, optional
        Relative duality gap for the own solver (1e-6), the solver's own tolerance for the others (1e-8).
    max_rounds : int
        Rounds of the alternating method; it ends earlier where a round gains less than 1e-6 of the objective.
    time_limit : float, optional
        Seconds after which nothing new is started; what runs is stopped within one step.
    optimality_gap : bool
        Also bound the objective of every function from below (:func:`certnet.programs.floor.objective_floor`), within
        the time limit or a minute. For a weight, the Lipschitz penalty and squared errors.
    random_state : int
        Seed of the drawn patterns, the descents and the certificates.
    n_jobs : int
        Threads that sum over blocks of rows side by side; results do not depend on it.
    checkpoint : path, optional
        A file that descents write after every stage and twice a minute: the same call goes on from it after a kill,
        and refuses that of another run. For ``effort``.
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
        Shapes, NaN, weight < 0, unknown options, options that do not go together, constraints that contradict each
        other, work that does not fit into memory.
    NotReachedError
        ``max_mse`` is below every error that was found.
    UnsupportedModelError
        A ``FeedForward`` with skips or convolutions, or an activation without values; a program of the papers for
        another network than one hidden layer of ReLU.
    SolverUnavailableError
        The solver is not installed or has no licence; raised before any work.

    Warns
    -----
    NotConvergedWarning
        A solver stopped short of its tolerance or failed; the result is still never worse than the input.
    RoseWarning
        Held-out samples were given, and their error or the certified L rose.
    ScaleWarning
        Standard deviations of inputs differ by a factor of more than 1000.
    """
    given = {
        "method": method,
        "patterns": patterns,
        "n_patterns": n_patterns,
        "cells": cells,
        "solver": solver,
        "tol": tol,
        "penalty": None if penalty == "lipschitz" else penalty,
    }
    asked = [name for name, value in given.items() if value is not None]
    kind = penalty_named(penalty)
    goal = chosen_goal(weight, target_lipschitz, max_mse)
    charged = loss_named(loss, huber_threshold)
    kept = _kept(keep)
    if prune and "biases" in kept:
        raise InvalidInputError('prune moves what constant units add into biases, which keep="biases" forbids')
    if asked and effort is not None:
        raise InvalidInputError(f"effort chooses the work itself: leave it out, or {', '.join(asked)}")
    if asked:
        network = _shallow(network)
        if kept:
            raise InvalidInputError(f"keep is for descents: leave it out, or {', '.join(asked)}")
        if not isinstance(region, All):
            raise InvalidInputError(f"region is for descents: leave it out, or {', '.join(asked)}")
    elif not isinstance(network, ShallowNetwork):
        network = _feed_forward(network)
        network = network.shallow() if network.relu_only else require_descent(network)
    require_region(region, network.n_inputs)
    effort_ = chosen_effort("default" if effort is None else effort)
    rows = _rows(network, X, y, sample_weight, n_jobs)
    spread = rows.describe().scale
    _heed_scales(rows, spread)
    limits = ShapeLimits.of(network, monotonic_cst, slope_limits, names=rows.names, constant=_constant(rows, spread))
    task = Task(rows, kind, goal, charged, limits, kept, region)
    method, patterns, cells = method or "joint", patterns or "all", 1 if cells is None else cells
    solver = "auto" if solver is None else solver
    constrained = not isinstance(goal, Weighted)
    if constrained and penalty != "lipschitz":
        raise InvalidInputError('target_lipschitz and max_mse need penalty="lipschitz"')
    for name, value, known in (("method", method, METHODS), ("patterns", patterns, PATTERNS)):
        one_of(value, name, known)
    max_rounds = whole_number(max_rounds, "max_rounds", least=1)
    cells = whole_number(cells, "cells", least=1)
    plain = penalty == "lipschitz" and method == "joint" and patterns == "all"
    ordinary = task.squared and limits is None and (not isinstance(rows, MemoryRows) or rows.weights is None)
    for name, used in (
        ("target_lipschitz or max_mse", constrained),
        ("cells above 1", cells > 1),
        ("sample_weight, another loss or limits on slopes", not ordinary),
    ):
        if used and not plain:
            raise InvalidInputError(f'{name} needs penalty="lipschitz", method="joint" and patterns="all"')
    if constrained and optimality_gap:
        raise InvalidInputError("optimality_gap is for a weight, not for a limit")
    if cells > 1 and (constrained or not ordinary):
        raise InvalidInputError("cells above 1 are for a weight, squared errors, and no limits: use effort instead")
    if optimality_gap and not isinstance(region, All):
        raise InvalidInputError("optimality_gap is for ρ of all inputs: leave it out, or region")
    if optimality_gap and (penalty != "lipschitz" or not ordinary):
        raise InvalidInputError('optimality_gap needs penalty="lipschitz", squared errors, and no limits or weights')
    name = require_solver(solver)
    tol = None if tol is None else positive_number(tol, "tol")
    time_limit = None if time_limit is None else positive_number(time_limit, "time_limit")
    random_state = whole_number(random_state, "random_state")
    held_out = _held_out(network, X_val, y_val)
    if asked and checkpoint is not None:
        raise InvalidInputError(f"checkpoint is for effort: leave it out, or {', '.join(asked)}")
    options: tuple[object, ...] = (
        goal,
        charged,
        sorted(kept),
        monotonic_cst,
        slope_limits,
        random_state,
        effort if effort else "default",
    )
    options += () if isinstance(region, All) else (region.limits,)
    journal = _journal(checkpoint, network, rows, options)
    asked_seconds = effort_.time_limit is not None and (time_limit is None or effort_.time_limit <= time_limit)
    if not asked and effort_.time_limit is not None:
        time_limit = effort_.time_limit if time_limit is None else min(time_limit, effort_.time_limit)
    if not asked:
        effort_ = effort_.for_network(network, rows.n_samples)
        require_room(network, rows.n_samples, effort_.plan, time_limit)
    watch = Watch.within(time_limit, should_stop, on_step)
    settings = Settings(name if asked else "refinement", watch, random_state, callback)
    solving = Solving(
        solver=solver_named(name, tol=tol, verbose=verbose),
        fallback=solver_named(FALLBACK, tol=tol, verbose=verbose) if str(solver).lower() == "auto" else None,
        verbose=verbose,
    )
    cell = _chosen_cell(require_shallow(network), patterns, n_patterns, random_state) if asked else None
    # one thread: the same result for any number, and faster at these orders
    with threadpool_limits(limits=1, user_api="blas"):
        run = Run(network, task, settings)
        try:
            run.begin()
            if cell is None:
                work(run, effort_, solving, journal)
            else:
                restricting = Restricting(run, cell, solving)
                if penalty == "lipschitz" and method == "alternating":
                    alternate(restricting, max_rounds)
                else:
                    restricting.restrict("l2 restriction" if penalty == "l2" else "joint restriction")
                    if isinstance(goal, Weighted):
                        leave_cell(restricting, cells, goal.weight)
            if prune:
                _prune(run)
        except KeyboardInterrupt:  # between the solvers, which keep their own best point
            run.stopped = Status.INTERRUPTED
        if asked_seconds and run.stopped is Status.TIME_LIMIT:
            run.stopped = Status.OPTIMAL  # the time that the effort was to take
        floor = _floor(run, goal.weight) if optimality_gap and isinstance(goal, Weighted) else None
        done = _result(run, floor, _validated(run, held_out))
    for note in done.notes if held_out is not None else ():
        warnings.warn(note, RoseWarning, stacklevel=2)
    return done


def _feed_forward(network: object) -> FeedForward:
    found = require_network(network)
    if isinstance(found, FeedForward):
        return found
    raise UnsupportedModelError(f"{found!r} is no network of layers: refinement is for ShallowNetwork and FeedForward")


def _kept(keep: str | Collection[str]) -> frozenset[str]:
    kept = frozenset((keep,) if isinstance(keep, str) else keep)
    if not kept <= frozenset(KEPT):
        raise InvalidInputError(f"keep takes {' and '.join(map(repr, KEPT))}, got {keep!r}")
    return kept


def _rows(network: Network, X: Any, y: Any, sample_weight: Any, n_jobs: int) -> Rows:
    """The samples as a table: those in memory are checked as everywhere else."""
    return rows_of(
        X,
        y,
        sample_weight,
        n_inputs=network.n_inputs,
        n_outputs=network.n_outputs,
        names=network.about.inputs,
        n_jobs=n_jobs,
    )


def _journal(path: str | os.PathLike[str] | None, network: Network, rows: Rows, options: tuple[object, ...]) -> Journal:
    if path is None:
        return Journal()
    identity = {"network": network.digest, "data": rows.describe().digest, "options": repr(options)}
    return Journal(Checkpoint.at(path, identity))


def _constant(rows: Rows, spread: Float) -> list[int]:
    """Columns of the inputs with one value only."""
    if isinstance(rows, MemoryRows):
        return [int(i) for i in np.flatnonzero(np.ptp(rows.X, axis=0) == 0.0)]
    return [int(i) for i in np.flatnonzero(spread == 0.0)]


def _heed_scales(rows: Rows, spread: Float) -> None:
    """Warn where L, which is per unit of an input, is decided by the narrow inputs and the error by the wide ones."""
    varied = np.flatnonzero(np.isfinite(spread) & (spread > 0.0))
    if not varied.size:
        return
    wide, narrow = (int(varied[pick(spread[varied])]) for pick in (np.argmax, np.argmin))
    if spread[wide] > _UNEVEN * spread[narrow]:
        told = [f"input {repr(rows.names[i]) if rows.names else i}" for i in (wide, narrow)]
        warnings.warn(
            f"{told[0]} has a standard deviation of {spread[wide]:.3g}, {told[1]} of {spread[narrow]:.3g}: L counts a "
            "step of one unit in either, so a bound that means something for a wide input leaves a narrow one unused, "
            "and descents take long. Standardise the columns (CertifiedRegressor does; --standardise in the shell)",
            ScaleWarning,
            stacklevel=3,
        )


def _held_out(network: Network, X: ArrayLike | None, y: ArrayLike | None) -> tuple[Float, Float] | None:
    if X is None and y is None:
        return None
    if X is None or y is None:
        raise InvalidInputError("X_val and y_val go together: give both")
    return as_samples(X, y, network.n_inputs, network.n_outputs, network.about.inputs)


def _validated(run: Run, held_out: tuple[Float, Float] | None) -> Validation | None:
    if held_out is None:
        return None
    return Validation(mse_of(run.input, *held_out), mse_of(run.best.network, *held_out))


def _prune(run: Run) -> None:
    """The best network without units that move nothing; kept where it is certified to be no worse but for rounding."""
    before = run.best
    smaller = pruned(before.network).network
    if smaller == before.network:
        return
    made = run.measure(smaller)
    worse = made.value > before.value + 1e-9 * abs(before.value)
    run.record("units that move nothing dropped", made, Solved(None, Status.OPTIMAL, "exact"), accepted=not worse)
    if not worse:
        run.candidate = run.best = made


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


def _result(run: Run, floor: Floor | None, validation: Validation | None) -> RefineResult:
    best = run.best.network
    improved = best is not run.input
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
        network=best,
        objective_before=run.before.value,
        objective_after=run.best.value,
        certificate_before=run.before.certificate,
        certificate=run.best.certificate,
        certificate_everywhere=None if isinstance(run.task.region, All) else run.certified_everywhere(best),
        mse_before=run.before.mse,
        mse=run.best.mse,
        improved=improved,
        candidate=run.candidate.network if run.candidate else None,
        status=status,
        trace=tuple(run.trace),
        gap=gaps[-1] if gaps else math.nan,
        solution=run.solution,
        floor=floor,
        validation=validation,
        goal=run.task.goal,
    )
