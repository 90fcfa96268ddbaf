"""Inference: the activations of many inputs at once, measured after the solver has returned them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.validation import Float, positive_number, whole_number
from certnet.kernels.box_descent import appraised, placed
from certnet.lifted.energy_values import energies
from certnet.lifted.posing import Posed, inputs_of, pose
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import EPS, BoxQP, as_clamp, natural_residual
from certnet.solvers.box import PASSING, SOLVERS, Limits, solver_named
from certnet.solvers.box.active_set import finish

__all__ = ["ILL_CONDITIONED", "Inference", "finished", "infer", "measured", "outputs", "statuses"]

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
        A bound on ``‖z − z*‖₂``: ``((1 + ‖H‖₂) ‖r‖₂ + e) / λ_min(H)`` with the natural residual r and what rounding
        can have done to the gradient, e. Infinite where H is singular to working precision.
    status : ndarray of Status, shape (N,)
        OPTIMAL where the residual is at most ``tol``.
    tol : float
    solver : str
    loss : ndarray, shape (N,)
        ``weight · ℓ(z_L, y)`` where the inference has a loss, else zeros.
    """

    activations: tuple[Float, ...]
    energy: Float
    residual: Float
    error_bound: Float
    status: NDArray[np.object_]
    tol: float
    solver: str
    loss: Float

    @property
    def total(self) -> Float:
        """What was minimised: ``E(z; x) + weight · ℓ(z_L, y)``, shape (N,); the energy where there is no loss."""
        return self.energy + self.loss

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
    time_limit: float | None = None,
) -> Inference:
    """``z*(x) = argmin_z E(z; x)`` over the boxes for every row of X, with ``z_L`` held at ``clamp`` where given.

    The residual is recomputed from the data; samples that miss ``tol`` are finished by an active-set Newton method, and
    those that still miss it say so in their status.

    Parameters
    ----------
    X : array_like, shape (N, d)
    clamp : array_like, shape (N, n_L), optional
    solver : str
        A name of :data:`~certnet.solvers.box.SOLVERS`.
    tol : float
        Natural residual to reach, in the units of the gradient of E. That of layer k carries γ^{k−1}: for small γ take
        tol in proportion to γ^{L−1}, or read ``error_bound``, which is in the units of the activations.
    passes : int, optional
        Exactly so many passes of coordinate descent, as in the papers; nothing is finished then.
    max_passes : int
        Limit of passes or iterations.
    start : array_like, shape (N, n), optional
        Stacked activations to start from.
    threads : int, optional
        Threads for the batch; all cores by default. The result does not depend on it.
    time_limit : float, optional
        Seconds after which a solver of others (osqp, daqp, proxqp, clarabel) begins nothing more.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, numbers beyond 1e100, a clamp outside of the box, an unknown solver, passes for a solver
        without them.
    MissingDependencyError
        The solver's package is not installed.
    """
    limits = _limits(tol, passes, max_passes, threads)
    if time_limit is not None:
        limits = replace(limits, seconds=positive_number(time_limit, "time_limit"))
    given, z = _solved(net, X, clamp, solver, limits, start)
    return measured(given, z, limits, solver, finishing=passes is None)


def outputs(net: LiftedEnergy, X: ArrayLike, **options: Any) -> Float:
    """z_L of :func:`infer`, to the same tolerance and (N, n_L), without what else is said of it.

    Options are those of :func:`infer`.
    """
    if options.keys() - {"threads"}:
        return infer(net, X, **options).output
    limits = _limits(1e-6, None, 10_000, options.get("threads"))
    given, z = _solved(net, X, None, "coordinate_descent", limits, None)
    z, _, _ = _settled(given, z, limits, finishing=True)
    return z[:, net.layers[-1]]


