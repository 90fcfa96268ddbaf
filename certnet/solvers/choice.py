"""Which solver a name means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from certnet.backends import cvxpy_ as backend
from certnet.solvers.cvxpy_ import ConicSolver
from certnet.solvers.own import OwnSolver
from certnet.solvers.solved import Solver

__all__ = ["FALLBACK", "OWN", "SOLVERS", "require_solver", "solver_named"]

OWN: Final = "CERTNET"
FALLBACK: Final = "CLARABEL"
"""What takes the place of the own solver where that does not reach its gap, and the user allows it."""


def _own(tol: float | None, verbose: bool) -> Solver:
    return OwnSolver() if tol is None else OwnSolver(tol)


def _conic(name: str, tol: float | None, verbose: bool) -> Solver:
    return ConicSolver(name, verbose=verbose) if tol is None else ConicSolver(name, tol, verbose)


_MAKERS: Final[Mapping[str, Callable[[float | None, bool], Solver]]] = MappingProxyType(
    {OWN: _own, **{name: partial(_conic, name) for name in backend.SOLVERS}}
)

SOLVERS: Final = ("auto", *_MAKERS)
"""certnet's own solver, alone or with Clarabel where it fails ("auto"), and those of CVXPY."""


def require_solver(solver: str) -> str:
    """The name of a solver that can be used here; that of the own one for "auto".

    Raises
    ------
    SolverUnavailableError
    """
    if isinstance(solver, str) and solver.upper() in ("AUTO", OWN):
        return OWN
    return backend.require(solver)


def solver_named(name: str, *, tol: float | None = None, verbose: bool = False) -> Solver:
    """The solver of that name in :data:`SOLVERS`, as :func:`require_solver` gives it, configured.

    Parameters
    ----------
    name : str
    tol : float, optional
        Relative duality gap of the own solver (1e-6), the solver's own tolerance for the others (1e-8).
    verbose : bool
        Whether a solver of CVXPY writes its log.
    """
    return _MAKERS[name](tol, verbose)
