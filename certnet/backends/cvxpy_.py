"""CVXPY: convex programs handed to a solver that is always named, with its tolerance and time limit."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from certnet.backends import mosek_
from certnet.core.errors import SolverUnavailableError
from certnet.core.outcome import Status
from certnet.core.spelling import did_you_mean

if TYPE_CHECKING:
    import cvxpy

__all__ = ["SOLVERS", "SolveReport", "require", "solve", "why_unusable"]

SOLVERS: Final = ("CLARABEL", "SCS", "MOSEK")
"""Solvers that take second-order and semidefinite cones; the first is certnet's default."""

_SCS_INTERRUPTED: Final = -5  # scs.SIGINT


@dataclass(frozen=True)
class SolveReport:
    """How a solve ended: certnet's status, the solver's own word, and seconds including CVXPY's compilation."""

    status: Status
    solver: str
    solver_status: str
    seconds: float


def why_unusable(name: str) -> str | None:
    """None if the solver can be used, else the reason and what to do."""
    if name not in SOLVERS:
        known = ", ".join(SOLVERS)
        return f"certnet does not know the solver {name!r}: choose one of {known}{did_you_mean(name, SOLVERS)}"
    if name == "MOSEK":
        return mosek_.why_unusable()
    module = name.lower()
    return None if find_spec(module) is not None else f"{name} is not installed: pip install {module}"


def require(name: str) -> str:
    """The solver's name in capitals, if it can be used.

    Raises
    ------
    SolverUnavailableError
        Unknown, not installed or without a licence; the message names the alternative.
    """
    name = str(name).upper()
    reason = why_unusable(name)
    if reason is not None:
        raise SolverUnavailableError(reason)
    return name


def solve(
    problem: cvxpy.Problem, solver: str, *, tol: float = 1e-8, time_limit: float | None = None, verbose: bool = False
) -> SolveReport:
    """Solve ``problem`` with the named solver; the variables hold the point, if there is one.

    A solver's failure is a status, not an exception: callers keep what they had.

    Raises
    ------
    SolverUnavailableError
        See :func:`require`.
    KeyboardInterrupt
        Also where the solver took Ctrl-C for itself (SCS does while it runs).
    """
    name = require(solver)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an inaccurate solution is told by the status, not by a warning
            _solve(problem, name, _options(name, tol, time_limit), verbose)
        word = str(problem.status)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of Clarabel derives from BaseException alone
        word = f"solver error: {type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    return SolveReport(_status(word, time_limit is not None and seconds >= time_limit), name, word, seconds)


def _solve(problem: cvxpy.Problem, name: str, options: dict[str, Any], verbose: bool) -> None:
    """``problem.solve`` in its three steps: CVXPY calls a solver that Ctrl-C stopped a failed one."""
    data, chain, inverse = problem.get_problem_data(name, verbose=verbose, solver_opts=options)
    solution = chain.solve_via_data(problem, data, warm_start=False, verbose=verbose, solver_opts=options)
    if name == "SCS" and solution["info"]["status_val"] == _SCS_INTERRUPTED:
        raise KeyboardInterrupt
    problem.unpack_results(solution, chain, inverse)


def _options(name: str, tol: float, time_limit: float | None) -> dict[str, Any]:
    if name == "CLARABEL":
        limit = {} if time_limit is None else {"time_limit": time_limit}
        # a point without the solver's blessing is still a point: everything is recomputed from it
        return {"tol_gap_abs": tol, "tol_gap_rel": tol, "tol_feas": tol, "accept_unknown": True, **limit}
    if name == "SCS":
        limit = {} if time_limit is None else {"time_limit_secs": time_limit}
        return {"eps_abs": tol, "eps_rel": tol, "max_iters": 100_000, **limit}
    kinds = ("REL_GAP", "PFEAS", "DFEAS")
    params: dict[str, Any] = {f"MSK_DPAR_INTPNT_CO_TOL_{kind}": tol for kind in kinds}
    if time_limit is not None:
        params["MSK_DPAR_OPTIMIZER_MAX_TIME"] = time_limit
    return {"mosek_params": params}


def _status(word: str, out_of_time: bool) -> Status:
    if word == "optimal":
        return Status.OPTIMAL
    if word in ("optimal_inaccurate", "user_limit"):
        if out_of_time:  # SCS calls a point that its time limit cut short inaccurate
            return Status.TIME_LIMIT
        return Status.MAX_ITERATIONS if word == "user_limit" else Status.INACCURATE
    return Status.SOLVER_FAILED