def _solved(
    net: LiftedEnergy, X: ArrayLike, clamp: ArrayLike | None, solver: str, limits: Limits, start: ArrayLike | None
) -> tuple[Posed, Float]:
    """The programs of all inputs, and what the solver returns for them."""
    if limits.passes is not None and solver in SOLVERS and solver not in PASSING:
        raise InvalidInputError(f"solver {solver!r} does not work in passes: passes is for {' and '.join(PASSING)}")
    solve = solver_named(solver)
    inputs = inputs_of(net, X)
    given = pose(net, inputs, None if clamp is None else as_clamp(net, clamp, len(inputs)))
    first = None if start is None else net.pair(given.X, start)[1][:, : given.problem.n]
    return given, solve(given.problem, given.q, first, limits)


def _limits(tol: float, passes: int | None, max_passes: int, threads: int | None) -> Limits:
    return Limits(
        positive_number(tol, "tol"),
        None if passes is None else whole_number(passes, "passes", least=1),
        whole_number(max_passes, "max_passes", least=1),
        (os.cpu_count() or 1) if threads is None else whole_number(threads, "threads", least=1),
    )


def finished(problem: BoxQP, q: Float, z: Float, limits: Limits) -> Float:
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


def measured(given: Posed, z: Float, limits: Limits, solver: str, *, finishing: bool = False) -> Inference:
    """What a solver returned, with residual, energy and status recomputed from the data.

    Where ``finishing``, samples that miss the tolerance are :func:`finished` before.
    """
    problem = given.problem
    z, finite, found = _settled(given, z, limits, finishing=finishing)
    residual, square, curved, linear, largest = found.T
    # ‖z − z*‖ ≤ ((1 + ‖H‖) ‖r‖ + rounding) / λ_min(H)
    most = problem.spectrum[1]
    least = problem.spectrum[0] - 4.0 * EPS * problem.n * most
    bound = np.full(len(z), np.inf)
    if least > 0.0:
        bound = ((1.0 + most) * np.sqrt(square) + given.doubt(largest)) / least
    short = Status.INACCURATE if limits.passes is None else Status.MAX_ITERATIONS
    return Inference(
        given.net.split(z if given.clamp is None else np.concatenate([z, given.clamp], axis=1)),
        energies(given, z, curved, linear),
        residual.copy(),
        bound,
        statuses(residual, finite, limits.tol, short, ill=most > ILL_CONDITIONED * least),
        limits.tol,
        solver,
        np.zeros(len(z)),
    )


def _settled(given: Posed, z: Float, limits: Limits, *, finishing: bool) -> tuple[Float, NDArray[np.bool_], Float]:
    """z inside of the box, with what the solver left undone finished; which samples are finite; what is said of all."""
    problem, q = given.problem, given.q
    z, finite = _inside(problem, z)
    found = _appraised(problem, q, z)
    missed = np.flatnonzero(~(finite & (found[:, 0] <= limits.tol)))
    if finishing and missed.size:
        better, finite[missed] = _inside(problem, finished(problem, q[missed], z[missed], limits))
        z[missed] = better
        found[missed] = _appraised(problem, q[missed], better)
    return z, finite, found


def _inside(problem: BoxQP, z: Float) -> tuple[Float, NDArray[np.bool_]]:
    """z moved into the box, with zeros (moved likewise) for samples that are not finite; which are."""
    moved, finite = np.empty(z.shape), np.empty(len(z), np.bool_)
    placed(z, problem.lower, problem.upper, moved, finite)
    return moved, finite


def _appraised(problem: BoxQP, q: Float, z: Float) -> Float:
    """Residual, ``‖r‖²``, ``zᵀ(H z − q)``, ``zᵀ q`` and largest |z| of every sample, (N, 5), by :func:`appraised`."""
    found = np.empty((len(z), 5))
    appraised(z, z @ problem.H, q, problem.lower, problem.upper, found)
    return found


def statuses(
    residual: Float, finite: NDArray[np.bool_], tol: float, short: Status, *, ill: bool
) -> NDArray[np.object_]:
    """OPTIMAL where the residual is at most ``tol``, else ``short``; ILL_CONDITIONED for all where ``ill``."""
    status = np.full(len(residual), short, dtype=object)
    status[residual <= tol] = Status.OPTIMAL
    if ill:
        status[:] = Status.ILL_CONDITIONED
    status[~finite] = Status.SOLVER_FAILED
    return status
