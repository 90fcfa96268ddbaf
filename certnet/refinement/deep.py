r"""Descent on the certified objective of a network of any depth, all weights, biases and multipliers at once.

In unit gauge (:mod:`certnet.refinement.gauge`) multipliers 1 prove ρ, so that

    J_μδ(W, b) = (1/N) Σ_i ‖f_δ(x_i) − y_i‖² + ψ_μ(W)

bounds the objective with the best multipliers, up to the smoothing: ψ_μ of the penalty, and f_δ in which the kink at
zero is replaced by ``(a + δ)² / 4δ`` within ±δ (slopes stay where they were). L-BFGS on J_μδ with μ and δ falling in
stages. With a limit on L, ρ is fixed at its square and ψ_μ is the barrier alone; with weight 0 there is no ψ_μ.
Inputs and targets are centred and scaled by one number each, so that μ, δ and the first step are relative.

What every stage gives is certified by a search of its own and measured without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.outcome import Status
from certnet.core.until import Until
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.programs.goal import SlopeAtMost, Weighted
from certnet.programs.restriction import Samples
from certnet.refinement.gauge import Penalty, bound_at_one, unit_gauge
from certnet.refinement.lbfgs import Allowance, quasi_newton
from certnet.refinement.run import Run
from certnet.searches.vectors import multipliers_with_slack, search_vectors
from certnet.solvers.solved import Solved

__all__ = ["Fit", "descend_deep", "require_homogeneous"]

_STAGES: Final = (1e-1, 3e-2, 1e-2, 3e-3)  # μ times the order of P, relative to the objective
_BEND: Final = 0.5  # δ relative to the stage
_STALL: Final = 0.02  # relative to the stage: the decrease over some steps at which it ends
_ITERATIONS: Final = 10_000
_SLACK: Final = 0.1  # of ρ, given up at the start so that no S_k is nearly singular
_ROOM: Final = 0.9  # of a limit on L, at the start
_MOST: Final = 1e50  # weights and objectives above it overflow somewhere, and weights below its inverse charge nothing
_NEGLIGIBLE: Final = 1e-12  # an objective, relative to the variance of the targets
_FLAT: Final = 0.999  # of the variance of the targets: errors from which on a network is as good as constant
_UNDER: Final = 1.0 - 1e-6  # of a limit on L: what the certificate's search may lose
_LEAST_SECONDS: Final = 0.1  # that a search for multipliers gets, however late it is


def require_homogeneous(network: FeedForward) -> FeedForward:
    """The network, if the descent is for it.

    Raises
    ------
    UnsupportedModelError
        Skips or convolutions, or an activation other than ReLU and leaky ReLU.
    """
    if network.structured:
        raise UnsupportedModelError(
            f"{network!r}: refinement is for layers given by matrices so far, without skips or convolutions; "
            "certification is for both"
        )
    for phi in network.activations:
        if phi.name not in ("relu", "leaky_relu") or phi.slopes[0] == phi.slopes[1]:
            raise UnsupportedModelError(
                f"{network!r} is not a one-hidden-layer ReLU network, nor one of ReLU or leaky ReLU units alone: "
                f"refinement needs it, certification does not (the activation is {phi})"
            )
    return network


@dataclass(frozen=True, eq=False)
class Fit:
    """The error of a network on samples, kinks smoothed within ±δ, and its gradient by back-propagation.

    Attributes
    ----------
    samples : Samples
    left : tuple of float
        Slope of every hidden layer's activation left of zero; on the right it is 1.
    """

    samples: Samples
    left: tuple[float, ...]

    def __call__(
        self, weights: Sequence[Float], biases: Sequence[Float], delta: float
    ) -> tuple[float, list[Float], list[Float]]:
        """``(1/N) Σ ‖f_δ(x_i) − y_i‖²``, and its gradients in every W_k and b_k."""
        samples = self.samples
        inputs, slopes = [samples.rows], []
        for W, b, left in zip(weights, biases, self.left):
            a = inputs[-1] @ W.T
            a += b
            value, slope = _bent(a, delta)
            if left != 0.0:
                value, slope = left * a + (1.0 - left) * value, left + (1.0 - left) * slope
            inputs.append(value)
            slopes.append(slope)
        residual = inputs[-1] @ weights[-1].T
        residual += biases[-1] - samples.targets
        back = 2.0 * samples.shares[:, None] * residual
        total = 0.5 * float(np.sum(back * residual)) + samples.spread
        to_W, to_b = [back.T @ inputs[-1]], [back.sum(axis=0)]
        for k in reversed(range(len(slopes))):
            back = back @ weights[k + 1]
            back *= slopes[k]
            to_W.append(back.T @ inputs[k])
            to_b.append(back.sum(axis=0))
        return total, to_W[::-1], to_b[::-1]


def _bent(a: Float, delta: float) -> tuple[Float, Float]:
    """max(a, 0) with its kink bent within ±δ, and the slope."""
    if not delta > 0.0:
        return np.maximum(a, 0.0), (a > 0.0).astype(np.float64)
    slope = a * (0.5 / delta)
    slope += 0.5
    np.maximum(slope, 0.0, out=slope)
    np.minimum(slope, 1.0, out=slope)
    value = a - delta
    np.maximum(value, 0.0, out=value)  # beyond δ; within ±δ it is δ slope²
    value += (delta * slope) * slope
    return value, slope


class _Smooth:
    """J_μδ as a function of one vector; remembers the best point of a stage, for an interrupt."""

    def __init__(self, fit: Fit, penalty: Penalty | None, shapes: Sequence[tuple[int, int]]) -> None:
        self._fit, self._penalty, self._shapes = fit, penalty, tuple(shapes)
        self.reached, self.point = np.inf, np.zeros(0)

    @staticmethod
    def pack(weights: Sequence[Float], biases: Sequence[Float]) -> Float:
        return np.concatenate([np.column_stack([W, b]).ravel() for W, b in zip(weights, biases)])

    def unpack(self, x: Float) -> tuple[list[Float], list[Float]]:
        weights, biases, at = [], [], 0
        for n, m in self._shapes:
            both = x[at : at + n * (m + 1)].reshape(n, m + 1)
            weights.append(both[:, :-1])
            biases.append(both[:, -1])
            at += n * (m + 1)
        return weights, biases

    def begin(self, x: Float) -> None:
        """A new stage."""
        self.reached, self.point = np.inf, x

    def __call__(self, x: Float, mu: float, delta: float) -> tuple[float, Float]:
        """Infinite where P is not positive definite, or where numbers overflow."""
        weights, biases = self.unpack(x)
        none = np.inf, np.zeros_like(x)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            value, more = 0.0, list[Float]()
            if self._penalty is not None:  # first: it costs nothing to see that P is not positive definite
                value, more = self._penalty(weights, mu)
                if not np.isfinite(value):
                    return none
            error, to_W, to_b = self._fit(weights, biases, delta)
            value += error
            gradient = self.pack([a + b for a, b in zip(to_W, more)] if more else to_W, to_b)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return none
        if value < self.reached:
            self.reached, self.point = value, x
        return value, gradient


@dataclass(frozen=True, eq=False)
class _Units:
    """Inputs ``(x − x_shift) / x_scale`` and targets ``(y − y_shift) / y_scale``, one scale each."""

    x_shift: Float
    x_scale: float
    y_shift: Float
    y_scale: float

    @classmethod
    def of(cls, X: Float, y: Float) -> _Units:
        x_shift, y_shift = X.mean(axis=0), y.mean(axis=0)
        return cls(x_shift, _size(X - x_shift), y_shift, _size(y - y_shift) * float(np.sqrt(y.shape[1])))

    def samples(self, X: Float, y: Float) -> Samples:
        return Samples.of((X - self.x_shift) / self.x_scale, (y - self.y_shift) / self.y_scale)

    def inner(self, network: FeedForward) -> FeedForward:
        return network.rescaled(
            x_shift=-self.x_shift / self.x_scale,
            x_scale=1.0 / self.x_scale,
            y_shift=-self.y_shift / self.y_scale,
            y_scale=1.0 / self.y_scale,
        )

    def outer(self, network: FeedForward, units: str) -> FeedForward:
        return network.rescaled(
            x_shift=self.x_shift, x_scale=self.x_scale, y_shift=self.y_shift, y_scale=self.y_scale, units=units
        )


def _size(values: Float) -> float:
    """The root of the mean square, 1 where that is zero."""
    top = float(np.abs(values).max())
    return top * float(np.sqrt(np.mean((values / top) ** 2))) if top > 0.0 else 1.0


def descend_deep(run: Run, stages: Sequence[float] = _STAGES) -> None:
    """All stages from the input of ``run``, every one of which adds a row; ends early where the run is over."""
    goal, network = run.task.goal, _feed_forward(run.input)
    if isinstance(goal, SlopeAtMost) and run.before.certificate.upper > _ROOM * goal.limit:
        factor = _ROOM * goal.limit / run.before.certificate.upper
        network = _moved(network, factor, network.outputs(run.task.X).mean(axis=0), run.task.y.mean(axis=0))
        run.keep("the output flattened to the limit", network, Solved(None, Status.OPTIMAL, "closed form"))
        if goal.limit == 0.0:
            return
    if run.over() or not run.best.value > 0.0:
        return
    descent = _Descent(run, network)
    for number, stage in enumerate(stages, start=1):
        if not descent.stage(f"descent, stage {number} of {len(stages)}", stage):
            return
    _rescale(run)


class _Descent:
    """A descent in progress: where it stands, in its own units and gauge."""

    def __init__(self, run: Run, start: FeedForward) -> None:
        self._run, goal = run, run.task.goal
        self._units = _Units.of(run.task.X, run.task.y)
        self._samples = self._units.samples(run.task.X, run.task.y)
        self._activations = start.activations
        self._order = sum(start.widths[:-1])
        self._spread = float(np.mean(np.sum((run.task.y - self._units.y_shift) ** 2, axis=1)))
        self._rho = np.inf
        penalty: Penalty | None = None
        if isinstance(goal, SlopeAtMost):
            limit = goal.limit * (self._units.x_scale / self._units.y_scale)
            self._rho = limit * limit
            penalty = Penalty(start.slopes, rho=self._rho) if np.isfinite(self._rho) else None
        elif isinstance(goal, Weighted):
            weight = min(goal.weight / self._units.x_scale / self._units.x_scale, _MOST)
            penalty = Penalty(start.slopes, weight) if weight > 1.0 / _MOST else None
        inner = self._units.inner(start)
        weights, biases = self._gauged(inner)
        self._smooth = _Smooth(
            Fit(self._samples, tuple(_left(phi.parameters) for phi in start.activations)),
            penalty,
            [W.shape for W in weights],
        )
        self._x = self._start = self._smooth.pack(weights, biases)
        self._value = self._worth(run.best.value)

    def _worth(self, value: float) -> float:
        """An objective in the units of the descent; that of the mean where there is none."""
        value = value / self._units.y_scale / self._units.y_scale
        return min(max(value, _NEGLIGIBLE), _MOST) if value < np.inf else 1.0

    def _gauged(self, network: FeedForward) -> tuple[list[Float], list[Float]]:
        """In unit gauge, with as much room in every S_k as a small part of ρ pays for."""
        watch = self._run.settings.watch
        until = Until.within(max(watch.left, _LEAST_SECONDS), watch.should_stop)
        T = search_vectors(network, random_state=self._run.settings.random_state, until=until).multipliers
        slack = (1.0 + _SLACK) ** (1.0 / network.depth) - 1.0
        while True:
            roomy = multipliers_with_slack(T, slack)
            weights, biases = unit_gauge(network.weights, network.biases, roomy, network.slopes)
            if bound_at_one(weights, network.slopes) < self._rho or slack < 1e-9:
                return weights, biases
            slack *= 0.3

    def stage(self, name: str, stage: float) -> bool:
        """L-BFGS with the smoothing of a stage; whether to go on."""
        run, smooth = self._run, self._smooth
        mu = max(stage * self._value / self._order, 1e-300)
        smooth.begin(self._x)
        status, word = Status.OPTIMAL, "descent"
        try:
            allowance = Allowance(run.settings.watch, _ITERATIONS)
            f = partial(smooth, mu=mu, delta=_BEND * stage)
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # such steps are refused
                self._x = quasi_newton(f, self._x, _STALL * stage, allowance)
            reason = run.settings.watch.verdict
        except KeyboardInterrupt:  # Ctrl-C
            self._x, reason = smooth.point, Status.INTERRUPTED
        if reason is not None:
            run.stopped, status = reason, reason
            word = "interrupted" if reason is Status.INTERRUPTED else "time limit"
        weights, biases = smooth.unpack(self._x)
        try:
            inner = FeedForward(weights, biases, self._activations)
            network = self._units.outer(inner, run.input.units).described(run.input.about)
        except InvalidInputError:  # weights that overflow in the units of the data are no candidate
            run.record(name, None, Solved(None, Status.SOLVER_FAILED, "overflow"), accepted=False)
            return False
        run.keep(name, network, Solved(None, status, word))
        self._shorten(name, status, word)
        self._value = self._worth(run.best.value)
        if run.candidate is not None and not run.candidate.mse < _FLAT * self._spread:
            self._x = self._start  # all weights zero is a stationary point, which a large μ leads deep networks to
        return reason is None

    def _shorten(self, name: str, status: Status, word: str) -> None:
        """Where the search for multipliers did not find those that multipliers 1 are: the limit, by a last hair."""
        run, goal, made = self._run, self._run.task.goal, self._run.candidate
        if made is None or not isinstance(goal, SlopeAtMost) or made.certificate.upper <= goal.limit:
            return
        network = _feed_forward(made.network)
        factor = goal.limit / made.certificate.upper * _UNDER
        network = _moved(network, factor, network.outputs(run.task.X).mean(axis=0), run.task.y.mean(axis=0))
        run.keep(f"{name}, flattened to the limit", network, Solved(None, status, word))


def _rescale(run: Run) -> None:
    """The best network, its output moved and scaled as a whole: what is best among these, in closed form."""
    if run.over():
        return
    task, goal, best = run.task, run.task.goal, run.best
    network = _feed_forward(best.network)
    values = network.outputs(task.X)
    centre, aim = values.mean(axis=0), task.y.mean(axis=0)
    spread = float(np.mean(np.sum((values - centre) ** 2, axis=1)))
    shared = float(np.mean(np.sum((values - centre) * (task.y - aim), axis=1)))
    if isinstance(goal, Weighted):
        spread += goal.weight * best.certificate.rho
    if not (spread > 0.0 and shared > 0.0):
        return
    factor = shared / spread
    if isinstance(goal, SlopeAtMost):
        factor = min(factor, goal.limit / best.certificate.upper * _UNDER)
    run.keep("the output rescaled", _moved(network, factor, centre, aim), Solved(None, Status.OPTIMAL, "closed form"))


def _moved(network: FeedForward, factor: float, centre: Float, aim: Float) -> FeedForward:
    """``aim + factor · (f − centre)``."""
    weights = [*network.weights[:-1], factor * network.weights[-1]]
    biases = [*network.biases[:-1], aim + factor * (network.biases[-1] - centre)]
    return network.with_parameters(weights, biases, network.units).described(network.about)


def _left(parameters: tuple[float, ...]) -> float:
    """The slope left of zero of ReLU, or of leaky ReLU."""
    return parameters[0] if parameters else 0.0


def _feed_forward(network: object) -> FeedForward:
    if isinstance(network, FeedForward):
        return network
    raise InvalidInputError(f"a FeedForward is needed, got {type(network).__name__}")
