r"""Multipliers for the differences of all pairs of outputs by one search, each pair from where the first one was.

The programs of two pairs differ in S alone, by two rows. The first point of the central path, ``τ = order of P``, is
far inside of the inequality; that of one pair is inside of that of another, mostly a step or two from its centre. From
there each pair follows its own path. Floating point; the checker decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from certnet.core.validation import Float
from certnet.searches.lifted_barrier import Begin, feasible, follow
from certnet.searches.lifted_program import LiftedProgram
from certnet.searches.result import SearchResult

__all__ = ["search_pairs"]

_FAR = 10.0  # shorter steps of the weight than of a search to 1e-6: a quarter fewer Newton steps to 1e-3


@np.errstate(all="ignore")  # what is not finite is never taken
def search_pairs(
    programs: Iterable[LiftedProgram], t: Float, rho: float, *, tol: float, max_iterations: int = 200
) -> Iterator[SearchResult[Float]]:
    """Minimise ρ of every program, from ``(t, ρ)`` strictly feasible for all of them, t (b,) > 0.

    ``tol`` is the relative gap of ρ.
    """
    cold, warm = Begin(t, rho), None
    for program in programs:
        begin = warm if warm is not None and feasible(program, warm) else cold
        found, first = follow(program, begin, tol=tol, max_iterations=max_iterations, far=_FAR)
        warm = first if warm is None else warm
        yield found
