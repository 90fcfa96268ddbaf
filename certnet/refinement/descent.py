r"""Descent on the regularised objective itself, activation patterns free.

    J(f) = (1/N) Σ_i ‖f(x_i) − y_i‖² + λ ρ*(W, V),      ρ* = L*², the best LipSDP bound.

ρ* has kinks where minimisation ends: the descent is on the smooth L_ε of :mod:`certnet.refinement.smoothed`, with ε
falling in stages. For one output it is in the product weights ``u_j = |v_j| (w_j, b_j)``, in which J is convex within a
cell; otherwise in balanced ``(w_j, b_j), V_:j``. What is returned is measured with certificates, without ε.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from certnet.certification.bracket import certify_checked
from certnet.core.errors import CertificateError, InvalidInputError
from certnet.core.validation import Float, as_samples, positive_number, whole_number
from certnet.networks.shallow import ShallowNetwork, require_shallow
from certnet.programs.objectives import mse_of
from certnet.programs.restriction import Samples
from certnet.refinement.lbfgs import Allowance, quasi_newton
from certnet.refinement.smoothed import MAX_ORDER, SmoothedBound
from certnet.solvers.watch import Watch

__all__ = ["MAX_ORDER", "Descent", "DescentResult", "SmoothObjective", "descend", "descend_checked"]

_STAGES: Final = (1e-2, 3e-4, 1e-5)  # ε n relative to √(J / λ), an upper bound on L
_KICKS: Final = (1e-1, 3e-2, 1e-2)  # relative sizes of the random moves once the stages have converged
_LASTING = 1e-5  # relative decrease that makes a random move worth another


@dataclass(frozen=True, eq=False)
class DescentResult:
    """The best network seen; the very input where none was better.

    Attributes
    ----------
    network : ShallowNetwork
    objective : float
        ``mse + weight · ρ`` with ρ certified.
    n_evaluations : int
        Of J and its gradient.
    seconds : float
    """

    network: ShallowNetwork
    objective: float
    n_evaluations: int
    seconds: float


class SmoothObjective:
    """``J_ε = mse + weight · L_ε²`` and its gradient in a vector of parameters.

    Parameters
    ----------
    network : ShallowNetwork
        Gives the shapes and, for one output, the signs of the units.
    X, y : ndarray, shapes (N, d), (N, m)
    weight : float
    """

    def __init__(self, network: ShallowNetwork, X: Float, y: Float, weight: float) -> None:
        samples = Samples.of(X, y)
        self._X = np.column_stack([samples.rows, np.ones(len(samples.rows))])
        self._targets, self._shares, self._spread = samples.targets, samples.shares[:, None], samples.spread
        self._weight, self._units = weight, network.units
        self._shape = (network.n_hidden, network.n_inputs, network.n_outputs)
        self._signs = np.where(network.V < 0.0, -1.0, 1.0)
        self._bound = SmoothedBound(network.n_inputs, network.n_outputs)
        self.n_evaluations: int = 0

    def parameters(self, network: ShallowNetwork) -> Float:
        """The vector of a network with the same shapes; for one output its signs are remembered."""
        hidden = np.column_stack([network.W, network.b])
        norm_w, norm_v = np.linalg.norm(hidden, axis=1), np.linalg.norm(network.V, axis=0)
        if self._shape[2] == 1:
            self._signs = np.where(network.V < 0.0, -1.0, 1.0)
            return np.concatenate([(norm_v[:, None] * hidden).ravel(), network.c])
        size = np.sqrt(norm_w) * np.sqrt(norm_v)
        hidden = hidden * np.divide(size, norm_w, out=np.zeros_like(size), where=norm_w > 0.0)[:, None]
        V = network.V * np.divide(size, norm_v, out=np.zeros_like(size), where=norm_v > 0.0)
        return np.concatenate([hidden.ravel(), V.ravel(), network.c])

    def network(self, x: Float) -> ShallowNetwork:
        """The network of a vector of parameters, with balanced units."""
        hidden, V, c = self._split(x)
        norms = np.linalg.norm(hidden, axis=1)
        root = np.sqrt(norms) if self._shape[2] == 1 else np.ones_like(norms)
        hidden = hidden / np.where(root > 0.0, root, 1.0)[:, None]
        return ShallowNetwork(hidden[:, :-1], hidden[:, -1], V * root, c, units=self._units)

    def __call__(self, x: Float, epsilon: float) -> tuple[float, Float]:
        """``J_ε`` and its gradient at x; infinite where it overflows."""
        self.n_evaluations += 1
        hidden, V, c = self._split(x)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            active = self._X @ hidden.T
            np.maximum(active, 0.0, out=active)
            residual = active @ V.T
            residual += c - self._targets
            pull = 2.0 * self._shares * residual
            value = 0.5 * float(np.sum(pull * residual)) + self._spread
            if not np.isfinite(value):
                return np.inf, np.zeros_like(x)
            back = pull @ V
            back *= active > 0.0
            to_hidden, to_V = back.T @ self._X, pull.T @ active
            if self._weight > 0.0:
                bound, bound_W, bound_V = self._bound(hidden[:, :-1], V, epsilon)
                value += self._weight * bound * bound
                to_hidden[:, :-1] += 2.0 * self._weight * bound * bound_W
                to_V += 2.0 * self._weight * bound * bound_V
        parts = [to_hidden.ravel(), pull.sum(axis=0)]
        if self._shape[2] > 1:
            parts.insert(1, to_V.ravel())
        gradient = np.concatenate(parts)
        return (value, gradient) if np.isfinite(value) and np.isfinite(gradient).all() else (np.inf, gradient * 0.0)

    def kicked(self, x: Float, size: float, rng: np.random.Generator) -> Float:
        """x moved at random by ``size`` of its mean square; dead units of a single output also draw a new sign."""
        h, d, m = self._shape
        moved = x.copy()
        weights = moved[:-m]
        spread = size * float(np.sqrt(np.mean(weights**2)))
        if m == 1:
            norms = np.linalg.norm(weights.reshape(h, d + 1), axis=1)
            drawn = rng.choice((-1.0, 1.0), h)
            self._signs = np.where(norms < 1e-6 * norms.max(), drawn, self._signs)
        weights += spread * rng.standard_normal(len(weights))
        return moved

    def _split(self, x: Float) -> tuple[Float, Float, Float]:
        h, d, m = self._shape
        hidden, rest = x[: h * (d + 1)].reshape(h, d + 1), x[h * (d + 1) :]
        return (hidden, self._signs, rest) if m == 1 else (hidden, rest[:-m].reshape(m, h), rest[-m:])


@dataclass(frozen=True)
class Descent:
    """How to descend.

    Attributes
    ----------
    seconds : float
    max_iterations : int
        Quasi-Newton iterations in all.
    random_state : int
        Seed of the random moves and of the certificates.
    should_stop : callable or None
        Asked between iterations; true ends the descent like the end of its time.
    """

    seconds: float = 10.0
    max_iterations: int = 10_000
    random_state: int = 0
    should_stop: Callable[[], bool] | None = None


def descend(
    network: ShallowNetwork,
    X: ArrayLike,
    y: ArrayLike,
    weight: float,
    *,
    time_limit: float = 10.0,
    max_iterations: int = 10_000,
    random_state: int = 0,
    callback: Callable[[ShallowNetwork, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> DescentResult:
    """Decrease ``(1/N) Σ_i ‖f(x_i) − y_i‖² + weight · ρ`` from ``network``, free to leave its activation cell.

    Quasi-Newton stages with a falling ε, then random moves of the best network and the stages again, until three in a
    row bring nothing. Linear algebra runs in one thread, so that the result depends on ``random_state`` alone where
    the time limit is not reached.

    Parameters
    ----------
    network : ShallowNetwork
    X : array_like, shape (N, d)
    y : array_like, shape (N,) or (N, m)
    weight : float
        λ ≥ 0.
    time_limit : float
        Seconds.
    max_iterations : int
        Quasi-Newton iterations in all.
    random_state : int
        Seed of the random moves and of the certificates.
    callback : callable, optional
        Called with every better network and its certified objective.
    should_stop : callable, optional
        Asked between iterations; true ends the descent like the end of its time.

    Returns
    -------
    DescentResult

    Raises
    ------
    InvalidInputError
        Shapes, NaN, weight < 0, unknown options, or d + m above :data:`MAX_ORDER`.
    CertificateError
        The input network cannot be certified.
    """
    network = require_shallow(network)
    X, y = as_samples(X, y, network.n_inputs, network.n_outputs, network.about.inputs)
    weight = positive_number(weight, "weight", zero=True)
    how = Descent(
        seconds=positive_number(time_limit, "time_limit"),
        max_iterations=whole_number(max_iterations, "max_iterations", least=1),
        random_state=whole_number(random_state, "random_state"),
        should_stop=should_stop,
    )
    order = network.n_inputs + network.n_outputs
    if order > MAX_ORDER and weight > 0.0:
        raise InvalidInputError(
            f"the network has {order} inputs and outputs together: the descent is for at most {MAX_ORDER}"
        )
    return descend_checked(network, X, y, weight, how, callback)


def descend_checked(
    network: ShallowNetwork,
    X: Float,
    y: Float,
    weight: float,
    how: Descent,
    callback: Callable[[ShallowNetwork, float], None] | None = None,
) -> DescentResult:
    """:func:`descend` for what was checked at the door: X (N, d), y (N, m)."""
    begin = time.perf_counter()
    allowance = Allowance(Watch.within(how.seconds, how.should_stop), how.max_iterations)
    with threadpool_limits(limits=1):
        run = _Run(network, (X, y), weight, how.random_state, callback)
        run.stages(network, allowance)
        idle = 0
        while idle < len(_KICKS) and not allowance.spent:
            idle = 0 if run.kick(_KICKS[idle], allowance) else idle + 1
    return DescentResult(run.best, run.reached, run.smooth.n_evaluations, time.perf_counter() - begin)


class _Run:
    """A descent in progress: the best network so far and its certified objective."""

    def __init__(
        self,
        network: ShallowNetwork,
        samples: tuple[Float, Float],
        weight: float,
        random_state: int,
        callback: Callable[[ShallowNetwork, float], None] | None,
    ) -> None:
        self._X, self._y = samples
        self._weight, self._random_state, self._callback = weight, random_state, callback
        self._rng = np.random.default_rng(random_state)
        self.smooth = SmoothObjective(network, *samples, weight)
        self.best, self.reached = network, self._measure(network)

    def _measure(self, network: ShallowNetwork) -> float:
        certificate = certify_checked(network, tol=1e-7, random_state=self._random_state)
        return mse_of(network, self._X, self._y) + self._weight * certificate.rho

    def stages(self, network: ShallowNetwork, allowance: Allowance) -> bool:
        return self._descend(self.smooth.parameters(network), allowance)

    def kick(self, size: float, allowance: Allowance) -> bool:
        """Descend from a random neighbour of the best network; whether this brought a lasting decrease."""
        x = self.smooth.parameters(self.best)
        return self._descend(self.smooth.kicked(x, size, self._rng), allowance)

    def _descend(self, x: Float, allowance: Allowance) -> bool:
        if not 0.0 < self.reached < np.inf:
            return False
        before = self.reached
        # λ L² ≤ J: a length for L that no network is too dead to have
        size = np.sqrt(before / self._weight) if self._weight > 0.0 else 1.0
        order = self._X.shape[1] + self._y.shape[1]
        for stage in _STAGES:
            epsilon = max(stage * size / order, 1e-280)
            x = quasi_newton(partial(self.smooth, epsilon=epsilon), x, 0.1 * stage, allowance)
            self._offer(x)
            if allowance.spent:
                break
        return self.reached < before - _LASTING * abs(before)

    def _offer(self, x: Float) -> None:
        try:
            network = self.smooth.network(x)
            reached = self._measure(network)
        except (CertificateError, InvalidInputError):  # a point that overflows is no candidate
            return
        if reached < self.reached:
            self.best, self.reached = network, reached
            if self._callback is not None:
                self._callback(network, reached)
