r"""Inference with a convex loss on the output (Zach and Estellers 2019, (5), (17)).

    min_z E(z; x) + weight · ℓ(z_L, y)   over the boxes

As the weight of the squared loss grows, this becomes inference with the output clamped to y.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError
from certnet.core.outcome import Status
from certnet.core.validation import Float, as_inputs, positive_number, whole_number
from certnet.lifted.dual import box_gap
from certnet.lifted.inference import ILL_CONDITIONED, Inference, finished, statuses
from certnet.lifted.loss_functions import CrossEntropy, HuberLoss, Loss, SquaredHinge, SquaredLoss, loss_named
from certnet.lifted.loss_newton import Augmented, newton
from certnet.networks.energy import LiftedEnergy
from certnet.programs.box_qp import BoxQP, posed, rounding
from certnet.solvers.box import SOLVERS, Limits, solver_named

__all__ = ["NEWTON", "CrossEntropy", "HuberLoss", "Loss", "SquaredHinge", "SquaredLoss", "infer_with_loss"]

NEWTON: Final = "newton"
"""The solver for every loss."""


def infer_with_loss(
    net: LiftedEnergy,
    X: ArrayLike,
    loss: str | Loss,
    targets: ArrayLike,
    *,
    weight: float = 1.0,
    tol: float = 1e-6,
    solver: str = NEWTON,
    max_steps: int = 200,
    start: ArrayLike | None = None,
) -> Inference:
    """Activations that minimise the energy and a convex loss of the output together, for every row of X.

    Parameters
    ----------
    X : array_like, shape (N, d)
    loss : str or Loss
        "squared", "huber" (its delta is 1), "cross_entropy" or "squared_hinge"; or a ``SquaredLoss()``,
        ``HuberLoss(delta)``, ``CrossEntropy()`` or ``SquaredHinge()`` of this module, or your own with the methods of
        :class:`~certnet.lifted.loss_functions.Loss`.
    targets : array_like
        What the loss takes: numbers (N, n_L) the first two; class labels 0 … n_L − 1, shape (N,), the others, or
        probabilities (N, n_L) the cross-entropy and signs ±1 (N, n_L) the squared hinge.
    weight : float
        Positive; of the loss against the energy.
    tol : float
        Natural residual of the whole problem to reach.
    solver : str
        "newton" (projected Newton, any loss), or for the squared loss, which leaves a quadratic program, a name of
        :data:`~certnet.solvers.box.SOLVERS`.
    max_steps : int
        Limit of Newton steps, or of the passes or iterations of another solver.
    start : array_like, shape (N, n), optional
        Stacked activations to start from.

    Returns
    -------
    Inference
        ``energy`` is E alone, ``loss`` the weighted loss, ``total`` their sum; residual and error bound are of the
        whole problem.

    Raises
    ------
    InvalidInputError
        An unknown loss, wrong shapes, NaN, targets that are not of this loss, a weight that is not positive, a solver
        that is unknown or cannot serve the loss, a loss of your own that returns wrong shapes.
    MissingDependencyError
        The solver's package is not installed.
    """
    inputs = as_inputs(X, net.n_inputs)
    loss = loss_named(loss)
    y = loss.targets(targets, len(inputs), net.n_outputs)
    limits = Limits(positive_number(tol, "tol"), None, whole_number(max_steps, "max_steps", least=1))
    problem, q = posed(net, inputs)
    program = Augmented(problem, q, loss, y, positive_number(weight, "weight"))
    first = None if start is None else net.pair(inputs, start)[1]
    if solver == NEWTON:
        z, running = newton(program, np.zeros_like(q) if first is None else first, limits.tol, limits.max_passes)
    else:
        z, running = _as_quadratic(program, first, limits, solver), np.zeros(len(q), dtype=bool)
    return _measured(net, inputs, program, z, running, limits.tol, solver)


def _as_quadratic(program: Augmented, start: Float | None, limits: Limits, solver: str) -> Float:
    """The squared loss as a program with ``H + weight I`` and ``q + weight y`` in the last block."""
    if not isinstance(program.loss, SquaredLoss):
        served = f"solver {NEWTON!r} serves it" if solver in SOLVERS else f"one of {NEWTON}, {', '.join(SOLVERS)}"
        raise InvalidInputError(f"solver {solver!r} cannot take the loss {type(program.loss).__name__}: {served}")
    solve, problem, last = solver_named(solver), program.problem, program.last
    H, q = problem.H.copy(), program.q.copy()
    H[last, last] += program.weight * np.eye(last.stop - last.start)
    q[:, last] += program.weight * program.targets
    whole = BoxQP(H, problem.lower, problem.upper, problem.layers)
    return finished(whole, q, solve(whole, q, start, limits), limits)


def _measured(
    net: LiftedEnergy, X: Float, program: Augmented, z: Float, running: NDArray[np.bool_], tol: float, solver: str
) -> Inference:
    """Residual, energies, error bound and status, recomputed from the data."""
    problem, rows = program.problem, np.arange(len(z))
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(z).all(axis=1))
    z = np.clip(np.where(finite[:, None], z, 0.0), problem.lower, problem.upper)
    slope = program.slope(z, rows)
    step = z - np.clip(z - slope, problem.lower, problem.upper)
    residual = np.abs(step).max(axis=1, initial=0.0)
    least, most = problem.spectrum
    most += program.weight * program.loss.curvature
    # a loss without a bound on its curvature may be as steep as it likes: H alone is judged then
    steepest = most if np.isfinite(most) else problem.spectrum[1]
    status = statuses(residual, finite, tol, Status.INACCURATE, ill=steepest > ILL_CONDITIONED * least)
    status[running & (status == Status.INACCURATE)] = Status.MAX_ITERATIONS
    return Inference(
        net.split(z),
        net.energy(X, z),
        residual,
        _error_bound(step, box_gap(problem, z, slope), rounding(net, X, z), least, most),
        status,
        tol,
        solver,
        program.loss_at(z, rows),
    )


def _error_bound(step: Float, gap: Float, doubt: Float, least: float, most: float) -> Float:
    """The smaller of ``(1 + λ_max) ‖step‖ / λ_min`` and ``√(2 gap / λ_min)``, no less convex than H, and the rounding
    of ``H z − q`` over λ_min."""
    if least <= 0.0:
        return np.full(len(step), np.inf)
    by_gap: Float = np.sqrt(2.0 * gap / least) + doubt / least
    if not np.isfinite(most):
        return by_gap
    return np.minimum(((1.0 + most) * np.linalg.norm(step, axis=1) + doubt) / least, by_gap)
