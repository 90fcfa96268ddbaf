r"""Descents on the certified objective of a network of any depth, all weights, biases and multipliers at once.

L-BFGS on J_μδ (:mod:`certnet.refinement.smooth_objective`), which bounds the objective with the best multipliers up to
its smoothing, with μ and δ falling in stages; both are relative to the objective and the scale of the targets. Where a
descent ends depends on how it begins, by some per cent in either direction and on some data this way, on others that:
so a few short ones stand side by side (:data:`OPENINGS`), the best is finished (:data:`FINISH`), and moved at random
and finished again.

What is kept is certified by a search of its own and measured without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Final, NamedTuple

import numpy as np

from certnet.core.errors import CertificateError, InvalidInputError, UnsupportedModelError
from certnet.core.outcome import Status
from certnet.core.until import Until
from certnet.core.validation import Float
from certnet.networks.feedforward import FeedForward
from certnet.networks.network import Network
from certnet.networks.shallow import ShallowNetwork
from certnet.programs.goal import FitAtMost, SlopeAtMost, Weighted
from certnet.proofs.regions import slopes_within
from certnet.refinement.fit import Fit
from certnet.refinement.ground import Ground
from certnet.refinement.journal import Journal
from certnet.refinement.lbfgs import Allowance, quasi_newton
from certnet.refinement.run import Run
from certnet.refinement.smooth_objective import SmoothObjective
from certnet.searches.vectors import multipliers_with_slack
from certnet.solvers.solved import Solved

__all__ = [
    "BROAD",
    "BROADLY",
    "DEFAULT",
    "ON_ALL",
    "OPENINGS",
    "QUICK",
    "SLIM",
    "THOROUGH",
    "Plan",
    "descend_deep",
    "descend_in_region",
    "require_descent",
]

_ITERATIONS: Final = 10_000
ON_ALL: Final = 40  # iterations of a stage on more samples than early stages look at
_SLACK: Final = 0.1  # of ρ, given up at the start so that no S_k is nearly singular
_ROOM: Final = 0.9  # of a limit on L, at the start
_MOST: Final = 1e50  # objectives above it overflow somewhere
_NEGLIGIBLE: Final = 1e-12  # an objective, relative to the variance of the targets
_FLAT: Final = 0.999  # of the variance of the targets: errors from which on a network is as good as constant
_UNDER: Final = 1.0 - 1e-6  # of a limit on L: what the certificate's search may lose
_LEAST_SECONDS: Final = 0.1  # that a search for multipliers gets, however late it is
_LASTING: Final = 1e-4  # relative decrease that makes a random move worth another
_KICKS: Final = (0.1, 0.03, 0.3)  # relative sizes of random moves
_CHARGE: Final = 10.0  # for what slopes exceed their limits by, squared, on the way to a network that keeps them
_RISE: Final = 1e-4  # then times this, over the square of the stage: 0.1, 1, 10, …
_TRIALS: Final = 12  # weights on the way to a limit on the fit
_WIDER: Final = 5.0  # factor between weights while one side is unknown
_CLOSE: Final = 1.1  # ratio of weights at which the search among them ends
_LEAST_WEIGHT: Final = 1e-12
_SHORT: Final = 25  # iterations of a stage in a region
_ROUNDS: Final = 20  # of descents in a region, between which the units' slopes there are found anew
_BESIDE: Final = (0.1, 0.5, 2.0)  # that limits of pre-activations are widened by: how far units may move meanwhile


class Stage(NamedTuple):
    """Smoothing of a stage, and where it ends.

    Attributes
    ----------
    mu : float
        Times the order of P, relative to the objective.
    delta : float
        Times the reach of the ground's pre-activations.
    stall : float
        Relative decrease over some steps at which it ends.
    """

    mu: float
    delta: float
    stall: float


@dataclass(frozen=True)
class Schedule:
    """Stages, under a name."""

    name: str
    stages: tuple[Stage, ...]


OPENINGS: Final = (
    Schedule("sharp kinks", (Stage(0.1, 0.05, 2e-3), Stage(0.03, 0.015, 6e-4))),
    Schedule("smooth kinks", (Stage(0.3, 0.3, 3e-3), Stage(0.1, 0.1, 1e-3), Stage(0.03, 0.03, 3e-4))),
    Schedule("smooth slope", (Stage(0.3, 0.03, 6e-4), Stage(0.1, 0.03, 3e-4), Stage(0.03, 0.03, 3e-4))),
)

BROAD: Final = Schedule("broad kinks", (Stage(0.1, 0.3, 2e-3), Stage(0.03, 0.1, 1e-3), Stage(0.03, 0.03, 6e-4)))
"""Where inputs are many it ends lower than one of the others; where they are few, or layers several, often higher."""

FINISH: Final = (Stage(0.01, 0.01, 2e-4), Stage(0.003, 0.003, 6e-5), Stage(0.001, 0.001, 2e-5))

AGAIN: Final = Schedule("a random move", (Stage(0.03, 0.03, 3e-4),))


@dataclass(frozen=True)
class Plan:
    """How many descents.

    Attributes
    ----------
    openings : tuple of Schedule
        Side by side, from the same start.
    finish : int
        How many stages of :data:`FINISH`.
    moves : int
        Random moves without a lasting decrease after which the work ends.
    most : int
        Random moves in all.
    """

    openings: tuple[Schedule, ...]
    finish: int
    moves: int
    most: int


QUICK: Final = Plan(openings=OPENINGS[:1], finish=2, moves=0, most=0)
DEFAULT: Final = Plan(openings=OPENINGS, finish=3, moves=1, most=2)
SLIM: Final = Plan(openings=OPENINGS[:2], finish=3, moves=0, most=0)
"""The default where that would take long; where that would too, it is :data:`QUICK`, or :data:`BROADLY`."""
BROADLY: Final = Plan(openings=(BROAD,), finish=2, moves=0, most=0)
_IN_REGION: Final = Plan(openings=OPENINGS[:1], finish=2, moves=0, most=0)
THOROUGH: Final = Plan(openings=(*OPENINGS, BROAD), finish=3, moves=len(_KICKS), most=1000)


def require_descent(network: FeedForward) -> FeedForward:
    """The network, if the descent is for it.

    Raises
    ------
    UnsupportedModelError
        Skips or convolutions, an activation without values, or a linear hidden layer.
    """
    if network.structured:
        raise UnsupportedModelError(
            f"{network!r}: refinement is for layers given by matrices so far, without skips or convolutions; "
            "certification is for both"
        )
    for phi in network.activations:
        if not phi.has_values:
            raise UnsupportedModelError(
                f"{network!r} has an activation given by its slopes alone, which has no values: "
                "it can be certified, not refined"
            )
        if phi.slopes[0] == phi.slopes[1]:
            raise UnsupportedModelError(
                f"{network!r} has a hidden layer that is linear ({phi}), which refinement does not take: multiply it "
                "into the next one"
            )
    return network


def descend_deep(run: Run, ground: Ground, network: FeedForward, plan: Plan, journal: Journal) -> None:
    """All descents of a plan from ``network``, each of which adds a row; ends early where the run is over."""
    goal = run.task.goal
    if isinstance(goal, SlopeAtMost):
        network = _under(run, network, run.bound_everywhere(run.input), goal.limit)
        if goal.limit == 0.0:
            return
    if isinstance(goal, FitAtMost):
        flat = _moved(run, network, 0.0)
        if run.task.error(flat) <= goal.limit:  # no slope at all
            run.keep("the constant network", _as_given(run, flat), Solved(None, Status.OPTIMAL, "closed form"))
            return
    if run.over() or not run.best.value > 0.0:
        return
    descent = _Descent(run, ground, network, journal)
    if ground.limits is not None:
        network = descent.within_limits()
        if run.over():
            return
        if isinstance(goal, SlopeAtMost):
            network = _under(run, network, run.bound_everywhere(network), goal.limit)
        # anew: multipliers and gauge of other weights
        descent = _Descent(run, ground.signed(ground.units.inner(network)), network, journal)
    if isinstance(goal, FitAtMost):
        descent.to_fit(goal.limit)
    else:
        descent.follow(plan)
    _rescale(run)


def descend_in_region(run: Run, ground: Ground, journal: Journal) -> None:
    """Short descents on the objective with the bound of a region, from the best network; ends where one gains little.

    The units' slopes in the region are those of the network that a descent begins with, on limits of pre-activations
    somewhat wider; where it ends they are found anew.
    """
    region, goal, wider = run.task.region, run.task.goal, list(_BESIDE)
    for _ in range(_ROUNDS):
        if run.over() or not run.best.value > 0.0 or (isinstance(goal, SlopeAtMost) and goal.limit == 0.0):
            return
        before = run.best.value
        network = _feed_forward(run.best.network)
        if ground.limits is not None:
            ground = ground.signed(ground.units.inner(network))
        here = ground.within(slopes_within(region, network, "l2", room=wider[0]))
        descent = _Descent(run, here, network, journal, most=_SHORT)
        if isinstance(goal, FitAtMost):
            descent.to_fit(goal.limit)
        else:
            descent.follow(_IN_REGION)
        if not run.best.value < before * (1.0 - _LASTING):
            del wider[0]  # units moved too far: fewer are taken for decided
            if not wider:
                break
    _rescale(run)


class _Descent:
    """Descents in progress, in the units and the gauge of their ground."""

    def __init__(
        self, run: Run, ground: Ground, start: FeedForward, journal: Journal, *, most: int = _ITERATIONS
    ) -> None:
        self._most = most
        self._run, self._ground, self._like, self._journal = run, ground, start, journal
        self._rng = np.random.default_rng(run.settings.random_state)
        self._start = self._begin(start)
        self._best, self._reached = self._start, np.inf

    def _begin(self, network: FeedForward) -> Float:
        """In unit gauge, with as much room in every S_k as a small part of ρ pays for."""
        watch, ground = self._run.settings.watch, self._ground
        until = Until.within(max(watch.left, _LEAST_SECONDS), watch.should_stop)
        T = ground.multipliers(network, random_state=self._run.settings.random_state, until=until)
        slack = (1.0 + _SLACK) ** (1.0 / network.depth) - 1.0
        while True:
            point = ground.point(network, multipliers_with_slack(T, slack))
            if ground.bound(point.gauged) < ground.limit or slack < 1e-9:
                return ground.vector(point)
            slack *= 0.3

    # ------------------------------------------------------------------------------------------------------ plans

    def follow(self, plan: Plan) -> None:
        """Openings, the finish of the best, and random moves of it."""
        weight = self._ground.weight
        ends: list[tuple[float, int, Float]] = []
        for number, opening in enumerate(plan.openings):
            x, going = self._stages(weight, self._start, opening.stages, early=True)
            if len(plan.openings) > 1:
                self._offer(f"descent, {opening.name}", x)
            ends.append((self._worth(x, weight, self._ground.early_fit), number, x))
            if not going:
                break
        _, _, x = min(ends)
        if self._run.stopped is None:
            x, _ = self._stages(weight, x, FINISH[: plan.finish])
        self._offer("descent finished" if len(plan.openings) > 1 else "descent", x)
        idle = 0
        for size in islice(cycle(_KICKS), plan.most):
            if idle >= plan.moves or self._run.over() or not np.isfinite(self._reached):
                return
            before = self._reached
            x, going = self._stages(weight, self._kicked(size), AGAIN.stages, early=True)
            if going:
                x, going = self._stages(weight, x, FINISH[: plan.finish])
            self._offer(f"descent after {AGAIN.name}", x)
            idle = 0 if self._reached < before - _LASTING * abs(before) else idle + 1

    def to_fit(self, limit: float) -> None:
        """The largest weight of ρ that a fit of at most ``limit`` allows: a bracket, and a search within it."""
        ground = self._ground
        aim = limit / ground.units.y_scale / ground.units.y_scale
        x, weight = self._start, max(aim, _NEGLIGIBLE) / max(self._bound(self._start), 1e-6)
        low: tuple[float, float] | None = None  # weight and fit that keep the limit
        high: tuple[float, float] | None = None  # and that do not
        wider, fresh = _WIDER, True
        for number in range(1, _TRIALS + 1):
            opening = OPENINGS[number % 2].stages if fresh else AGAIN.stages
            x, going = self._stages(weight, x, (*opening, *FINISH[:2]), early=False)
            fit, fresh = self._fit(x), False
            self._offer(f"descent to the limit, {number}", x)
            low, high = ((weight, fit), high) if fit <= aim else (low, (weight, fit))
            if not going or self._run.over() or weight == 0.0:
                return
            if low is None or high is None:
                weight *= wider if high is None else 1.0 / wider
                wider *= wider
                if low is None:
                    x, fresh = self._start, True  # where a large weight leads is hard to come back from
                    weight = weight if weight > _LEAST_WEIGHT else 0.0  # the last hope: the fit alone
                continue
            if high[0] <= low[0] * _CLOSE:
                return
            # fits rise with the weight, nearly linearly in logarithms
            share = np.log(max(aim, 1e-300) / max(low[1], 1e-300)) / np.log(high[1] / max(low[1], 1e-300))
            share = min(max(float(share), 0.1), 0.9)
            weight = float(low[0] ** (1.0 - share) * high[0] ** share)

    # ------------------------------------------------------------------------------------------------------ steps

    def _stages(
        self, weight: float, x: Float, stages: Sequence[Stage], *, early: bool = False, charge: float | None = None
    ) -> tuple[Float, bool]:
        """L-BFGS with the smoothing of every stage; the point, and whether to go on."""
        run, ground = self._run, self._ground
        watch = run.settings.watch
        objective = ground.objective(weight, early=early)
        iterations = self._most if objective.fit is ground.early_fit else min(self._most, ON_ALL)
        for stage in stages:
            known = self._journal.finished()
            if known is not None and known.shape == x.shape:
                x = known
                continue
            mu = max(stage.mu * self._size(x, weight, objective.fit) / ground.order, 1e-300)
            objective.factor = _CHARGE * _RISE / stage.mu / stage.mu if charge is None else charge
            x = self._journal.begun(x)
            objective.begin(x)
            try:
                f = partial(self._watched, objective, mu=mu, delta=stage.delta * ground.reach)
                with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # such steps are refused
                    x = quasi_newton(f, x, stage.stall, Allowance(watch, iterations))
                run.stopped = watch.verdict
            except KeyboardInterrupt:  # Ctrl-C
                x, run.stopped = objective.best, Status.INTERRUPTED
            if run.stopped is not None:
                return x, False
            if not self._fit(x, objective.fit) < _FLAT * ground.constant:
                x = self._start  # all weights zero is a stationary point, which a large μ leads deep networks to
            self._journal.end(x)
        return x, True

    def _watched(self, objective: SmoothObjective, x: Float, *, mu: float, delta: float) -> tuple[float, Float]:
        found = objective(x, mu, delta)
        self._journal.pass_by(objective.best)
        return found

    def _fit(self, x: Float, fit: Fit | None = None) -> float:
        """The error in these units, kinks as they are."""
        point = self._ground.at(x)
        with np.errstate(over="ignore", invalid="ignore"):
            value = (fit or self._ground.fit)(point.weights, point.biases, 0.0)[0]
        return value if value == value else np.inf

    def _bound(self, x: Float) -> float:
        """The ρ that multipliers 1 prove."""
        return self._ground.bound(self._ground.at(x).gauged)

    def _worth(self, x: Float, weight: float, fit: Fit | None = None) -> float:
        """The objective in these units, with multipliers 1 and without smoothing; infinite beyond a limit on ρ."""
        rho = self._bound(x)
        if not rho < self._ground.limit:
            return np.inf
        return self._fit(x, fit) + (weight * rho if weight > 0.0 else 0.0)

    def _size(self, x: Float, weight: float, fit: Fit) -> float:
        """What the smoothing is relative to: the objective, or that of the constant network."""
        return min(max(self._worth(x, weight, fit), _NEGLIGIBLE), self._ground.constant, _MOST)

    def _offer(self, name: str, x: Float) -> None:
        """Certify and measure; keep what is the best so far."""
        run = self._run
        status = Status.OPTIMAL if run.stopped is None else run.stopped
        word = {Status.INTERRUPTED: "interrupted", Status.TIME_LIMIT: "time limit"}.get(status, "descent")
        try:
            network = self._ground.network(self._ground.at(x), self._like)
        except (InvalidInputError, CertificateError) as error:  # weights that overflow, or cannot be kept within limits
            run.record(name, None, Solved(None, Status.SOLVER_FAILED, str(error)), accepted=False)
            return
        run.keep(name, _as_given(run, network), Solved(None, status, word))
        self._shorten(name, status, word)
        worth = self._worth(x, self._ground.weight)
        if worth < self._reached:
            self._best, self._reached = x, worth

    def _shorten(self, name: str, status: Status, word: str) -> None:
        """Where the search for multipliers did not find those that multipliers 1 are: the limit, by a last hair."""
        run, goal, made = self._run, self._run.task.goal, self._run.candidate
        if made is None or not isinstance(goal, SlopeAtMost) or made.certificate.upper <= goal.limit:
            return
        network = _moved(run, _feed_forward(made.network), goal.limit / made.certificate.upper * _UNDER)
        run.keep(f"{name}, flattened to the limit", _as_given(run, network), Solved(None, status, word))

    def within_limits(self) -> FeedForward:
        """A network that keeps the limits on slopes: a first stage that is charged for breaking them, projected."""
        x, _ = self._stages(self._ground.weight, self._start, OPENINGS[0].stages[:1], early=True, charge=_CHARGE)
        self._offer("descent towards the limits on slopes", x)
        return self._ground.network(self._ground.at(x), self._like)

    def _kicked(self, size: float) -> Float:
        """The best point moved at random, as far as ρ stays finite or within its limit."""
        x = self._best
        noise = self._ground.parameters.free(self._rng.standard_normal(len(x)))
        while True:
            moved = x + size * float(np.sqrt(np.mean(x * x))) * noise
            if size < 1e-6 or self._bound(moved) < self._ground.limit:
                return moved
            size *= 0.5


def _under(run: Run, network: FeedForward, upper: float, limit: float) -> FeedForward:
    """The network, its output flattened where its bound leaves no room below a limit on L."""
    if upper <= _ROOM * limit:
        return network
    flat = _moved(run, network, _ROOM * limit / upper)
    flattened = Solved(None, Status.OPTIMAL, "closed form")
    run.keep("the output flattened to the limit", _as_given(run, flat), flattened)
    return flat


def _rescale(run: Run) -> None:
    """The best network, its output moved and scaled as a whole: what is best among these, in closed form."""
    if run.over() or not run.task.squared or run.task.keep:
        return
    task, goal, best = run.task, run.task.goal, run.best
    moments = task.moments(best.network)
    if isinstance(goal, FitAtMost):
        # the least factor with least + spread (factor − shared / spread)² ≤ limit
        slack = goal.limit * (1.0 - 1e-12) - moments.least
        if not moments.spread > 0.0 or (slack < 0.0 and best.value == np.inf):
            return
        factor = moments.shared / moments.spread - float(np.sqrt(max(slack, 0.0) / moments.spread))
        if not 0.0 <= factor < 1.0:
            return
    else:
        charged = moments.spread + (goal.weight * best.certificate.rho if isinstance(goal, Weighted) else 0.0)
        if not charged > 0.0:
            return
        factor = max(moments.shared, 0.0) / charged  # 0, the constant network, where outputs fall as targets rise
        if isinstance(goal, SlopeAtMost) and best.certificate.upper > 0.0:
            factor = min(factor, goal.limit / best.certificate.upper * _UNDER)
    network = _moved(run, _feed_forward(best.network), factor)
    run.keep("the output rescaled", _as_given(run, network), Solved(None, Status.OPTIMAL, "closed form"))


def _moved(run: Run, network: FeedForward, factor: float) -> FeedForward:
    """``mean of y + factor · (f − its mean)``; where biases are kept ``b + factor · (f − b)`` with the last one."""
    weights, biases = [*network.weights[:-1], factor * network.weights[-1]], list(network.biases)
    if "biases" not in run.task.keep:
        moments = run.task.moments(network)
        biases[-1] = moments.aim + factor * (biases[-1] - moments.centre)
    return network.with_parameters(weights, biases, network.units).described(network.about)


def _as_given(run: Run, network: FeedForward) -> Network:
    """A network with one hidden layer of ReLU where the input is one."""
    return network.shallow() if isinstance(run.input, ShallowNetwork) else network


def _feed_forward(network: object) -> FeedForward:
    if isinstance(network, FeedForward):
        return network
    if isinstance(network, ShallowNetwork):
        return FeedForward.of(network)
    raise InvalidInputError(f"a network of layers is needed, got {type(network).__name__}")
