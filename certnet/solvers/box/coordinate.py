"""Coordinate descent, compiled: the solver of the papers, to tolerance or in a fixed number of passes.

To tolerance, the unbounded units are eliminated, the passes run in single precision on the correction of a point whose
gradient is known in double precision, and so again until the tolerance is met. A fixed number of passes is plain
coordinate descent in double precision, the same as :mod:`~certnet.solvers.box.reference`.

For a loop that solves again and again with an H of its own (training), :func:`certnet.kernels.box_descent.descend`
takes plain contiguous arrays and moves z in place; a call costs a few microseconds beside its passes::

    passes, residual = descend(H, q, lower, upper, z, tol, max_passes)

with H (n, n), q and z (N, n), lower and upper (n,), all float64 or all float32.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.kernels.box_descent import descend, passes_of_descent, residuals
from certnet.kernels.box_refine import Single, correct
from certnet.programs.box_qp import BoxQP
from certnet.solvers.box import Limits
from certnet.solvers.box.eliminated import Eliminated, without_free_units

__all__ = ["descend", "solve"]

Rows = NDArray[np.int64]

_MOST_PASSES = 300
"""Where more are needed, H is ill-conditioned and active-set Newton steps are faster."""
_FEWEST_ROWS = 32
"""Samples that are worth a thread of their own."""


def solve(problem: BoxQP, q: Float, start: Float | None, limits: Limits) -> Float:
    """Every sample until its natural residual is at most ``tol``, or exactly ``passes`` passes.

    Samples that 300 passes do not bring to ``tol`` are returned as they are, never with a larger residual than at the
    start of a round of passes.
    """
    if limits.passes is not None:
        z = np.clip(np.zeros(q.shape) if start is None else start, problem.lower, problem.upper)
        z = np.ascontiguousarray(z)
        _in_passes(problem, np.ascontiguousarray(q), z, limits.passes, limits.threads)
        return z
    try:
        system = _single(problem)
    except np.linalg.LinAlgError:  # H is not positive definite to working precision
        return np.clip(np.zeros_like(q) if start is None else start, problem.lower, problem.upper)
    program = system.program
    z = np.zeros((len(q), len(program.H))) if start is None else start[:, program.bounded]
    z = np.ascontiguousarray(np.clip(z, program.lower, program.upper))
    _to_tolerance(system, program.linear_term(q), z, limits)
    return program.whole(q, z)


@dataclass(frozen=True, eq=False)
class _Single:
    """The reduced program, and its H with unit diagonal in single precision; weights relative to the largest, top."""

    program: Eliminated
    H: Single
    reach: Rows
    root: Float
    weight: Single
    top: float


@lru_cache(maxsize=8)
def _single(problem: BoxQP) -> _Single:
    program = without_free_units(problem)
    diagonal = np.diag(program.H)
    if not (diagonal > 0.0).all():
        raise np.linalg.LinAlgError("a diagonal entry of H is not positive")
    root = 1.0 / np.sqrt(diagonal)
    H = _aligned((program.H * np.outer(root, root)).astype(np.float32))
    weight = np.maximum(1.0, diagonal) * root
    top = float(weight.max(initial=0.0))
    return _Single(program, H, _reach(H), root, (weight / top).astype(np.float32), top)


def _reach(H: Single) -> Rows:
    """First and one past the last entry of each row that is not zero; empty where that saves little."""
    ends = [(row[0], row[-1] + 1) for row in map(np.flatnonzero, H)]
    reach = np.array(ends, dtype=np.int64).reshape(-1, 2)
    return reach if np.diff(reach).sum() < 0.8 * H.size else reach[:0]


def _aligned(H: Single) -> Single:
    """H at a multiple of 64 bytes, a cache line: rows of 512 units are read a fifth faster."""
    room = np.empty(H.nbytes + 64, np.uint8)
    first = -room.ctypes.data % 64
    found = room[first : first + H.nbytes].view(np.float32).reshape(H.shape)
    found[:] = H
    return found


def _to_tolerance(system: _Single, q: Float, z: Float, limits: Limits) -> None:
    """Rounds of correction of z, in place, each for the samples that still miss the tolerance."""
    program = system.program
    H, lower, upper = program.H, program.lower, program.upper
    g = z @ H - q if z.any() else -q
    before = residuals(z, g, lower, upper)
    rows = np.flatnonzero(before > limits.tol)
    left = min(limits.max_passes, _MOST_PASSES)
    while rows.size and left > 0:
        old = z[rows]
        left -= _corrected(system, z, g, rows, limits, left)
        everybody = rows.size == len(z)  # the first round, as a rule: nothing needs to be picked
        moved, linear = (z, q) if everybody else (z[rows], q[rows])
        slopes = moved @ H - linear
        after = residuals(moved, slopes, lower, upper)
        worse = ~(after < before[rows])
        z[rows[worse]] = old[worse]
        on = ~worse & (after > limits.tol)
        rows = rows[on]
        g[rows], before[rows] = slopes[on], after[on]


def _corrected(system: _Single, z: Float, g: Float, rows: Rows, limits: Limits, most: int) -> int:
    program = system.program
    box = (program.lower, program.upper)

    def run(part: Rows) -> int:
        tol = limits.tol / system.top
        taken: int = correct(system.H, system.reach, system.root, system.weight, box, z, g, part, tol, most)
        return taken

    return max(_shared(run, rows, limits.threads))


def _in_passes(problem: BoxQP, q: Float, z: Float, passes: int, threads: int) -> None:
    def run(part: Rows) -> int:
        if part.size:
            here = slice(part[0], part[-1] + 1)
            passes_of_descent(problem.H, q[here], problem.lower, problem.upper, z[here], passes)
        return passes

    _shared(run, np.arange(len(q)), threads)


def _shared(run: Callable[[Rows], int], rows: Rows, threads: int) -> list[int]:
    """``run`` on the rows, in as many parts as threads are worth; each sample is worked on alone."""
    parts = min(threads, max(1, len(rows) // _FEWEST_ROWS))
    if parts == 1:
        return [run(rows)]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(run, np.array_split(rows, parts)))
