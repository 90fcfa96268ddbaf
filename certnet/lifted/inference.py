"""Inference: the activations of many inputs at once, measured after the solver has returned them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.energy import LiftedEnergy
from certnet.errors import InvalidInputError
from certnet.lifted.qp import BoxQP, as_clamp, natural_residual, posed
from certnet.lifted.solvers import PASSING, SOLVERS, Limits, solver_named
from certnet.lifted.solvers.active_set import finish
from certnet.outcome import Status
from certnet.validation import Float, as_inputs, positive_number, whole_number

__all__ = ["ILL_CONDITIONED", "Inference", "infer", "measured"]

ILL_CONDITIONED = 1e10
"""Condition number of H from which a residual says too little: 1e10 times the rounding of a double is 1e-6."""


@dataclass(frozen=True, eq=False)
class Inference:
    """Activations of N inputs, and how good they are.

    Attributes
    ----------
    activations : tuple of L ndarrays, shapes (N, n_k)
        z_1 … z_L; the last is the output.
    energy : ndarray, shape (N,)
        ``E(z; x)``.
    residual : ndarray, shape (N,)
        ``max |z − Π(z − (H z − q))|``, recomputed from the data.
    error_bound : ndarray, shape (N,)
        A bound on ``‖z − z*‖₂``: ``(1 + ‖H‖₂) / λ_min(H)`` times the 2-norm of the natural residual. In floating point.
    status : ndarray of Status, shape (N,)
        OPTIMAL where the residual is at most ``tol``.
    tol : float
    solver : str
    """

    activations: tuple[Float, ...]
    energy: Float
    residual: Float
    error_bound: Float
    status: NDArray[np.object_]
    tol: float
    solver: str

    @property
    def output(self) -> Float:
        """z_L, shape (N, n_L)."""
        return self.activations[-1]

    @property
    def stacked(self) -> Float:
        """``(z_1, …, z_L)``, shape (N, n)."""
        return np.concatenate(self.activations, axis=1)

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Is the status of the sample OPTIMAL? Shape (N,)."""
        return np.array([status is Status.OPTIMAL for status in self.status], dtype=bool)

    def __repr__(self) -> str:
        done = int(self.converged.sum())
        worst = float(self.residual.max(initial=0.0))
        return f"Inference({done} of {len(self.energy)} samples within {self.tol:g}, largest residual {worst:.1e})"


def infer(
    net: LiftedEnergy,
    X: ArrayLike,
    *,
    clamp: ArrayLike | None = None,
    solver: str = "coordinate_descent",
    tol: float = 1e-6,
    passes: int | None = None,
    max_passes: int = 10_000,
    start: ArrayLike | None = None,
    threads: int | None = None,
) -> Inference:
    """``z*(x) = argmin_z E(z; x)`` over the boxes for every row of X, with ``z_L`` held at ``clamp`` where given.

    The residual is recomputed from the data; samples that miss ``tol`` are finished by an active-set Newton method, and
    those that still miss it say so in their status.

    Parameters
    ----------
    X : array_like, shape (N, d)
    clamp : array_like, shape (N, n_L), optional
    solver : str
        A name of :data:`~certnet.lifted.solvers.SOLVERS`.
    tol : float
        Natural residual to reach, in the units of the gradient of E.
    passes : int, optional
        Exactly so many passes of coordinate descent, as in the papers; nothing is finished then.
    max_passes : int
        Limit of passes or iterations.
    start : array_like, shape (N, n), optional
        Stacked activations to start from.
    threads : int, optional
        Threads for the batch; all cores by default. The result does not depend on it.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, a clamp outside of the box, an unknown solver, passes for a solver without them.
    MissingDependencyError
        The solver's package is not installed.
    """
    inputs = as_inputs(X, net.n_inputs)
    targets = None if clamp is None else as_clamp(net, clamp, len(inputs))
    limits = _limits(tol, passes, max_passes, threads)
    if passes is not None and solver in SOLVERS and solver not in PASSING:
        raise InvalidInputError(f"solver {solver!r} does not work in passes: passes is for {' and '.join(PASSING)}")
    solve = solver_named(solver)
    problem, q = posed(net, inputs, targets)
    first = None if start is None else net.pair(inputs, start)[1][:, : problem.n]
    z = solve(problem, q, first, limits)
    if passes is None:
        z = _finished(problem, q, z, limits)
    return measured(net, inputs, problem, q, z, targets, limits, solver)


def _limits(tol: float, passes: int | None, max_passes: int, threads: int | None) -> Limits:
    return Limits(
        positive_number(tol, "tol"),
        None if passes is None else whole_number(passes, "passes", least=1),
        whole_number(max_passes, "max_passes", least=1),
        (os.cpu_count() or 1) if threads is None else whole_number(threads, "threads", least=1),
    )


def _finished(problem: BoxQP, q: Float, z: Float, limits: Limits) -> Float:
    """``z`` with the samples that miss the tolerance finished by active-set Newton steps; never a worse one."""
    residual = natural_residual(problem, q, z)
    missed = np.flatnonzero(~(residual <= limits.tol))
    if missed.size == 0:
        return z
    better = finish(problem, q[missed], z[missed], limits.tol)
    gained = natural_residual(problem, q[missed], better) < np.nan_to_num(residual[missed], nan=np.inf)
    z = z.copy()
    z[missed[gained]] = better[gained]
    return z


def measured(
    net: LiftedEnergy,
    X: Float,
    problem: BoxQP,
    q: Float,
    z: Float,
    targets: Float | None,
    limits: Limits,
    solver: str,
) -> Inference:
    """What a solver returned, with residual, energy and status recomputed from the data."""
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(z).all(axis=1))
    z = np.clip(np.where(finite[:, None], z, 0.0), problem.lower, problem.upper)
    step = z - np.clip(z - (z @ problem.H - q), problem.lower, problem.upper)
    residual = np.abs(step).max(axis=1, initial=0.0)
    whole = z if targets is None else np.concatenate([z, targets], axis=1)
    least, most = problem.spectrum
    return Inference(
        net.split(whole),
        net.energy(X, whole),
        residual,
        np.linalg.norm(step, axis=1) * ((1.0 + most) / least if least > 0.0 else np.inf),
        _statuses(residual, finite, limits, most > ILL_CONDITIONED * least),
        limits.tol,
        solver,
    )


def _statuses(residual: Float, finite: NDArray[np.bool_], limits: Limits, ill: bool) -> NDArray[np.object_]:
    short = Status.INACCURATE if limits.passes is None else Status.MAX_ITERATIONS
    status = np.full(len(residual), short, dtype=object)
    status[residual <= limits.tol] = Status.OPTIMAL
    if ill:
        status[:] = Status.ILL_CONDITIONED
    status[~finite] = Status.SOLVER_FAILED
    return status
