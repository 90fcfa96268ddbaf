r"""ADMM of the Lipschitz-regularised training problem: the loss and the LMI take turns, each with its own weights.

    minimise  (1/N) Σ_i ‖f(x_i) − y_i‖² + λ ρ   subject to the LMI (Y (2b)) with multipliers T                 (Y (4))

is split into (W, V) of the loss and (W̄, V̄) of the LMI, equal at a solution. With U, the multipliers of that equation
divided by μ, an iteration is (Pauli et al., IEEE L-CSS 2022; scaled form of Boyd et al. 2011, section 3.1.1)

    T               ← multipliers of LipSDP for (W̄, V̄)                                      Y (2)
    loss step       (W, b, V, c) ← argmin  mse + ½ μ ‖(W, V) − (W̄, V̄) + U‖²                 some L-BFGS steps
    Lipschitz step  (W̄, V̄, ρ)   ← argmin  λ ρ + ½ μ ‖(W, V) − (W̄, V̄) + U‖²  s. t. the LMI   convex
    dual step       U ← U + (W, V) − (W̄, V̄)

The loss is not convex and T moves, so convergence is not guaranteed: every iteration's two networks are certified, and
the best one is kept. What the papers leave open, and the choices here: the loss step uses all samples (not
mini-batches); T is updated in every iteration unless told otherwise; units are balanced first
(``‖(w_j, b_j)‖ = ‖V_:j‖``, the same function), since ½ μ ‖·‖² depends on their scale; μ is √λ.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import scipy
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from certnet.certification import certify
from certnet.core.errors import NotConvergedWarning, SolverError
from certnet.core.validation import Float, as_samples, positive_number, whole_number
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.objectives import mse_of
from certnet.train.lmi import NearestBounded, lmi_multipliers
from certnet.train.result import TrainResult, versions
from certnet.train.sgd import train_sgd
from certnet.train.task import training_samples, validation_samples

__all__ = ["balanced", "loss_step", "train_admm"]

_LEAST_PENALTY: Final = 1e-3
Pair = tuple[Float, Float]


def train_admm(
    X: ArrayLike,
    y: ArrayLike,
    weight: float = 0.01,
    *,
    start: ShallowNetwork | None = None,
    n_hidden: int = 100,
    penalty: float | None = None,
    max_iterations: int = 100,
    loss_steps: int = 30,
    update_every: int = 1,
    tol: float = 1e-3,
    random_state: int = 0,
    X_val: ArrayLike | None = None,
    y_val: ArrayLike | None = None,
) -> TrainResult:
    r"""Decrease ``(1/N) Σ_i ‖f(x_i) − y_i‖² + weight · ρ``, ρ = L² certified, by ADMM with multipliers updated.

    See :mod:`certnet.train.admm` for the iteration. It runs on the CPU; PyTorch is needed only without ``start``.

    Parameters
    ----------
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    weight : float
        λ > 0.
    start : ShallowNetwork, optional
        By default :func:`~certnet.train.sgd.train_sgd` with its default settings, ``n_hidden`` units and this seed.
    n_hidden : int
        Of the default start.
    penalty : float, optional
        μ > 0, the weight of the distance between the two copies of the weights; by default √weight.
    max_iterations : int
    loss_steps : int
        L-BFGS iterations of a loss step.
    update_every : int
        Iterations between updates of T.
    tol : float
        Both residuals, relative to the norms of the weights and of the multipliers, at which the iteration ends.
    random_state : int
        Of the default start; the iteration itself draws nothing.
    X_val, y_val : array_like, optional
        Only measured (mean squared error).

    Returns
    -------
    TrainResult
        The network with the least certified objective seen, the start included. ``loss_curve`` is that objective, as
        :func:`certnet.programs.objectives` defines it, of the better of the two networks of each iteration; ``history``
        has its parts ``mse`` and ``rho``, and ``primal_residual`` and ``dual_residual``
        (``‖(W, V) − (W̄, V̄)‖`` and ``μ ‖change of (W̄, V̄)‖``), one number per iteration after the start's.

    Raises
    ------
    InvalidInputError
        Wrong shapes, NaN, a weight that is not positive, a start that does not fit the data or is not shallow.
    MissingDependencyError
        No start was given, and PyTorch is not installed.
    SolverError
        The objective of the start is not finite.
    """
    inputs, targets = training_samples(X, y)
    validation = validation_samples(X_val, y_val, inputs.shape[1], targets.shape[1])
    weight = positive_number(weight, "weight")
    mu = max(weight**0.5, _LEAST_PENALTY) if penalty is None else positive_number(penalty, "penalty")
    limits = {"max_iterations": max_iterations, "loss_steps": loss_steps, "update_every": update_every}
    limits = {name: whole_number(value, name, least=1) for name, value in limits.items()}
    tol, random_state = positive_number(tol, "tol", zero=True), whole_number(random_state, "random_state")
    began = time.perf_counter()
    trained: object = None
    if start is None:
        n_hidden = whole_number(n_hidden, "n_hidden", least=1)
        trained = train_sgd(inputs, targets, (n_hidden,), random_state=random_state, device="cpu").network
    start = require_shallow(trained if start is None else start)
    as_samples(inputs, targets, start.n_inputs, start.n_outputs)
    with threadpool_limits(limits=1), warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", NotConvergedWarning)  # every bound is proved all the same
        run = _Run(inputs, targets, validation, weight, mu, limits["loss_steps"], start)
        for k in range(limits["max_iterations"]):
            run.step(update=k % limits["update_every"] == 0)
            if run.converged(tol):
                break
    best = min(run.seen, key=lambda point: point.objective)
    return TrainResult(
        network=best.network,
        loss_curve=tuple(point.objective for point in run.seen),
        validation_curve=tuple(point.score for point in run.seen if validation is not None),
        settings={
            "method": "admm",
            "hidden": (start.n_hidden,),
            "weight": weight,
            "penalty": mu,
            "tol": tol,
            **limits,
            "n_iterations": len(run.seen) - 1,
            "device": "cpu",
        },
        seed=random_state,
        seconds=time.perf_counter() - began,
        versions=versions(scipy=scipy.__version__),
        history={
            "mse": tuple(point.mse for point in run.seen),
            "rho": tuple(point.rho for point in run.seen),
            "primal_residual": tuple(run.primal),
            "dual_residual": tuple(run.dual),
        },
    )


def balanced(network: ShallowNetwork) -> ShallowNetwork:
    """The same function with ``‖(w_j, b_j)‖ = ‖V_:j‖`` in every unit; a unit with one of them zero has both zero."""
    hidden = np.column_stack([network.W, network.b])
    norm_w, norm_v = np.linalg.norm(hidden, axis=1), np.linalg.norm(network.V, axis=0)
    size = np.sqrt(norm_w) * np.sqrt(norm_v)
    hidden = hidden * np.divide(size, norm_w, out=np.zeros_like(size), where=norm_w > 0.0)[:, None]
    V = network.V * np.divide(size, norm_v, out=np.zeros_like(size), where=norm_v > 0.0)
    return ShallowNetwork(hidden[:, :-1], hidden[:, -1], V, network.c, units=network.units)


@dataclass(frozen=True, eq=False)
class _Point:
    """A network with its certified objective and, where there are validation data, its error on them."""

    network: ShallowNetwork
    objective: float
    mse: float
    rho: float
    score: float


class _Run:
    """An iteration in progress: the loss's network, the LMI's copy of its weights, and U."""

    def __init__(
        self,
        X: Float,
        y: Float,
        validation: Pair | None,
        weight: float,
        mu: float,
        loss_steps: int,
        start: ShallowNetwork,
    ) -> None:
        self._X, self._y, self._validation = X, y, validation
        self._weight, self._mu, self._loss_steps = weight, mu, loss_steps
        self.seen = [self._point(start)]
        if not np.isfinite(self.seen[0].objective):
            raise SolverError("the objective of the start is not finite: standardise the data, or give another start")
        self.primal: list[float] = []
        self.dual: list[float] = []
        self._network = balanced(start)
        self._copy: Pair = (self._network.W, self._network.V)
        self._U: Pair = (np.zeros_like(self._network.W), np.zeros_like(self._network.V))
        self._T = np.ones(start.n_hidden)

    def step(self, *, update: bool) -> None:
        """One iteration; with ``update`` T is set first."""
        if update:
            self._T = lmi_multipliers(self._copied())
        goal = _sum(self._copy, self._U, -1.0)
        self._network = loss_step(self._network, self._X, self._y, goal, self._mu, self._loss_steps)
        mine, before = (self._network.W, self._network.V), self._copy
        self._copy = NearestBounded(self._T, self._weight, self._mu)(_sum(mine, self._U), before)
        apart = _sum(mine, self._copy, -1.0)
        self._U = _sum(self._U, apart)
        self.primal.append(_norm(apart))
        self.dual.append(self._mu * _norm(_sum(self._copy, before, -1.0)))
        self.seen.append(min(map(self._point, (self._network, self._copied())), key=lambda point: point.objective))

    def converged(self, tol: float) -> bool:
        """Both residuals are small relative to what they are differences of (Boyd et al. 2011, section 3.3.1)."""
        size = max(_norm((self._network.W, self._network.V)), _norm(self._copy))
        return self.primal[-1] <= tol * size and self.dual[-1] <= tol * self._mu * _norm(self._U)

    def _copied(self) -> ShallowNetwork:
        """The LMI's weights with the loss's biases."""
        W, V = self._copy
        return ShallowNetwork(W, self._network.b, V, self._network.c, units=self._network.units)

    def _point(self, network: ShallowNetwork) -> _Point:
        certificate = certify(network)
        mse = mse_of(network, self._X, self._y)
        score = float("nan") if self._validation is None else mse_of(network, *self._validation)
        return _Point(network, mse + self._weight * certificate.rho, mse, certificate.rho, score)


def loss_step(
    network: ShallowNetwork, X: Float, y: Float, goal: Pair, stiffness: float, n_steps: int
) -> ShallowNetwork:
    """``n_steps`` of L-BFGS on ``mse + ½ stiffness (‖W − goal_0‖² + ‖V − goal_1‖²)`` from ``network``."""
    value = partial(_penalised_loss, X=np.column_stack([X, np.ones(len(X))]), y=y, goal=goal, stiffness=stiffness)
    begin = np.concatenate([np.column_stack([network.W, network.b]).ravel(), network.V.ravel(), network.c])
    found = minimize(value, begin, jac=True, method="L-BFGS-B", options={"maxiter": n_steps, "maxcor": 20})
    hidden, V, c = _split(found.x, goal)
    return ShallowNetwork(hidden[:, :-1], hidden[:, -1], V, c, units=network.units)


def _penalised_loss(x: Float, *, X: Float, y: Float, goal: Pair, stiffness: float) -> tuple[float, Float]:
    """The loss step's objective and gradient; X (N, d + 1) ends with a column of ones."""
    hidden, V, c = _split(x, goal)
    active = np.maximum(X @ hidden.T, 0.0)
    residual = active @ V.T + c - y
    pull = residual * (2.0 / len(X))
    to_hidden = ((pull @ V) * (active > 0.0)).T @ X
    off_W, off_V = hidden[:, :-1] - goal[0], V - goal[1]
    to_hidden[:, :-1] += stiffness * off_W
    to_V = pull.T @ active + stiffness * off_V
    value = 0.5 * float(np.sum(pull * residual)) + 0.5 * stiffness * float(np.sum(off_W**2) + np.sum(off_V**2))
    return value, np.concatenate([to_hidden.ravel(), to_V.ravel(), pull.sum(axis=0)])


def _split(x: Float, shapes: Pair) -> tuple[Float, Float, Float]:
    """(W, b) side by side (h, d + 1), V (m, h) and c (m,)."""
    (h, d), m = shapes[0].shape, len(shapes[1])
    return x[: h * (d + 1)].reshape(h, d + 1), x[h * (d + 1) : -m].reshape(m, h), x[-m:]


def _sum(a: Pair, b: Pair, sign: float = 1.0) -> Pair:
    return a[0] + sign * b[0], a[1] + sign * b[1]


def _norm(a: Pair) -> float:
    return float(np.hypot(np.linalg.norm(a[0]), np.linalg.norm(a[1])))
