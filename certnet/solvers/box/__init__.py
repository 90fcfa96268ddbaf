"""Solvers of one contract: many box-constrained QPs that share H, each to the tolerance that is asked.

A solver is a function ``solve(problem, q, start, limits) -> z``: linear terms (N, n), a start (N, n) or None, and
activations (N, n) inside of the box. What it returns is measured by :mod:`certnet.lifted.inference`, which no solver
shares code with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final, Protocol

from certnet.core.errors import InvalidInputError
from certnet.core.validation import Float
from certnet.programs.box_qp import BoxQP

__all__ = ["SOLVERS", "Limits", "Solve", "solver_named"]

SOLVERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "coordinate_descent": "coordinate",
        "reference": "reference",
        "admm": "admm",
        "osqp": "osqp_",
        "daqp": "daqp_",
        "proxqp": "proxqp_",
        "clarabel": "clarabel_",
    }
)
"""Names of the solvers and the modules that hold them."""

PASSING: Final = ("coordinate_descent", "reference")
"""Solvers that work in passes over the units and can be told their number."""


@dataclass(frozen=True)
class Limits:
    """What a solver is asked for.

    Attributes
    ----------
    tol : float
        Natural residual to reach.
    passes : int or None
        Exactly so many passes over the units, whatever the residual; None to go on until ``tol``.
    max_passes : int
        The most passes (iterations) to tolerance.
    threads : int
        Threads that may be used; the result does not depend on it.
    seconds : float
        After so many seconds solvers of others begin no further attempt; samples that were not reached keep their
        start. Solvers of the package count passes alone.
    """

    tol: float = 1e-6
    passes: int | None = None
    max_passes: int = 10_000
    threads: int = 1
    seconds: float = math.inf


class Solve(Protocol):
    """The contract."""

    def __call__(self, problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float: ...


def solver_named(name: str) -> Solve:
    """The solver of that name, imported now.

    Raises
    ------
    InvalidInputError
        No solver has this name.
    """
    if not isinstance(name, str) or name not in SOLVERS:
        raise InvalidInputError(f"there is no solver {name!r}: one of {', '.join(SOLVERS)}")
    solve: Solve = import_module(f"{__name__}.{SOLVERS[name]}").solve
    return solve
